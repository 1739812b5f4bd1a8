"""Files that are whole or not there: written beside their place and put there in one step."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give the name of a file to write, which takes the place of `path`, and its permissions, if all goes well.

    A new one has the permissions that new files have, whatever the writer does: safetensors would keep others out.

    It is on the disk before it gets its name, so that a machine that fails leaves the old one or the new one; who has the
    old one mapped keeps it. The name holds the process, so that two of them that write one file do not write into each
    other's. No pattern of the names in use here (`scores-*`, `*.safetensors`) finds it.

    Args:
        path: Its folder is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(path.stat().st_mode if path.exists() else mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write a text in one step."""
    with replace_file(path) as partial:
        partial.write_text(content, encoding="utf-8")


def write_json(path: Path, content: Any, *, indent: int = 1, sort_keys: bool = False) -> None:
    """Write indented JSON in one step."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=indent, sort_keys=sort_keys) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write JSON Lines in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
