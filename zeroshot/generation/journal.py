"""The record of what was answered and paid for: one line per answer, on disk before anything else happens with it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypedDict

from transformers.utils import logging

from .arguments import GenerationArguments
from .costs import Usage, compute_cost

logger = logging.get_logger(__name__)

Outcome = Literal["row", "invalid", "refused", "truncated", "impossible", "pool"]
FIELDS: dict[str, Any] = {"item": (int, str), "attempt": int, "outcome": str, "answer": str, "usage": dict, "batch": bool}


class Record(TypedDict):
    """An answered request."""

    item: int | str  # index of a plan item, or the name of a request about the pool
    attempt: int  # from 1
    outcome: Outcome
    answer: str
    problem: str | None  # why it is no row
    usage: Usage
    cost: float  # USD, at the prices of its day
    batch: bool  # paid at the price of a batch


def read_cost(record: Record, arguments: GenerationArguments) -> float:
    """What a request cost when it was answered; the journals of earlier versions do not say, so there by today's prices."""
    return record.get("cost", compute_cost(record["usage"], arguments, batch=record["batch"]))


def _parse_record(line: bytes, path: Path, number: int) -> Record:
    try:
        record = json.loads(line)
    except ValueError:  # also bytes that are not UTF-8
        record = None
    if not isinstance(record, Mapping) or not all(isinstance(record.get(name), kind) for name, kind in FIELDS.items()):
        raise ValueError(
            f"Expected a record in line {number} of {str(path)!r}, found {line[:80]!r}. Restore the file, or remove that "
            "line: its request is then sent again."
        )
    return record  # type: ignore[return-value]


def _read_records(path: Path) -> tuple[list[Record], int]:
    """The records of a journal, and how many bytes of it are whole lines."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    lines = enumerate(whole.splitlines(), start=1)
    return [_parse_record(line, path, number) for number, line in lines if line.strip()], len(whole)


class Journal:
    """`journal.jsonl` of an output folder; a context that holds the file open.

    Args:
        path: The file; a last line that was half written when a run died is cut off.

    Raises:
        ValueError: If another line is broken.
    """

    def __init__(self, path: Path):
        self.records, length = _read_records(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if self._file.tell() > length:
            logger.warning(f"{path}: the last line was half written and is cut off; its request is sent again.")
            self._file.truncate(length)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, record: Record) -> None:
        """Write a record to the disk itself."""
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.append(record)
