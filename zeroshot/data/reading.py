"""From files and Hub data sets to raw rows: one JSON text per row, and where it stood.

Every format is brought to the same table (`row`, `content`, `problem`), so that one validation serves all of them and
a bad row can be shown as it was found.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
PACKAGED = Path(__file__).parent / "starter"


class RawRow(TypedDict):
    """A row before validation."""

    row: int  # line of the file, or position in the data set, from 1
    content: str  # the row as JSON text, as far as it could be read
    problem: str | None  # why it could not be read


def resolve_path(source: str) -> Path | None:
    """The file that `source` names, or None where it is a Hub id. `packaged:` stands for the data in the package.

    Raises:
        FileNotFoundError: If `source` looks like a file and there is none.
    """
    path = PACKAGED / source.removeprefix("packaged:") if source.startswith("packaged:") else Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir() or path.suffix in SUFFIXES or source.startswith(("packaged:", ".", "/", "~")):
        near = sorted(str(p) for p in (path if path.is_dir() else path.parent).glob("*") if p.suffix in SUFFIXES)[:5]
        raise FileNotFoundError(
            f"Expected a file of rows ({', '.join(SUFFIXES)}), found no file {str(path)!r}. "
            + (f"Beside it are: {', '.join(near)}." if near else "Check the path; it is read from the current folder.")
        )
    return None


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield {"row": number, "content": line.decode("utf-8-sig").strip(), "problem": None}
            except UnicodeDecodeError as error:
                found = f"found the byte 0x{line[error.start]:02x} at {error.start}"
                problem = f"Expected UTF-8, {found}. Save the file as UTF-8."
                yield {
                    "row": number,
                    "content": line.decode("utf-8", errors="backslashreplace").strip(),
                    "problem": problem,
                }


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected {str(path)!r} in UTF-8, found the byte 0x{error.object[error.start]:02x} at position {error.start}. "
            "Save the file as UTF-8."
        ) from error


def _read_json(path: Path) -> Iterator[RawRow]:
    try:
        rows = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Expected {str(path)!r} to hold a JSON list of rows, found broken JSON in line {error.lineno}, column "
            f"{error.colno} ({error.msg}). It may be half written; one row per line in a .jsonl file loses only one row."
        ) from error
    if not isinstance(rows, list):
        raise ValueError(
            f"Expected {str(path)!r} to hold a JSON list of rows, found {type(rows).__name__}. "
            'Write [{"text": ..., "labels": [...]}, ...].'
        )
    for number, row in enumerate(rows, start=1):
        yield {"row": number, "content": json.dumps(row, ensure_ascii=False), "problem": None}


def _split_cell(cell: str | None) -> Any:
    """A list in a CSV cell: JSON (`["a", "b"]`) or names between bars (`a|b`)."""
    if cell is None or not cell.strip():
        return []
    if cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except json.JSONDecodeError:
            return cell
    return [name.strip() for name in cell.split("|")]


def _read_csv(path: Path) -> Iterator[RawRow]:
    reader = csv.DictReader(_read_text(path).splitlines(keepends=True))
    for row in reader:
        lists = {
            name: _split_cell(row[name]) for name in ("labels", "negatives", "all_labels", "true_labels") if name in row
        }
        yield {"row": reader.line_num, "content": json.dumps({**row, **lists}, ensure_ascii=False), "problem": None}


def _read_dataset(dataset: Dataset) -> Iterator[RawRow]:
    features = dataset.features
    if isinstance(features.get("label"), ClassLabel) and "labels" not in features:
        names = features["label"].names
        dataset = dataset.map(lambda row: {"labels": [names[row["label"]]]}, desc="Naming labels")
    for number, row in enumerate(dataset, start=1):
        yield {"row": number, "content": json.dumps(row, ensure_ascii=False, default=str), "problem": None}


def _load_hub_dataset(source: str) -> Dataset:
    name, _, split = source.partition(":")
    try:
        loaded = load_dataset(name, split=split or None)
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"Expected a file of rows or a data set on the Hub, found {source!r}, which is neither ({error}). "
            "Check the path or the name (user/name or user/name:split) and, for the Hub, the network and HF_TOKEN."
        ) from error
    if isinstance(loaded, DatasetDict):
        if "train" not in loaded:
            raise ValueError(
                f"Expected a split of {name!r}, found no 'train' among {', '.join(loaded)}. Write {name}:SPLIT."
            )
        return loaded["train"]
    return loaded


def read_raw_rows(source: str) -> Dataset:
    """Read a source without judging its rows.

    Args:
        source: A `.jsonl`, `.json`, `.csv` or `.parquet` file, `packaged:` and a path inside the packaged data, or a Hub
            data set as `user/name` or `user/name:split`.

    Returns:
        A data set with the columns of [`RawRow`].

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the source as a whole cannot be read.
    """
    path = resolve_path(source)
    if path is None:
        rows = _read_dataset(_load_hub_dataset(source))
    elif path.suffix == ".parquet":
        rows = _read_dataset(Dataset.from_parquet(str(path)))
    elif path.suffix == ".jsonl":
        rows = _read_jsonl(path)
    elif path.suffix == ".json":
        rows = _read_json(path)
    elif path.suffix == ".csv":
        rows = _read_csv(path)
    else:
        raise ValueError(
            f"Expected one of the file types {', '.join(SUFFIXES)}, found {str(path)!r}. Convert it, or rename it if the "
            "content is of one of these types."
        )
    columns: dict[str, list] = {"row": [], "content": [], "problem": []}
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)
    if not columns["row"]:
        raise ValueError(f"Expected rows in {source!r}, found none. Check that it is the right file.")
    return Dataset.from_dict(columns)
