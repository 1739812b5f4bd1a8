"""JSON as people write it: what is wrong with a text is told in words, nothing in it is dropped in silence."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_text(path: Path) -> str:
    """Read a whole file as UTF-8, line ends as they are.

    Raises:
        ValueError: If it is not UTF-8.
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected {str(path)!r} in UTF-8, found the byte 0x{data[error.start]:02x} at position {error.start}. "
            "Save the file as UTF-8."
        ) from error


class RepeatedKeys(dict[str, Any]):
    """An object of JSON in which a key stands more than once, with the last value of each."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]):
        super().__init__(pairs)
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        self.problem = f"the key {key[:80]!r} more than once in one object"


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    return content if len(content) == len(pairs) else RepeatedKeys(pairs)


def find_repeated_key(content: Any) -> str | None:
    """What is wrong with an object, at any depth, that [`parse_json`] marked; None where none was."""
    parts = [content]
    while parts:  # not by recursion, for which a text may be nested too deeply
        part = parts.pop()
        if isinstance(part, RepeatedKeys):
            return part.problem
        if isinstance(part, dict | list):
            parts.extend(part.values() if isinstance(part, dict) else part)
    return None


def parse_json(text: str, *, mark_repeated_keys: bool = False) -> Any:
    """Parse JSON, in which no object may have a key twice: the parser would keep the last and drop the others in silence.

    Args:
        text: The text.
        mark_repeated_keys: Whether such an object becomes a [`RepeatedKeys`] for [`find_repeated_key`] instead of an error.

    Raises:
        ValueError: With what is wrong and where, as words that fit behind "found".
    """
    try:
        content = json.loads(text, object_pairs_hook=_build_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise ValueError(f"broken JSON in {place} ({error.msg})") from error
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"a number of too many digits ({error})") from error
    problem = None if mark_repeated_keys else find_repeated_key(content)
    if problem is not None:
        raise ValueError(problem)
    return content


def to_json(row: Any) -> str:
    """A row as JSON text that any file can hold; half a surrogate pair stays escaped, other types than JSON's are named."""

    def name_type(value: Any) -> dict[str, str]:
        return {type(value).__name__: str(value)}

    text = json.dumps(row, ensure_ascii=False, default=name_type)
    return text if text.encode("utf-8", "replace").decode() == text else json.dumps(row, default=name_type)


def name_json_type(value: Any) -> str:
    """What a value read from JSON is, in its words where Python has others."""
    return "null" if value is None else "object" if isinstance(value, dict) else type(value).__name__
