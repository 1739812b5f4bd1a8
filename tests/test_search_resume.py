"""`zeroshot search` from a file to a file: killed, shared, given bad rows, or begun with something else, as `predict` is."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from zeroshot.cli import main
from zeroshot.inference import LabelIndex, prediction
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import StandardInput, fail, read_lines
from .conftest import LABELS, WORDS
from .test_predict_resume import list_parts, start, write_texts

NAMES = [*LABELS, *WORDS[:25]]


@pytest.fixture
def place(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an index and 160 rows, which are 40 parts; every ninth has no text."""
    monkeypatch.setattr(prediction, "WINDOW", 4)
    biencoder.save_pretrained(tmp_path / "model")
    LabelIndex.build(type(biencoder).from_pretrained(tmp_path / "model"), NAMES).save(tmp_path / "index")
    write_texts(tmp_path)
    return tmp_path


def words_of(place: Path, target: str, *words: str) -> list[str]:
    return ["search", str(place / "index"), "--input", str(place / "a.jsonl"), "--output", str(place / target), *words]


def test_every_command_chooses_its_device_alike(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU of this process where there is one; no machine of the tests has one, so that the move is noted alone."""
    moves: list[tuple[str, str]] = []
    files = ["--input", str(place / "a.jsonl"), "--output", str(place / "out.jsonl")]
    (place / "names.json").write_text(json.dumps(NAMES), encoding="utf-8")
    commands = {
        "predict": [str(place / "model"), "--labels", "sports,music", *files],
        "index": [str(place / "model"), "--labels", str(place / "names.json"), "--output", str(place / "other")],
        "search": words_of(place, "found.jsonl")[1:],
    }
    for verb, words in commands.items():
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setenv("LOCAL_RANK", "1")
            patch.setattr(ZeroShotPreTrainedModel, "to", lambda self, to, verb=verb: moves.append((verb, to)) or self)
            main([verb, *words])
    assert moves == [(verb, "cuda:1") for verb in commands]


def count_texts(monkeypatch: pytest.MonkeyPatch, calls: int = 1000) -> list[str]:
    """The texts that an index will be asked for, in a list that grows; after so many calls the disk is full."""
    asked, left, predict = list[str](), iter(range(calls)), LabelIndex.predict

    def count(index: LabelIndex, texts: list[str], top_k: int, *, batch_size: int) -> list[dict]:
        if next(left, None) is None:
            raise OSError("no space left on device")
        asked.extend(texts)
        return predict(index, texts, top_k, batch_size=batch_size)

    monkeypatch.setattr(LabelIndex, "predict", count)
    return asked


@pytest.mark.slow
def test_a_killed_search_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed as the first of two processes, which did its own parts alone; gone on with as one, which does the others."""
    main(words_of(place, "expected.jsonl"))
    words = words_of(place, "out.jsonl")
    process = start(0.15, place / "first.log", *words, RANK="0", WORLD_SIZE="2")
    target = place / "out.jsonl"
    while len(list_parts(target)) < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = [int(path.stem.removeprefix("part-")) for path in list_parts(target)]
    assert there == [2 * number for number in range(len(there))] and not target.exists()

    expected, asked = read_lines(place / "expected.jsonl"), count_texts(monkeypatch)
    main(words)
    done = {row for part in there for row in range(4 * part, 4 * part + 4)}
    assert asked == [line["sequence"] for line in expected if line["id"] not in done]
    assert target.read_bytes() == (place / "expected.jsonl").read_bytes()
    refused = read_lines(place / "out.jsonl.rejected.jsonl")
    assert [row["row"] for row in refused] == [i + 1 for i in range(160) if i % 9 == 4]
    assert refused[0]["problem"] == "Expected a text with words, found an empty one. Leave the line out."
    assert not target.with_name("out.jsonl.parts").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [("options", "other options (top_k)"), ("labels", "other labels"), ("model", "another model")],
)
def test_parts_of_another_search_are_not_taken(
    place: Path, biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch, changed: str, words: str
) -> None:
    with monkeypatch.context() as patch:
        count_texts(patch, 2)
        assert fail(*words_of(place, "out.jsonl")) == "OSError: no space left on device"
    assert len(list_parts(place / "out.jsonl")) == 2
    if changed == "labels":
        index = LabelIndex.load(place / "index")
        index.add(["strong wind"])
        index.save(place / "index")
    if changed == "model":
        biencoder.config.class_templates = ["of {}"]
        biencoder.save_pretrained(place / "model")
        LabelIndex.build(type(biencoder).from_pretrained(place / "model"), NAMES).save(place / "index")
    folder = str(place / "out.jsonl.parts")
    assert fail(*words_of(place, "out.jsonl", *(["--top_k", "2"] if changed == "options" else []))) == (
        f"ValueError: Expected the prediction that {folder!r} was begun with, found {words}. Give the first "
        "command again, or remove that folder to begin anew."
    )
    assert len(list_parts(place / "out.jsonl")) == 2


def test_several_processes_need_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the index is read: each would answer the same lines."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("sys.stdin", StandardInput(b"one\n"))
    message = "Expected a file of texts and a file of results for several processes, found standard input. Name both files."
    assert fail("search", tmp_path / "none", "--output", tmp_path / "out.jsonl") == f"ValueError: {message}"


def test_other_result_files(place: Path) -> None:
    """The help names those of predict."""
    main(words_of(place, "out.csv", "--top_k", "1"))
    assert re.match(r"sequence,labels,scores,id\n", (place / "out.csv").read_text(encoding="utf-8"))
    main(words_of(place, "out.jsonl", "--top_k", "1"))
    first = read_lines(place / "out.jsonl")[0]
    assert json.dumps(first["scores"][0]) in (place / "out.csv").read_text(encoding="utf-8").splitlines()[1]
