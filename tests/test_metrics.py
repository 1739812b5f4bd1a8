"""Metrics against values by hand and against scikit-learn; the `evaluate.Metric`s give the same numbers, offline."""

import doctest
import re
import socket
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, label_ranking_average_precision_score
from transformers import EvalPrediction

from zeroshot.evaluation import METRICS, Accuracy, AccuracyAtK, MacroF1, MeanReciprocalRank, compute_metrics, metrics

METRIC_CLASSES = {
    "accuracy": Accuracy,
    "accuracy_at_k": AccuracyAtK,
    "macro_f1": MacroF1,
    "mrr": MeanReciprocalRank,
}
SCORES = np.array(
    [
        [0.9, 0.5, 0.4, 0.1],  # ranked 0 1 2 3; 0 and 2 hold
        [0.2, 0.3, 0.1, 0.8],  # ranked 3 1 0 2; 1 holds
        [0.5, 0.6, 0.7, 0.99],  # ranked 2 1 0, without 3; 2 holds
    ]
)
TARGETS = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, -100]])
# macro_f1: gold 0, 1, 2 against 0, 3, 2 gives F1 of 1, 0, 1.
BY_HAND = {"accuracy": 2 / 3, "accuracy_at_k": (1 / 2 + 0 + 1) / 3, "macro_f1": 2 / 3, "mrr": (1 + 1 / 2 + 1) / 3}


@pytest.fixture(params=list(METRICS))
def name(request: pytest.FixtureRequest) -> str:
    """Every metric."""
    return request.param


def draw_single_label(seed: int, texts: int = 200, labels: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random scores, targets with one label each, and the gold columns."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(texts, labels))
    gold = generator.integers(0, labels - 1, size=texts)  # the last label never holds
    scores[np.arange(texts), gold] += 1
    return scores, np.eye(labels, dtype=np.int64)[gold], gold


def test_values_by_hand(name: str) -> None:
    assert METRICS[name](SCORES, TARGETS) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_single_label_values_equal_sklearn(seed: int) -> None:
    scores, targets, gold = draw_single_label(seed)
    predicted = scores.argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(gold, predicted),
        "accuracy_at_k": accuracy_score(gold, predicted),
        "macro_f1": f1_score(gold, predicted, average="macro", labels=sorted(set(gold)), zero_division=0),
        "mrr": label_ranking_average_precision_score(targets, scores),
    }
    assert {name: metric(scores, targets) for name, metric in METRICS.items()} == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_several_labels_per_text_against_plain_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(50, 6))
    targets = generator.choice([1, 0, -100], size=(50, 6))
    targets[:, 2] = 1
    first, share, reciprocal = [], [], []
    for row, target_row in zip(scores, targets, strict=True):
        candidates = [column for column in range(6) if target_row[column] != -100]
        ranked = sorted(candidates, key=lambda column: -row[column])
        holds = [target_row[column] == 1 for column in ranked]
        first.append(holds[0])
        share.append(sum(holds[: sum(holds)]) / sum(holds))
        reciprocal.append(1 / (holds.index(True) + 1))
    assert metrics.accuracy(scores, targets) == pytest.approx(np.mean(first))
    assert metrics.accuracy_at_k(scores, targets) == pytest.approx(np.mean(share))
    assert metrics.mean_reciprocal_rank(scores, targets) == pytest.approx(np.mean(reciprocal))


def test_macro_f1_of_a_text_with_several_labels() -> None:
    """Predicted as one of its labels it counts for that one, else for its first."""
    targets = np.array([[0, 1, 1], [0, 1, 1]])
    assert metrics.macro_f1(np.array([[0, 1, 2], [0, 1, 2]]), targets) == 1
    # Gold 2 and 1, predicted 2 and 0: F1 of label 1 is 0, of label 2 is 1; label 0 never holds and is not averaged in.
    assert metrics.macro_f1(np.array([[0, 1, 2], [9, 1, 2]]), targets) == pytest.approx(1 / 2)


def test_labels_that_never_hold_are_not_averaged_in() -> None:
    # Gold 0, 0; predicted 0, 1: precision 1 and recall 1/2 of label 0.
    assert metrics.macro_f1(np.array([[1, 0], [0, 1]]), np.array([[1, 0], [1, 0]])) == pytest.approx(2 / 3)


def test_what_is_no_candidate_has_no_influence(name: str) -> None:
    changed = np.where(TARGETS == -100, -7.0, SCORES)
    widened = np.hstack([changed, np.full((3, 2), 50.0)]), np.hstack([TARGETS, np.full((3, 2), -100)])
    assert METRICS[name](changed, TARGETS) == METRICS[name](*widened) == METRICS[name](SCORES, TARGETS)


