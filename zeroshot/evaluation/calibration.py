"""Fitting what makes scores mean what they say: temperature or Platt scaling, and thresholds.

    single label: softmax(z / t)        fitted on rows with a label, by the likelihood of the labels that hold
    multi-label:  sigmoid(z / t + b)    fitted on all judged pairs; b is 0 with the method `temperature`

Temperature: [Guo et al. 2017](https://arxiv.org/abs/1706.04599). Platt: 1999, with its targets 1 / (n + 2) off 0 and 1, here
for both methods; departing from it the factor on the logit is kept positive, so that the order of scores stays.
"""

import math
import random
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, get_args

import numpy as np
import torch
from torch import nn
from transformers.utils import logging

from ..models.calibration_zeroshot import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, calibrate_logits
from .reliability import (
    OutOfScope,
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    list_reliability_bins,
    measure_out_of_scope,
)
from .thresholds import Decisions, Thresholds, choose_thresholds, measure_decisions

logger = logging.get_logger(__name__)

Method = Literal["temperature", "platt"]
METHODS: tuple[Method, ...] = get_args(Method)
LEAST_ROWS = 50  # with a label: one half is fitted on, the other measured
LEAST_POSITIVES = 10


class Measured(TypedDict):
    """How far the scores can be believed."""

    ece: float
    brier: float
    bins: list[ReliabilityBin]
    out_of_scope: OutOfScope | None


class Fitted(Thresholds):
    """What rows say about scores."""

    temperature: float
    bias: float


class Report(TypedDict):
    """What was measured; `after` on rows that had no part in the fit."""

    out_of_scope_rows: int
    labels: int
    temperatures_of_halves: list[float]
    before: Measured
    after: Measured
    decisions: dict[str, Decisions]  # `before`, `default_threshold`, `thresholds`


def choose_method(multi_label: bool) -> Method:
    """Platt for scores by themselves: a factor alone cannot mend a sigmoid that is too high or too low on the whole."""
    return "platt" if multi_label else "temperature"


def check_rows(targets: np.ndarray, names: Sequence[str], *, method: Method, multi_label: bool) -> None:
    """Refuse rows from which nothing can be fitted.

    Args:
        targets: (B, N): 1, 0, or -100 where a label is no candidate.
        names: The N labels.
        method: `temperature` or `platt`.
        multi_label: Which scores are meant.

    Raises:
        ValueError: If there are too few rows, all are of one label, nothing is known to fail, or the method does not fit.
    """
    if method not in METHODS:
        raise ValueError(f"Expected a method of {', '.join(METHODS)}, found {method!r}. Choose one of them.")
    if method == "platt" and not multi_label:
        raise ValueError(
            "Expected the method 'temperature' for labels that share 1, found 'platt', whose bias a softmax does not see. "
            "Choose temperature, or --multi_label."
        )
    labelled = int((targets == 1).any(axis=1).sum())
    if labelled < LEAST_ROWS:
        raise ValueError(
            f"Expected at least {LEAST_ROWS} rows with a label, since one half is fitted on and the other measured, found "
            f"{labelled}. Name more or larger files."
        )
    held = np.flatnonzero((targets == 1).any(axis=0))
    if len(held) < 2:
        raise ValueError(
            f"Expected rows of at least two labels, found {names[held[0]]!r} alone. Name rows of all labels that you use."
        )
    if not (targets == 0).any():
        raise ValueError(
            "Expected labels that are known not to hold, found none: every candidate of every row holds. Give the rows "
            "'negatives', or put the closed label set beside the file as labels.json."
        )


