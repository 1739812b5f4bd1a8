"""Which parameters are trained, and at which rate: frozen parts, layer-wise learning rates.

The *head* is everything outside the pretrained parts (`model.backbones`): scale, bias, codes, projections, gates. The
layers of an encoder are its first `ModuleList` with as many modules as `num_hidden_layers` says, which is where
transformers' encoders hold them; what is registered before them are the embeddings.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ..models import ZeroShotPreTrainedModel

logger = logging.get_logger(__name__)

PARTS = ("encoder", "class_encoder", "embeddings", "head")


def find_layers(encoder: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The layers of an encoder from the lowest to the highest, with the name under which it holds them.

    Raises:
        ValueError: If they are not held in one list, as in ALBERT, whose layers share their weights.
    """
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == encoder.config.num_hidden_layers:
            return name, module
    raise ValueError(
        f"Expected an encoder that holds its {encoder.config.num_hidden_layers} layers in one ModuleList, found "
        f"{type(encoder).__name__}, which does not. Leave out 'embeddings' in freeze, freeze_layers, layer_decay and "
        "lora_rank."
    )


def number_parameters(encoder: PreTrainedModel) -> dict[str, int]:
    """The height of every parameter of an encoder, by name: 0 for embeddings, 1 for the lowest layer, and so on.

    What is registered behind the layers (a last norm, tables that all layers read) is as high as the highest one.
    """
    prefix, layers = find_layers(encoder)
    heights: dict[str, int] = {}
    for name, _ in encoder.named_parameters():
        if name.startswith(f"{prefix}."):
            heights[name] = int(name.removeprefix(f"{prefix}.").split(".")[0]) + 1
        else:
            heights[name] = len(layers) if any(heights.values()) else 0
    return heights


def list_head(model: ZeroShotPreTrainedModel) -> list[nn.Parameter]:
    """The parameters outside the pretrained parts."""
    pretrained = {id(parameter) for part in model.backbones for parameter in part.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in pretrained]


def _list_part(model: ZeroShotPreTrainedModel, name: str) -> Iterable[nn.Parameter]:
    if name not in PARTS:
        raise ValueError(f"Expected freeze to name some of {', '.join(PARTS)}, found {name!r}. Choose among them.")
    if name == "class_encoder" and len(model.backbones) == 1:
        raise ValueError(
            "Expected a model whose labels have an encoder of their own, found freeze with 'class_encoder' where they share "
            "the texts' one. Set class_encoder too, or freeze 'encoder'."
        )
    if name == "head":
        return list_head(model)
    if name == "embeddings":
        return _list_lowest(model, 0)
    return model.backbones[0 if name == "encoder" else 1].parameters()


def _list_lowest(model: ZeroShotPreTrainedModel, lowest: int, highest: int | None = None) -> list[nn.Parameter]:
    """The parameters of every pretrained part from one height to another."""
    wanted = range(lowest, (lowest if highest is None else highest) + 1)
    heights = [(part, number_parameters(part)) for part in model.backbones]
    return [parameter for part, by_name in heights for name, parameter in part.named_parameters() if by_name[name] in wanted]


def freeze_parameters(model: ZeroShotPreTrainedModel, parts: Sequence[str], layers: int = 0) -> None:
    """Keep parts of a model as they are in training.

    Args:
        model: The model; its parameters' `requires_grad` is set.
        parts: Some of [`PARTS`]. `encoder` is that of the texts, also where labels share it; `embeddings` and `layers` mean
            every pretrained part.
        layers: How many of the lowest layers; the embeddings below them are a part of their own.

    Raises:
        ValueError: If a part is not there, there are fewer layers, or nothing is left to train.
    """
    frozen = [parameter for name in parts for parameter in _list_part(model, name)]
    if layers:
        fewest = min(len(find_layers(part)[1]) for part in model.backbones)
        if layers > fewest:
            raise ValueError(f"Expected freeze_layers of at most {fewest}, the layers there are, found {layers}. Lower it.")
        frozen += _list_lowest(model, 1, layers)
    for parameter in frozen:
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"Expected something to train, found all of it frozen by {', '.join(parts)}. Freeze less.")


def describe_trained(model: nn.Module) -> str:
    """How many parameters are trained, for the log."""
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return f"{trained:,} of {total:,} parameters ({trained / total:.2%})"


def assign_rates(
    optimizer: torch.optim.Optimizer,
    model: ZeroShotPreTrainedModel,
    head_rate: float | None = None,
    layer_decay: float | None = None,
) -> None:
    """Split an optimizer's groups by learning rate.

    Layer-wise decay as in ULMFiT (https://arxiv.org/abs/1801.06146) and ELECTRA (https://arxiv.org/abs/2003.10555): the
    highest layer learns at the optimizer's rate, each one below at `layer_decay` times that of the layer above it, the
    embeddings as a layer below the lowest. We depart from them in that the head has a rate of its own.

    Args:
        optimizer: Before its schedule is made.
        model: Whose parameters it holds.
        head_rate: Of everything outside the pretrained parts; the optimizer's when None.
        layer_decay: Between 0 and 1; one rate for all layers when None.
    """
    # Only what departs from the group's rate is listed.
    rates: dict[int, float] = {} if head_rate is None else dict.fromkeys(map(id, list_head(model)), head_rate)
    if layer_decay is not None:
        for part in model.backbones:
            heights = number_parameters(part)
            highest = max(heights.values())
            for name, parameter in part.named_parameters():
                if heights[name] < highest:
                    rates[id(parameter)] = optimizer.defaults["lr"] * layer_decay ** (highest - heights[name])
    for group in list(optimizer.param_groups):
        settings = {key: value for key, value in group.items() if key != "params"}
        by_rate: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_rate.setdefault(rates.get(id(parameter), group["lr"]), []).append(parameter)
        group["params"] = by_rate.pop(group["lr"], [])
        for rate, parameters in by_rate.items():
            optimizer.add_param_group({**settings, "params": parameters, "lr": rate})
