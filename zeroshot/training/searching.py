"""Search for settings: what `ZeroShotTrainer.hyperparameter_search` may vary, and the model before any trial."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from transformers.trainer_utils import number_of_arguments

from ..models import ZeroShotPreTrainedModel
from .arguments import FIXED, ZeroShotTrainingArguments

# Read when the Trainer is built, before there is a trial, or by the command and not in a trial at all.
READ_EARLY = frozenset(
    """
    loss class_weight_cap triplet_margin triplet_negatives candidates_per_text early_stopping_patience
    mining_strategy mining_steps mining_top_k mining_margin mining_candidates teacher teacher_cache
    freeze freeze_layers lora_rank lora_alpha lora_targets max_loss_ratio loss_guard_steps
    seed output_dir precision bf16 fp16 report_to keep_freed_memory
    initial_weight_share soup resume resume_from_checkpoint push_to_hub hub_model_id hub_strategy hub_private_repo
    hub_always_push hub_revision
    """.split()  # noqa: SIM905 - one word a line would hide what they have in common
)


def check_space(space: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """Wrap a search space so that a setting which would have no effect is an error instead of a warning.

    Args:
        space: From a trial to the settings that it proposes.
    """
    known = {field.name for field in fields(ZeroShotTrainingArguments)} - READ_EARLY - set(FIXED)

    def checked(trial: Any) -> dict[str, Any]:
        settings = space(trial)
        for name in settings:
            if name not in known:
                raise ValueError(
                    f"Expected settings of training that a trial can vary, found {name!r}. Give fields of "
                    f"ZeroShotTrainingArguments other than {', '.join(sorted(READ_EARLY))}; others belong into model_init."
                )
        return settings

    return checked


def init_model(model_init: Callable[..., ZeroShotPreTrainedModel] | None) -> ZeroShotPreTrainedModel:
    """A model of no trial, which tells the collator what the models of all trials have in common.

    Raises:
        ValueError: If `model_init` is missing or takes more than the trial.
    """
    if model_init is None:
        raise ValueError("Expected a model or model_init, found neither. Pass the model, or for a search what makes one.")
    count = number_of_arguments(model_init)
    if count > 1:
        raise ValueError(f"Expected model_init to take the trial or nothing, found {count} arguments. Take the others away.")
    return model_init(None) if count else model_init()
