"""The life of a run: what it starts from, whether it goes on from a checkpoint, what it leaves behind."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from ..models import ZeroShotPreTrainedModel, get_architecture
from ..models.loading import build_untrained
from .arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments
from .trainer import ZeroShotTrainer, average_weights, choose_attention

logger = logging.get_logger(__name__)

SETTINGS_FILE = "run_settings.json"
# Settings that change where or how loudly a run works, but not its result.
WITHOUT_EFFECT = frozenset(
    """
    output_dir resume resume_from_checkpoint example_texts example_labels disable_tqdm report_to run_name project
    trackio_space_id logging_steps logging_strategy logging_first_step logging_nan_inf_filter log_level log_level_replica
    log_on_each_node save_total_limit save_steps save_strategy save_only_model save_on_each_node push_to_hub hub_model_id
    hub_strategy hub_token hub_private_repo hub_always_push hub_revision do_train do_eval do_predict
    dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
    per_device_eval_batch_size local_rank ddp_timeout skip_memory_metrics include_num_input_tokens_seen
    """.split()  # noqa: SIM905 - one word a line would hide what they have in common
)


def collect_settings(*arguments: Any) -> dict[str, Any]:
    """Every setting on which the result depends, as JSON holds it."""
    settings: dict[str, Any] = {}
    for one in arguments:
        values = one.to_dict() if isinstance(one, ZeroShotTrainingArguments) else dataclasses.asdict(one)
        settings.update({name: value for name, value in values.items() if name not in WITHOUT_EFFECT})
    return json.loads(json.dumps(settings, default=str, sort_keys=True))


def find_checkpoint(model: ModelArguments, data: DataArguments, training: ZeroShotTrainingArguments) -> str | None:
    """Decide whether a run in `output_dir` goes on, and note the settings there.

    Returns:
        The folder of the last checkpoint, or None for a fresh start.

    Raises:
        ValueError: If the folder holds checkpoints of a run with other settings.
    """
    folder = Path(training.output_dir)
    if training.resume_from_checkpoint:
        return training.resume_from_checkpoint
    settings = collect_settings(model, data, training)
    file = folder / SETTINGS_FILE
    checkpoint = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if checkpoint is not None and training.resume == "never":
        for old in folder.glob("checkpoint-*"):
            shutil.rmtree(old)
        logger.warning(f"The checkpoints of an earlier run in {folder} were removed (--resume never).")
        checkpoint = None
    if checkpoint is not None:
        earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        changed = [name for name in settings if settings[name] != earlier.get(name)]
        if changed:
            name = changed[0]
            raise ValueError(
                f"Expected the settings of the run that {str(folder)!r} holds, found {name} changed from "
                f"{earlier.get(name)!r} to {settings[name]!r}"
                + (f" (and {len(changed) - 1} more)" if len(changed) > 1 else "")
                + ". Choose another --output_dir, or start over with --resume never."
            )
        logger.warning(
            f"Going on from {checkpoint}: the run in {folder} has the same settings (--resume never starts over)."
        )
    if training.process_index == 0:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return checkpoint


def build_model(model: ModelArguments, training: ZeroShotTrainingArguments) -> ZeroShotPreTrainedModel:
    """Build the untrained model of a recipe.

    Raises:
        ValueError: If the architecture or one of its options is unknown.
    """
    architecture = get_architecture(model.architecture)
    options = dict(model.architecture_options) if isinstance(model.architecture_options, dict) else {}
    known = architecture.config_class().to_dict()
    for name in options:
        if name not in known:
            raise ValueError(
                f"Expected an option of {model.architecture!r}, found {name!r}. "
                f"Its configuration has: {', '.join(key for key in known if not key.startswith('_'))}."
            )
    if model.max_tokens is not None:
        options["max_tokens"] = model.max_tokens
    built = build_untrained(architecture, model.encoder, model.class_templates, dropout=model.dropout, **options)
    attention = choose_attention(model.attn_implementation, training.device.type)
    if attention is not None:
        built.set_attn_implementation(attention)
    return built


def finish_training(trainer: ZeroShotTrainer, initial: dict[str, torch.Tensor]) -> None:
    """Average with the initial weights where the recipe says so, and save the final model into `output_dir`.

    Args:
        trainer: After `train()`; with `load_best_model_at_end` its model is the best one.
        initial: The encoder's state before training.
    """
    if trainer.args.initial_weight_share:
        average_weights(trainer.model, initial, trainer.args.initial_weight_share)
    trainer.save_model()
    trainer.save_state()
