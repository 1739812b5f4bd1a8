"""What the Trainer does around its steps: guards, checkpoints that are whole, adapters, the log, a search for settings."""

import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_callback import ProgressCallback, TrainerState
from transformers.trainer_utils import BestRun, TrainOutput

from ..data import TrainingDataset
from ..models import ZeroShotPreTrainedModel
from .arguments import ZeroShotTrainingArguments
from .checkpoints import STATE_FILE, explain_write_errors, has_ended, is_whole
from .guards import ROWS, StepGuard
from .lora import add_adapters, has_adapters, load_trained
from .parameters import freeze_parameters
from .searching import check_space
from .watching import BarCallback, Clock, LogCallback


def prepare_parameters(model: ZeroShotPreTrainedModel, args: ZeroShotTrainingArguments) -> None:
    """Freeze what the recipe wants to keep, and put adapters where it wants them."""
    freeze_parameters(model, args.freeze, args.freeze_layers)
    if args.lora_rank is not None:
        add_adapters(model, args.lora_rank, args.lora_alpha, args.lora_targets)


class GuardedTrainer(Trainer):
    """A `Trainer` that stops before it spoils a model, and leaves behind what a run can go on from.

    Args:
        model: The model, or None with `model_init`.
        args: [`ZeroShotTrainingArguments`].
        **kwargs: Passed to `Trainer`. Batches that [`trace_examples`] has seen are written down with their rows.
    """

    def __init__(self, model: ZeroShotPreTrainedModel | None, args: ZeroShotTrainingArguments, **kwargs: Any):
        if model is not None:
            prepare_parameters(model, args)
        dataset = kwargs.get("train_dataset")
        self._guard: StepGuard | None = None
        if isinstance(dataset, TrainingDataset):
            self._guard = StepGuard(dataset, Path(args.output_dir), args.max_loss_ratio, args.loss_guard_steps)
        super().__init__(model, args, **kwargs)
        if args.lora_rank is not None and self.is_fsdp_enabled:
            raise ValueError("Expected lora_rank without FSDP, found both: adapters are merged from whole weights. Use DDP.")
        if args.soup and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError("Expected soup without FSDP and DeepSpeed: its average needs whole weights. Use DDP.")
        self._clock = Clock()
        self.add_callback(self._clock)
        self.add_callback(LogCallback())
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(BarCallback())

    # -- training ----------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """See `Trainer.train`. From a checkpoint after which nothing was left to do, only its weights are taken.

        Raises:
            ValueError: If there is a soup, which is several runs.
        """
        if self.args.soup:
            raise ValueError("Expected one run to train, found a soup. Give the recipe to train.py, or leave soup out.")
        checkpoint = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        if checkpoint is None or not has_ended(Path(checkpoint), self.args):
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / STATE_FILE))
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        return TrainOutput(self.state.global_step, 0.0, {})

    def training_step(self, model, inputs, num_items_in_batch=None):
        """See `Trainer.training_step`; a loss that is no number or explodes ends the run before it changes a weight."""
        rows = inputs.pop(ROWS, None)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self._guard is not None:
            whole = loss.item() * self.current_gradient_accumulation_steps  # of the batch: the Trainer takes its mean
            self._guard.check_loss(whole, [] if rows is None else rows.tolist(), self.state)
        return loss

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """See `Trainer.get_batch_samples`; waiting for batches is a part of training."""
        with self._clock.count():
            return super().get_batch_samples(epoch_iterator, num_batches, device)

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        if self._guard is not None:
            if not self.args.fp16:  # its scaler passes over such steps by itself
                self._guard.check_gradient(float(norm), self.state)
            self._guard.start_step()
        return norm

    def log(self, logs, start_time=None):
        """See `Trainer.log`; texts per second go with every training loss."""
        if "loss" in logs:
            texts = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            speed = self._clock.take_speed(texts)
            logs = logs if speed is None else {**logs, "texts_per_second": round(speed, 1)}
        super().log(logs, start_time)

    def hyperparameter_search(self, hp_space=None, *args, **kwargs) -> BestRun | list[BestRun]:
        """See `Trainer.hyperparameter_search`; a setting that a trial cannot vary is refused."""
        return super().hyperparameter_search(None if hp_space is None else check_space(hp_space), *args, **kwargs)

    def call_model_init(self, trial=None):
        """A model for one trial, with its frozen parts and adapters."""
        model = super().call_model_init(trial)
        prepare_parameters(model, self.args)
        return model

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model, trial):
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        try:
            with explain_write_errors(folder):
                super()._save_checkpoint(model, trial)
        except OSError:
            if not is_whole(folder, self.args.world_size):
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        if has_adapters(self.model):
            load_trained(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        if has_adapters(self.model):
            load_trained(self.model, Path(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()
