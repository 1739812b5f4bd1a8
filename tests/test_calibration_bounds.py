"""A calibration at the end of its range: it is stored as one that loads, or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeroshot.evaluation.calibration import calibrate
from zeroshot.evaluation.calibration_files import store_calibration
from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.models.loading import load_model


@pytest.mark.parametrize(("sign", "bound"), [(1, 0.01), (-1, 100.0)])
def test_a_fit_that_reaches_its_bound_is_one_that_loads(
    sign: int, bound: float, biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding puts exp(-log(100)) below 0.01, and a checkpoint with it would never load again."""

    class Overshoot(torch.optim.LBFGS):
        def step(self, closure: Any) -> Any:
            loss = closure()
            with torch.no_grad():
                self.param_groups[0]["params"][0][0] = sign * 1e6
            return loss

    monkeypatch.setattr(torch.optim, "LBFGS", Overshoot)
    biencoder.save_pretrained(tmp_path)
    targets = np.eye(3, dtype=np.int64)[np.arange(60) % 3]
    calibration, report = calibrate(targets * 1e-3, targets, [f"text {row}" for row in range(60)], ["a", "b", "c"])
    assert calibration["temperature"] == bound
    store_calibration(tmp_path, {**calibration, "data": "rows.jsonl"}, report)
    assert load_model(str(tmp_path)).config.calibration["temperature"] == bound
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ValueError, match="Expected a number from 0.01 to 100 as 'temperature'"):
        store_calibration(tmp_path, {**calibration, "temperature": 0.001, "data": "rows.jsonl"}, report)
    assert (tmp_path / "config.json").read_bytes() == before
