"""Result files: JSON Lines, CSV or Parquet, written record by record and put in place in one step."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import pyarrow
import pyarrow.parquet

from ..data.findings import count_things
from ..files import replace_file
from ..json_text import to_json
from ..models.inputs_zeroshot import HALF_CHARACTER

Record = dict[str, Any]
# What the values of a field are, over all rows of a part; "long" is a whole number that a double cannot hold.
Kind = Literal["null", "bool", "int", "long", "float", "text", "json"]
TYPES: dict[Kind, pyarrow.DataType] = {
    "null": pyarrow.string(),
    "bool": pyarrow.bool_(),
    "int": pyarrow.int64(),
    "long": pyarrow.int64(),
    "float": pyarrow.float64(),
    "text": pyarrow.string(),
    "json": pyarrow.string(),
}
OWN = {"sequence": pyarrow.string(), "labels": pyarrow.list_(pyarrow.string()), "scores": pyarrow.list_(pyarrow.float64())}
# What options of a call add, where it has a type of its own in Parquet; all else as its kind says.
ADDED = {"embedding": pyarrow.list_(pyarrow.float32())}
# Options of a call, and what they add: objects within objects and long vectors, which no cell of a table can show.
NESTED = {"explain": "explanation", "return_embeddings": "embedding", "return_hierarchical": "hierarchy"}
SUFFIXES = (".jsonl", ".csv", ".parquet")


def find_kind(value: Any) -> Kind:
    """What kind of value this is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= 2**53 else "long" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "float"
    return "text" if isinstance(value, str) else "json"


def join_kinds(one: Kind, other: Kind) -> Kind:
    """The kind that holds values of both without loss; JSON text where there is no other."""
    if other in (one, "null"):
        return one
    if one == "null":
        return other
    if {one, other} == {"int", "long"}:
        return "long"
    return "float" if {one, other} == {"int", "float"} else "json"


def add_kinds(kinds: dict[str, Kind], found: Mapping[str, Kind]) -> None:
    """Widen `kinds` to hold `found`, too."""
    for name, kind in found.items():
        kinds[name] = join_kinds(kinds.get(name, "null"), kind)


def rename_fields(names: Iterable[str], keep: Sequence[str] | None, taken: Iterable[str]) -> dict[str, str]:
    """What the fields that are kept are called in the result: as in the input, but `input_<name>` where that is taken.

    Args:
        names: The fields of a row or the columns of a file.
        keep: Those to keep; when None all that have a name, but for `text`, which is the `sequence` of the result.
        taken: Names of the result's own.
    """
    own = set(taken)
    chosen = [name for name in names if name and name != "text"] if keep is None else list(dict.fromkeys(keep))
    used = own | {name for name in chosen if name not in own}
    renamed = {}
    for name in chosen:
        new = name
        while new in own or (new != name and new in used):
            new = f"input_{new}"
        renamed[name] = new
        used.add(new)
    return renamed


def check_target(target: Path | None, source: Path | None) -> None:
    """Raise an error if the result cannot be written to `target`."""
    if target is None:
        return
    if target.exists() and (not target.is_file() or (source is not None and target.samefile(source))):
        found = "the file of texts itself" if target.is_file() else "something that is no file"
        raise ValueError(f"Expected a place for the result, found {found}, {str(target)!r}. Choose another name.")
    if target.suffix.lower() not in (*SUFFIXES, ""):
        raise ValueError(
            f"Expected a result of the type {', '.join(SUFFIXES)}, found {str(target)!r}. Name it so; without an ending it "
            "becomes JSON Lines."
        )


def check_nested(target: Path | None, options: Mapping[str, Any]) -> None:
    """Raise an error if the options of the call add what a `target` of CSV cannot show."""
    if target is None or target.suffix.lower() != ".csv":
        return
    for option, name in NESTED.items():
        if options.get(option):
            raise ValueError(
                f"Expected a result of the type .jsonl or .parquet with {option}, found {str(target)!r}. No cell of CSV can "
                f"show the {name} of a text; name the result {target.with_suffix('.jsonl').name!r}."
            )


