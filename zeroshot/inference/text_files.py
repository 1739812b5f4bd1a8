"""Rows with a text, from any file: walked cheaply, parsed one by one when they are needed, in bounded memory."""

import codecs
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from ..data.reading import (
    SUFFIXES,
    CsvCells,
    check_json_lines,
    decode_line,
    iterate_csv_cells,
    iterate_raw_rows,
    read_csv_header,
    read_csv_row,
)
from ..data.validation import show_fields
from ..json_text import name_json_type, parse_json, to_json
from ..models.inputs_zeroshot import HALF_CHARACTER

LINE_SUFFIXES = (".txt", "")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BATCH = 1024  # rows of a Parquet file that are held at a time
CHUNK = 2**16  # bytes that are read at a time


class TextRow(NamedTuple):
    """A row of the input."""

    number: int  # line of the file, or position of the row, from 1
    content: str  # the row as it was found
    fields: dict[str, Any]  # all of it, with the text under `text`; empty where there is none
    problem: str | None  # why it has no text


# Parses a row; None where a blank line is no row.
ParseRow = Callable[[], TextRow | None]


def _find_problem(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"Expected a text, found {name_json_type(text)}. Write one into the field or column 'text'."
    if not text.strip():
        return "Expected a text with words, found an empty one. Leave the line out."
    if HALF_CHARACTER.search(text):
        return "Expected valid Unicode, found half a surrogate pair. Write the line anew."
    return None


def _judge_fields(number: int, content: str, found: Any) -> TextRow:
    if not isinstance(found, dict):
        problem = f'Expected an object, found {name_json_type(found)}. Write {{"text": "..."}}.'
        return TextRow(number, content, {}, problem)
    if "text" in found:
        reason = _find_problem(found["text"])
    else:
        reason = f"Expected a field or column 'text', found {show_fields(found)}. Name what holds the text so."
    return TextRow(number, content, {} if reason else found, reason)


def _parse_line(number: int, data: bytes) -> TextRow:
    row = decode_line(number, data)
    problem = row["problem"] or _find_problem(row["content"])
    return TextRow(number, row["content"], {} if problem else {"text": row["content"]}, problem)


def _parse_json_line(number: int, data: bytes) -> TextRow | None:
    row = decode_line(number, data)
    content = row["content"].strip(" \t\r\n")
    if not content:
        return None
    return _parse_json(number, content, row["problem"])


def _parse_json(number: int, content: str, problem: str | None) -> TextRow:
    if problem:
        return TextRow(number, content, {}, problem)
    try:
        return _judge_fields(number, content, parse_json(content))
    except ValueError as error:
        return TextRow(number, content, {}, f"Expected JSON, found {error}. Write the line anew.")


def _parse_cells(header: list[str], found: CsvCells) -> TextRow:
    row = read_csv_row(header, found)
    return _parse_json(row["row"], row["content"], row["problem"])


def _parse_record(number: int, batch: pyarrow.RecordBatch, position: int) -> TextRow:
    [found] = batch.slice(position, 1).to_pylist()
    problem = _find_problem(found["text"])
    return TextRow(number, to_json(found) if problem else "", {} if problem else found, problem)


def _open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=CHUNK)
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise ValueError(
            f"Expected Parquet in {str(path)!r}, found something else ({error}). Write the file anew."
        ) from error


def _iterate_parquet(path: Path) -> Iterator[ParseRow]:
    number = 0
    with _open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            for position in range(batch.num_rows):
                number += 1
                yield partial(_parse_record, number, batch, position)


def iterate_rows(source: Path | None) -> Iterator[ParseRow]:
    """Yield for each row of a file, or for each line of standard input when None, what parses it.

    `.json` is read as a whole; all others in bounded memory, where a text and its row count as bounded.

    Raises:
        ValueError: If the file as a whole cannot be read.
    """
    suffix = source.suffix.lower() if source is not None else ""
    if source is None or suffix in LINE_SUFFIXES or suffix == ".jsonl":
        parse = _parse_json_line if suffix == ".jsonl" else _parse_line
        with nullcontext(sys.stdin.buffer) if source is None else source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield partial(parse, number, line)
    elif suffix == ".csv":
        header = read_csv_header(source)
        for cells in iterate_csv_cells(source):
            yield partial(_parse_cells, header, cells)
    elif suffix == ".parquet":
        yield from _iterate_parquet(source)
    else:
        for row in iterate_raw_rows(source):
            yield partial(_parse_json, row["row"], row["content"], row["problem"])


