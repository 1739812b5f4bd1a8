"""Suites of test sets: which rows are measured, what is averaged, and how results are written."""

import json
import logging
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeroshot.data import EvaluationSet
from zeroshot.data.validation import read_label_file
from zeroshot.evaluation import evaluate_model, format_table, load_suite, write_report
from zeroshot.evaluation.suites import check_metrics, read_candidate_labels
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import TOPICS, build_result, write_set

# -- loading ----------------------------------------------------------------------------------------------------------


def test_a_suite_is_every_folder_with_labels_and_rows(tmp_path: Path) -> None:
    write_set(tmp_path / "b")
    write_set(tmp_path / "a", [("שלום 🎉", ["x y"])], ["x y", "z"])
    (tmp_path / "README.md").touch()
    (tmp_path / "empty").mkdir()
    suite = load_suite(tmp_path)
    assert list(suite) == ["a", "b"]
    assert (suite["a"].texts, suite["a"].candidate_labels, suite["a"].targets.tolist()) == (
        ["שלום 🎉"],
        ["x y", "z"],
        [[1, 0]],
    )
    assert suite["b"].targets.tolist() == [[1, 0], [0, 1], [0, 1], [1, 1]]


def test_one_set_is_a_suite_too(tmp_path: Path) -> None:
    assert list(load_suite(write_set(tmp_path / "topics"))) == ["topics"]


def test_a_set_named_by_a_dot_has_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_set(tmp_path / "topics"))
    assert list(load_suite(Path("."))) == ["topics"]


