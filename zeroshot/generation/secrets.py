"""Keys and addresses: where they come from, and that what is secret in them goes nowhere else."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values

KEY_VARIABLE = "OPENAI_API_KEY"
ADDRESS_VARIABLE = "OPENAI_BASE_URL"
HUB_VARIABLE = "HF_TOKEN"
HIDDEN = "[key]"
WINDOW = 6  # characters of a key in a row that give it away
SHORT = 8  # a key below this length is a stand-in for a local server (EMPTY, none)


def read_variable(name: str) -> str | None:
    """A variable of the environment, or else of `.env` in the current folder; None where it is in neither or empty.

    `.env` is only read: what else stands in it stays out of the environment of this process.
    """
    value = os.environ.get(name)
    if value is None:
        value = dotenv_values(Path(".env")).get(name)
    return (value or "").strip() or None


def read_key() -> str:
    """The key from the environment or `.env`.

    Raises:
        ValueError: If there is none.
    """
    key = read_variable(KEY_VARIABLE)
    if key is None:
        raise ValueError(
            f"Expected a key for the server, found none in {KEY_VARIABLE}. Set it in the environment or in a file .env in "
            f"the current folder; a local server takes any value: {KEY_VARIABLE}=none."
        )
    return key


def hide_key(text: str, key: str) -> str:
    """Remove a key from a text, and also the parts of it that providers quote in their errors (`sk-ab***yz`).

    Example:
        >>> hide_key("Incorrect API key provided: sk-abcd****7890.", "sk-abcdefgh1234567890")
        'Incorrect API key provided: [key]'
    """
    if len(key) < SHORT:
        return re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", HIDDEN, text) if key else text
    text = text.replace(key, HIDDEN)
    parts = [key[start : start + WINDOW] for start in range(len(key) - WINDOW + 1)]

    def judge(match: re.Match[str]) -> str:
        word = match[0]
        masked = ("*" in word or "..." in word or "…" in word) and (key[:3] in word or key[-3:] in word)
        return HIDDEN if masked or any(part in word for part in parts) else word

    return re.sub(r"[^\s\"'`,;(){}\[\]]+", judge, text)


def hide_user(url: str) -> str:
    """An address without what may be secret in it: user and password, query (`?api-key=...`) and fragment.

    Example:
        >>> hide_user("https://bob:pa55@example.org/v1?api-key=s3cret#a")
        'https://example.org/v1'
    """
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