def fit_scale(logits: np.ndarray, targets: np.ndarray, *, method: Method, multi_label: bool) -> tuple[float, float]:
    """Fit temperature and bias by maximum likelihood.

    Args:
        logits: (B, N), raw.
        targets: (B, N): 1, 0, or -100 where a label is no candidate.
        method: `temperature`, or `platt` for the bias too.
        multi_label: Whether the scores are sigmoids, or a softmax; a softmax leaves rows without a label out.

    Returns:
        Temperature, between 0.01 and 100, and bias.
    """
    labelled = np.ones(len(targets), dtype=bool) if multi_label else (targets == 1).any(axis=1)
    z, judged, holds = (torch.from_numpy(array[labelled]) for array in (logits, targets != -100, targets == 1))
    z = z.double()
    cells, share = z[judged], holds[judged].double()
    smoothed = torch.where(share == 1, (share.sum() + 1) / (share.sum() + 2), 1 / ((1 - share).sum() + 2))
    reach = math.log(HIGHEST_TEMPERATURE)
    parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def read() -> tuple[torch.Tensor, torch.Tensor]:
        # Without the bound, rows on which the model is always right would drive the scale to infinity.
        return (reach * torch.tanh(parameters[0] / reach)).exp(), parameters[1] * (method == "platt")

    def compute_loss() -> torch.Tensor:
        scale, bias = read()
        if multi_label:
            return nn.functional.binary_cross_entropy_with_logits(scale * cells + bias, smoothed)
        scaled = (scale * z).masked_fill(~judged, float("-inf"))
        return (scaled.logsumexp(dim=1) - scaled.masked_fill(~holds, float("-inf")).logsumexp(dim=1)).mean()

    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = compute_loss()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        scale, bias = read()
    # At the bound itself, rounding would put it beyond, where no configuration takes it.
    return min(max(float(1 / scale), LOWEST_TEMPERATURE), HIGHEST_TEMPERATURE), float(bias)


def compute_scores(
    logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0, bias: float = 0.0, *, multi_label: bool
) -> np.ndarray:
    """Scores (B, N) from 0 to 1; 0 where `targets` says that a label is no candidate."""
    applied = {"temperature": temperature, "bias": bias, "multi_label": multi_label}
    calibrated = calibrate_logits(torch.from_numpy(logits).double(), applied, multi_label=multi_label)
    calibrated = calibrated.masked_fill(torch.from_numpy(targets == -100), float("-inf"))
    return (calibrated.sigmoid() if multi_label else calibrated.softmax(dim=1)).numpy()


def measure_scores(scores: np.ndarray, targets: np.ndarray, *, multi_label: bool) -> Measured:
    """Measure scores (B, N): those of all judged pairs, or the highest of each text that has a label where they share 1."""
    in_scope = (targets == 1).any(axis=1)
    if multi_label:
        confidence, correct = scores[targets != -100], targets[targets != -100]
    else:
        confidence = scores.max(axis=1)[in_scope]
        correct = (targets[np.arange(len(targets)), scores.argmax(axis=1)] == 1)[in_scope]
    return {
        "ece": expected_calibration_error(confidence, correct),
        "brier": brier_score(confidence, correct),
        "bins": list_reliability_bins(confidence, correct),
        "out_of_scope": None if in_scope.all() else measure_out_of_scope(scores.max(axis=1), in_scope),
    }


def split_halves(texts: Sequence[str], targets: np.ndarray) -> np.ndarray:
    """Which half each row is in, (B,) bool: equal texts together, labels spread over both, the same at every call."""
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(text, row)
    distinct = list(first)
    random.Random(0).shuffle(distinct)
    labels = np.where((targets == 1).any(axis=1), (targets == 1).argmax(axis=1), -1)
    distinct.sort(key=lambda text: labels[first[text]])
    half = {text: bool(position % 2) for position, text in enumerate(distinct)}
    return np.array([half[text] for text in texts])


def _fit(
    logits: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    *,
    method: Method,
    multi_label: bool,
    columns: Sequence[int],
) -> Fitted:
    temperature, bias = fit_scale(logits, targets, method=method, multi_label=multi_label)
    scores = compute_scores(logits, targets, temperature, bias, multi_label=multi_label)
    chosen = choose_thresholds(scores, targets, names, multi_label=multi_label, columns=columns)
    return {"temperature": temperature, "bias": bias, **chosen}


