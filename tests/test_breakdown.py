"""Results by a field of the rows, and where a result is written."""

import json
import logging
import re
from pathlib import Path

import pytest

from zeroshot.cli import main
from zeroshot.evaluation import evaluate_model, load_suite
from zeroshot.evaluation.commands import choose_output
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import fail, write_set

ROWS = [
    {"text": "goal", "labels": ["sports"], "target": "team"},
    {"text": "cake", "labels": ["cooking"], "target": "oven"},
    {"text": "rain", "labels": [], "target": "weather"},
    {"text": "oven", "labels": ["cooking"], "target": ""},
    {"text": "match", "labels": ["sports"], "target": "team", "size": 3},
]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A set whose rows have further fields, one row that is refused among them, and a set without."""
    folder = write_set(tmp_path / "suite" / "fields")
    lines = [json.dumps(row) for row in ROWS]
    (folder / "test.jsonl").write_text("\n".join([*lines[:2], "broken", *lines[2:]]), encoding="utf-8")
    write_set(tmp_path / "suite" / "plain")
    return tmp_path / "suite"


def test_the_groups_are_those_of_the_measured_rows(suite: Path) -> None:
    """Refused and unlabelled rows stand between: a shift by one would accuse the wrong group."""
    sets = load_suite(suite, by=["target", "size"])
    assert sets["fields"].texts == ["goal", "cake", "oven", "match"]
    assert sets["fields"].groups == {
        "target": ["team", "oven", "(none)", "team"],
        "size": ["(none)", "(none)", "(none)", "3"],
    }
    assert sets["plain"].groups == {}
    drawn = load_suite(suite, 3, by=["target"])["fields"]
    values = {row["text"]: row["target"] or "(none)" for row in ROWS}
    assert drawn.groups["target"] == [values[text] for text in drawn.texts]


def test_each_group_is_measured_by_itself(suite: Path, biencoder: ZeroShotPreTrainedModel) -> None:
    result = evaluate_model(biencoder, load_suite(suite, by=["target"]))
    whole, groups = result["sets"]["fields"], result["sets"]["fields"]["by"]["target"]
    assert {name: one["n"] for name, one in groups.items()} == {"(none)": 1, "oven": 1, "team": 2}
    assert sum(one["accuracy"] * one["n"] for one in groups.values()) == pytest.approx(whole["accuracy"] * whole["n"])
    assert "by" not in result["mean"] and "by" not in result["sets"]["plain"]


def test_a_field_that_no_row_has_is_refused(suite: Path) -> None:
    message = "Expected --by to name a field of the rows, found 'tagret', which no row of fields, plain has."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_suite(suite, by=["target", "tagret"])


def test_without_a_place_the_result_goes_beside_the_weights(
    suite: Path, biencoder: ZeroShotPreTrainedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model card reads it there; another set of candidates is another measurement and overwrites nothing."""
    biencoder.save_pretrained(tmp_path / "mine")
    words = ["evaluate", str(tmp_path / "mine"), "--suite", str(suite), "--baseline", "none"]
    with caplog.at_level(logging.INFO):
        main([*words, "--by", "target"])
    assert f"The result is in {tmp_path / 'mine' / 'evaluation' / 'suite.json'}." in caplog.text
    main([*words, "--candidate_labels", str(suite / "plain" / "labels.json")])
    files = {file.name: json.loads(file.read_text()) for file in (tmp_path / "mine" / "evaluation").glob("*.json")}
    assert set(files) == {"suite.json", "suite-candidates.json"}
    assert "team" in files["suite.json"]["sets"]["fields"]["by"]["target"]
    assert "--by target" in files["suite.json"]["command"] and "--by" not in files["suite-candidates.json"]["command"]


def test_names_of_default_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert choose_output("user/name", "suite") is None
    assert choose_output(str(tmp_path), "suite") is None  # no checkpoint: it would be left behind by a failing command
    (tmp_path / "config.json").touch()
    assert choose_output(str(tmp_path), "packaged:zero_shot/topics") == (
        tmp_path / "evaluation" / "packaged-zero_shot-topics.json"
    )
    monkeypatch.setattr("os.access", lambda *_: False)
    assert choose_output(str(tmp_path), "suite") is None
    assert "cannot be written: the result is shown only" in caplog.text


def test_the_command_names_the_field(suite: Path, biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path / "mine")
    said = fail("evaluate", tmp_path / "mine", "--suite", suite, "--baseline", "none", "--by", "group")
    assert "found 'group'" in said and not (tmp_path / "mine" / "evaluation" / "suite.json").exists()
