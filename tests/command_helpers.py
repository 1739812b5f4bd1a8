"""What tests of prediction, suites and commands share."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zeroshot.cli import main
from zeroshot.evaluation import METRICS
from zeroshot.evaluation.suites import SuiteResult
from zeroshot.models import ZeroShotPreTrainedModel

from .conftest import LABELS

BOM = b"\xef\xbb\xbf"
Records = list[dict[str, Any]]
Rows = Sequence[tuple[str, list[str]]]
TOPICS: Rows = [("goal", ["sports"]), ("cake", ["cooking"]), ("oven", ["cooking"]), ("a cake match", ["sports", "cooking"])]


class StandardInput:
    """Stands in for `sys.stdin`: bytes under `buffer`."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def read_lines(path: Path) -> Records:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expect_records(
    model: ZeroShotPreTrainedModel, texts: Sequence[str], labels: Sequence[str] = LABELS, **kwargs: Any
) -> Records:
    """What `predict` says, labels by falling score."""
    records = []
    for result in model.predict(texts, labels, **kwargs):
        ranked = sorted(result["scores"], key=result["scores"].get, reverse=True)
        scores = pytest.approx([result["scores"][label] for label in ranked], abs=1e-6)
        records.append({"sequence": result["text"], "labels": ranked, "scores": scores})
    return records


def write_set(folder: Path, rows: Rows = TOPICS, labels: Sequence[str] = ("sports", "cooking")) -> Path:
    """Write a test set and return its folder."""
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    lines = [json.dumps({"text": text, "labels": own}, ensure_ascii=False) + "\n" for text, own in rows]
    (folder / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def build_result(value: float, sets: Sequence[str] = ("a",)) -> SuiteResult:
    """A result in which every metric has the same value."""
    values = dict.fromkeys(METRICS, value)
    return {"mean": values, "sets": {name: {**values, "n": 1, "labels": 2} for name in sets}}  # type: ignore[typeddict-item]


def fail(*words: object) -> str:
    """Run a command that must end with status 1, and return what it says on standard error."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    # A text as the exit code: Python prints it on standard error and ends with status 1.
    assert isinstance(caught.value.code, str)
    return caught.value.code
