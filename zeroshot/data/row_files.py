"""Which row files a name stands for: a file, a Hub data set, a folder, or the packaged data."""

import json
from pathlib import Path

from .reading import PACKAGED, SUFFIXES, expand_path

# What runs of this package write beside rows: answers of a language model, and rows that were refused.
NO_ROWS = frozenset({"labels.json", "journal.jsonl", "rejected_rows.jsonl"})


def _holds_rows(path: Path) -> bool:
    """Whether a file found in a folder is one of rows; label sets, maps and manifests lie beside them."""
    if path.name in NO_ROWS:
        return False
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in SUFFIXES
    try:
        content = json.loads(path.read_bytes())
    except ValueError:  # broken rows are reported where the rows are read
        return True
    return isinstance(content, list) and any(isinstance(row, dict) for row in content)


def find_row_files(source: str) -> list[str]:
    """The sources that `source` stands for: itself, or in order of their paths all row files of a folder.

    Args:
        source: See [`read_raw_rows`]; or a folder, `packaged:` or `packaged:topics`, searched with all below it.

    Raises:
        FileNotFoundError: If a folder holds no row file.
    """
    packaged = source.startswith("packaged:")
    folder = expand_path(source)
    if not folder.is_dir():
        return [source]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _holds_rows(path))
    if not files:
        raise FileNotFoundError(
            f"Expected row files ({', '.join(SUFFIXES)}) in the folder {source!r}, found none. Name another folder."
        )
    return [f"packaged:{path.relative_to(PACKAGED).as_posix()}" if packaged else str(path) for path in files]
