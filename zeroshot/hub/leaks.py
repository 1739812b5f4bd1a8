"""Keys, addresses and paths of one machine in files that are about to be published."""

import os
import re
from collections.abc import Iterable, Mapping

SECRETS: Mapping[str, re.Pattern[str]] = {
    "a token of the Hub": re.compile(r"(?<!\w)hf_[A-Za-z0-9]{20,}"),
    "a key of an API": re.compile(r"(?<![\w-])sk-[A-Za-z0-9_-]{20,}"),
    "a key of AWS": re.compile(r"(?<![A-Za-z0-9])A(?:KI|SI)A[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "a token of GitHub": re.compile(r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
# example.org and its like belong to nobody (RFC 2606); git@host is an address of a repository.
PERSONAL: Mapping[str, re.Pattern[str]] = {
    "an e-mail address": re.compile(
        r"(?<![\w.+-])(?!git@)[\w.+-]+@(?!(?:[\w-]+\.)*example\.(?:com|org|net)\b)[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}(?![\w-])"
    ),
    "a home directory": re.compile(
        r"(?<![\w.])/(?:home|Users)/\w[^\s\"'`]*|(?<!\w)[A-Za-z]:\\{1,2}Users\\{1,2}\w[^\s\"'`]*"
    ),
}
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")
SHORT = 8  # a value below this length is a stand-in for a local server (none, EMPTY)
SHOWN = 6  # characters of a secret in a message


def list_known_secrets(*more: str | None) -> dict[str, str]:
    """Secrets of this process by where they stand: variables of the environment, and those given."""
    places = {(one or "").strip(): "the token in use" for one in more}
    places |= {os.environ.get(name, "").strip(): f"the value of {name}" for name in VARIABLES}
    return {name: value for value, name in places.items() if len(value) >= SHORT}


def find_leaks(text: str, known: Mapping[str, str], patterns: Iterable[Mapping[str, re.Pattern[str]]]) -> list[str]:
    """What in a text must not be published, each kind once, in words that do not repeat it.

    Args:
        text: The content of a file.
        known: Secrets by description, as [`list_known_secrets`] gives them.
        patterns: Kinds to look for by description.

    Example:
        >>> find_leaks("write to ada@lovelace.name", {}, [PERSONAL])
        ["an e-mail address ('ada@lo...', line 1)"]
    """
    places = [(name, text.index(value), value) for name, value in known.items() if value in text]
    for kinds in patterns:
        for name, pattern in kinds.items():
            if match := pattern.search(text):
                places.append((name, match.start(), match[0]))
    return [f"{name} ({value[:SHOWN] + '...'!r}, line {text.count(chr(10), 0, at) + 1})" for name, at, value in places]
