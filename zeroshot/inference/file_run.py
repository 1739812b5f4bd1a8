"""One prediction from a file to a file, part by part: what a process, a later run or another machine has to know."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow
from transformers.utils import logging

from ..data.findings import count_things
from ..files import replace_file
from ..models.inputs_zeroshot import TextError
from .parts import Part, PartFolder
from .result_files import (
    ADDED,
    OWN,
    Kind,
    Record,
    Rejections,
    Writer,
    add_kinds,
    find_kind,
    name_listing,
    open_listing,
    open_writer,
    rename_fields,
)
from .text_files import PartReader, TextRow

logger = logging.get_logger(__name__)

Classify = Callable[[list[str]], list[dict]]
NO_TEXTS = "Expected texts to classify, found none. Give one text a line, or rows with a field 'text'."


def _rank_labels(result: dict) -> Record:
    """What `predict` says of a text, without the text, labels by falling score."""
    ranked = sorted(result["scores"].items(), key=lambda pair: -pair[1])
    extras = {name: value for name, value in result.items() if name not in ("text", "scores")}
    return {"labels": [label for label, _ in ranked], "scores": [score for _, score in ranked], **extras}


def classify_rows(rows: Sequence[TextRow], classify: Classify) -> list[Record]:
    """The results of rows, an empty one where a row has no text.

    Raises:
        ValueError: If a text is too long and may not be; the message names its line.
    """
    whole = [row for row in rows if row.problem is None]
    try:
        results = iter(classify([row.fields["text"] for row in whole]) if whole else [])
    except TextError as error:
        raise ValueError(error.tell(f"in line {whole[error.position].number}")) from error
    return [_rank_labels(next(results)) if row.problem is None else {} for row in rows]


def build_record(row: TextRow, result: Record, keep: Sequence[str] | None) -> Record:
    """A row of the result file: its text, the result, the fields that are kept."""
    own = {"sequence": row.fields["text"], **result}
    renamed = rename_fields(row.fields, keep, [*OWN, *result])
    return {**own, **{new: row.fields.get(name) for name, new in renamed.items()}}


def sort_out(
    rows: Sequence[TextRow], results: Sequence[Record], keep: Sequence[str] | None, rejections: Rejections
) -> list[Record]:
    """The rows of the result file; the others are noted as rejected."""
    records = []
    for row, result in zip(rows, results, strict=True):
        if row.problem is None:
            records.append(build_record(row, result, keep))
        else:
            rejections.add(row.number, row.content, row.problem)
    return records


@dataclass(frozen=True)
class FileRun:
    """A prediction from a file to a file; may travel to another machine that sees the same files.

    Args:
        source: The file of texts.
        target: The file of results.
        folder: Of the parts.
        keep: Fields to keep, see [`predict_file`].
        columns: Of the source, where they are the same for all rows.
        rows: Of the source.
        part_rows: Rows of a part.
    """

    source: Path
    target: Path
    folder: PartFolder
    keep: Sequence[str] | None
    columns: Mapping[str, pyarrow.DataType] | None
    rows: int
    part_rows: int

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.rows // self.part_rows)

    def count_rows(self, parts: Sequence[int]) -> int:
        """How many rows these parts have together."""
        return sum(min(self.part_rows, self.rows - index * self.part_rows) for index in parts)

    def classify_part(self, index: int, reader: PartReader, classify: Classify) -> int:
        """Classify a part, write it, and return of how many rows it is."""
        rows = reader.read(index)
        results = classify_rows(rows, classify)
        extras: dict[str, Kind] = {}
        fields: dict[str, Kind] = {}
        for row, result in zip(rows, results, strict=True):
            if row.problem is not None:
                continue
            record = build_record(row, result, self.keep)
            kinds = {name: find_kind(value) for name, value in record.items() if name not in OWN}
            add_kinds(extras, {name: kind for name, kind in kinds.items() if name in result})
            if self.columns is None:
                add_kinds(fields, {name: kind for name, kind in kinds.items() if name not in result})
        self.folder.write(index, Part(results, extras, fields))
        return self.count_rows([index])

    def join(self) -> int:
        """Write the result and the list of rows without a text from the parts; return how many texts there are.

        Raises:
            ValueError: If there is no text.
        """
        reader, done = PartReader(self.source, self.part_rows), 0
        with replace_file(self.target) as path:
            with open_listing(self.target) as listing, self._open_result(path) as writer:
                rejections = Rejections(listing, logger.warning)
                for index in range(self.parts):
                    records = sort_out(reader.read(index), self.folder.read(index).results, self.keep, rejections)
                    if records:
                        writer.write(records)
                    done += len(records)
            left_out = rejections.describe(name_listing(self.target)) if rejections.count else ""
            if not done:
                if left_out:
                    logger.warning(left_out)
                raise ValueError(NO_TEXTS)
        wrote = f"Wrote {count_things(done, 'row')} to {self.target}"
        if left_out:
            logger.warning(f"{wrote}; {left_out}")
        else:
            logger.info(wrote)
        return done

    @contextmanager
    def _open_result(self, path: Path) -> Iterator[Writer]:
        extras: dict[str, Kind] = {}
        fields: dict[str, Kind] = {}
        for index in range(self.parts):
            head = self.folder.read_head(index)
            add_kinds(extras, head.extras)
            add_kinds(fields, head.fields)
        columns: dict[str, pyarrow.DataType] = dict(OWN)
        if self.columns is not None:
            renamed = rename_fields(self.columns, self.keep, [*OWN, *extras])
            columns |= {new: self.columns[name] for name, new in renamed.items()}
        columns |= {name: ADDED[name] for name in ADDED if name in extras}
        kinds = {name: kind for name, kind in {**extras, **fields}.items() if name not in columns}
        with open_writer(path, self.target.suffix, columns, kinds) as writer:
            yield writer
