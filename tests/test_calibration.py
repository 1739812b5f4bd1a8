"""Calibration: figures computed by hand, what the fit may not change, what is stored and used again, what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from zeroshot.cli import main
from zeroshot.evaluation import calibration_files
from zeroshot.evaluation.calibration import calibrate, check_rows, compute_scores, fit_scale, split_halves
from zeroshot.evaluation.calibration_files import load_rows
from zeroshot.evaluation.reliability import (
    brier_score,
    expected_calibration_error,
    list_reliability_bins,
    measure_out_of_scope,
)
from zeroshot.evaluation.thresholds import choose_threshold, choose_thresholds, measure_decisions
from zeroshot.hub.tables import show_calibration
from zeroshot.models import ARCHITECTURES, BiEncoderConfig, ZeroShotPreTrainedModel
from zeroshot.models.calibration_zeroshot import calibrate_logits
from zeroshot.models.loading import load_model

from .command_helpers import fail

STORED: dict[str, Any] = {
    "method": "platt",
    "multi_label": True,
    "temperature": 2.0,
    "bias": -1.0,
    "default_threshold": 0.5,
    "thresholds": {"sports": 0.25},
    "rows": 100,
    "data": "rows.jsonl",
}
NAMES = ["a", "b", "c"]


def draw_rows(rows: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (rows, 3), and targets drawn by the softmax of logits / sharpness: that is their true temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, 3)) * sharpness * 2
    drawn = (logits / sharpness + generator.gumbel(size=logits.shape)).argmax(axis=1)  # a sample of the softmax
    return logits, (np.arange(3) == drawn[:, None]).astype(np.int64)


# -- figures ----------------------------------------------------------------------------------------------------------


def test_calibration_error_and_brier_score_by_hand() -> None:
    """Bins (14/15, 1], (8/15, 9/15], (0, 1/15]: 3/6 |.98 - 2/3| + 2/6 |.55 - 1/2| + 1/6 |.05 - 0|."""
    confidence, correct = np.array([0.96, 0.98, 1.0, 0.54, 0.56, 0.05]), np.array([1, 1, 0, 1, 0, 0])
    expected = (3 * abs(0.98 - 2 / 3) + 2 * 0.05 + 0.05) / 6
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)
    squares = 0.04**2 + 0.02**2 + 1 + 0.46**2 + 0.56**2 + 0.05**2
    assert brier_score(confidence, correct) == pytest.approx(squares / 6)


def test_bins_are_of_equal_width_and_closed_above() -> None:
    bins = list_reliability_bins(np.array([0.0, 0.2, 0.2000001, 1.0]), np.array([0, 1, 1, 1]))
    assert [(round(one["lower"] * 15), round(one["upper"] * 15), one["count"]) for one in bins] == [
        (0, 1, 1),
        (2, 3, 1),
        (3, 4, 1),
        (14, 15, 1),
    ]


def test_out_of_scope_by_hand() -> None:
    """20 texts with a label: 95% recall needs 19 of them, the lowest of which scores .1; 1 of 2 others passes it."""
    scores = np.array([0.0, *[0.1 + 0.01 * step for step in range(19)], 0.5, 0.05])
    in_scope = np.array([True] * 20 + [False] * 2)
    result = measure_out_of_scope(scores, in_scope)
    assert result == {"auroc": pytest.approx(19 / 40), "fpr_at_95_recall": 0.5}


def test_decisions_by_hand() -> None:
    scores = np.array([[0.9, 0.6, 0.0], [0.2, 0.8, 0.0], [0.4, 0.3, 0.0]])
    targets = np.array([[1, 1, -100], [1, 0, -100], [0, 0, -100]])
    alone = measure_decisions(scores, targets, 0.5, multi_label=True)
    # Passed: a, b of the first (both hold), b of the second (does not). F1 of a: 2 / 3; of b: 2 / 3; c never occurs.
    assert alone == {"micro_f1": pytest.approx(4 / 6), "macro_f1": pytest.approx(2 / 3), "out_of_scope_refused": 1.0}
    shared = measure_decisions(scores, targets, 0.0, multi_label=False)
    # The best label of each: a holds, b does not, a does not; three labels hold.
    assert shared["micro_f1"] == pytest.approx(2 / 6) and shared["out_of_scope_refused"] == 0.0


def test_equal_scores_pass_a_threshold_together() -> None:
    scores, holds = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([True, True, False, False, False])
    threshold = choose_threshold(scores, holds, 2)
    assert threshold == pytest.approx(0.7)  # F1 2/3 with the first alone, 4/6 with all of .5: the higher one wins a tie
    assert choose_threshold(scores, np.zeros(5, dtype=bool), 2) is None


def test_a_label_gets_its_own_threshold_where_asked() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    targets = np.array([[1, 0], [0, 1], [0, 1]])
    chosen = choose_thresholds(scores, targets, ["a", "b"], multi_label=True, columns=[1])
    assert chosen["thresholds"] == {"b": pytest.approx(0.2)}
    assert chosen["default_threshold"] == pytest.approx(0.25)


# -- the fit ----------------------------------------------------------------------------------------------------------


def test_the_true_temperature_is_found() -> None:
    logits, targets = draw_rows(20_000, sharpness=3.0)
    temperature, bias = fit_scale(logits, targets, method="temperature", multi_label=False)
    assert temperature == pytest.approx(3.0, rel=0.05) and bias == 0.0


def test_platt_scaling_is_logistic_regression() -> None:
    logits, targets = draw_rows(400, sharpness=2.0)
    targets[:5, 0] = -100
    temperature, bias = fit_scale(logits, targets, method="platt", multi_label=True)
    cells, holds = logits[targets != -100], targets[targets != -100]
    high, low = (holds.sum() + 1) / (holds.sum() + 2), 1 / ((1 - holds).sum() + 2)  # Platt's targets
    chances = np.where(holds == 1, high, low)
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.concatenate([cells, cells])[:, None], [1] * len(cells) + [0] * len(cells), np.concatenate([chances, 1 - chances])
    )
    assert 1 / temperature == pytest.approx(regression.coef_[0, 0], rel=1e-3)
    assert bias == pytest.approx(regression.intercept_[0], rel=1e-3)


def test_rows_without_a_label_do_not_move_the_temperature_of_a_softmax() -> None:
    logits, targets = draw_rows(300, sharpness=2.0)
    more = np.concatenate([logits, logits[:50]]), np.concatenate([targets, np.zeros((50, 3), dtype=np.int64)])
    expected = fit_scale(logits, targets, method="temperature", multi_label=False)
    assert fit_scale(*more, method="temperature", multi_label=False) == pytest.approx(expected)
    assert fit_scale(*more, method="temperature", multi_label=True) != pytest.approx(
        fit_scale(logits, targets, method="temperature", multi_label=True)
    )


def test_labels_that_are_no_candidates_count_for_nothing() -> None:
    logits, targets = draw_rows(300, sharpness=2.0)
    wide = np.concatenate([logits, np.full((300, 1), 50.0)], axis=1)
    masked = np.concatenate([targets, np.full((300, 1), -100)], axis=1)
    for multi_label in (False, True):
        expected = fit_scale(logits, targets, method="temperature", multi_label=multi_label)
        assert fit_scale(wide, masked, method="temperature", multi_label=multi_label) == pytest.approx(expected)
        scores = compute_scores(wide, masked, 2.0, multi_label=multi_label)
        assert not scores[:, 3].any()
        np.testing.assert_allclose(scores[:, :3], compute_scores(logits, targets, 2.0, multi_label=multi_label))


@pytest.mark.parametrize("multi_label", [False, True])
def test_temperature_never_changes_the_order_of_labels(multi_label: bool) -> None:
    """Not even where the logits say the opposite of what holds."""
    logits, targets = draw_rows(200, sharpness=0.5)
    raw = compute_scores(logits, targets, multi_label=multi_label)
    for signed in (logits, -logits):
        temperature, bias = fit_scale(signed, targets, method="temperature", multi_label=multi_label)
        assert 0.01 <= temperature <= 100.0
        scores = compute_scores(logits, targets, temperature, bias, multi_label=multi_label)
        assert (scores.argsort(axis=1) == raw.argsort(axis=1)).all()


@pytest.mark.parametrize(("sign", "reason"), [(1, "is right on every row"), (-1, "scores say nothing about what holds")])
def test_rows_that_do_not_tell_are_told(sign: int, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    targets = np.eye(3, dtype=np.int64)[np.arange(60) % 3]
    with caplog.at_level("WARNING"):
        calibrate(sign * targets * 4.0, targets, [f"text {row}" for row in range(60)], NAMES)
    assert f"is not to be believed: {'the model ' if sign == 1 else ''}{reason}" in caplog.text
    caplog.clear()
    logits, targets = draw_rows(60, sharpness=1.0)
    calibrate(logits, targets, [f"text {row}" for row in range(60)], NAMES)
    assert not caplog.text


def test_what_is_measured_after_was_fitted_on_the_other_half() -> None:
    """Equal texts are in one half: of a copy in the other half the answer would be known."""
    texts = [f"text {row % 201}" for row in range(402)]
    logits, targets = draw_rows(402, sharpness=4.0)
    second = split_halves(texts, targets)
    assert (second[:201] == second[201:]).all() and abs(int(second.sum()) - 201) <= 6
    calibration, report = calibrate(logits, targets, texts, NAMES)
    expected = np.zeros_like(logits)
    for rows in (second, ~second):
        temperature, _ = fit_scale(logits[~rows], targets[~rows], method="temperature", multi_label=False)
        expected[rows] = compute_scores(logits[rows], targets[rows], temperature, multi_label=False)
    confidence, correct = expected.max(axis=1), targets[np.arange(402), expected.argmax(axis=1)]
    assert report["after"]["ece"] == pytest.approx(expected_calibration_error(confidence, correct))
    assert report["after"]["ece"] < report["before"]["ece"] / 2
    assert calibration["temperature"] == pytest.approx(4.0, rel=0.3)


# -- what is refused --------------------------------------------------------------------------------------------------


def repeat(row: list[int], rows: int = 60) -> np.ndarray:
    """The same targets for every row."""
    return np.array([row] * rows)


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (repeat([1, 0, 0], 49), {}, "Expected at least 50 rows with a label, .*, found 49. Name more or larger files."),
        (repeat([0, 0, 0]), {}, "Expected at least 50 rows with a label, .*, found 0. Name"),
        (repeat([0, 1, 0]), {}, "Expected rows of at least two labels, found 'b' alone. Name rows of all"),
        (repeat([1, 1, -100]), {}, "Expected labels that are known not to hold, found none: .* Give the rows 'negatives'"),
        (repeat([1, 1, 0]), {"method": "platt"}, "Expected the method 'temperature' .*, found 'platt', .* --multi_label."),
        (repeat([1, 1, 0]), {"method": "beta"}, "Expected a method of temperature, platt, found 'beta'. Choose one"),
    ],
)
def test_rows_that_tell_nothing_are_refused(targets: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_rows(targets, NAMES, **{"method": "temperature", "multi_label": False, **options})


def test_a_diverged_model_is_refused() -> None:
    logits, targets = draw_rows(60, sharpness=1.0)
    logits[3, 1] = math.nan
    with pytest.raises(ValueError, match=r"^Expected numbers as logits, found nan or infinity. The model has diverged"):
        calibrate(logits, targets, ["text"] * 60, NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0}, "Expected a number from 0.01 to 100 as 'temperature' of the calibration, found 0. Run"),
        ({"bias": "high"}, "Expected a number from -inf to inf as 'bias' of the calibration, found 'high'. Run"),
        ({"bias": math.nan}, "as 'bias' of the calibration, found nan"),
        ({"default_threshold": True}, "Expected a number from 0 to 1 as 'default_threshold' of the calibration, found True"),
        ({"thresholds": {"sports": 1.5}}, "Expected a number from 0 to 1 as 'sports' of the calibration, found 1.5"),
        ({"thresholds": None}, r"Expected 'multi_label' \(true or false\) and 'thresholds' .*, found True and None. Run"),
        ({"multi_label": None}, "found None and {'sports': 0.25}. Run zeroshot calibrate anew."),
    ],
)
def test_a_configuration_refuses_what_cannot_be_applied(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BiEncoderConfig(calibration={**STORED, **change})
    with pytest.raises(ValueError, match="Expected an object as calibration, found 2.0"):
        BiEncoderConfig(calibration=2.0)


def test_the_other_kind_of_scores_is_refused() -> None:
    logits = torch.tensor([3.0, -1.0])
    assert calibrate_logits(logits, STORED, multi_label=True).tolist() == [0.5, -1.5]
    with pytest.raises(ValueError, match=r"^Expected scores with multi_label, .*, found a call without it"):
        calibrate_logits(logits, STORED, multi_label=False)


def test_no_calibration_cannot_be_applied() -> None:
    """What the configuration of most checkpoints holds."""
    with pytest.raises(
        ValueError, match=r"^Expected the calibration of .*, found None: it has none\. Run zeroshot calibrate"
    ):
        calibrate_logits(torch.tensor([3.0]), None, multi_label=True)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 labelled rows over three labels, and 12 of none in a file of their own, with the label set beside them."""
    folder = tmp_path_factory.mktemp("private folder")
    topics = {
        "sports": "goal team match player",
        "cooking": "cake oven flour sugar",
        "politics": "vote law election minister",
    }
    lines = []
    for label, words in topics.items():
        for row in range(24):
            first, second = words.split()[row % 4], words.split()[row // 4 % 4]
            lines.append(json.dumps({"text": f"{first} {second} {row}", "labels": [label]}))
    (folder / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    others = [json.dumps({"text": f"{word} {row}", "labels": []}) for row in range(6) for word in ("rain", "guitar")]
    (folder / "none.jsonl").write_text("\n".join(others), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(list(topics)), encoding="utf-8")
    return folder


@pytest.fixture
def checkpoint(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> Path:
    """A checkpoint."""
    biencoder.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def test_the_calibration_is_stored_and_used_after_a_reload(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = checkpoint / "config.json"
    config.chmod(0o640)
    before = json.loads(config.read_text(encoding="utf-8"))
    files = [str(data / "test.jsonl"), str(data / "none.jsonl")]
    main(["calibrate", str(checkpoint), *files, "--multi_label", "--output", str(tmp_path / "plots")])
    table = capsys.readouterr().out
    after = json.loads(config.read_text(encoding="utf-8"))
    stored = after.pop("calibration")
    assert before.pop("calibration") is None and before == after and config.stat().st_mode & 0o777 == 0o640
    assert not list(checkpoint.glob("*.partial"))
    assert stored["method"] == "platt" and stored["multi_label"] and stored["rows"] == 84
    assert set(stored["thresholds"]) <= {"sports", "cooking", "politics"}
    # No folder of this machine goes to the Hub with the configuration.
    assert stored["data"] == "test.jsonl, none.jsonl" and "private" not in (checkpoint / "calibration.json").read_text()
    assert (tmp_path / "plots" / "calibration.png").read_bytes().startswith(b"\x89PNG")

    report = json.loads((checkpoint / "calibration.json").read_text(encoding="utf-8"))
    assert report["ece_after"] < report["ece_before"] and report["out_of_scope_rows"] == 12
    assert sum(one["count"] for one in report["bins"]) == 84 * 3 and report["set"] == stored["data"]
    assert f"| after | {report['ece_after']:.4f} | {report['brier_after']:.4f} |" in table

    shown = show_calibration(report).splitlines()  # the model card reads the same file
    assert len(shown) == 2 + len(report["bins"])

    model = load_model(str(checkpoint))
    assert model.config.calibration == stored
    rows = load_rows(files)
    logits = model.predict_logits(rows.texts, rows.candidate_labels, multi_label=True)
    scores = calibrate_logits(logits, model.config.calibration, multi_label=True).sigmoid()
    # Maximum likelihood with a bias: the mean score is the share that holds, but for Platt's targets.
    assert scores.mean().item() == pytest.approx((rows.targets == 1).mean(), abs=0.01)
    assert logits.sigmoid().mean().item() != pytest.approx((rows.targets == 1).mean(), abs=0.05)
    model.save_pretrained(checkpoint.parent / "copy")
    assert load_model(str(checkpoint.parent / "copy")).config.calibration == stored


def test_a_second_calibration_replaces_the_first(checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--multi_label"], ["--least_positives", "25"]):
        main(["calibrate", str(checkpoint), str(data / "test.jsonl"), *words])
    stored = load_model(str(checkpoint)).config.calibration
    assert stored["method"] == "temperature" and not stored["multi_label"] and stored["bias"] == 0.0
    assert stored["thresholds"] == {} and stored["rows"] == 72  # no label has 25 rows
    assert "| before, the highest label |" in capsys.readouterr().out


def test_an_interrupted_write_leaves_the_configuration_whole(
    checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (checkpoint / "config.json").read_bytes()

    def die(_self: Path, _target: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", die)
    assert "No space left" in fail("calibrate", checkpoint, data / "test.jsonl")
    assert (checkpoint / "config.json").read_bytes() == before


def test_what_the_command_refuses(checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any model is loaded."""
    monkeypatch.setattr(calibration_files, "load_model", lambda _name: pytest.fail("the model was loaded"))
    rows, few = data / "test.jsonl", tmp_path / "few.jsonl"
    few.write_text(json.dumps({"text": "goal", "labels": ["sports"], "negatives": ["cooking"]}), encoding="utf-8")
    told = fail("calibrate", "user/model", rows)
    assert told.startswith("ValueError: Expected the local folder of a checkpoint, ") and "found 'user/model'. Down" in told
    assert "found no config.json there" in fail("calibrate", tmp_path, rows)
    assert "found no file" in fail("calibrate", checkpoint, data / "other.jsonl")
    assert "found 1. Name more or larger files." in fail("calibrate", checkpoint, few)
    assert "found one of 3 names and no labels.json beside" in fail("calibrate", checkpoint, rows, few)
    assert "Expected the method 'temperature'" in fail("calibrate", checkpoint, rows, "--method", "platt")
    assert "Expected a folder for the report, found the file" in fail("calibrate", checkpoint, rows, "--output", few)
    assert "Expected rows with labels" in fail("calibrate", checkpoint, data / "none.jsonl")


def test_freely_labelled_rows_are_judged_by_their_own_negatives(tmp_path: Path) -> None:
    rows = [{"text": "a", "labels": ["x"], "negatives": ["y"]}, {"text": "b", "labels": [], "negatives": ["z"]}]
    (tmp_path / "free.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    joined = load_rows([str(tmp_path / "free.jsonl")])
    assert joined.candidate_labels == ["x", "y", "z"]
    assert joined.targets.tolist() == [[1, 0, -100], [-100, -100, 0]]


def test_no_recipe_sets_a_calibration() -> None:
    """It belongs to trained weights."""
    from zeroshot.training import parse_arguments
    from zeroshot.training.runs import build_model

    options = ["configs/quickstart.yaml", "--architecture_options", json.dumps({"calibration": STORED})]
    model, _, training = parse_arguments(options)
    with pytest.raises(ValueError, match=r"^Expected an option of 'biencoder' .*, found 'calibration'"):
        build_model(model, training)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_keeps_a_calibration(architecture: str) -> None:
    config_class = ARCHITECTURES[architecture].config_class
    config = config_class(calibration=STORED)
    assert config_class.from_dict(config.to_dict()).calibration == STORED
