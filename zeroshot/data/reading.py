"""From files and Hub data sets to raw rows: one JSON text per row, and where it stood.

Every format is brought to the same table (`row`, `content`, `problem`), so that one validation serves all of them and
a bad row can be shown as it was found.
"""

import codecs
import csv
import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Dataset, DatasetDict, List, load_dataset
from datasets.exceptions import DatasetsError

from ..json_text import find_repeated_key, name_json_type, parse_json, read_text, to_json

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
LIST_COLUMNS = ("labels", "negatives", "all_labels", "true_labels")
COLUMNS = ("text", "premise", "hypothesis", "label", *LIST_COLUMNS)
PACKAGED = Path(__file__).parent / "starter"
LONGEST_CELL = 2**31 - 1  # characters; the default of Python's csv module, 128 KiB, is less than a long text
_OPEN_QUOTE = "found a quote that is not closed or doubled"


class RawRow(TypedDict):
    """A row before validation."""

    row: int  # line of the file, or position in the data set, from 1
    content: str  # the row as JSON text, as far as it could be read
    problem: str | None  # why it could not be read


def expand_path(source: str) -> Path:
    """The path that `source` names: `packaged:` stands for the data in the package, `~` for the user's folder."""
    if source.startswith("packaged:"):
        return PACKAGED / source.removeprefix("packaged:")
    return Path(source).expanduser()


def resolve_path(source: str) -> Path | None:
    """The file that `source` names, or None where it is a Hub id. `packaged:` stands for the data in the package.

    Raises:
        FileNotFoundError: If `source` looks like a file and there is none.
    """
    path = expand_path(source)
    if path.is_file():
        return path
    if path.is_dir() or path.suffix.lower() in SUFFIXES or source.startswith(("packaged:", ".", "/", "~")):
        folder = path if path.is_dir() else path.parent
        beside = {p.name: str(p) for p in sorted(folder.glob("*")) if p.suffix in SUFFIXES and p.name != "labels.json"}
        near = [beside[name] for name in difflib.get_close_matches(path.name, beside, n=5, cutoff=0.0)]
        raise FileNotFoundError(
            f"Expected a file of rows ({', '.join(SUFFIXES)}), found no file {str(path)!r}. "
            + (f"Beside it are: {', '.join(near)}." if near else "Check the path; it is read from the current folder.")
        )
    return None


def decode_line(number: int, line: bytes) -> RawRow:
    """A line of a file, without its end and, if it is number 1, without the byte order mark of the file."""
    data = line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").rstrip(b"\r\n")
    try:
        return {"row": number, "content": data.decode("utf-8"), "problem": None}
    except UnicodeDecodeError as error:
        found = f"found the byte 0x{data[error.start]:02x} at {error.start}"
        problem = f"Expected UTF-8, {found}. Save the file as UTF-8."
        return {"row": number, "content": data.decode("utf-8", "backslashreplace"), "problem": problem}


def iterate_lines(file: Iterable[bytes]) -> Iterator[RawRow]:
    """Yield each line of a file."""
    for number, line in enumerate(file, start=1):
        yield decode_line(number, line)


def check_json_lines(path: Path) -> None:
    """Refuse a CSV file that is called JSON Lines; all of its lines would be broken.

    Raises:
        ValueError: If the first line is the header of a CSV file, and the second no JSON either.
    """
    with path.open("rb") as file:
        first, second = (file.readline(2**16).decode("utf-8-sig", "replace").strip() for _ in range(2))
    cells = {cell.strip().strip('"') for cell in first.split(",")}
    if {"text", "premise"} & cells and not first.startswith(("{", "[")) and not second.startswith(("{", "[")):
        raise ValueError(
            f"Expected JSON Lines in {str(path)!r}, found the header of a CSV file, {first[:80]!r}. Rename it to "
            f"{path.with_suffix('.csv').name!r}."
        )


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    check_json_lines(path)
    with path.open("rb") as file:
        for row in iterate_lines(file):
            content = row["content"].strip(" \t\r\n")
            if content:
                yield {**row, "content": content}


