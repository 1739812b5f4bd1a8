"""Long predictions: killed at any moment, shared by several processes; the result is the same byte by byte."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from transformers import set_seed

from zeroshot.inference import predict_file, prediction
from zeroshot.inference.parts import PartFolder, Processes, Session
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .command_helpers import StandardInput, read_lines
from .conftest import LABELS, WORDS

ROOT = Path(__file__).resolve().parents[1]
HEAD = b'{"rows": 4, "extras": {}, "fields": {}}\n'
# Small windows, and a pause in each, so that there is something to interrupt.
SCRIPT = """
import sys, time
from zeroshot.inference import file_run, prediction
prediction.WINDOW = 4
classify = file_run.classify_rows
def slow(*arguments):
    time.sleep(float(sys.argv[1]))
    with open(sys.argv[2], "a") as log:
        log.write("part\\n")
    return classify(*arguments)
file_run.classify_rows = slow
from zeroshot.cli import main
print("ready", flush=True)
main(sys.argv[3:])
"""


def write_texts(folder: Path, count: int = 160) -> Path:
    """Rows of one to twelve words, every ninth without a text."""
    chance = random.Random(0)
    texts = ["" if i % 9 == 4 else " ".join(chance.choices(WORDS[:40], k=chance.randint(1, 12))) for i in range(count)]
    lines = [json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)]
    (folder / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "a.jsonl"


def start(pause: float, log: Path, *words: object, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(pause), str(log), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
    )


def words_of(folder: Path, target: Path) -> list[object]:
    files = ["--input", folder / "a.jsonl", "--output", target]
    return ["predict", folder / "model", "--labels", ",".join(LABELS), *files, "--batch_size", "3"]


def predict_here(model: ZeroShotPreTrainedModel, folder: Path, target: Path, **kwargs: Any) -> int:
    return predict_file(model, LABELS, folder / "a.jsonl", target, batch_size=3, **kwargs)


def list_parts(target: Path) -> list[Path]:
    return sorted(target.with_name(target.name + ".parts").glob("part-*.jsonl"))


@pytest.mark.slow
def test_killed_runs_and_several_processes_give_the_same_bytes(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at a random moment, then two processes which share what is left; no part is classified twice."""
    monkeypatch.setattr(prediction, "WINDOW", 4)
    biencoder.save_pretrained(tmp_path / "model")
    write_texts(tmp_path)
    expected, target = tmp_path / "expected.parquet", tmp_path / "out.parquet"
    predict_here(biencoder, tmp_path, expected)

    process = start(0.15, tmp_path / "first.log", *words_of(tmp_path, target))
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    while not list_parts(target):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    time.sleep(random.Random().uniform(0, 1.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = list_parts(target)
    assert 0 < len(there) < 40 and not target.exists()

    logs = [tmp_path / "second.log", tmp_path / "third.log"]
    shared = [
        start(0, log, *words_of(tmp_path, target), RANK=str(rank), WORLD_SIZE="2")
        for rank, log in zip((1, 0), logs, strict=True)
    ]
    for process in shared:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    done = [len(log.read_text(encoding="utf-8").splitlines()) for log in logs]
    assert min(done) > 0 and sum(done) == 40 - len(there)
    assert target.read_bytes() == expected.read_bytes()
    refused = "out.parquet.rejected.jsonl"
    assert (tmp_path / refused).read_bytes() == (tmp_path / "expected.parquet.rejected.jsonl").read_bytes()
    assert pyarrow.parquet.read_table(target)["id"].to_pylist() == [i for i in range(160) if i % 9 != 4]
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.parquet", refused]


class Interruption:
    """Lets `predict` through so many times, then stands for Ctrl-C."""

    def __init__(self, model: ZeroShotPreTrainedModel, calls: int) -> None:
        self.predict, self.calls, self.texts = model.predict, calls, list[str]()

    def __call__(self, texts: list[str], *arguments: Any, **kwargs: Any) -> list[dict]:
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.texts += texts
        return self.predict(texts, *arguments, **kwargs)


@pytest.fixture
def begun(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The result of a run that was interrupted after two of its six parts."""
    monkeypatch.setattr(prediction, "WINDOW", 4)
    write_texts(tmp_path, 22)
    with monkeypatch.context() as patch:
        patch.setattr(biencoder, "predict", Interruption(biencoder, 2))
        with pytest.raises(KeyboardInterrupt):
            predict_here(biencoder, tmp_path, tmp_path / "out.jsonl")
    assert len(list_parts(tmp_path / "out.jsonl")) == 2
    return tmp_path / "out.jsonl"


def test_only_what_is_missing_is_classified(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Interruption(biencoder, 100)
    with monkeypatch.context() as patch:
        patch.setattr(biencoder, "predict", counter)
        assert predict_here(biencoder, tmp_path, begun) == 20
    assert counter.texts == [line["sequence"] for line in read_lines(begun)][7:]
    predict_here(biencoder, tmp_path, tmp_path / "whole.jsonl")
    assert begun.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_moved_copy_of_the_same_model_and_input_goes_on(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, begun: Path
) -> None:
    """Where they lie and when they were written changes no score."""
    biencoder.save_pretrained(tmp_path / "moved")
    moved = type(biencoder).from_pretrained(tmp_path / "moved")
    os.utime(tmp_path / "a.jsonl", (0, 0))
    assert predict_here(moved, tmp_path, begun) == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": LABELS[:2]}, "other labels"),
        ({"multi_label": True}, "other options (multi_label)"),
        ({"batch_size": 5}, "other options (batch_size)"),
        ({"options": {"class_templates": ["about {}"]}}, "other options (class_templates)"),
        ({"options": {"label_offsets": dict.fromkeys(LABELS, 0.5)}}, "other options (label_offsets)"),
        ({"keep_fields": ["id"]}, "other fields to keep"),
        ({"model": True}, "another model"),
        ({"calibration": True}, "another model"),
        ({"input": True, "multi_label": True}, "other options (multi_label), another input file"),
    ],
    ids=str,
)
def test_parts_of_something_else_are_not_taken(
    biencoder: ZeroShotPreTrainedModel, encoder_dir: str, tmp_path: Path, begun: Path, change: Mapping[str, Any], words: str
) -> None:
    """Half of the file would be classified in one way and half in another."""
    change, parts = dict(change), [path.read_bytes() for path in list_parts(begun)]
    if change.pop("input", False):
        with (tmp_path / "a.jsonl").open("ab") as file:
            file.write(b"\n")
    if change.pop("model", False):
        set_seed(2)
        biencoder = ARCHITECTURES["biencoder"].from_encoder(encoder_dir, class_templates=["of {}"])
    if change.pop("calibration", False):
        biencoder.config.calibration = {"temperature": 2.0}
    labels = change.pop("labels", LABELS)
    folder = str(begun) + ".parts"
    message = (
        f"Expected the prediction that {folder!r} was begun with, found {words}. Give the first command again, or "
        "remove that folder to begin anew."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        predict_file(biencoder, labels, tmp_path / "a.jsonl", begun, **{"batch_size": 3, **change})
    assert [path.read_bytes() for path in list_parts(begun)] == parts


@pytest.mark.parametrize("content", [b"", b"\xff\n", HEAD + b'{"labels": [', HEAD + b"{}\n{}\n{}\n", HEAD + b"\xff\n"])
def test_a_damaged_part_is_named(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, begun: Path, content: bytes) -> None:
    part = list_parts(begun)[1]
    part.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"Expected results in {str(part)!r}, found ")):
        predict_here(biencoder, tmp_path, begun)
    part.unlink()
    assert predict_here(biencoder, tmp_path, begun) == 20


def test_a_run_that_died_before_its_first_part_is_begun_anew(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    write_texts(tmp_path, 10)
    (tmp_path / "out.jsonl.parts").mkdir()
    (tmp_path / "out.jsonl.parts" / ".manifest.json.77.partial").write_text("{", encoding="utf-8")
    assert predict_here(biencoder, tmp_path, tmp_path / "out.jsonl") == 9
    assert not (tmp_path / "out.jsonl.parts").exists()


def test_a_refused_call_leaves_no_folder(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """A second try with the labels mended is no other prediction."""
    write_texts(tmp_path, 10)
    with pytest.raises(ValueError, match="distinct"):
        predict_file(biencoder, ["a", "a"], tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


# -- several processes -------------------------------------------------------------------------------------------------


def test_the_first_process_waits_for_all_others_of_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another session left behind says nothing about this one."""
    folder = PartFolder(tmp_path / "parts")
    Session(folder, Processes(0, 2)).begin()
    (tmp_path / "parts" / "done-1").write_text((tmp_path / "parts" / "session").read_text(), encoding="utf-8")
    first = Session(folder, Processes(0, 2))
    first.begin()

    class StillWaiting(Exception):
        pass

    def give_up(_seconds: float) -> None:
        raise StillWaiting

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", give_up)
        with pytest.raises(StillWaiting):
            first.wait_for_others()
        with pytest.raises(StillWaiting):
            Session(folder, Processes(1, 2)).wait_for_result()  # says that it is done, and waits for the end
        first.wait_for_others()
    folder.remove()
    Session(folder, Processes(1, 2)).wait_for_result()


@pytest.mark.parametrize(("source", "target", "found"), [(None, "out.jsonl", "input"), ("a.jsonl", None, "output")])
def test_several_processes_need_two_files(
    biencoder: ZeroShotPreTrainedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str | None,
    target: str | None,
    found: str,
) -> None:
    """Each would read a part of the same standard input, or write its own result to it."""
    write_texts(tmp_path, 10)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("sys.stdin", StandardInput(b"one\n"))
    message = f"Expected a file of texts and a file of results for several processes, found standard {found}. Name both"
    with pytest.raises(ValueError, match=message):
        predict_file(biencoder, LABELS, source and tmp_path / source, target and tmp_path / target)
