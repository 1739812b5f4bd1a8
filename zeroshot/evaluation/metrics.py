"""Metrics over a grid of scores and targets, as plain functions and as `evaluate.Metric`s.

`scores` are (B, N): any numbers of which higher is more likely. `targets` are (B, N): 1 where the label holds, 0 where it
does not, -100 where it is no candidate. Every text has at least one label that holds. All results are between 0 and 1.
"""

from collections.abc import Callable

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score
from transformers import EvalPrediction

Grid = np.ndarray


def _rank(scores: Grid, targets: Grid) -> Grid:
    """Labels of each text by falling score, (B, N); those that are no candidates come last.

    Raises:
        ValueError: If there is no text, a text has no label that holds, or the score of a candidate is not a number.
    """
    if not scores.size:
        raise ValueError("Expected scores of at least one text, found none. Give one row of scores per text.")
    unlabelled = np.flatnonzero(~(targets == 1).any(axis=1))
    if unlabelled.size:
        raise ValueError(
            f"Expected a label that holds for every text, found none in {unlabelled.size} of {len(targets)} rows (the "
            f"first is row {unlabelled[0]}). Leave texts without a label out."
        )
    masked = np.where(targets == -100, -np.inf, scores)
    broken = np.flatnonzero(np.isnan(masked).any(axis=1))
    if broken.size:
        raise ValueError(
            f"Expected numbers as scores, found nan in {broken.size} of {len(scores)} rows (the first is row {broken[0]}). "
            "The model has diverged or overflowed: lower its learning rate, or score in fp32."
        )
    return np.argsort(-masked, axis=1, kind="stable")


def _hits(scores: Grid, targets: Grid) -> Grid:
    """Whether the label at each rank holds, (B, N)."""
    return np.take_along_axis(targets, _rank(scores, targets), axis=1) == 1


def accuracy(scores: Grid, targets: Grid) -> float:
    """Share of texts whose highest candidate holds.

    Example:
        >>> accuracy(np.array([[0.2, 0.9], [0.8, 0.1]]), np.array([[0, 1], [0, 1]]))
        0.5
    """
    return float(_hits(scores, targets)[:, 0].mean())


def accuracy_at_k(scores: Grid, targets: Grid) -> float:
    """Mean share of a text's k labels among its k highest candidates, k being how many labels hold.

    Example:
        >>> accuracy_at_k(np.array([[0.9, 0.5, 0.4]]), np.array([[1, 0, 1]]))
        0.5
    """
    hits = _hits(scores, targets)
    k = hits.sum(axis=1)
    return float((np.take_along_axis(hits.cumsum(axis=1), k[:, None] - 1, axis=1)[:, 0] / k).mean())


def mean_reciprocal_rank(scores: Grid, targets: Grid) -> float:
    """Mean of 1 / rank of the highest label that holds.

    Example:
        >>> mean_reciprocal_rank(np.array([[0.9, 0.5]]), np.array([[0, 1]]))
        0.5
    """
    return float((1 / (_hits(scores, targets).argmax(axis=1) + 1)).mean())


def macro_f1(scores: Grid, targets: Grid) -> float:
    """Mean F1 over the labels that occur, each text predicting its highest candidate.

    A text with several labels counts for the label it was predicted as if that one holds, else for its first.

    Example:
        >>> macro_f1(np.array([[0.2, 0.9], [0.8, 0.1]]), np.array([[0, 1], [1, 0]]))
        1.0
    """
    predicted = _rank(scores, targets)[:, 0]
    correct = np.take_along_axis(targets, predicted[:, None], axis=1)[:, 0] == 1
    gold = np.where(correct, predicted, (targets == 1).argmax(axis=1))
    return float(f1_score(gold, predicted, average="macro", labels=np.unique(gold), zero_division=0))


METRICS: dict[str, Callable[[Grid, Grid], float]] = {
    "accuracy": accuracy,
    "accuracy_at_k": accuracy_at_k,
    "macro_f1": macro_f1,
    "mrr": mean_reciprocal_rank,
}


def shortlist_recall(shortlist: Grid, targets: Grid) -> float:
    """Mean share of a text's labels that are in its shortlist, (B, N) bool: recall@k of the first stage.

    Example:
        >>> shortlist_recall(np.array([[True, False, True]]), np.array([[1, 1, 0]]))
        0.5
    """
    holds = targets == 1
    return float(((shortlist & holds).sum(axis=1) / holds.sum(axis=1)).mean())


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """All metrics, in the form that `Trainer(compute_metrics=...)` expects."""
    return {name: metric(prediction.predictions, prediction.label_ids) for name, metric in METRICS.items()}


class _GridMetric(evaluate.Metric):
    """An `evaluate.Metric` of one of the functions above; `predictions` are rows of scores, `references` of targets."""

    function: Callable[[Grid, Grid], float]
    key: str

    def _info(self):
        return evaluate.MetricInfo(
            description=self.function.__doc__ or "",
            citation="",
            inputs_description="predictions: rows of N scores; references: rows of N targets (1, 0 or -100).",
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float64")),
                    "references": datasets.List(datasets.Value("int64")),
                }
            ),
        )

    def _compute(self, predictions, references):
        try:
            scores, targets = np.asarray(predictions, dtype=np.float64), np.asarray(references)
        except ValueError as error:
            raise ValueError(
                "Expected rows over the same candidate labels, found rows of different lengths. "
                "Give every row all labels, and -100 as the target of one that is no candidate of its text."
            ) from error
        if scores.shape != targets.shape:
            raise ValueError(
                f"Expected a target for every score, found scores {scores.shape} and targets {targets.shape}. "
                "Give both as rows over the same candidate labels."
            )
        return {self.key: type(self).function(scores, targets)}


class Accuracy(_GridMetric):
    """[`accuracy`] as a metric."""

    function, key = staticmethod(accuracy), "accuracy"


class AccuracyAtK(_GridMetric):
    """[`accuracy_at_k`] as a metric."""

    function, key = staticmethod(accuracy_at_k), "accuracy_at_k"


class MacroF1(_GridMetric):
    """[`macro_f1`] as a metric."""

    function, key = staticmethod(macro_f1), "macro_f1"


class MeanReciprocalRank(_GridMetric):
    """[`mean_reciprocal_rank`] as a metric."""

    function, key = staticmethod(mean_reciprocal_rank), "mrr"
