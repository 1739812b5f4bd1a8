"""Thresholds on scores: choosing them by F1, and measuring what they decide.

`scores` and `targets` are (B, N): from 0 to 1, and 1, 0 or -100 where a label is no candidate. Where labels share 1 only the
highest of a text may pass; else each label by itself.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np


class Decisions(TypedDict):
    """What thresholds decide."""

    micro_f1: float
    macro_f1: float  # over the labels that occur
    out_of_scope_refused: float | None  # share of the texts without a label of which no label passes


class Thresholds(TypedDict):
    """The least scores that pass."""

    default_threshold: float
    thresholds: dict[str, float]


def find_answers(scores: np.ndarray, targets: np.ndarray, multi_label: bool) -> np.ndarray:
    """The pairs that a threshold lets pass or not, (B, N) bool: all, or the highest of each text where labels share 1."""
    if multi_label:
        return targets != -100
    return np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]


def choose_threshold(scores: np.ndarray, holds: np.ndarray, positives: int) -> float | None:
    """The threshold with the best F1, half-way to the next score below.

    Args:
        scores: (n,) of answers that it lets pass or not.
        holds: (n,) bool, whether they are right.
        positives: How many right answers there are, with those that are not among the n.

    Returns:
        The highest such threshold; None where no answer is right.

    Example:
        >>> choose_threshold(np.array([0.9, 0.8, 0.4, 0.2]), np.array([True, True, False, True]), 3)
        0.1
        >>> choose_threshold(np.array([0.9, 0.8, 0.4, 0.2]), np.array([True, True, False, False]), 3)
        0.6000000000000001
    """
    order = np.argsort(-scores, kind="stable")
    ordered, right = scores[order], np.cumsum(holds[order])
    if not len(ordered) or not right[-1]:
        return None
    f1 = 2 * right / (np.arange(1, len(ordered) + 1) + positives)
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0  # equal scores pass together
    best = int(f1.argmax())
    return float((ordered[best] + (ordered[best + 1] if best + 1 < len(ordered) else 0.0)) / 2)


def choose_thresholds(
    scores: np.ndarray, targets: np.ndarray, names: Sequence[str], *, multi_label: bool, columns: Sequence[int]
) -> Thresholds:
    """The default threshold over all pairs, and one for each label of `columns` of which an answer is right."""
    answers, holds = find_answers(scores, targets, multi_label), targets == 1
    default = choose_threshold(scores[answers], holds[answers], int(holds.sum()))
    own = {}
    for column in columns:
        mine = answers[:, column]
        threshold = choose_threshold(scores[mine, column], holds[mine, column], int(holds[:, column].sum()))
        if threshold is not None:
            own[names[column]] = threshold
    return {"default_threshold": default or 0.0, "thresholds": own}


def measure_decisions(
    scores: np.ndarray, targets: np.ndarray, thresholds: np.ndarray | float, *, multi_label: bool
) -> Decisions:
    """Measure which pairs (B, N) pass their threshold, a number or one per pair."""
    passed = find_answers(scores, targets, multi_label) & (scores >= thresholds)
    holds = targets == 1
    right, answered, positives = (cells.sum(axis=0) for cells in (passed & holds, passed, holds))
    occurs, without = positives > 0, ~holds.any(axis=1)
    return {
        "micro_f1": float(2 * right.sum() / (answered.sum() + positives.sum())),
        "macro_f1": float((2 * right / np.maximum(answered + positives, 1))[occurs].mean()),
        "out_of_scope_refused": float((~passed[without].any(axis=1)).mean()) if without.any() else None,
    }
