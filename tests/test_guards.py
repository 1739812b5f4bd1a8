"""What stops a run, what it leaves behind, and what can be seen of it while it goes."""

import csv
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, TrainerCallback, TrainerState

import train
from zeroshot.data import TrainingDataset, build_evaluation_set, load_source
from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments, parse_arguments
from zeroshot.training.checkpoints import explain_write_errors, find_last_checkpoint, is_whole
from zeroshot.training.guards import FAILED_BATCH_FILE, StepGuard
from zeroshot.training.watching import CURVE_FILE, LOG_FILE, BarCallback, draw_curve

from .test_training import assert_equal_weights, build_trainer, settings


@pytest.fixture
def dataset(rows_file: Path) -> TrainingDataset:
    return TrainingDataset([load_source(str(rows_file))], num_negatives=2, seed=0)


class BreakLoss(ZeroShotTrainer):
    """Its loss or its gradient is no number from the fourth batch on."""

    broken = "loss"

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self.batches = getattr(self, "batches", 0) + 1
        if self.batches < 4:
            return loss
        # The root of 0 is a number, its derivative is none.
        return loss * float("nan") if self.broken == "loss" else loss + (model.logit_bias - model.logit_bias).sqrt().sum()


@pytest.mark.parametrize(("broken", "found"), [("loss", "a finite loss, found nan"), ("gradient", "a finite gradient")])
def test_a_step_that_is_no_number_ends_the_run_before_it_changes_a_weight(
    broken: str, found: str, biencoder: ZeroShotPreTrainedModel, dataset: TrainingDataset, tmp_path: Path
) -> None:
    args = ZeroShotTrainingArguments(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=2, save_steps=1,
        precision="fp32", disable_tqdm=True,
    )  # fmt: skip
    trainer = BreakLoss(biencoder, args, train_dataset=dataset)
    trainer.broken = broken
    with pytest.raises(ValueError, match=f"Expected {found}.* at step 2. The weights are those before this step"):
        trainer.train()
    kept = AutoModel.from_pretrained(find_last_checkpoint(tmp_path)).state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in biencoder.state_dict().items())
    record = json.loads((tmp_path / FAILED_BATCH_FILE).read_text(encoding="utf-8"))
    assert record["step"] == 2 and record["epoch"] == pytest.approx(1 / 3)
    # Both batches of the step, as the sampler dealt them: the third and the fourth pair of the epoch.
    dealt = list(trainer._get_train_sampler())[4:8]
    assert [row["example"] for row in record["rows"]] == dealt
    assert [row["text"] for row in record["rows"]] == [dataset.rows[position]["text"] for position in dealt]
    assert record["rows"][0]["labels"] == dataset.rows[dealt[0]]["labels"]


def build_guard(dataset: TrainingDataset, folder: Path, ratio: float | None = 10.0) -> StepGuard:
    return StepGuard(dataset, folder, ratio, first_steps=3)


def test_an_explosion_is_judged_by_the_median_and_not_in_the_first_steps(dataset: TrainingDataset, tmp_path: Path) -> None:
    state = TrainerState(epoch=0.5, global_step=7)
    guard = build_guard(dataset, tmp_path)
    for loss in (1.0, 500.0, 2.0, 19.9):  # the second is no reason, and no yardstick afterwards
        guard.check_loss(loss, [0], state)
    with pytest.raises(
        ValueError, match=r"a loss of at most 10 times the usual 10.95 \(max_loss_ratio\), found 110 at step 8"
    ):
        guard.check_loss(110.0, [0], state)
    patient = build_guard(dataset, tmp_path, ratio=None)
    for loss in (1.0, 1.0, 1.0, 1e9):
        patient.check_loss(loss, [0], state)


def test_a_hard_batch_after_losses_near_zero_is_no_explosion(dataset: TrainingDataset, tmp_path: Path) -> None:
    guard = build_guard(dataset, tmp_path)
    for loss in (1e-6, 1e-6, 1e-6, 0.9):
        guard.check_loss(loss, [0], TrainerState(epoch=0.0))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As if the disk were full: no file of this process may grow beyond a size in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FillDisk(TrainerCallback):
    """Leaves room for files of a size from some step on."""

    def __init__(self, size: int) -> None:
        self.size = size

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))


@pytest.mark.parametrize("size", [20_000, 150_000], ids=["weights do not fit", "the optimizer's state does not fit"])
def test_a_full_disk_ends_the_run_with_words_and_the_last_checkpoint_whole(
    size: int, biencoder: ZeroShotPreTrainedModel, dataset: TrainingDataset, tmp_path: Path
) -> None:
    """Two libraries write the files, each with errors of its own."""
    trainer = build_trainer(biencoder, dataset, tmp_path, save_strategy="steps", save_steps=1)
    trainer.add_callback(FillDisk(size))
    with largest_file(resource.RLIM_INFINITY), pytest.raises(OSError, match="Expected to write into .*checkpoint-2', found"):
        trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert AutoModel.from_pretrained(tmp_path / "checkpoint-1").logit_scale.isfinite()


