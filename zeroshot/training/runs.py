"""The life of a run: what it starts from, whether it goes on from a checkpoint, what it leaves behind."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from ..data import EvaluationSet
from ..data.reading import resolve_path
from ..files import write_json
from ..models import ZeroShotConfig, ZeroShotPreTrainedModel, get_architecture
from ..models.loading import build_untrained, load_model, resolve_encoder
from ..models.modeling_zeroshot import TOKENIZER_FILES
from .arguments import FILE_SETTINGS, DataArguments, ModelArguments, ZeroShotTrainingArguments
from .checkpoints import check_folder, explain_write_errors, find_last_checkpoint
from .lora import merge_adapters
from .preparation import split_names
from .speed import set_training_attention
from .trainer import ZeroShotTrainer, average_weights
from .watching import CURVE_FILE, LOG_FILE

logger = logging.get_logger(__name__)

SETTINGS_FILE = "run_settings.json"
# Settings that change where or how loudly a run works, but not its result.
WITHOUT_EFFECT = frozenset(
    """
    output_dir resume resume_from_checkpoint example_texts example_labels disable_tqdm report_to run_name project
    trackio_space_id logging_steps logging_strategy logging_first_step logging_nan_inf_filter log_level log_level_replica
    log_on_each_node save_total_limit save_steps save_strategy save_only_model save_on_each_node push_to_hub hub_model_id
    hub_strategy hub_token hub_private_repo hub_always_push hub_revision do_train do_eval do_predict
    teacher_cache dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor
    per_device_eval_batch_size local_rank ddp_timeout skip_memory_metrics include_num_input_tokens_seen
    max_loss_ratio loss_guard_steps
    """.split()  # noqa: SIM905 - one word a line would hide what they have in common
)
# With load_best_model_at_end the result is one of the checkpoints.
CHOOSES_CHECKPOINTS = frozenset({"save_steps", "save_strategy"})
# What decides what a pretrained model in a folder computes: weights, whole or in parts, configuration, tokenizer.
MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "config.json"),
    *(*TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
)


def collect_settings(*arguments: Any) -> dict[str, Any]:
    """Every setting on which the result depends, as JSON holds it."""
    settings: dict[str, Any] = {}
    for one in arguments:
        if isinstance(one, ZeroShotTrainingArguments):
            values, chosen = one.to_dict(), one.load_best_model_at_end
        else:
            values, chosen = dataclasses.asdict(one), False
        ignored = WITHOUT_EFFECT - CHOOSES_CHECKPOINTS if chosen else WITHOUT_EFFECT
        settings.update({name: value for name, value in values.items() if name not in ignored})
    return json.loads(json.dumps(settings, default=str, sort_keys=True))


def _digest_file(path: Path) -> str:
    """SHA-256, shortened, read in pieces: weights may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**24):
            digest.update(piece)
    return digest.hexdigest()[:16]


def fingerprint_files(model: ModelArguments, data: DataArguments, teacher: str | None = None) -> dict[str, str]:
    """SHA-256 of every local file that a run reads, by the name it was given: the same settings over other rows, or another
    encoder in the same folder, are another run. A moved project is the same one.
    """
    paths: dict[str, Path] = {}
    for part, folder in (("encoder", model.encoder), ("class_encoder", model.class_encoder), ("teacher", teacher)):
        if folder is not None:
            found = sorted(path for pattern in MODEL_FILES for path in Path(folder).glob(pattern))
            paths.update({f"{part}/{path.name}": path for path in found})
    for setting in FILE_SETTINGS:
        for name in split_names(getattr(data, setting)):
            if (path := resolve_path(name)) is not None:
                paths[name], paths[f"labels.json beside {name}"] = path, path.parent / "labels.json"
    digests = {name: _digest_file(path) for name, path in paths.items() if path.is_file()}
    return {f"content of {name}": digest for name, digest in digests.items()}


@dataclasses.dataclass
class Run:
    """What `output_dir` holds of a run with the same settings.

    Args:
        checkpoint: The checkpoint to go on from, or None for a fresh start.
        finished: Whether the final model is there already.
        outdated: Checkpoints, and members of a soup, of an earlier run to remove before a fresh start.
    """

    checkpoint: str | None = None
    finished: bool = False
    outdated: list[Path] = dataclasses.field(default_factory=list)


def find_run(model: ModelArguments, data: DataArguments, training: ZeroShotTrainingArguments) -> Run:
    """Decide whether a run in `output_dir` goes on, is finished, or starts afresh.

    Raises:
        ValueError: If the folder holds checkpoints or the final model of a run with other settings or other data.
        OSError: If the folder cannot be written to.
    """
    folder = Path(training.output_dir)
    check_folder(folder)
    if training.resume_from_checkpoint:
        return Run(training.resume_from_checkpoint)
    file = folder / SETTINGS_FILE
    if training.resume == "never" or not file.is_file():
        members = [path.parent for path in folder.glob(f"member-*/{SETTINGS_FILE}") if training.soup]
        return Run(outdated=sorted([*folder.glob("checkpoint-*"), *members]))
    earlier = json.loads(file.read_text(encoding="utf-8"))
    settings = collect_run_settings(model, data, training)
    changed = [name for name in settings if settings[name] != earlier.get(name)]
    checkpoint = find_last_checkpoint(folder, earlier.get("processes", 1))
    if not changed and earlier.get("finished"):
        logger.warning(f"The run in {folder} is finished, with these settings (--resume never starts over).")
        return Run(finished=True)
    if changed and (checkpoint is not None or earlier.get("finished")):
        name = changed[0]
        raise ValueError(
            f"Expected the settings of the run that {str(folder)!r} holds, found {name} changed from "
            f"{earlier.get(name)!r} to {settings[name]!r}"
            + (f" (and {len(changed) - 1} more)" if len(changed) > 1 else "")
            + ". Choose another --output_dir, or start over with --resume never."
        )
    if checkpoint is not None:
        logger.warning(f"Going on from {checkpoint}: the run there has the same settings (--resume never starts over).")
    return Run(checkpoint)