def _warn_of_rows_that_do_not_tell(temperature: float, scores: np.ndarray, targets: np.ndarray, multi_label: bool) -> None:
    best = np.take_along_axis(targets, scores.argmax(axis=1)[:, None], axis=1)[:, 0] == 1
    if not multi_label and best[(targets == 1).any(axis=1)].all():  # Platt's targets hold the fit of a sigmoid
        found = "the model is right on every row, so that any lower temperature fits better"
    elif temperature > HIGHEST_TEMPERATURE / 1.1:
        found = "scores say nothing about what holds"
    else:
        return
    logger.warning(f"The temperature {temperature:.3g} is not to be believed: {found}. Give harder rows, or more.")


def calibrate(
    logits: np.ndarray,
    targets: np.ndarray,
    texts: Sequence[str],
    names: Sequence[str],
    *,
    method: Method | None = None,
    multi_label: bool = False,
    least_positives: int = LEAST_POSITIVES,
) -> tuple[dict[str, Any], Report]:
    """Fit on all rows, and measure on each half what the other half says.

    Args:
        logits: (B, N), raw.
        targets: (B, N): 1, 0, or -100 where a label is no candidate. Texts without a label are out of scope.
        texts: The B texts.
        names: The N labels.
        method: `temperature` or `platt`; when left out, what [`choose_method`] says.
        multi_label: Whether the scores are sigmoids, or a softmax.
        least_positives: Rows of a label from which on it gets a threshold of its own.

    Returns:
        What the configuration stores (but `data`), and the measurements.

    Raises:
        ValueError: See [`check_rows`]; or if a logit is no number.
    """
    method = method or choose_method(multi_label)
    check_rows(targets, names, method=method, multi_label=multi_label)
    if not np.isfinite(logits[targets != -100]).all():
        raise ValueError("Expected numbers as logits, found nan or infinity. The model has diverged: train it anew.")
    columns = np.flatnonzero((targets == 1).sum(axis=0) >= least_positives).tolist()

    def fit(rows: np.ndarray) -> Fitted:
        return _fit(logits[rows], targets[rows], names, method=method, multi_label=multi_label, columns=columns)

    raw = compute_scores(logits, targets, multi_label=multi_label)
    scores, default, own = np.zeros_like(raw), np.zeros_like(raw), np.zeros_like(raw)
    second = split_halves(texts, targets)
    halves = fit(~second), fit(second)
    for rows, other in zip((second, ~second), halves, strict=True):
        temperature, bias = other["temperature"], other["bias"]
        scores[rows] = compute_scores(logits[rows], targets[rows], temperature, bias, multi_label=multi_label)
        default[rows] = other["default_threshold"]
        own[rows] = [other["thresholds"].get(name, other["default_threshold"]) for name in names]
    fitted = fit(np.ones(len(texts), dtype=bool))
    _warn_of_rows_that_do_not_tell(fitted["temperature"], raw, targets, multi_label)
    report: Report = {
        "out_of_scope_rows": int((~(targets == 1).any(axis=1)).sum()),
        "labels": len(names),
        "temperatures_of_halves": [half["temperature"] for half in halves],
        "before": measure_scores(raw, targets, multi_label=multi_label),
        "after": measure_scores(scores, targets, multi_label=multi_label),
        "decisions": {
            "before": measure_decisions(raw, targets, 0.5 if multi_label else 0.0, multi_label=multi_label),
            "default_threshold": measure_decisions(scores, targets, default, multi_label=multi_label),
            "thresholds": measure_decisions(scores, targets, own, multi_label=multi_label),
        },
    }
    return {"method": method, "multi_label": multi_label, **fitted, "rows": len(texts)}, report
