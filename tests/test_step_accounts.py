"""What is said of a step: the loss that the guard judges, the time that counts as training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zeroshot.data import TrainingDataset, ZeroShotCollator, build_evaluation_set, load_source
from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments, watching
from zeroshot.training.mining import HardNegativeMiner

PAUSE = 1000.0  # seconds


class RecordingTrainer(ZeroShotTrainer):
    """Keeps the losses of batches as they were computed."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().compute_loss(*args, **kwargs)
        self.computed = [*getattr(self, "computed", []), loss.item()]
        return loss


def build_trainer(model: ZeroShotPreTrainedModel, rows_file: Path, folder: Path, **settings: Any) -> RecordingTrainer:
    args = ZeroShotTrainingArguments(
        output_dir=str(folder), precision="fp32", use_cpu=True, disable_tqdm=True, save_strategy="no",
        per_device_train_batch_size=4, logging_steps=1, **settings,
    )  # fmt: skip
    rows = load_source(str(rows_file))
    return RecordingTrainer(model, args, TrainingDataset([rows], hard_negatives=1), build_evaluation_set(rows))


def test_the_guard_judges_the_loss_of_a_batch_not_its_share_of_a_step(
    biencoder: ZeroShotPreTrainedModel, rows_file: Path, tmp_path: Path
) -> None:
    """Three batches are two of a step and one of the epoch's last: shares would halve the first two alone."""
    trainer = build_trainer(biencoder, rows_file, tmp_path, gradient_accumulation_steps=2, max_steps=2)
    trainer.train()
    assert trainer._guard is not None and len(trainer.computed) == 3
    assert list(trainer._guard.losses) == pytest.approx(trainer.computed)


@pytest.mark.parametrize(
    ("owner", "method", "counts"),
    [(HardNegativeMiner, "mine", False), (ZeroShotTrainer, "evaluate", False), (ZeroShotCollator, "__call__", True)],
    ids=["mining", "evaluating", "collating"],
)
def test_the_speed_is_of_training_alone(
    owner: type,
    method: str,
    counts: bool,
    biencoder: ZeroShotPreTrainedModel,
    rows_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed = 0.0

    def read_clock() -> float:
        nonlocal passed
        passed += 1.0
        return passed

    original = getattr(owner, method)

    def dawdle(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal passed
        passed += PAUSE
        return {} if method == "evaluate" else original(self, *args, **kwargs)

    monkeypatch.setattr(watching, "time", SimpleNamespace(perf_counter=read_clock, monotonic=lambda: 0.0))
    monkeypatch.setattr(owner, method, dawdle)
    more = {"mining_strategy": "steps", "mining_steps": 1, "max_steps": 3, "eval_strategy": "steps", "eval_steps": 1}
    trainer = build_trainer(biencoder, rows_file, tmp_path, **more)
    trainer.train()
    speeds = [entry["texts_per_second"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(speeds) == 3
    assert all((speed < 4 / PAUSE + 1e-9) == counts for speed in speeds[:2]), speeds