def test_best_and_worst_ranking(name: str) -> None:
    _, targets, _ = draw_single_label(0)
    assert METRICS[name](targets.astype(float), targets) == 1
    assert METRICS[name](-targets.astype(float), targets) == (pytest.approx(1 / 7) if name == "mrr" else 0)


def test_only_the_order_of_scores_matters(name: str) -> None:
    """Logits, sigmoid and softmax of them must be measured alike."""
    scores, targets, _ = draw_single_label(3)
    expected = METRICS[name](scores, targets)
    assert METRICS[name](1 / (1 + np.exp(-scores)), targets) == expected
    assert METRICS[name](5 * scores - 100, targets) == expected
    assert METRICS[name](scores.astype(np.float32), targets) == expected


def test_equal_scores_are_ranked_by_position(name: str) -> None:
    """An unstable sort would make results change from run to run."""
    scores = np.random.default_rng(0).integers(0, 2, size=(20, 300)).astype(float)
    targets = np.zeros((20, 300), dtype=np.int64)
    targets[:, 150] = 1
    shifted = scores - np.arange(300) * 1e-6
    assert METRICS[name](scores, targets) == METRICS[name](shifted, targets)


def test_compute_metrics_gives_all_metrics_to_the_trainer() -> None:
    assert compute_metrics(EvalPrediction(predictions=SCORES, label_ids=TARGETS)) == pytest.approx(BY_HAND)


def test_examples_in_docstrings_are_true() -> None:
    result = doctest.testmod(metrics)
    assert (result.failed, result.attempted) == (0, len(METRICS) + 1)  # and the recall of a shortlist


# -- as evaluate.Metric -----------------------------------------------------------------------------------------------


@pytest.fixture
def metric(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> evaluate.Metric:
    """The metric as a class; any attempt to reach a network fails."""

    def refuse(*_arguments: object) -> None:
        raise AssertionError("a metric asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return METRIC_CLASSES[name](cache_dir=str(tmp_path))


def test_metric_class_gives_the_same_number(name: str, metric: evaluate.Metric) -> None:
    assert metric.compute(predictions=SCORES, references=TARGETS) == {name: pytest.approx(BY_HAND[name])}
    assert metric.compute(predictions=SCORES.tolist(), references=TARGETS.tolist()) == {name: pytest.approx(BY_HAND[name])}


def test_metric_class_gathers_batches(name: str, metric: evaluate.Metric) -> None:
    metric.add_batch(predictions=SCORES[:2], references=TARGETS[:2])
    metric.add(prediction=SCORES[2].tolist(), reference=TARGETS[2].tolist())
    assert metric.compute() == {name: pytest.approx(BY_HAND[name])}


def test_metric_classes_can_be_combined(tmp_path: Path) -> None:
    combined = evaluate.combine([metric_class(cache_dir=str(tmp_path)) for metric_class in METRIC_CLASSES.values()])
    assert combined.compute(predictions=SCORES, references=TARGETS) == pytest.approx(BY_HAND)


def test_targets_of_another_shape_are_refused(metric: evaluate.Metric) -> None:
    message = "Expected a target for every score, found scores (1, 2) and targets (1, 3). Give both as rows over the same"
    with pytest.raises(ValueError, match=re.escape(message)):
        metric.compute(predictions=[[0.1, 0.2]], references=[[0, 1, 0]])


def test_rows_of_different_lengths_are_told_of_the_mask(metric: evaluate.Metric) -> None:
    """Numpy speaks of inhomogeneous shapes, not of how to leave a candidate out."""
    with pytest.raises(ValueError, match=r"Expected .*-100"):
        metric.compute(predictions=[[0.1, 0.2], [0.3]], references=[[0, 1], [1]])


def test_a_text_without_a_label_that_holds_is_refused(metric: evaluate.Metric) -> None:
    """Its reciprocal rank would be 1 and its share not a number."""
    with pytest.raises(ValueError, match="Expected .*found .*"):
        metric.compute(predictions=[[0.9, 0.1], [0.1, 0.9]], references=[[1, 0], [0, 0]])


def test_scores_that_are_no_numbers_are_refused(metric: evaluate.Metric) -> None:
    """A diverged model would be measured by the order of its labels."""
    with pytest.raises(ValueError, match="Expected .*nan"):
        metric.compute(predictions=[[float("nan"), float("nan")]], references=[[1, 0]])


def test_no_rows_are_refused(metric: evaluate.Metric) -> None:
    with pytest.raises(ValueError, match="Expected .*found none"):
        metric.compute(predictions=[], references=[])
