"""The commands, in this process: what they print, what they write, and how they end."""

import io
import json
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zeroshot.cli import build_parser, main
from zeroshot.evaluation import METRICS, commands, evaluate_model, load_suite
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .command_helpers import StandardInput, expect_records, fail, read_lines, write_set

Run = Callable[..., str]
LABELS = ["sports", "cooking", "politics law"]
TEXTS = ["the team scored a goal", "bake the cake", "rain"]


@pytest.fixture(scope="module")
def checkpoint(encoder_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with two templates that reads twelve tokens."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    model = ARCHITECTURES["biencoder"].from_encoder(encoder_dir, class_templates=["{}", "it is about {}."], max_tokens=12)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Two sets of four and two rows."""
    folder = tmp_path / "suite"
    write_set(folder / "topics")
    write_set(folder / "few", [("goal", ["sports"]), ("vote", ["politics law"])], LABELS)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command and return its standard output."""

    def run_command(*words: object) -> str:
        capsys.readouterr()
        main([str(word) for word in words])
        return capsys.readouterr().out

    return run_command


def test_architectures_lists_the_registry(run: Run) -> None:
    assert run("architectures").split() == list(ARCHITECTURES)


# -- evaluate ---------------------------------------------------------------------------------------------------------


def test_evaluate_writes_the_json_contract(
    run: Run, checkpoint: Path, suite: Path, encoder_dir: str, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    run("evaluate", checkpoint, "--suite", suite, "--baseline", encoder_dir, "--output", report)
    result = json.loads(report.read_text(encoding="utf-8"))
    expected = evaluate_model(ARCHITECTURES["biencoder"].from_pretrained(checkpoint), load_suite(suite))
    assert {"mean": result["mean"], "sets": result["sets"]} == expected
    assert set(result["mean"]) == set(METRICS) >= {"accuracy", "macro_f1"}
    assert [(name, one["n"], one["labels"]) for name, one in result["sets"].items()] == [("few", 2, 3), ("topics", 4, 2)]
    assert all(0 <= one[key] <= 1 for one in result["sets"].values() for key in METRICS)
    assert [set(one) for one in result["baselines"].values()] == [{"mean", "sets"}] * 2


def test_evaluate_prints_the_model_below_the_untrained_encoder(
    run: Run, checkpoint: Path, suite: Path, encoder_dir: str, tmp_path: Path
) -> None:
    words = ["team", "goal", "cake", "oven", "vote", "law", "rain", "sun", "band", "song", "happy", "sad", "flour", "match"]
    rows = [(" ".join(random.Random(seed).choices(words, k=25)), [LABELS[seed % 3]]) for seed in range(60)]
    write_set(suite / "long", rows, LABELS)
    table = run("evaluate", checkpoint, "--suite", suite, "--baseline", encoder_dir, "--output", tmp_path / "report.json")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == ["model (accuracy / macro_f1)", "few", "long", "topics", "mean"]
    assert [row[0] for row in cells[2:]] == [commands.BARE, commands.WORDED, "mine"]
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == table
    # The checkpoint is untrained: it must score as its encoder with the same templates and the same cut of long texts.
    assert cells[3][1:] == cells[4][1:] != cells[2][1:]


def test_evaluate_shows_one_baseline_for_a_model_with_the_bare_template(
    run: Run, biencoder: ZeroShotPreTrainedModel, suite: Path, encoder_dir: str, tmp_path: Path
) -> None:
    biencoder.save_pretrained(tmp_path / "bare")
    lines = run("evaluate", tmp_path / "bare", "--suite", suite, "--baseline", encoder_dir).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [commands.BARE, "bare"]


def test_evaluate_without_baseline(run: Run, checkpoint: Path, suite: Path) -> None:
    assert len(run("evaluate", checkpoint, "--suite", suite, "--baseline", "none").splitlines()) == 3


def test_evaluate_measures_as_many_rows_as_asked(run: Run, checkpoint: Path, suite: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    run("evaluate", checkpoint, "--suite", suite, "--baseline", "none", "--rows", 3, "--output", report)
    assert {name: one["n"] for name, one in read_report(report)["sets"].items()} == {"few": 2, "topics": 3}


def test_evaluate_lowers_the_precision_only_where_asked(
    run: Run, checkpoint: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def note(*arguments: Any, **kwargs: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return evaluate_model(*arguments, **kwargs)

    monkeypatch.setattr(commands, "evaluate_model", note)
    for precision in ("fp32", "bf16"):
        run("evaluate", checkpoint, "--suite", suite, "--baseline", "none", "--precision", precision)
    assert seen == [False, True]


def test_the_reported_command_measures_the_same_again(
    checkpoint: Path, suite: Path, encoder_dir: str, tmp_path: Path, run: Run
) -> None:
    words = ["evaluate", checkpoint, "--suite", suite, "--baseline", encoder_dir, "--rows", 2, "--precision", "bf16"]
    run(*words, "--output", tmp_path / "report.json")
    program, *again = shlex.split(read_report(tmp_path / "report.json")["command"])
    asked, reported = (vars(build_parser().parse_args([str(word) for word in one])) for one in (words, again))
    assert program == "zeroshot"
    assert {**reported, "output": None} == {**asked, "output": None}


def read_report(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


# -- predict ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multi_label", [False, True])
def test_predict_keeps_the_jsonl_contract(run: Run, checkpoint: Path, tmp_path: Path, multi_label: bool) -> None:
    source, target = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    words = ["predict", checkpoint, "--labels", " sports,cooking , politics law", "--input", source]
    flags = ["--multi_label"] if multi_label else []
    printed = run(*words, *flags)
    assert run(*words, *flags, "--output", target, "--batch_size", 1) == ""
    model = ARCHITECTURES["biencoder"].from_pretrained(checkpoint)
    expected = expect_records(model, TEXTS, LABELS, multi_label=multi_label)
    assert read_lines(target) == expected
    assert [json.loads(line) for line in printed.splitlines()] == expected
    assert all(list(line) == ["sequence", "labels", "scores"] for line in read_lines(target))


def test_predict_reads_standard_input_and_prints_results_only(
    run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings on standard output would break the next program of a pipe."""
    content = b"the team\n\n\xff\n" + b"goal " * 500 + b"\nbake\r\n"
    monkeypatch.setattr("sys.stdin", StandardInput(content))
    lines = [json.loads(line) for line in run("predict", checkpoint, "--labels", "sports,cooking").splitlines()]
    assert [line["sequence"] for line in lines] == ["the team", "goal " * 500, "bake"]


def test_predict_prints_any_text_on_a_narrow_terminal(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard output is not UTF-8, an emoji would end the command half-way."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    monkeypatch.setattr("sys.stdin", StandardInput("שלום 🎉\n".encode()))
    main(["predict", str(checkpoint), "--labels", "sports,cooking"])
    assert json.loads(raw.getvalue())["sequence"] == "שלום 🎉"


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.fixture
def places(checkpoint: Path, suite: Path, encoder_dir: str, tmp_path: Path) -> dict[str, object]:
    """Paths that exist, by name."""
    (tmp_path / "a.txt").write_text("goal\n", encoding="utf-8")
    return {"model": checkpoint, "suite": suite, "encoder": encoder_dir, "text": tmp_path / "a.txt"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "{model}", "--suite", "nosuite"], "FileNotFoundError: Expected sets in 'nosuite', found none."),
        (["evaluate", "{encoder}", "--suite", "{suite}"], "ValueError: Expected a zero-shot checkpoint"),
        (["evaluate", "{suite}", "--suite", "{suite}"], "FileNotFoundError: Expected a model in the folder"),
        (
            ["evaluate", "{model}", "--suite", "{suite}", "--rows", "0"],
            "ValueError: Expected at least 1 row per set",
        ),
        (["evaluate", "{model}", "--suite", "{suite}", "--baseline", "{suite}"], "FileNotFoundError: Expected a model in"),
        (["predict", "{model}", "--labels", " , ", "--input", "{text}"], "ValueError: Expected at least one candidate"),
        (["predict", "{model}", "--labels", "a,b,a", "--input", "{text}"], "ValueError: Expected distinct candidate labels"),
        (["predict", "{model}", "--labels", "a,b", "--input", "no.txt"], "FileNotFoundError: Expected a file of texts"),
        (["predict", "{encoder}", "--labels", "a,b", "--input", "{text}"], "ValueError: Expected a zero-shot checkpoint"),
        (
            ["predict", "{model}", "--labels", "x " * 99, "--input", "{text}"],
            "ValueError: Expected labels of at most",
        ),
        (["evaluate", "{model}", "--suite", "{suite}", "--baseline", "none", "--batch_size", "0"], "ValueError: Expected"),
        (["predict", "{model}", "--labels", "a,b", "--input", "{text}", "--batch_size", "0"], "ValueError: Expected"),
        (["predict", "{model}", "--labels", "a,b", "--input", "{text}", "--batch_size", "-1"], "ValueError: Expected"),
    ],
)
def test_errors_end_with_their_message_alone(words: list[str], message: str, places: dict[str, object]) -> None:
    said = fail(*(word.format(**places) for word in words))
    assert said.startswith(message)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "words", [[], ["foo"], ["predict"], ["predict", "m"], ["evaluate", "m"], ["evaluate", "--suite", "s"]]
)
def test_incomplete_commands_show_their_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: zeroshot" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["predict", "m", "--lab", "a"], ["evaluate", "m", "--suite", "s", "--row", "3"]])
def test_options_are_not_abbreviated(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(words)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["predict", "m", "--lables", "a"],
            "zeroshot predict: error: Expected what zeroshot predict takes, found '--lables'. ",
        ),
        (["predict", "m", "--labels", "a", "--batchsize=3"], "found '--batchsize'. Did you mean --batch_size?"),
        (["predict", "m", "--labels", "a", "-input", "b"], "found '-input'. Did you mean --input?"),
        (["predict", "m", "--labels", "a", "texts.txt"], "found 'texts.txt'. zeroshot predict --help lists what there is."),
        (["data", "report", "a.jsonl", "--sweet", "s"], "found '--sweet'. zeroshot data report --help lists what there is."),
    ],
)
def test_a_mistyped_option_is_named_with_the_nearest_one(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below the usage of its verb, and also where the one that was meant is then missing."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    said = capsys.readouterr().err
    verb = " ".join(word for word in words[:2] if word in ("predict", "data", "report"))
    assert caught.value.code == 2 and said.startswith(f"usage: zeroshot {verb} [-h]") and message in said


def test_words_of_another_command_and_texts_are_no_options() -> None:
    parser = build_parser()
    assert parser.parse_args(["benchmark", "r.yaml", "--overrides", "--max_steps", "3"]).overrides == ["--max_steps", "3"]
    assert parser.parse_args(["check", "m", "--well, well", "sports"]).text == "--well, well"
    assert parser.parse_args(["check", "m", "--", "--sic", "sports"]).text == "--sic"


def test_a_place_that_cannot_be_written_is_named_before_the_work(
    checkpoint: Path, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of scoring would be lost at its last line."""

    def refuse(*_arguments: object, **_kwargs: object) -> None:
        raise AssertionError("scored before the output was checked")

    monkeypatch.setattr(commands, "evaluate_model", refuse)
    said = fail("evaluate", checkpoint, "--suite", suite, "--baseline", "none", "--output", tmp_path)
    assert re.search(rf"Expected .*{re.escape(repr(str(tmp_path)))}", said)
