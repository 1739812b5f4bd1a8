"""The options of a call as words of `zeroshot predict`."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from zeroshot.cli import main
from zeroshot.inference.call_options import add_call_options, read_call_options, read_labels, read_labels_file
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
        (["--threshold", "2"], 'a number for each label like {"sports": 0.4, "politics": 0.6}, or'),
        (["--none_label", "x"], "below which 'x' is decided for, found none. Add one, such as 0.5."),
        (["--threshold", "0", "--none_label", ""], "Expected none_label to be a name, found ''. Write one such as 'none of"),
        (["--explain", "-1"], "Expected explain to be the number of labels to explain, found -1. 1 explains the best one."),
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
        ("[]", ValueError, "found none. Write a list of names."),
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


def test_label_lines_are_read_and_blank_ones_skipped(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffsports\r\n\r\nlive music\n  \n\n".encode())
    assert read_labels(str(tmp_path / "labels.txt")) == ["sports", "live music"]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_of_labels_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"^Expected labels in {re.escape(repr(str(path)))}, found none\. Write one a line\.$"
    ):
        read_labels(str(path))


@pytest.mark.parametrize("words", ["labels.csv", "lists/labels.jsonl", "labels"])
def test_a_file_that_cannot_be_read_is_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """Every text would be called 'labels.csv'."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").mkdir()  # a folder is none either
    message = (
        f"Expected label names between commas or a file of them (.txt, .json), found {words!r}. Write the file as .txt, one "
        f"name a line; a label that is called so has a comma behind it: '{words},'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_labels(words)
    assert read_labels(f"{words},") == [words]


@pytest.mark.parametrize("words", ["version 2.0", "St. Louis", "and/or", "node.js,react.js", "yes"])
def test_names_that_look_like_no_file_are_labels(words: str) -> None:
    assert read_labels(words) == words.split(",")


def test_a_file_of_labels_that_is_missing_is_called_what_it_is(tmp_path: Path) -> None:
    for name in ("none.txt", "none.json"):
        with pytest.raises(
            FileNotFoundError, match=rf"^Expected a file of labels, found no file .*{name}'\. Check the path\.$"
        ):
            read_labels(str(tmp_path / name))


def test_no_labels_between_commas_are_said_in_words_of_the_command_line() -> None:
    with pytest.raises(ValueError, match=r'found none in \' , \'\. Write names between commas: "sports,politics"\.$'):
        read_labels(" , ")
