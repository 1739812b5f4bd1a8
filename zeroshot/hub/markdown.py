"""Values as Markdown that shows them as they are: names come from files, and may hold bars, brackets or line ends."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PureWindowsPath
from typing import Any

# What Markdown or HTML would read as a sign of its own; an underscore inside a word is none.
_SIGNS = re.compile(r"[\\`*\[\]<>|~$]|(?<!\w)_|_(?!\w)|^#")
_ENTITIES = {"<": "&lt;", ">": "&gt;"}
MISSING = "not recorded"


def escape(value: Any) -> str:
    """A value as text on one line, in which nothing is markup.

    Example:
        >>> escape("a|b [c]")
        'a\\\\|b \\\\[c\\\\]'
    """
    text = " ".join(str(value).replace("&", "&amp;").split())
    return _SIGNS.sub(lambda match: _ENTITIES.get(match[0], "\\" + match[0]), text)


def write_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the cells are escaped, the head is ours."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(escape, row)) + " |" for row in rows)])


def show_number(value: Any, digits: int = 3) -> str:
    """A share as the tables of this library show it (`.712`); a dash for what is not there.

    Example:
        >>> show_number(0.7121), show_number(1.0), show_number(None)
        ('.712', '1.000', '-')
    """
    return "-" if value is None else re.sub(r"^(-?)0\.", r"\1.", f"{float(value):.{digits}f}")


def strip_folder(word: str) -> str:
    """The last part of what may be a path; `packaged:` names no folder of a machine.

    Example:
        >>> strip_folder("/data/mails.jsonl"), strip_folder("packaged:topics")
        ('mails.jsonl', 'packaged:topics')
    """
    if word.startswith("packaged:") or not re.search(r"[/\\]", word):
        return word
    return PureWindowsPath(word).name or "."