def _read_json(path: Path) -> Iterator[RawRow]:
    text = read_text(path)
    try:
        rows = parse_json(text, mark_repeated_keys=True)
    except ValueError as error:
        raise ValueError(
            f"Expected {str(path)!r} to hold a JSON list of rows, found {error}. It may be half written; "
            "one row per line in a .jsonl file loses only one row."
        ) from error
    if not isinstance(rows, list):
        raise ValueError(
            f"Expected {str(path)!r} to hold a JSON list of rows, found {name_json_type(rows)}. "
            'Write [{"text": ..., "labels": [...]}, ...].'
        )
    for number, row in enumerate(rows, start=1):
        repeated = find_repeated_key(row)
        problem = repeated and f"Expected each key once in an object, found {repeated}. Keep one of them."
        yield {"row": number, "content": to_json(row), "problem": problem}


def _split_cell(cell: str | None) -> Any:
    """A list in a CSV cell: JSON (`["a", "b"]`) or names between bars (`a|b`)."""
    if cell is None or not cell.strip():
        return None
    if cell.lstrip().startswith("["):
        try:
            return parse_json(cell)
        except ValueError as error:
            raise ValueError(f"Expected names between bars or a JSON list, found {cell[:80]!r}. Write a|b.") from error
    return [name.strip() for name in cell.split("|")]


class CsvCells(NamedTuple):
    """A row of a CSV file, not yet compared with the header."""

    number: int  # line of the file at which it begins
    cells: list[str]
    lines: str  # as it stands in the file, where it could not be read
    problem: str | None


class _CsvLines:
    """The lines of a CSV file, which remembers those of the row that is being read."""

    def __init__(self, lines: Iterable[str]):
        self._lines = iter(lines)
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.row.append(line)
        return line


def _check_utf8(path: Path) -> None:
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        done -= len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0  # positions count from behind the mark
        file.seek(0)
        while True:
            chunk = file.read(2**16)
            data = decoder.getstate()[0] + chunk
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = f"the byte 0x{data[error.start]:02x} at position {done - len(data) + len(chunk) + error.start}"
                raise ValueError(f"Expected {str(path)!r} in UTF-8, found {place}. Save the file as UTF-8.") from error
            if not chunk:
                return
            done += len(chunk)