def collect_run_settings(model: ModelArguments, data: DataArguments, training: ZeroShotTrainingArguments) -> dict[str, Any]:
    """All on which the weights depend: settings, contents of files, number of processes."""
    settings = collect_settings(model, data, training)
    return {**settings, **fingerprint_files(model, data, training.teacher), "processes": training.world_size}


def begin_run(run: Run, model: ModelArguments, data: DataArguments, training: ZeroShotTrainingArguments) -> None:
    """Note the settings in `output_dir` and remove outdated checkpoints; called when all else is known to be in order."""
    if training.process_index:
        return
    folder = Path(training.output_dir)
    settings = collect_run_settings(model, data, training)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for checkpoint in run.outdated:
            logger.warning(f"{checkpoint}, from an earlier run, is removed.")
            shutil.rmtree(checkpoint)
        if run.checkpoint is None:  # the average of a soup has no log, and must not keep that of another run
            for name in (LOG_FILE, CURVE_FILE):
                (folder / name).unlink(missing_ok=True)
        write_json(folder / SETTINGS_FILE, settings)


def build_model(model: ModelArguments, training: ZeroShotTrainingArguments) -> ZeroShotPreTrainedModel:
    """Build the untrained model of a recipe.

    Raises:
        ValueError: If the architecture or one of its options is unknown.
    """
    architecture = get_architecture(model.architecture)
    options = dict(model.architecture_options) if isinstance(model.architecture_options, dict) else {}
    known: dict[str, None] = {}
    for config_class in (architecture.config_class, ZeroShotConfig):
        known.update(dict.fromkeys(config_class.__init__.__kwdefaults__ or ()))
    for name in ("class_templates", "max_tokens", "class_config", "calibration"):  # set elsewhere
        known.pop(name)
    for name in options:
        if name not in known:
            raise ValueError(
                f"Expected an option of {model.architecture!r} ({', '.join(known)}), found {name!r}. Choose one."
            )
    if model.max_tokens is not None:
        options["max_tokens"] = model.max_tokens
    if model.class_encoder is not None:
        options["class_encoder"] = resolve_encoder(model.class_encoder)
    built = build_untrained(architecture, model.encoder, model.class_templates, dropout=model.dropout, **options)
    in_passes = training.gradient_cache_size is not None
    set_training_attention(
        built, model.attn_implementation, training.pack_batches, training.device.type, in_passes=in_passes
    )
    return built


def load_finished(model: ZeroShotPreTrainedModel, folder: Path) -> None:
    """Take the weights of the finished run in `folder`."""
    merge_adapters(model)
    model.load_state_dict(load_model(str(folder)).state_dict())


def fit_bias(model: ZeroShotPreTrainedModel, sets: Iterable[EvaluationSet]) -> None:
    """Shift the bias until the mean sigmoid score over judged pairs equals the share of pairs that hold.

    The softmax of InfoNCE does not see the bias, so training leaves it where it began and a score by itself would mean
    nothing. The order of labels and the softmax scores stay as they are.

    Args:
        model: A trained model.
        sets: Rows that were not trained on.
    """
    logits, targets = [], []
    for one in sets:
        judged = torch.from_numpy(one.targets != -100)
        logits.append(
            model.predict_logits(one.texts, one.candidate_labels, multi_label=True, candidate_mask=one.candidate_mask)[
                judged
            ].double()
        )
        targets.append(torch.from_numpy(one.targets)[judged].double())
    cells, share = torch.cat(logits), torch.cat(targets).mean()
    low, high = -100.0, 100.0
    for _ in range(60):  # the mean rises with the shift, so halving the interval finds it
        middle = (low + high) / 2
        low, high = (middle, high) if (cells + middle).sigmoid().mean() < share else (low, middle)
    with torch.no_grad():
        model.logit_bias.add_(low)


def finish_training(
    trainer: ZeroShotTrainer, initial: list[dict[str, torch.Tensor]], validation: Iterable[EvaluationSet]
) -> None:
    """Make the final model and save it into `output_dir`.

    Args:
        trainer: After `train()`; with `load_best_model_at_end` its model is the best one.
        initial: The pretrained parts before training, for the average that the recipe may ask for.
        validation: Sets on which the bias is fitted after a loss that does not see it; none leave it as it is.
    """
    sets = list(validation)
    merge_adapters(trainer.model)
    if trainer.args.initial_weight_share:
        average_weights(trainer.model, initial, trainer.args.initial_weight_share)
    if not trainer.args.loss_judges_pairs:
        if sets:
            fit_bias(trainer.model, sets)
        else:
            logger.warning(
                f"{' and '.join(trainer.args.loss_weights)} does not see the bias, and there are no validation rows to fit "
                "it on: labels are ranked as trained, but a score by itself (multi_label) means nothing. Set "
                "validation_files or validation_share."
            )
    file = Path(trainer.args.output_dir) / SETTINGS_FILE
    with explain_write_errors(file.parent):
        trainer.save_model()
        trainer.save_state()
        if trainer.is_world_process_zero():
            settings = json.loads(file.read_text(encoding="utf-8"))
            write_json(file, {**settings, "finished": True})