def test_all_rows_with_a_label_are_measured_in_their_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows out of scope are part of a test set: they are left out, but they are no mistake to warn of."""
    write_set(tmp_path / "a", [*TOPICS[:2], ("out of scope", []), *TOPICS[2:]])
    for rows in (4, 1000):
        with caplog.at_level(logging.WARNING):
            assert load_suite(tmp_path, rows)["a"].texts == [text for text, _ in TOPICS]
    assert caplog.text == ""
    with caplog.at_level(logging.INFO):
        load_suite(tmp_path, 2)
    assert "a: 1 of 5 rows have no label and are not measured." in caplog.text


def test_a_limit_takes_the_first_rows_of_a_shuffle_with_seed_0(tmp_path: Path) -> None:
    """Published numbers depend on this draw."""
    rows = [(f"text {number}", ["sports"] if number % 3 else []) for number in range(60)]
    write_set(tmp_path / "a", rows)
    order = [text for text, labels in rows if labels]
    random.Random(0).shuffle(order)
    random.seed(5)
    assert load_suite(tmp_path, 7)["a"].texts == order[:7]
    assert load_suite(tmp_path, 12)["a"].texts == order[:12]


@pytest.mark.parametrize("rows", [0, -1])
def test_no_rows_are_refused(tmp_path: Path, rows: int) -> None:
    write_set(tmp_path / "a")
    with pytest.raises(ValueError, match=re.escape(f"Expected at least 1 row per set, found {rows}. Raise --rows.")):
        load_suite(tmp_path, rows)


@pytest.mark.parametrize("name", ["missing", ".", "file.txt", "half"])
def test_a_folder_without_sets_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").touch()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "labels.json").write_text('["a"]', encoding="utf-8")
    message = f"Expected sets in {str(tmp_path / name)!r}, found none. A set is a folder with labels.json"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        load_suite(tmp_path / name)


@pytest.mark.parametrize("missing", ["labels.json", "test.jsonl"])
def test_half_a_set_is_not_left_out_in_silence(tmp_path: Path, missing: str, caplog: pytest.LogCaptureFixture) -> None:
    """The mean would be over fewer sets than the user counts."""
    write_set(tmp_path / "a")
    (write_set(tmp_path / "b") / missing).unlink()
    with caplog.at_level(logging.WARNING):
        load_suite(tmp_path)
    assert missing in caplog.text


# -- measuring --------------------------------------------------------------------------------------------------------


class FixedModel:
    """Returns fixed logits per number of labels and notes how it was asked."""

    def __init__(self, logits: dict[int, list[list[float]]]) -> None:
        self.logits = logits
        self.asked: list[dict[str, Any]] = []

    def predict_logits(self, texts: Sequence[str], candidate_labels: Sequence[str], **kwargs: Any) -> torch.Tensor:
        self.asked.append(kwargs)
        return torch.tensor(self.logits[len(candidate_labels)])

    def predict_shortlist(self, *_args: Any, **_kwargs: Any) -> None:
        """One stage only."""


def test_results_and_their_unweighted_mean() -> None:
    sets = {
        "small": EvaluationSet(["x"], ["a", "b"], np.array([[1, 0]])),
        "large": EvaluationSet(["x", "y"], ["a", "b", "c"], np.array([[1, 0, 0], [0, 1, 0]])),
    }
    model = FixedModel({2: [[2.0, 1.0]], 3: [[0.0, 1.0, 2.0], [0.0, 9.0, 1.0]]})
    result = evaluate_model(model, sets, class_templates=["{}!"], batch_size=3)  # type: ignore[arg-type]
    assert result["sets"]["small"] == {"accuracy": 1, "accuracy_at_k": 1, "macro_f1": 1, "mrr": 1, "n": 1, "labels": 2}
    mrr = (1 / 3 + 1) / 2
    half = {"accuracy": 0.5, "accuracy_at_k": 0.5, "macro_f1": 0.5, "mrr": mrr}
    assert result["sets"]["large"] == pytest.approx({**half, "n": 2, "labels": 3})
    mean = {"accuracy": 0.75, "accuracy_at_k": 0.75, "macro_f1": 0.75, "mrr": (1 + mrr) / 2}
    assert result["mean"] == pytest.approx(mean)
    asked = {"show_progress_bar": False, "candidate_mask": None, "class_templates": ["{}!"], "batch_size": 3}
    assert model.asked == [asked] * 2  # every label is a candidate of every text
    json.dumps(result)


def test_a_model_is_measured_by_what_it_predicts(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    suite = load_suite(write_set(tmp_path / "a"))
    result = evaluate_model(biencoder, suite, batch_size=1)
    hits = [
        max(prediction["scores"], key=prediction["scores"].get) in own
        for prediction, (_, own) in zip(biencoder.predict(suite["a"].texts, ["sports", "cooking"]), TOPICS, strict=True)
    ]
    assert result["sets"]["a"]["accuracy"] == sum(hits) / len(hits)
    assert result == evaluate_model(biencoder, suite, batch_size=64)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_table() -> None:
    results = {"base": build_result(0.5, ["a", "b"]), "mine": build_result(1.0, ["a", "b"])}
    assert format_table(results).splitlines() == [
        "| model (accuracy / macro_f1) | a | b | mean |",
        "|---|---|---|---|",
        "| base | .500 / .500 | .500 / .500 | .500 / .500 |",
        "| mine | 1.000 / 1.000 | 1.000 / 1.000 | 1.000 / 1.000 |",
    ]
    assert format_table({"m": build_result(0.0)}, ("mrr",)).splitlines()[2] == "| m | .000 | .000 |"


def test_report_holds_result_extras_and_table(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.json"
    result = build_result(0.25, ["שלום"])
    write_report(path, result, command="x", table="| t |")
    write_report(path, result, command="y", table="| u |")
    assert json.loads(path.read_text(encoding="utf-8")) == {**result, "command": "y", "table": "| u |"}
    assert "שלום" in path.read_text(encoding="utf-8")
    assert path.with_suffix(".md").read_text(encoding="utf-8") == "| u |\n"
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.json", "report.md"]


def test_a_failed_write_leaves_the_earlier_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, build_result(0.25))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_report(path, build_result(0.5), command=object())
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ['["sports"]', '{"text": "a"}', "texts"])
def test_a_report_takes_the_place_of_reports_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="Expected a new file, or a report to replace, found something else in"):
        write_report(tmp_path / "labels.json", build_result(0.5))
    assert (tmp_path / "labels.json").read_text(encoding="utf-8") == content
    for value in (0.5, 0.6):
        write_report(tmp_path / "new.json", build_result(value))


def test_the_table_does_not_overwrite_the_result(tmp_path: Path) -> None:
    """With `--output report.md` both would go into one file."""
    with pytest.raises(ValueError, match=r"Expected .*\.json.*report\.md"):
        write_report(tmp_path / "report.md", build_result(0.25), table="| t |")


# -- other candidates than a set's own ----------------------------------------------------------------------------------


def test_candidates_of_files_replace_those_of_every_set(tmp_path: Path) -> None:
    """The classic protocol: every text against all labels there are, also those of other sets."""
    write_set(tmp_path / "suite" / "a", [("goal", ["sports"])], ["sports", "music"])
    (tmp_path / "first.json").write_text('["sports", "music"]')
    (tmp_path / "second.json").write_text('["law", "music"]')
    names = read_candidate_labels([str(tmp_path / "first.json"), str(tmp_path / "second.json")])
    assert names == ["sports", "music", "law"]
    one = load_suite(tmp_path / "suite", candidate_labels=names)["a"]
    assert one.candidate_labels == names and one.targets.tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match="Expected labels among the 1 candidates, found 'sports' in row 1"):
        load_suite(tmp_path / "suite", candidate_labels=["law"])


def test_a_missing_file_of_candidates_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a file with a JSON list of names, found none at .*gone.json"):
        read_candidate_labels([str(tmp_path / "gone.json")])


def test_packaged_folders_are_suites() -> None:
    topics = load_suite("packaged:topics")["topics"]
    everything = read_candidate_labels(["packaged:topics/labels.json", "packaged:zero_shot/topics/labels.json"])
    assert len(topics.candidate_labels) == 240 and len(everything) == 300 and len(topics) >= 200


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected metrics among accuracy, .*, found 'precison'. Choose from these."):
        check_metrics(["accuracy", "precison"])


def test_a_bad_file_of_candidates_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"sports": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected 'mine\.json' to be a list of names, found object"):
        read_label_file(tmp_path / "mine.json")