def test_a_full_disk_at_the_end_loses_nothing(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """The final model does not fit; with room again the same command makes it without another step."""
    options = {"max_steps": 2, "save_steps": 2}
    train.main(settings(encoder_dir, rows_file, tmp_path / "whole", **options))
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    state = json.loads((tmp_path / "cut" / "run_settings.json").read_text())
    (tmp_path / "cut" / "run_settings.json").write_text(json.dumps({**state, "finished": False}))
    with largest_file(20_000), pytest.raises(OSError, match=r"Make room .* give the same command again: it goes on from"):
        train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    assert not (tmp_path / "cut" / "checkpoint-3").exists()


def test_a_folder_that_cannot_be_made_is_told_before_training(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="Expected a folder that can be written to for .*run.*, found .*file.* Mend"):
        train.main(settings(encoder_dir, rows_file, tmp_path / "file" / "run"))


@pytest.mark.parametrize("error", [RuntimeError("shapes"), OSError("401 Client Error"), ConnectionError(111, "refused")])
def test_errors_of_other_kinds_keep_their_words(error: Exception) -> None:
    """A checkpoint is pushed where it is saved; a full disk is not what stops a push."""
    with pytest.raises(type(error)) as caught, explain_write_errors(Path("x")):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
def test_a_checkpoint_with_a_torn_file_is_passed_over(name: str, checkpoints: Path) -> None:
    newest = checkpoints / "checkpoint-2"
    assert is_whole(newest) and not is_whole(newest, processes=2)
    content = (newest / name).read_bytes()
    (newest / name).write_bytes(content[: len(content) // 2])
    try:
        assert find_last_checkpoint(checkpoints) == str(checkpoints / "checkpoint-1")
    finally:
        (newest / name).write_bytes(content)


@pytest.fixture(scope="module")
def checkpoints(encoder_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints, four losses and two evaluations."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "rows").mkdir()
    rows = [{"text": f"goal {number}", "labels": ["sports"], "negatives": ["cooking"]} for number in range(8)]
    (folder / "rows" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"max_steps": 2, "save_steps": 1, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    train.main(settings(encoder_dir, folder / "rows" / "train.jsonl", folder / "run", validation_share=0.5, **options))
    return folder / "run"


# -- watching ---------------------------------------------------------------------------------------------------------


def test_the_folder_holds_the_log_as_a_table_and_the_curve(checkpoints: Path) -> None:
    with (checkpoints / LOG_FILE).open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    history = json.loads((checkpoints / "trainer_state.json").read_text())["log_history"]
    assert [row["step"] for row in table] == [str(entry["step"]) for entry in history]
    for row, entry in zip(table, history, strict=True):
        assert {name: value for name, value in row.items() if value} == {name: str(entry[name]) for name in entry}
    assert [float(row["texts_per_second"]) > 0 for row in table if row["loss"]] == [True, True]
    assert any(row[name] for row in table for name in row if name.startswith("eval_") and name.endswith("_mrr"))
    pytest.importorskip("matplotlib")
    assert (checkpoints / CURVE_FILE).read_bytes().startswith(b"\x89PNG")


def test_a_curve_of_one_point_is_not_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history = [{"step": 1, "loss": 2.0}, {"step": 1, "eval_loss": 3.0, "eval_mrr": 0.5, "eval_runtime": 1.0}]
    assert not draw_curve(history, tmp_path / CURVE_FILE)
    assert draw_curve([*history, {"step": 2, "loss": 1.0}], tmp_path / CURVE_FILE)
    assert [path.name for path in tmp_path.iterdir()] == [CURVE_FILE]


class Tracker(TrainerCallback):
    """What an experiment tracker is told."""

    def __init__(self) -> None:
        self.told: list[dict] = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.told.append(dict(logs))


def test_trackers_are_told_what_the_table_holds(
    biencoder: ZeroShotPreTrainedModel, dataset: TrainingDataset, rows_file: Path, tmp_path: Path
) -> None:
    tracker = Tracker()
    trainer = build_trainer(
        biencoder, dataset, tmp_path, max_steps=2, logging_steps=1, eval_strategy="steps", eval_steps=2, disable_tqdm=False,
        eval_dataset={"rows": build_evaluation_set(load_source(str(rows_file)))},
    )  # fmt: skip
    trainer.add_callback(tracker)
    bar = trainer.pop_callback(BarCallback)
    assert bar is not None
    trainer.add_callback(bar)
    shown: list[dict] = []
    bar.on_train_begin(trainer.args, trainer.state, trainer.control)
    bar.training_bar.set_postfix = shown.append
    bar.on_log(trainer.args, trainer.state, trainer.control, logs={"loss": 0.12345, "texts_per_second": 99.6})
    bar.training_bar.close()
    assert shown == [{"loss": "0.1235", "texts/s": "100"}]
    trainer.train()
    names = {name for logs in tracker.told for name in logs}
    assert {"loss", "grad_norm", "learning_rate", "texts_per_second", "eval_rows_mrr", "eval_mean_mrr"} <= names


def test_names_of_trackers_reach_the_trainer(tmp_path: Path) -> None:
    assert parse_arguments(["--report_to", "trackio"])[2].report_to == ["trackio"]
    (tmp_path / "recipe.yaml").write_text("report_to: [tensorboard, wandb]")
    assert parse_arguments([str(tmp_path / "recipe.yaml")])[2].report_to == ["tensorboard", "wandb"]


def test_early_stopping_sees_the_mean_over_sets(
    biencoder: ZeroShotPreTrainedModel, dataset: TrainingDataset, rows_file: Path, tmp_path: Path
) -> None:
    """The metric of every shipped recipe; it belongs to no single set."""
    one = build_evaluation_set(load_source(str(rows_file)))
    trainer = build_trainer(
        biencoder, dataset, tmp_path, max_steps=20, learning_rate=0.5, eval_strategy="steps", eval_steps=1, save_steps=1,
        save_strategy="steps", load_best_model_at_end=True, metric_for_best_model="eval_mean_accuracy",
        early_stopping_patience=2, eval_dataset={"a": one, "b": one},
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step < 20
