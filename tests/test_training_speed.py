"""benchmarks/training.py runs; how fast is no matter of a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_speed_benchmark_writes_its_table(encoder_dir: str, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    names = ["ours, default", "sentence-transformers, default"]
    command = [sys.executable, ROOT / "benchmarks" / "training.py", "--encoder", encoder_dir, "--only", *names]
    sizes = ["--rounds", "1", "--steps", "1", "--batch_size", "8", "--max_tokens", "48", "--threads", "1"]
    finished = subprocess.run(
        [*command, *sizes, "--output", tmp_path], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert not finished.returncode, finished.stderr
    result = json.loads((tmp_path / "training.json").read_text())
    assert list(result["rows"]) == names
    for name in names:
        row = result["rows"][name]
        assert row["texts_per_second"] > 0
        assert 0 <= row["accuracy"] <= 1
        assert f"| {name} |" in finished.stdout
    assert result["machine"]["threads"] == 1
    assert set(result["machine"]["peak"]) == {"float32", "bfloat16"}
