"""How far scores can be believed: calibration error, Brier score, and texts that none of the labels fits.

`confidence` are (n,) scores from 0 to 1, `correct` (n,) whether what was scored holds. All results are from 0 to 1.
"""

from typing import TypedDict

import numpy as np
from sklearn.metrics import roc_auc_score

BINS = 15  # as in Guo et al. 2017
RECALL = 0.95


class ReliabilityBin(TypedDict):
    """The scores of one bin; `lower` itself belongs to the bin before."""

    lower: float
    upper: float
    count: int
    confidence: float  # mean score
    accuracy: float  # share that holds


class OutOfScope(TypedDict):
    """How well the highest score tells texts with a label from texts with none."""

    auroc: float
    fpr_at_95_recall: float


def list_reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> list[ReliabilityBin]:
    """Group scores into 15 bins of equal width, as [Guo et al. 2017](https://arxiv.org/abs/1706.04599); empty ones are
    left out.

    Example:
        >>> [one["count"] for one in list_reliability_bins(np.array([0.0, 1 / 15, 0.07, 1.0]), np.ones(4))]
        [2, 1, 1]
    """
    edges = np.linspace(0, 1, BINS + 1)
    which = np.searchsorted(edges[1:-1], confidence, side="left")
    bins: list[ReliabilityBin] = []
    for number in np.unique(which).tolist():
        inside = which == number
        bins.append(
            {
                "lower": float(edges[number]),
                "upper": float(edges[number + 1]),
                "count": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(correct[inside].mean()),
            }
        )
    return bins


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean distance of a bin's mean score from its share that holds, bins weighted by their counts.

    Example:
        >>> round(expected_calibration_error(np.array([0.9, 0.9, 0.2]), np.array([1, 0, 0])), 4)
        0.3333
    """
    bins = list_reliability_bins(confidence, correct)
    return sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / len(confidence)


def brier_score(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean squared distance of a score from what holds, 1 or 0.

    Example:
        >>> brier_score(np.array([1.0, 0.5]), np.array([1, 0]))
        0.125
    """
    return float(np.mean((confidence - correct) ** 2))


def measure_out_of_scope(scores: np.ndarray, in_scope: np.ndarray) -> OutOfScope:
    """How well scores (n,) tell texts that have a label (`in_scope`, (n,) bool) from texts that have none.

    The highest score of a text as the sign that some label fits is the baseline of
    [Hendrycks and Gimpel 2017](https://arxiv.org/abs/1610.02136).

    Returns:
        The area under the ROC curve, and the share of texts without a label that pass the highest threshold which 95% of
        the texts with one pass.

    Example:
        >>> measure_out_of_scope(np.array([0.9, 0.4, 0.5, 0.1]), np.array([True, True, False, False]))
        {'auroc': 0.75, 'fpr_at_95_recall': 0.5}
    """
    accepted = np.sort(scores[in_scope])[::-1]
    threshold = accepted[int(np.ceil(RECALL * len(accepted))) - 1]
    return {
        "auroc": float(roc_auc_score(in_scope, scores)),
        "fpr_at_95_recall": float((scores[~in_scope] >= threshold).mean()),
    }
