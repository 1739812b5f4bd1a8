"""benchmarks/label_offsets.py at its smallest."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import write_set
from .conftest import LABELS
from .test_label_offsets import MANY


def test_the_benchmark_shows_how_many_texts_are_needed(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path / "model")
    rows = [(text, [LABELS[number % len(LABELS)]]) for number, text in enumerate(MANY)]
    folder = write_set(tmp_path / "sets" / "one", rows[:40], LABELS)
    lines = [json.dumps({"text": text, "labels": labels}) + "\n" for text, labels in rows[40:]]
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "label_offsets.py"
    words = [
        sys.executable,
        str(script),
        str(tmp_path / "model"),
        "--sets",
        str(tmp_path / "sets"),
        "--draws",
        "2",
        "--texts",
        "0",
    ]
    options: dict[str, Any] = {
        "capture_output": True,
        "text": True,
        "timeout": 120,
        "env": {**os.environ, "PYTHONPATH": str(script.parents[1])},
    }
    done = subprocess.run([*words, "20", "100", "--strength", "0", "0.5"], **options)
    assert done.returncode == 0, done.stderr[-2000:]
    table = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[3:]]
    assert [row[0] for row in table] == ["0", "20", "100"]
    assert len({row[1] for row in table}) == 1 and table[0][1] == table[0][2]  # strength 0, or no texts: as they are
    assert table[2][2] != table[0][2]
    done = subprocess.run([*words, "2000"], **options)
    assert done.returncode == 1 and "found one with 104. Lower --texts." in done.stderr
