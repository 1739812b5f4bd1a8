"""The provider's key: where it comes from, and that it goes nowhere else."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from dotenv import load_dotenv

KEY_VARIABLE = "OPENAI_API_KEY"
HIDDEN = "[key]"
WINDOW = 6  # characters of a key in a row that give it away
SHORT = 8  # a key below this length is a stand-in for a local server (EMPTY, none)


def read_key() -> str:
    """The key from the environment, or else from `.env` in the current folder, which never overrides the environment.

    Raises:
        ValueError: If there is none.
    """
    load_dotenv(Path(".env"), override=False)
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
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
    """An address without a user and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
