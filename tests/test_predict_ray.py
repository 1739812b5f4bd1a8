"""Prediction by workers of Ray: the same files with the same content."""

import builtins
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zeroshot.inference import predict_file, prediction
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import fail
from .conftest import LABELS
from .test_predict_resume import ROOT, write_texts

SCRIPT = """
import json, sys
from zeroshot.inference import prediction
prediction.WINDOW = 8
from zeroshot.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed: pip install zeroshot[ray]")
def test_ray_writes_the_same_files(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from where a process on this machine was interrupted. Ray runs in a process of its own, which takes it along."""
    monkeypatch.setattr(prediction, "WINDOW", 8)
    write_texts(tmp_path, 60)
    biencoder.save_pretrained(tmp_path / "model")
    for name in ("expected.csv", "out.csv"):
        predict_file(biencoder, LABELS, tmp_path / "a.jsonl", tmp_path / name)
    (tmp_path / "out.csv").unlink()

    predict, calls = biencoder.predict, []

    def interrupt(*arguments: Any, **kwargs: Any) -> list[dict]:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*arguments, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(biencoder, "predict", interrupt)
        with pytest.raises(KeyboardInterrupt):
            predict_file(biencoder, LABELS, tmp_path / "a.jsonl", tmp_path / "out.csv")
    assert len(list((tmp_path / "out.csv.parts").glob("part-*"))) == 2
    files = ["--input", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "out.csv")]
    words = ["predict", str(tmp_path / "model"), "--labels", json.dumps(LABELS)[1:-1].replace('"', ""), *files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words, "--engine", "ray"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    listings = [(tmp_path / f"{name}.csv.rejected.jsonl").read_bytes() for name in ("out", "expected")]
    assert listings[0] == listings[1]
    assert not (tmp_path / "out.csv.parts").exists()


def test_without_ray_the_command_says_what_to_install(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def refuse(name: str, *arguments: Any, **kwargs: Any) -> Any:
        if name in ("ray", "ray.data"):
            raise ModuleNotFoundError("No module named 'ray'")
        return load(name, *arguments, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    biencoder.save_pretrained(tmp_path / "model")
    write_texts(tmp_path, 4)
    files = ["--input", tmp_path / "a.jsonl", "--output", tmp_path / "out.jsonl"]
    words = fail("predict", tmp_path / "model", "--labels", "a,b", *files, "--engine", "ray")
    expected = 'Expected Ray for the engine ray, found it not installed. Install it: pip install "zeroshot[ray]".'
    assert words == f"ImportError: {expected}"
    assert not (tmp_path / "out.jsonl.parts").exists()


@pytest.mark.parametrize(
    ("environment", "engine", "message"),
    [
        ("2", "ray", r"Expected one process with the engine ray, found 2 \(WORLD_SIZE\). Leave the launcher out."),
        ("1", "spark", "Expected one of the engines local, ray, found 'spark'. Choose one."),
    ],
)
def test_engines_that_do_not_go_are_refused(
    biencoder: ZeroShotPreTrainedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    engine: Any,
    message: str,
) -> None:
    write_texts(tmp_path, 4)
    monkeypatch.setenv("WORLD_SIZE", environment)
    with pytest.raises(ValueError, match=message):
        predict_file(biencoder, LABELS, tmp_path / "a.jsonl", tmp_path / "out.jsonl", engine=engine)