def read_csv_header(path: Path) -> list[str]:
    """The columns of a CSV file, all of whose bytes are looked at once to see that they are UTF-8.

    Raises:
        ValueError: If the file is not UTF-8, or its header is broken, repeats a column or has none with texts.
    """
    _check_utf8(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            csv.field_size_limit(LONGEST_CELL)
            header = next(csv.reader(file, strict=True), [])
        except csv.Error as error:
            raise ValueError(f"Expected a header in {str(path)!r}, {_OPEN_QUOTE} ({error}). Close or double it.") from error
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    if repeated:
        raise ValueError(f"Expected distinct columns in {str(path)!r}, found {repeated[0]!r} twice. Rename or remove one.")
    if "text" not in header and "premise" not in header:
        other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
        if other:
            raise ValueError(
                f"Expected columns between commas in {str(path)!r}, found {header[0]!r}, which looks as if {other!r} stood "
                "between them. Save it as CSV with commas."
            )
        raise ValueError(
            f"Expected a column 'text' in {str(path)!r}, found {', '.join(header) or 'none'}. Name the column 'text'."
        )
    return header


def iterate_csv_cells(path: Path) -> Iterator[CsvCells]:
    """Yield the rows below the header of a CSV file one by one, in bounded memory; blank lines are no rows."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = _CsvLines(file)
        csv.field_size_limit(LONGEST_CELL)
        reader = csv.reader(lines, strict=True)
        next(reader, None)
        while True:
            number = reader.line_num + 1
            lines.row.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"Expected a CSV row, {_OPEN_QUOTE} ({error}). Close or double it."
                yield CsvCells(number, [], "".join(lines.row), problem)
                continue
            if cells:
                yield CsvCells(number, cells, "", None)


def _read_csv(path: Path, list_columns: Iterable[str]) -> Iterator[RawRow]:
    header = read_csv_header(path)
    for row in iterate_csv_cells(path):
        yield read_csv_row(header, row, list_columns)


def read_csv_row(header: list[str], found: CsvCells, list_columns: Iterable[str] = ()) -> RawRow:
    """A row of a CSV file as JSON text, by the names of the columns; `list_columns` hold lists of names."""
    number, cells = found.number, found.cells
    if found.problem:
        return {"row": number, "content": to_json(found.lines), "problem": found.problem}
    if any(cells[len(header) :]):
        expected = f"Expected {len(header)} cells, found {len(cells)}"
        return {"row": number, "content": to_json(cells), "problem": f"{expected}. Put cells with commas in quotes."}
    row: dict[str, Any] = dict(zip(header, cells, strict=False))
    try:
        for name in list_columns:
            if name in row:
                row[name] = _split_cell(row[name])
        if row.get("labels", True) is None:
            row["labels"] = []
    except ValueError as error:
        return {"row": number, "content": to_json(row), "problem": str(error)}
    return {"row": number, "content": to_json(row), "problem": None}


def _name_classes(row: dict, column: str, names: list[str]) -> dict:
    """Class numbers as names; -1 and None, with which the Hub marks an unlabelled row, as no label."""
    numbers = row[column] if isinstance(row[column], list) else [row[column]]
    return {"labels": [names[number] for number in numbers if number is not None and number >= 0]}


def _read_dataset(dataset: Dataset) -> Iterator[RawRow]:
    for column in ("labels", "label"):
        feature = dataset.features.get(column)
        feature = feature.feature if isinstance(feature, List) else feature
        if isinstance(feature, ClassLabel) and (column == "labels" or "labels" not in dataset.features):
            named = [_name_classes(row, column, feature.names)["labels"] for row in dataset.select_columns([column])]
            dataset = dataset.remove_columns(column).add_column("labels", named)
            break
    for number, row in enumerate(dataset, start=1):
        yield {"row": number, "content": to_json(row), "problem": None}


def _load_parquet(path: Path) -> Dataset:
    try:
        known = [name for name in pyarrow.parquet.read_schema(path).names if name in COLUMNS]
        return Dataset(pyarrow.parquet.read_table(path, columns=known))
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise ValueError(
            f"Expected Parquet in {str(path)!r}, found something else ({error}). Write the file anew."
        ) from error


def _load_hub_dataset(source: str) -> Dataset:
    name, _, split = source.partition(":")
    try:
        loaded = load_dataset(name, split=split or None)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
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


def iterate_raw_rows(path: Path, *, list_columns: Iterable[str] = LIST_COLUMNS) -> Iterator[RawRow]:
    """Yield the rows of a file one by one, without judging them; JSON Lines and CSV in bounded memory.

    Args:
        path: A `.jsonl`, `.json`, `.csv` or `.parquet` file.
        list_columns: The columns of a CSV file that hold lists of names.

    Raises:
        ValueError: If the file as a whole cannot be read.
    """
    readers: dict[str, Callable[[], Iterator[RawRow]]] = {
        ".jsonl": lambda: _read_jsonl(path),
        ".json": lambda: _read_json(path),
        ".csv": lambda: _read_csv(path, list_columns),
        ".parquet": lambda: _read_dataset(_load_parquet(path)),
    }
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"Expected one of the file types {', '.join(SUFFIXES)}, found {str(path)!r}. Convert it, or rename it if the "
            "content is of one of these types."
        )
    return readers[path.suffix.lower()]()


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
    rows = _read_dataset(_load_hub_dataset(source)) if path is None else iterate_raw_rows(path)
    columns: dict[str, list] = {"row": [], "content": [], "problem": []}
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)
    if not columns["row"]:
        raise ValueError(f"Expected rows in {source!r}, found none. Check that it is the right file.")
    return Dataset.from_dict(columns)
