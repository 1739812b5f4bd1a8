"""What a person reads when training has ended."""

import ast
import json
import shlex
from pathlib import Path

import pytest

from zeroshot.evaluation.reports import describe_examples, describe_run

from .command_helpers import build_result

EXAMPLES = [
    {"text": "bake a cake", "scores": {"sports": 0.1, "cooking": 0.7, "music": 0.15, "law": 0.05}},
    {"text": "x" * 500, "scores": {"sports": 1.0, "cooking": 0.0, "music": 0.0, "law": 0.0}},
]


def test_examples_show_the_three_best_labels_and_which_were_seen() -> None:
    lines = describe_examples(EXAMPLES, {"law", "sports", "other"}).splitlines()
    assert lines[0] == "Labels asked for: sports, cooking, music, law"
    assert lines[1] == "Seen in training: sports, law"
    assert lines[2:4] == ["  'bake a cake'", "    -> cooking 0.70, music 0.15, sports 0.10"]
    assert max(map(len, lines)) < 120


def test_examples_with_unseen_labels_only_say_so() -> None:
    assert "Seen in training: none of them" in describe_examples(EXAMPLES, {"rain"})


def test_without_examples_nothing_is_said_of_them() -> None:
    assert describe_examples([], {"rain"}) == ""
    assert "Labels asked for" not in describe_run(Path("out"), None, None, [], {"rain"})


def test_measured_labels_are_shown_and_written(tmp_path: Path) -> None:
    before, after = build_result(0.25, ["topics", "more"]), build_result(0.75, ["topics", "more"])
    text = describe_run(tmp_path, before, after, EXAMPLES, set())
    assert "Labels that training never saw (topics, more):" in text
    assert "| before training | .250 / .250 / .250 / .250 |" in text
    assert text.index("before training") < text.index("after training") < text.index("Labels asked for")
    report = json.loads((tmp_path / "evaluation" / "training_report.json").read_text(encoding="utf-8"))
    assert (report["mean"], report["sets"]) == (after["mean"], after["sets"])
    assert report["baselines"] == {"before training": before}


def test_without_measuring_no_report_is_written(tmp_path: Path) -> None:
    describe_run(tmp_path, None, None, EXAMPLES, set())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["outputs/run", "my runs/a", "it's", 'say "hi"', "runs\\new"])
def test_the_shown_commands_name_the_folder_as_it_is(folder: str) -> None:
    """Commands are copied: a blank, a quote or a backslash in the path must survive."""
    lines = [line.strip() for line in describe_run(Path(folder), None, None, [], set()).splitlines()]
    command = next(line for line in lines if line.startswith("zeroshot predict"))
    assert shlex.split(command)[2] == folder
    code = next(line for line in lines if line.startswith("pipeline("))
    assert folder in [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
