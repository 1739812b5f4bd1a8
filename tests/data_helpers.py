"""Rows, sources and files for the tests of `zeroshot.data`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from zeroshot.data import Row, Source
from zeroshot.data.validation import ROW_FEATURES

THREE_PARTS = r"^Expected .+, found .+[.!?]$"
LONG = "the keeper tipped the ball over the bar in the last minute of extra time and the stadium fell silent"
NEAR = LONG.replace("silent", "quiet")


def write(folder: Path, name: str, content: str | bytes) -> str:
    """Write a file byte for byte and return its path."""
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(file)


def write_rows(folder: Path, name: str, *rows: Any) -> str:
    """Write JSON Lines into a folder, which is made, and return the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    return write(folder, name, "".join(json.dumps(row) + "\n" for row in rows))


def make_row(text: str, labels: Sequence[str], negatives: Sequence[str] = ()) -> Row:
    """A valid row."""
    return {"text": text, "labels": list(labels), "negatives": list(negatives)}


def make_source(rows: Sequence[Row], candidate_labels: list[str] | None = None) -> Source:
    """A source of rows in memory."""
    columns = {name: [row[name] for row in rows] for name in ROW_FEATURES}
    return Source("memory", Dataset.from_dict(columns, features=ROW_FEATURES), candidate_labels)


ROWS: list[Row] = [
    make_row("the team scored a goal", ["sports"]),
    make_row("bake the cake", ["cooking", "joy, at home"], ["sports", "rain"]),
]
NASTY_TEXTS = {
    "quotes": 'she said "bake, then \'cool\'"; \\"done\\"',
    "emoji": "goal 👩\u200d👩\u200d👧 🇩🇪 !",
    "right_to_left": "خبز الكعكة \u200fשבת",
    "line_feed": "first line\nsecond line",
    "windows_line_end": "first line\r\nsecond line",
    "carriage_return": "first line\rsecond line",
    "line_separator": "first line\u2028second line\u0085third\x0bfourth\x0cfifth\x1csixth",
    "outer_spaces": "  the team  ",
    "byte_order_mark": "\ufeffthe team",
    "looks_like_json": '["the", "team"]',
    "looks_like_null": "null",
    "very_long": "the team scored. " * 20_000,
}
