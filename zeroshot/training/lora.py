"""Low-rank adaptation (LoRA, https://arxiv.org/abs/2106.09685) of the pretrained parts, through `peft`.

The encoder's own weights stay as they are; beside a linear map W of its layers a product B A of rank r is learned, and

    W' = W + alpha / r * B A

is what counts. Every checkpoint holds W' and so loads like any other; what is trained lies beside it, in
`trained.safetensors`, from which a run goes on. We depart from the paper, which adapts queries and values: all linear maps
of the layers are the default, as in QLoRA (https://arxiv.org/abs/2305.14314), because their names differ between encoders.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..files import replace_file
from ..models import ZeroShotPreTrainedModel
from .parameters import find_layers

TRAINED_FILE = "trained.safetensors"
ADAPTER = "default"


def _find_targets(part: nn.Module, names: Sequence[str]) -> list[str]:
    """Names of the linear maps in the layers of a pretrained part that are not frozen; of those that end in `names`."""
    prefix, layers = find_layers(part)
    linear = [
        f"{prefix}.{name}"
        for name, module in layers.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    wanted = tuple(f".{name}" for name in names)
    chosen = [name for name in linear if not wanted or name.endswith(wanted)]
    missing = [name for name in names if not any(target.endswith(f".{name}") for target in linear)]
    if linear and missing:
        known = dict.fromkeys(name.removeprefix(f"{prefix}.").split(".", 1)[1] for name in linear)
        raise ValueError(f"Expected lora_targets among {', '.join(known)}, found {missing[0]!r}. Choose some of them.")
    return chosen


def add_adapters(model: ZeroShotPreTrainedModel, rank: int, alpha: int | None, targets: Sequence[str] = ()) -> None:
    """Put adapters beside the linear maps of the pretrained parts and freeze everything else in these.

    Args:
        model: Changed in place; without a training step its logits stay the same. What is frozen gets no adapter.
        rank: Of the products.
        alpha: Numerator of the factor on a product; twice the rank when None.
        targets: Ends of the names of linear maps, such as `query`; all in the layers when empty.

    Raises:
        ImportError: If peft is not installed.
        ValueError: If there are no such maps.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(
            'Expected peft for lora_rank, found no such package. Install the extra: pip install "zeroshot[lora]".'
        ) from error
    chosen = [(part, _find_targets(part, targets)) for part in model.backbones]
    if not any(names for _, names in chosen):
        raise ValueError("Expected linear maps to adapt by lora_rank, found all of them frozen. Freeze less, or none.")
    for part, names in chosen:
        part.requires_grad_(False)
        if names:
            config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules=names)
            inject_adapter_in_model(config, part, adapter_name=ADAPTER)


def _list_adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The linear maps that have an adapter, by name."""
    return (
        (name, module)
        for name, module in model.named_modules()
        if isinstance(getattr(module, "lora_A", None), nn.ModuleDict)
    )


def has_adapters(model: nn.Module) -> bool:
    """Whether [`add_adapters`] was called and [`merge_adapters`] was not."""
    return any(True for _ in _list_adapted(model))


def list_merged(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model as it would be after [`merge_adapters`], which is not called: training goes on."""
    state = {
        name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items() if ".lora_" not in name
    }
    with torch.no_grad():
        for name, module in _list_adapted(model):
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = weight + module.get_delta_weight(ADAPTER).to(weight.dtype)
    return state


def merge_adapters(model: nn.Module) -> None:
    """Replace every adapted linear map W by the plain one of W'; nothing happens where there are none."""
    for name, module in list(_list_adapted(model)):
        merged = module.get_base_layer()
        with torch.no_grad():
            merged.weight += module.get_delta_weight(ADAPTER).to(merged.weight.dtype)
        model.set_submodule(name, merged)


def save_trained(model: nn.Module, folder: Path) -> None:
    """Write the trained parameters to `folder`."""
    trained = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    with replace_file(folder / TRAINED_FILE) as partial:
        save_file(trained, partial)


def load_trained(model: nn.Module, folder: Path) -> None:
    """Read what [`save_trained`] wrote.

    Raises:
        ValueError: If the folder is no checkpoint of a run with the same adapters.
    """
    file = folder / TRAINED_FILE
    expected = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = load_file(file) if file.is_file() else {}
    if {name: p.shape for name, p in expected.items()} != {name: tensor.shape for name, tensor in found.items()}:
        raise ValueError(
            f"Expected the {len(expected)} trained parameters of this recipe in {str(file)!r}, found {len(found)} that "
            "are not all the same. Go on with the recipe that wrote the checkpoint, or start over with --resume never."
        )
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(found[name])