class Writer(Protocol):
    """Takes records in turn."""

    def write(self, records: Sequence[Record]) -> None:
        """Write some records; for Parquet they become a row group."""


class JsonLinesWriter:
    """One object a line."""

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, records: Sequence[Record]) -> None:
        """Write some records."""
        self._file.writelines(to_json(record) + "\n" for record in records)


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) and not HALF_CHARACTER.search(value) else to_json(value)


class CsvWriter:
    """A header, then one row a record; lists and objects as JSON, nothing for null."""

    def __init__(self, file: IO[str], columns: Mapping[str, pyarrow.DataType]):
        self._writer, self._names = csv.writer(file, lineterminator="\n"), list(columns)
        self._writer.writerow(self._names)

    def write(self, records: Sequence[Record]) -> None:
        """Write some records."""
        self._writer.writerows([_to_cell(record.get(name)) for name in self._names] for record in records)


class ParquetWriter:
    """Typed columns; what fits no type is JSON text."""

    def __init__(
        self, writer: pyarrow.parquet.ParquetWriter, columns: Mapping[str, pyarrow.DataType], as_json: Iterable[str]
    ):
        self._writer, self._schema, self._as_json = writer, pyarrow.schema(list(columns.items())), set(as_json)

    def _convert(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        broken = isinstance(value, str) and HALF_CHARACTER.search(value)
        return to_json(value) if broken or name in self._as_json else value

    def write(self, records: Sequence[Record]) -> None:
        """Write some records as one row group."""
        arrays = [
            pyarrow.array([self._convert(field.name, record.get(field.name)) for record in records], field.type)
            for field in self._schema
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))


@contextmanager
def open_writer(
    path: Path, suffix: str, columns: Mapping[str, pyarrow.DataType], kinds: Mapping[str, Kind]
) -> Iterator[Writer]:
    """Open a writer by the ending of the result.

    Args:
        path: The file to write.
        suffix: `.csv`, `.parquet`, or another for JSON Lines.
        columns: Of CSV and Parquet, in order; JSON Lines have the fields of each record.
        kinds: Of those columns that have no type of their own.
    """
    if suffix.lower() == ".parquet":
        typed = {**columns, **{name: TYPES[kind] for name, kind in kinds.items()}}
        with pyarrow.parquet.ParquetWriter(path, pyarrow.schema(list(typed.items()))) as parquet:
            yield ParquetWriter(parquet, typed, [name for name, kind in kinds.items() if kind == "json"])
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield CsvWriter(file, {**columns, **dict.fromkeys(kinds)}) if suffix.lower() == ".csv" else JsonLinesWriter(file)


def name_listing(target: Path) -> Path:
    """The file with the rows without a text."""
    return target.with_name(target.name + ".rejected.jsonl")


@contextmanager
def open_listing(target: Path) -> Iterator[IO[str]]:
    """Open the list of rows without a text; there is none where nothing is written."""
    path = name_listing(target)
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file
    if not path.stat().st_size:
        path.unlink()


class Rejections:
    """Counts rows without a text and lists them in a file, or in the log where there is none.

    Args:
        listing: The open file.
        warn: Called with lines for the log.
    """

    def __init__(self, listing: IO[str] | None, warn: Callable[[str], None]):
        self._listing, self._warn = listing, warn
        self.count, self._first = 0, ""

    def add(self, number: int, content: str, problem: str) -> None:
        """Note a row."""
        words = f"line {number}: {problem}"
        if self._listing is None:
            self._warn(words)
        else:
            row = {"row": number, "content": content, "problem": problem}
            self._listing.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.count, self._first = self.count + 1, self._first or words

    def describe(self, listing: Path | None = None) -> str:
        """How many there are, where they are listed if they are, and the first."""
        place = "" if listing is None else f" and listed in {listing}"
        return f"{count_things(self.count, 'line')} left out{place}; the first, {self._first}"
