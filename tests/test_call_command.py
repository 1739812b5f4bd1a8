"""The options of a call as words of `zeroshot predict`."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from zeroshot.cli import main
from zeroshot.inference.call_options import add_call_options, read_call_options, read_labels_file
from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.models.options_zeroshot import CHOICES, CallOptions

from .command_helpers import fail, read_lines
from .conftest import TEXTS

TREE = {"sports": {"goal": "a goal of the team", "match": ["match", "game"]}, "music": None}


def read(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_call_options(parser)
    return read_call_options(parser.parse_args(words))


def test_words_become_options_and_nothing_else_is_said() -> None:
    assert read() == {}
    assert read("--template", "a {}", "{}", "--top_k", "2") == {"hypothesis_template": ["a {}", "{}"], "top_k": 2}
    assert read("--threshold", "0.5", "--none_label", "other") == {"threshold": 0.5, "none_label": "other"}
    assert read("--threshold", '{"a": 0.5, "b": 1}') == {"threshold": {"a": 0.5, "b": 1}}
    assert read("--threshold", "calibrated", "--calibrated") == {"threshold": "calibrated", "calibrated": True}
    assert read("--overflow", "error", "--overflow_pooling", "mean") == {"overflow": "error", "overflow_pooling": "mean"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "high"], "Expected a threshold from 0 to 1, found 'high'."),
        (["--threshold", "NaN"], "Expected a threshold from 0 to 1, found nan."),
        (["--none_label", "x"], "Expected a threshold with none_label"),
        (["--template", "x"], "exactly one placeholder {}"),
        (["--top_k", "0"], "Expected top_k of at least 1 label, found 0."),
    ],
)
def test_words_that_cannot_be_are_refused_before_the_model_is_loaded(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read(*words)
    assert message in fail("predict", "no/such/model", "--labels", "a,b", *words)


def test_defaults_in_the_help_are_those_of_the_options() -> None:
    parser = argparse.ArgumentParser()
    add_call_options(parser)
    helps = {action.dest: action.help or "" for action in parser._actions}
    for name in CHOICES:
        assert f"(default: {getattr(CallOptions(), name)})" in helps[name]
        assert getattr(CallOptions(), name) in CHOICES[name]


def test_predict_writes_what_the_options_add(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path / "model")
    (tmp_path / "labels.json").write_text(json.dumps(TREE), encoding="utf-8")
    texts = [*TEXTS[:2], "goal " * 100]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    place = ["--input", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "out.jsonl")]
    labels = ["--labels", str(tmp_path / "labels.json")]
    words = ["--threshold", "0.9", "--none_label", "other", "--overflow", "truncate", "--template", "{}", "--top_k", "2"]
    main(["predict", str(tmp_path / "model"), *labels, *place, *words])
    options = {"threshold": 0.9, "none_label": "other", "overflow": "truncate", "hypothesis_template": "{}", "top_k": 2}
    expected = biencoder.as_pipeline()([text.strip() for text in texts], TREE, **options)
    for line, other in zip(read_lines(tmp_path / "out.jsonl"), expected, strict=True):
        assert line["labels"] == other["labels"] and line["decision"] == other["decision"]
        assert line["scores"] == pytest.approx(other["scores"], abs=1e-6)
        assert line["truncated"] == other["truncated"]
    assert [line["truncated"] for line in read_lines(tmp_path / "out.jsonl")] == [0, 0, 38]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "Expected a file of labels, found no file"),
        ("{", ValueError, "found broken JSON in column 2"),
        ('"a,b"', ValueError, "Expected a list or an object of labels in"),
        ("[]", ValueError, "Expected at least one candidate label, found none."),
        ('["a", 3]', TypeError, "Expected every candidate label to be a string, found int at position 1: 3."),
        ('{"a": {"b": 3}}', TypeError, "below 'b', found int: 3."),
    ],
)
def test_files_of_labels_are_checked(tmp_path: Path, content: str | None, error: type[Exception], message: str) -> None:
    if content is not None:
        (tmp_path / "labels.json").write_text(content, encoding="utf-8")
    with pytest.raises(error, match=re.escape(message)) as caught:
        read_labels_file(tmp_path / "labels.json")
    assert "labels.json" in str(caught.value)
