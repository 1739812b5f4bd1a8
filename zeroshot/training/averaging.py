"""`zeroshot average`: a finished model averaged with the encoder it began from, or with another model of its kind."""

import json
from pathlib import Path

import torch
from transformers.utils import logging

from ..models import ZeroShotPreTrainedModel
from ..models.loading import load_model, resolve_encoder
from .runs import SETTINGS_FILE
from .trainer import average_weights, copy_backbones

logger = logging.get_logger(__name__)


def find_encoders(model: str, encoder: str | None) -> tuple[str, str | None]:
    """The encoders of texts and labels that a model was trained from.

    Args:
        model: Its folder; what its run noted there is taken where no encoder is given.
        encoder: That of the texts, or None.

    Raises:
        ValueError: If neither is known.
    """
    file = Path(model) / SETTINGS_FILE
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if encoder is None and "encoder" not in settings:
        raise ValueError(
            f"Expected to know the encoder that {model!r} was trained from, found no {SETTINGS_FILE} beside it to say so. "
            "Name it with --encoder, or another model with --with."
        )
    return encoder or settings["encoder"], settings.get("class_encoder")


def average_with_encoder(model: ZeroShotPreTrainedModel, encoder: str, class_encoder: str | None, share: float) -> None:
    """Move the pretrained parts towards the encoder; see [`average_weights`].

    Raises:
        ValueError: If the encoder is another one than the model was trained from: of other layers or sizes.
    """
    of_labels = None if class_encoder is None else resolve_encoder(class_encoder)
    initial = copy_backbones(type(model).from_encoder(resolve_encoder(encoder), class_encoder=of_labels))
    _check_same_shapes([part.state_dict() for part in model.backbones], initial, repr(encoder))
    average_weights(model, initial, share)


def average_with_model(model: ZeroShotPreTrainedModel, other: ZeroShotPreTrainedModel, share: float) -> None:
    """Move every weight towards those of another trained model: `share * other + (1 - share) * model`.

    A soup of two models (https://arxiv.org/abs/2203.05482), which serves where both were trained from one encoder.

    Raises:
        ValueError: If the two differ in architecture or sizes.
    """
    if type(model) is not type(other):
        raise ValueError(
            f"Expected two models of one architecture, found {type(model).__name__} and {type(other).__name__}. "
            "Choose another one for --with."
        )
    _check_same_shapes([model.state_dict()], [other.state_dict()], "the other model")
    weights = other.state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(weights[name].to(tensor), share)


def _check_same_shapes(ours: list[dict[str, torch.Tensor]], theirs: list[dict[str, torch.Tensor]], name: str) -> None:
    def describe(parts: list[dict[str, torch.Tensor]]) -> set[tuple[int, str, torch.Size]]:
        return {(number, key, tensor.shape) for number, part in enumerate(parts) for key, tensor in part.items()}

    differing = sorted(key for _, key, _ in describe(ours) ^ describe(theirs))
    if differing:
        raise ValueError(
            f"Expected weights of the model's names and sizes in {name}, found {len(differing)} that differ, such as "
            f"{differing[0]}. Name what the model was trained from, or one that was trained from the same."
        )


def average_command(model: str, share: float, output: Path, encoder: str | None = None, other: str | None = None) -> str:
    """Average a model, save it without a calibration, which would be of other weights, and say what to do next.

    Args:
        model: Folder or Hub id of a finished model.
        share: Of the other side, between 0 and 1.
        output: A new folder.
        encoder: What the model was trained from, where its folder does not say so.
        other: Another finished model, instead of the encoder.

    Raises:
        ValueError: If the share is out of range, the folder is in use, or the two sides do not fit.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"Expected --share from 0 to 1, found {share}. Choose a value in this range.")
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"Expected a new folder for the average, found {str(output)!r} in use. Choose another --output.")
    if encoder is not None and other is not None:
        raise ValueError("Expected --encoder or --with, found both. Leave one of the two out.")
    loaded = load_model(model)
    if other is None:
        names = find_encoders(model, encoder)
        average_with_encoder(loaded, *names, share)
        logger.info(f"The pretrained parts are {share:g} of {names[0]} and {1 - share:g} of {model}; its head stays.")
    else:
        average_with_model(loaded, load_model(other), share)
        logger.info(f"All weights are {share:g} of {other} and {1 - share:g} of {model}.")
    said = f"The average is in {output}. Measure it before you use it: zeroshot evaluate {output} --suite DIR"
    if loaded.config.calibration is not None:
        loaded.config.calibration = None
        said += f"\nThe calibration of {model} is of other weights and was left out: zeroshot calibrate {output} ROWS"
    loaded.save_pretrained(output)
    return said