def read_columns(source: Path | None) -> dict[str, pyarrow.DataType] | None:
    """The columns of a CSV or Parquet file with their types; None where every row has fields of its own.

    Raises:
        ValueError: If there is no column with texts, or two have one name.
    """
    suffix = source.suffix.lower() if source is not None else ""
    if source is None or suffix not in (".csv", ".parquet"):
        return {"text": pyarrow.string()} if suffix in LINE_SUFFIXES else None
    if suffix == ".csv":
        return {name: pyarrow.string() for name in read_csv_header(source)}
    with _open_parquet(source) as file:
        schema = file.schema_arrow
    if repeated := [name for name in schema.names if schema.names.count(name) > 1]:
        raise ValueError(f"Expected distinct columns in {str(source)!r}, found {repeated[0]!r} twice. Rename one.")
    if "text" not in schema.names:
        found = ", ".join(schema.names) or "none"
        raise ValueError(f"Expected a column 'text' in {str(source)!r}, found {found}. Name the column 'text'.")
    return {field.name: field.type for field in schema}


class FileFacts(NamedTuple):
    """What tells one input from another."""

    rows: int  # that can be walked, blank lines of JSON Lines too
    digest: str  # of all bytes


def read_file_facts(source: Path) -> FileFacts:
    """Count the rows of a file and take a digest of its bytes."""
    digest, lines, last = hashlib.blake2b(digest_size=16), 0, b"\n"
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    if source.suffix.lower() == ".parquet":
        with _open_parquet(source) as parquet:
            rows = parquet.metadata.num_rows
    elif source.suffix.lower() in (".csv", ".json"):
        rows = sum(1 for _ in iterate_rows(source))
    else:
        rows = lines + (last != b"\n")
    return FileFacts(rows, digest.hexdigest())


class PartReader:
    """Reads parts of so many rows each; going forward, the file is walked once.

    Args:
        source: The file.
        part_rows: Rows of a part.
    """

    def __init__(self, source: Path, part_rows: int):
        self.source, self.part_rows = source, part_rows
        self._rows: Iterator[ParseRow] = iter(())
        self._next: int | None = None

    def read(self, part: int) -> list[TextRow]:
        """The rows of a part, parsed; those of the parts before it are only walked over."""
        if self._next is None or part < self._next:
            self._rows, self._next = iterate_rows(self.source), 0
        start = (part - self._next) * self.part_rows
        parsed = (parse() for parse in islice(self._rows, start, start + self.part_rows))
        rows = [row for row in parsed if row is not None]
        self._next = part + 1
        return rows


def check_source(source: Path | None) -> None:
    """Raise an error if `source` is no file, of no type that can be read, or plainly of another than its name says."""
    if source is not None and not source.is_file():
        raise FileNotFoundError(f"Expected a file of texts, found no file {str(source)!r}. Check the path.")
    if source is not None and source.suffix.lower() not in (*LINE_SUFFIXES, *SUFFIXES):
        raise ValueError(
            f"Expected a file of texts (.txt, {', '.join(SUFFIXES)}), found {str(source)!r}. Convert it, or give one text "
            "a line on standard input."
        )
    if source is not None and source.suffix.lower() in (*LINE_SUFFIXES, ".jsonl"):
        with source.open("rb") as file:
            if file.read(2) in UTF_16:  # every second byte would be a character of its own
                raise ValueError(f"Expected UTF-8 in {str(source)!r}, found UTF-16. Save it as UTF-8.")
    if source is not None and source.suffix.lower() == ".jsonl":
        check_json_lines(source)


def _list_fields(source: Path | None, wanted: Sequence[str]) -> list[str]:
    """The fields of the rows up to the first by which all that are wanted were there; of all rows where some never are."""
    names: dict[str, None] = {}
    rows = iterate_rows(source)
    while not all(name in names for name in wanted) and (parse := next(rows, None)) is not None:
        if (row := parse()) is not None:
            names.update(dict.fromkeys(row.fields))
    return list(names)


def check_fields(source: Path | None, keep: Sequence[str] | None) -> dict[str, pyarrow.DataType] | None:
    """What [`read_columns`] says of a source, if it has the fields to keep: as columns, or in some row.

    Raises:
        ValueError: If a field is none of the columns, or is in no row.
    """
    columns = read_columns(source)
    names = _list_fields(source, keep or ()) if columns is None else list(columns)
    if unknown := [name for name in keep or () if name not in names]:
        place = "of standard input" if source is None else f"of {str(source)!r}"
        raise ValueError(
            f"Expected fields to keep among {', '.join(names) or 'none'}, found {unknown[0]!r}. Check keep_fields against "
            f"the {'fields' if columns is None else 'columns'} {place}."
        )
    return columns
