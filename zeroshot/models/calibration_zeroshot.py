"""What a checkpoint's configuration says about its scores on labelled rows, and how it is applied."""

import math
from typing import Any

import torch

# Beyond these a temperature says that the rows do not tell, and the fit stops there.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0


def _check_number(values: dict, name: str, *, low: float, high: float) -> None:
    value: Any = values.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and low <= value <= high):
        raise ValueError(
            f"Expected a number from {low:g} to {high:g} as {name!r} of the calibration, found {value!r}. "
            "Run zeroshot calibrate anew."
        )


def check_calibration(calibration: dict | None) -> dict | None:
    """Return a calibration unchanged if it can be applied.

    Args:
        calibration: `temperature` (0.01 to 100), `bias`, `default_threshold` and `thresholds` by label (scores, 0 to 1),
            `multi_label` (the kind of scores it was fitted on), `method`, and what it was fitted on: `rows`, `data`. None
            where there is none.

    Raises:
        ValueError: If something of it is missing or is no number that can be applied.
    """
    if calibration is None:
        return None
    if not isinstance(calibration, dict):
        raise ValueError(f"Expected an object as calibration, found {calibration!r}. Run zeroshot calibrate anew.")
    if not isinstance(calibration.get("multi_label"), bool) or not isinstance(calibration.get("thresholds"), dict):
        raise ValueError(
            "Expected 'multi_label' (true or false) and 'thresholds' (by label) in the calibration, found "
            f"{calibration.get('multi_label')!r} and {calibration.get('thresholds')!r}. Run zeroshot calibrate anew."
        )
    _check_number(calibration, "temperature", low=LOWEST_TEMPERATURE, high=HIGHEST_TEMPERATURE)
    _check_number(calibration, "bias", low=-math.inf, high=math.inf)
    _check_number(calibration, "default_threshold", low=0.0, high=1.0)
    for label in calibration["thresholds"]:
        _check_number(calibration["thresholds"], label, low=0.0, high=1.0)
    return calibration


def calibrate_logits(logits: torch.Tensor, calibration: dict | None, *, multi_label: bool) -> torch.Tensor:
    """Divide logits of any shape by the temperature and add the bias; their order stays as it is.

    Args:
        logits: Raw logits.
        calibration: See [`check_calibration`].
        multi_label: Which scores are made of the logits: by a sigmoid each, or by a softmax over the labels.

    Raises:
        ValueError: If there is none, or it was fitted on the other kind.
    """
    if calibration is None:
        raise ValueError(
            "Expected the calibration of a checkpoint's configuration, found None: it has none. Run zeroshot calibrate on "
            "labelled rows, or use the logits as they are."
        )
    if calibration["multi_label"] != multi_label:
        fitted, asked = ("without", "with") if multi_label else ("with", "without")
        raise ValueError(
            f"Expected scores {fitted} multi_label, on which this model was calibrated, found a call {asked} it. Call it "
            f"{fitted} multi_label, or run zeroshot calibrate for this kind of scores."
        )
    return logits / calibration["temperature"] + calibration["bias"]
