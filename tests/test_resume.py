"""A run that died goes on to the same weights, whatever step it died at."""

import functools
import json
from pathlib import Path

import pytest
from transformers import TrainerCallback

import train
from zeroshot.training import ZeroShotTrainer

from .test_training import assert_equal_weights, settings

OPTIONS = {
    "max_steps": 7, "save_steps": 2, "dropout": 0.1, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2,
    "logging_steps": 1,
}  # fmt: skip


class Die(TrainerCallback):
    """Ends the run in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(encoder_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows, and a run over them that nothing stopped."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "labels.json").write_text(json.dumps(["sports", "cooking"]))
    rows = [{"text": f"goal {n} team", "labels": ["sports" if n % 2 else "cooking"]} for n in range(9)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train.main(settings(encoder_dir, folder / "train.jsonl", folder / "whole", **OPTIONS))
    return folder


@pytest.mark.parametrize("step", [0, 2, 3, 6])
def test_a_run_that_died_at_a_step_goes_on(
    step: int, whole: Path, encoder_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any checkpoint, right behind one at the end of an epoch, in the middle of one, in the last step."""
    words = settings(encoder_dir, whole / "train.jsonl", tmp_path, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(train, "ZeroShotTrainer", functools.partial(ZeroShotTrainer, callbacks=[Die(step)]))
        with pytest.raises(KeyboardInterrupt):
            train.main(words)
    train.main(words)
    assert_equal_weights(whole / "whole", tmp_path)
    log = [line.split(",")[0] for line in (tmp_path / "training_log.csv").read_text().splitlines()]
    assert log == ["step", *"1234567", "7"]  # no line twice; the last one is the run's summary


def test_from_the_last_checkpoint_no_further_step_is_made(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """Died when all steps were done and the model was not yet written; early stopping is such an end, too."""
    options = {
        "max_steps": 30, "save_steps": 1, "save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 1,
        "validation_share": 0.34, "load_best_model_at_end": True, "metric_for_best_model": "eval_mean_loss",
        "early_stopping_patience": 1, "learning_rate": 0.5,
    }  # fmt: skip
    for more in ({}, {"max_steps": 1, "early_stopping_patience": None}):
        output = tmp_path / str(len(more))
        words = settings(encoder_dir, rows_file, output, **{**options, **more})
        train.main(words)
        steps = json.loads((output / "trainer_state.json").read_text())["global_step"]
        assert steps < 30
        (output / "model.safetensors").rename(output / "before.safetensors")
        state = json.loads((output / "run_settings.json").read_text())
        (output / "run_settings.json").write_text(json.dumps({**state, "finished": False}))
        train.main(words)
        assert (output / "model.safetensors").read_bytes() == (output / "before.safetensors").read_bytes()
        assert json.loads((output / "trainer_state.json").read_text())["global_step"] == steps
        assert not (output / f"checkpoint-{steps + 1}").exists()


def test_a_run_that_ended_goes_on_when_more_steps_are_wanted(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    train.main(settings(encoder_dir, rows_file, tmp_path / "short", max_steps=2, save_steps=2))
    more = {"max_steps": 4, "save_steps": 2, "resume_from_checkpoint": tmp_path / "short" / "checkpoint-2"}
    train.main(settings(encoder_dir, rows_file, tmp_path / "long", **more))
    assert json.loads((tmp_path / "long" / "trainer_state.json").read_text())["global_step"] == 4
