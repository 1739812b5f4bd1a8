"""From scores to a decision: thresholds, no label at all, the best k, calibrated scores."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from zeroshot.models import ZeroShotPreTrainedModel

from .conftest import LABELS, TEXTS

CALIBRATION = {
    "temperature": 4.0,
    "bias": 0.5,
    "thresholds": {"sports": 0.0},
    "default_threshold": 1.0,
    "multi_label": True,
    "method": "platt",
    "rows": 100,
    "data": "rows.jsonl",
}


def test_a_threshold_decides_among_labels_judged_alone(model: ZeroShotPreTrainedModel) -> None:
    scores = [one["scores"] for one in model.predict(TEXTS, LABELS, multi_label=True)]
    ordered = sorted(score for one in scores for score in one.values())
    below = max(range(5, 15), key=lambda place: ordered[place + 1] - ordered[place])  # no score is near the threshold
    threshold = (ordered[below] + ordered[below + 1]) / 2
    results = model.as_pipeline()(TEXTS, LABELS, multi_label=True, threshold=threshold)
    for result, own in zip(results, scores, strict=True):
        passed = [label for label in result["labels"] if own[label] >= threshold]
        assert result["decision"] == passed, "by falling score"
        assert set(result["labels"]) == set(LABELS), "every label asked for comes back"
    assert 0 < sum(len(result["decision"]) for result in results) < len(TEXTS) * len(LABELS)


def test_a_threshold_decides_for_one_alternative_or_none(model: ZeroShotPreTrainedModel) -> None:
    for result in model.as_pipeline()(TEXTS, LABELS, threshold=0.0):
        assert result["decision"] == result["labels"][:1]
    assert [one["decision"] for one in model.as_pipeline()(TEXTS, LABELS, threshold=1.0)] == [[]] * len(TEXTS)
    best = model.as_pipeline()(TEXTS[0], LABELS)
    own = dict.fromkeys(LABELS, 0.0) | {best["labels"][0]: 1.0}
    assert model.predict(TEXTS[0], LABELS, threshold=own)[0]["decision"] == [], "the second best is no second choice"


def test_each_label_may_have_its_threshold(biencoder: ZeroShotPreTrainedModel) -> None:
    thresholds = {"sports": 0, "cooking": 1, "politics law": 0.0, "music": 1.0}
    for result in biencoder.predict(TEXTS, LABELS, multi_label=True, threshold=thresholds):
        assert sorted(result["decision"]) == ["politics law", "sports"]


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_none_label_is_decided_for_where_nothing_fits(model: ZeroShotPreTrainedModel, multi_label: bool) -> None:
    model.logit_scale.data.fill_(0.0)  # no score is 1
    results = model.as_pipeline()(TEXTS, LABELS, multi_label=multi_label, threshold=1.0, none_label="other")
    for result in results:
        scores = torch.tensor(result["scores"])
        expected = (1 - scores).prod() if multi_label else 1 - scores[0]
        assert result["decision"] == ["other"] and "other" not in result["labels"]
        assert result["none_score"] == pytest.approx(expected.item(), abs=1e-6)
    for result in model.predict(TEXTS, LABELS, multi_label=multi_label, threshold=0.0, none_label="other"):
        assert "other" not in result["decision"] and result["decision"]


def test_the_best_k_come_back(model: ZeroShotPreTrainedModel) -> None:
    for whole, two, mapped in zip(
        model.as_pipeline()(TEXTS, LABELS),
        model.as_pipeline()(TEXTS, LABELS, top_k=2, threshold=0.0),
        model.predict(TEXTS, LABELS, top_k=2),
        strict=True,
    ):
        assert two["labels"] == whole["labels"][:2] and two["scores"] == whole["scores"][:2]
        assert list(mapped["scores"]) == whole["labels"][:2]
    assert len(model.as_pipeline()(TEXTS[0], LABELS, top_k=99)["labels"]) == len(LABELS)


# -- calibration ------------------------------------------------------------------------------------------------------


def test_calibrated_scores_are_those_of_the_stored_temperature_and_bias(
    model: ZeroShotPreTrainedModel, tmp_path: Path
) -> None:
    """Only when asked for, and after saving and loading too."""
    plain = model.predict(TEXTS, LABELS, multi_label=True)
    model.config.calibration = CALIBRATION
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.calibration == CALIBRATION
    assert loaded.predict(TEXTS, LABELS, multi_label=True) == plain
    expected = (loaded.predict_logits(TEXTS, LABELS, multi_label=True) / 4.0 + 0.5).sigmoid()
    found = loaded.predict(TEXTS, LABELS, multi_label=True, calibrated=True)
    torch.testing.assert_close(torch.tensor([list(one["scores"].values()) for one in found]), expected)
    by_threshold = loaded.predict(TEXTS, LABELS, multi_label=True, threshold="calibrated")
    assert [one["scores"] for one in by_threshold] == [one["scores"] for one in found]
    assert all(one["decision"] == ["sports"] for one in by_threshold), "its own threshold is 0, that of the others 1"


def test_calibration_of_another_kind_of_scores_is_refused(biencoder: ZeroShotPreTrainedModel) -> None:
    biencoder.config.calibration = CALIBRATION
    with pytest.raises(
        ValueError,
        match="Expected scores with multi_label, .*, found a call without it. Call it with multi_label, or run",
    ):
        biencoder.predict(TEXTS, LABELS, calibrated=True)


@pytest.mark.parametrize("change", [{"temperature": 0}, {"bias": "x"}, {"thresholds": {"a": 2}}, {"multi_label": None}])
def test_a_configuration_with_a_damaged_calibration_is_refused(biencoder: ZeroShotPreTrainedModel, change: dict) -> None:
    with pytest.raises(ValueError, match=r"calibration, found .* Run zeroshot calibrate anew\."):
        type(biencoder.config)(calibration={**CALIBRATION, **change})


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "Expected a threshold from 0 to 1, found 1.5. Scores are probabilities; try 0.5,"),
        ({"threshold": True}, "Expected a threshold from 0 to 1, found True."),
        ({"threshold": "0.5"}, "Expected a threshold from 0 to 1, found '0.5'."),
        ({"threshold": {"sports": -1}}, "Expected a threshold of 'sports' from 0 to 1, found -1."),
        (
            {"threshold": {"sports": 0.5}},
            "Expected a threshold for every label, found none for 'cooking', 'politics law', 'm",
        ),
        (
            {"threshold": {"sports": 0.5, "cooking": 0.4, "politics law": 1, "musik": 0.3}},
            "found none for 'music', but one for 'musik', which is no label. Write "
            '{"sports": 0.5, "cooking": 0.4, "politics law": 1, "music": 0.5}, or one number for all labels.',
        ),
        ({"threshold": "calibrated"}, "Expected a checkpoint with a calibration for calibrated scores or thresholds, found"),
        ({"calibrated": True}, "Run zeroshot calibrate on labelled rows, or pass a number as threshold."),
        ({"none_label": "x"}, "Expected a threshold with none_label, below which 'x' is decided for, found none."),
        ({"none_label": " ", "threshold": 0.5}, "Expected none_label to be a name, found ' '."),
        ({"none_label": "sports", "threshold": 0.5}, "Expected a none_label that is no candidate label, found 'sports'"),
        ({"top_k": 0}, "Expected top_k of at least 1 label, found 0. Raise it, or leave it out for all."),
        ({"top_k": True}, "Expected top_k of at least 1 label, found True."),
    ],
)
def test_options_that_cannot_be_are_refused(
    biencoder: ZeroShotPreTrainedModel, options: dict[str, Any], message: str
) -> None:
    for call in (biencoder.as_pipeline(), biencoder.predict):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(TEXTS, LABELS, **options)


def test_a_single_candidate_is_refused_where_the_calibration_is_of_labels_that_share_1(
    biencoder: ZeroShotPreTrainedModel,
) -> None:
    """The message speaks of the call as it was: nobody asked for multi_label."""
    biencoder.config.calibration = {**CALIBRATION, "multi_label": False}
    message = (
        "Expected several candidate labels for every text, since this model was calibrated on labels that share 1, found "
        "that text 1 has one candidate, 'law', which is judged alone. Give it a second label, or classify it without "
        "calibrated scores and thresholds."
    )
    for options in ({"calibrated": True}, {"threshold": "calibrated"}):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            biencoder.predict(TEXTS[:2], [LABELS, ["law"]], **options)
    assert len(biencoder.predict(TEXTS[:2], [LABELS, ["law", "rain"]], calibrated=True)) == 2
    with pytest.raises(
        ValueError, match="Expected scores without multi_label, on which .* calibrated, found a call with it"
    ):
        biencoder.predict(TEXTS, LABELS, calibrated=True, multi_label=True)
