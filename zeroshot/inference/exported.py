"""A model whose encoder is a graph in ONNX Runtime or OpenVINO; it predicts by the same code as any other.

An exported folder holds `export.json` (what [`ExportSettings`] says), the graphs, `head.safetensors` (all weights that are
not the encoder's: scale, bias, codes, projections), `config.json` and the tokenizer.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from ..models import ARCHITECTURES, ZeroShotPreTrainedModel
from ..models.attention_zeroshot import TextMemory
from ..models.loading import load_model
from .runtimes import SUFFIXES, Runtime, load_runtime

SETTINGS_FILE, HEAD_FILE = "export.json", "head.safetensors"


class ExportSettings(TypedDict):
    """What `export.json` says."""

    format: str
    int8: bool
    graphs: list[str]  # names of the files without their ending


class ExportedEncoder(nn.Module):
    """Stands in for a transformers encoder.

    Args:
        runtimes: Its graphs, by name.
        config: Of the encoder that was exported.
        files: All files of the export with weights, which tell it from another one.
        precision: Of matrix products.
    """

    def __init__(self, runtimes: dict[str, Runtime], config: Any, *, files: Sequence[Path], precision: str):
        super().__init__()
        self.config = config
        self.runtimes = runtimes
        self.files = tuple(files)
        self.precision = precision

    def _save_to_state_dict(self, *_arguments: Any) -> None:
        raise ValueError(
            "Expected a model with the weights of its encoder, found an exported one, which has none to save or train. "
            "Copy the exported folder, or load the model that it was exported from."
        )

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        text_memory: TextMemory | None = None,
    ) -> BaseModelOutput | SequenceClassifierOutput:
        """Run the graph that these arguments are for; each is as in the encoder that was exported."""
        if torch.is_autocast_enabled("cpu"):
            raise ValueError(
                "Expected precision 'fp32' for an exported model, found bfloat16 asked of PyTorch, which does not run its "
                "encoder. Load it so: load_exported(folder, precision='bf16')."
            )
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask.long()}
        if "texts" in self.runtimes:
            if text_memory is None:
                return BaseModelOutput(last_hidden_state=self.runtimes["texts"].run(inputs)[0])
            return self._run_isolated(inputs, text_memory)
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        [output] = self.runtimes["encoder"].run(inputs)
        if output.dim() == 2:  # (pairs, outputs of the head)
            return SequenceClassifierOutput(logits=output)
        return BaseModelOutput(last_hidden_state=output)

    def _run_isolated(self, inputs: dict[str, torch.Tensor], memory: TextMemory) -> BaseModelOutput:
        if memory.mask is None:
            states, keys, values = self.runtimes["texts"].run(inputs)
            layers = range(keys.shape[1])
            memory.order.update((layer, layer) for layer in layers)
            memory.keys.update(enumerate(keys.unbind(1)))
            memory.values.update(enumerate(values.unbind(1)))
            return BaseModelOutput(last_hidden_state=states)
        assert memory.gates is not None
        of_texts = {name: tensor.unflatten(0, (len(memory.mask), -1)) for name, tensor in inputs.items()}  # (B, K, L)
        [states] = self.runtimes["labels"].run(
            {
                **of_texts,
                "keys": torch.stack(list(memory.keys.values()), dim=1),
                "values": torch.stack(list(memory.values.values()), dim=1),
                "text_mask": memory.mask.long(),
                "gates": memory.gates.detach(),
            }
        )
        return BaseModelOutput(last_hidden_state=states.flatten(0, 1))


def _read_settings(folder: Path) -> ExportSettings:
    file = folder / SETTINGS_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"Expected an exported model in {str(folder)!r}, found no {SETTINGS_FILE} there. "
            "Make one with: zeroshot export MODEL --format onnx --output FOLDER"
        )
    settings: ExportSettings = json.loads(file.read_text(encoding="utf-8"))
    if settings["format"] not in SUFFIXES:
        raise ValueError(
            f"Expected a format of {', '.join(SUFFIXES)} in {str(file)!r}, found {settings['format']!r}. "
            "Export the model anew."
        )
    return settings


def _build_without_encoder(folder: Path) -> ZeroShotPreTrainedModel:
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    model_class = ARCHITECTURES.get(model_type.removeprefix("zeroshot-"))
    if model_class is None:
        raise ValueError(
            f"Expected an architecture of {', '.join(ARCHITECTURES)} in {str(folder)!r}, found {model_type!r}. "
            "Export the model anew."
        )
    with torch.device("meta"):
        return model_class(model_class.config_class.from_json_file(folder / "config.json"))


def load_exported(
    name: str | Path, *, precision: Literal["fp32", "bf16"] = "fp32", threads: int | None = None
) -> ZeroShotPreTrainedModel:
    """Load what `zeroshot export` wrote.

    Args:
        name: The folder.
        precision: Of matrix products in float graphs; `bf16` with OpenVINO only. ONNX Runtime has it not on CPUs.
        threads: Of the runtime; as many as PyTorch has when left out.

    Returns:
        A model on the CPU that predicts, encodes, scores and makes a pipeline as the one that was exported does. It has no
        encoder weights: it cannot be trained or saved.

    Raises:
        FileNotFoundError: If there is no exported model.
        ImportError: If the runtime is not installed.
        ValueError: If the folder is damaged, or the runtime has no such precision.
    """
    folder = Path(name)
    settings = _read_settings(folder)
    model = _build_without_encoder(folder)
    suffix, threads = SUFFIXES[settings["format"]], threads or torch.get_num_threads()
    runtimes = {
        graph: load_runtime(folder / f"{graph}{suffix}", settings["format"], precision, threads)
        for graph in settings["graphs"]
    }
    # Weights lie beside their graph in OpenVINO, and in ONNX beyond 2 GiB.
    files = [*sorted(file for graph in settings["graphs"] for file in folder.glob(f"{graph}.*")), folder / HEAD_FILE]
    class_runtime = runtimes.pop("class_encoder", None)
    model.encoder = ExportedEncoder(runtimes, model.encoder.config, files=files, precision=precision)
    if class_runtime is not None:
        parts, config = {"encoder": class_runtime}, model.class_encoder.config
        model.class_encoder = ExportedEncoder(parts, config, files=files, precision=precision)
    model.load_state_dict(load_file(folder / HEAD_FILE), assign=True)
    model.tokenizer = AutoTokenizer.from_pretrained(folder, config=model.config.text_config)
    model.name_or_path = str(folder)
    return model.eval()


def move_to_device(model: ZeroShotPreTrainedModel) -> ZeroShotPreTrainedModel:
    """Put a model on this process' GPU where there is one; a launcher says which. An export stays with its runtime."""
    if torch.cuda.is_available() and not isinstance(model.encoder, ExportedEncoder):
        return model.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    return model


def load_checkpoint_or_export(name: str) -> ZeroShotPreTrainedModel:
    """Load what predicts: the folder of an export, or a checkpoint as [`load_model`] does, with its errors."""
    return load_exported(name) if (Path(name) / SETTINGS_FILE).is_file() else load_model(name)
