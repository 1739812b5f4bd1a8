"""benchmarks/inference.py at its smallest: one command writes the tables and the plot."""

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "inference.py"
MISSING = [
    name for name in ("matplotlib", "onnxscript", "onnxruntime", "openvino") if importlib.util.find_spec(name) is None
]


@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)}: the extras data and export")
def test_one_command_writes_tables_and_plot(encoder_dir: str, tmp_path: Path) -> None:
    names = ["biencoder", "crossencoder", "biencoder, bf16", "biencoder, openvino", "transformers NLI pipeline"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    words = ["--encoder", encoder_dir, "--labels", "2", "10", "--rounds", "2", "--seconds", "0.01", "--calls", "2"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words, "--only", *names, "--output", str(tmp_path / "speed")],
        capture_output=True, text=True, timeout=300, cwd=SCRIPT.parents[1], env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with (tmp_path / "speed" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["contestant"], row["labels"]) for row in rows] == [(name, count) for count in ("2", "10") for name in names]
    for row in rows:
        assert 0 < float(row["slowest_round"]) <= float(row["texts_per_second"]) <= float(row["fastest_round"])
        assert bool(row["p99_ms"]) == (row["labels"] == "10")
    assert done.stdout == (tmp_path / "speed" / "results.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in done.stdout for name in names)
    assert 1_000 < (tmp_path / "speed" / "results.png").stat().st_size < 100_000
