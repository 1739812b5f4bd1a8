"""From a model to a folder that runs in ONNX Runtime or OpenVINO; it is compared with the model before it is there."""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.utils import logging

from ..data import load_source
from ..files import replace_file
from ..models import ZeroShotPreTrainedModel
from ..models.loading import load_model
from .exported import HEAD_FILE, SETTINGS_FILE, ExportedEncoder, ExportSettings, load_exported
from .graphs import describe_graphs
from .runtimes import SUFFIXES, Format, Runtime, Tensors, quantize_onnx, write_onnx, write_openvino

logger = logging.get_logger(__name__)

ENCODERS = ("encoder.", "class_encoder.")
# Of logits in float32: additions in another order give less, a graph that computes something else gives more.
LARGEST_DIFFERENCE = 1e-3
PACKAGED = "packaged:topics/test.jsonl"
SAMPLE_TEXTS, SAMPLE_LABELS = 128, 20


class _Recorder:
    """A runtime that remembers what it was given."""

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self.inputs: list[Tensors] = []

    def run(self, inputs: Tensors) -> list[torch.Tensor]:
        """Run it."""
        self.inputs.append({name: tensor.clone() for name, tensor in inputs.items()})
        return self.runtime.run(inputs)


def read_sample() -> tuple[list[str], list[str]]:
    """Packaged texts and labels, on which an export is compared and int8 is calibrated."""
    rows = load_source(PACKAGED).rows
    labels = dict.fromkeys(name for names in rows["labels"] for name in names)
    return list(rows["text"][:SAMPLE_TEXTS]), list(labels)[:SAMPLE_LABELS]


def compare_logits(model: ZeroShotPreTrainedModel, exported: ZeroShotPreTrainedModel) -> tuple[float, float]:
    """How an export differs on the sample: the largest difference of a logit, and the share of texts with the same best."""
    texts, labels = read_sample()
    expected, found = (one.predict_logits(texts, labels) for one in (model, exported))
    same = (expected.argmax(dim=1) == found.argmax(dim=1)).float().mean()
    return (expected - found).abs().max().item(), same.item()


def _write_settings(folder: Path, file_format: Format, int8: bool, names: list[str]) -> None:
    settings: ExportSettings = {"format": file_format, "int8": int8, "graphs": names}
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _record_inputs(folder: Path) -> dict[str, list[Tensors]]:
    """What each graph of an exported model is given when it classifies the sample."""
    model = load_exported(folder)
    recorders: dict[str, _Recorder] = {}
    for encoder, name in ((module, name) for name, module in model.named_children() if isinstance(module, ExportedEncoder)):
        for graph, runtime in encoder.runtimes.items():
            # The labels' own encoder has one graph, which is called as in the texts' encoder.
            key = name if name == "class_encoder" else graph
            encoder.runtimes[graph] = recorders[key] = _Recorder(runtime)
    model.predict_logits(*read_sample(), batch_size=16)
    return {key: recorder.inputs for key, recorder in recorders.items()}


def _convert(onnx_folder: Path, folder: Path, file_format: Format, int8: bool, names: list[str]) -> None:
    """Write the graphs of one folder, ONNX in float32, to another."""
    inputs = _record_inputs(onnx_folder) if int8 and file_format == "openvino" else {}
    for name in names:
        source, target = onnx_folder / f"{name}.onnx", folder / f"{name}{SUFFIXES[file_format]}"
        if file_format == "openvino":
            write_openvino(source, target, inputs.get(name))
        elif int8:
            quantize_onnx(source, target)
        else:
            for file in onnx_folder.glob(f"{name}.onnx*"):  # weights beyond 2 GiB lie beside their graph
                file.rename(folder / file.name)


def _write_head(model: ZeroShotPreTrainedModel, folder: Path) -> None:
    state = model.state_dict()
    head = {name: tensor.cpu().contiguous() for name, tensor in state.items() if not name.startswith(ENCODERS)}
    with replace_file(folder / HEAD_FILE) as file:
        save_file(head, file)
    model.config.to_json_file(folder / "config.json")
    assert model.tokenizer is not None
    model.tokenizer.save_pretrained(folder)


def export_model(
    model: ZeroShotPreTrainedModel, output: Path, file_format: Format = "onnx", *, int8: bool = False
) -> tuple[float, float]:
    """Write a model for a runtime without PyTorch in its encoder.

    Args:
        model: Any architecture, with its tokenizer.
        output: A folder that does not exist yet.
        file_format: `onnx` or `openvino`.
        int8: Whether matrix products are in int8: ONNX Runtime finds the range of activations as it runs, OpenVINO's is
            calibrated on packaged texts.

    Returns:
        On packaged texts: the largest difference from the model's logits, and the share of texts whose best label stayed.

    Raises:
        FileExistsError: If `output` exists.
        ImportError: If the extra `export` is not installed.
        ValueError: If the model cannot be exported, or its export computes something else.
    """
    if output.exists():
        raise FileExistsError(f"Expected a new folder for the export, found {str(output)!r}. Choose another name.")
    graphs = describe_graphs(model)
    names = [graph.name for graph in graphs]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        onnx_folder, folder = Path(temporary) / "onnx", Path(temporary) / "export"
        for place in (onnx_folder, folder):
            place.mkdir()
            _write_head(model, place)
        for graph in graphs:
            write_onnx(graph, onnx_folder / f"{graph.name}.onnx")
        _write_settings(onnx_folder, "onnx", False, names)
        _convert(onnx_folder, folder, file_format, int8, names)
        _write_settings(folder, file_format, int8, names)
        difference, same = compare_logits(model, load_exported(folder))
        if not int8 and not difference <= LARGEST_DIFFERENCE:
            raise ValueError(
                f"Expected the export to give the model's logits within {LARGEST_DIFFERENCE}, found a difference of "
                f"{difference:.3g}. Classify with PyTorch; an encoder of this kind is not exported as it computes."
            )
        folder.rename(output)
    return difference, same


def export_command(name: str, output: Path, file_format: Format, *, int8: bool) -> str:
    """Export a checkpoint; the text says how the export differs and how to load it."""
    difference, same = export_model(load_model(name), output, file_format, int8=int8)
    size = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    return (
        f"Wrote {output} ({size:.0f} MB). On packaged texts logits differ by at most {difference:.2g}, and the best label "
        f"is the same for {same:.1%}.\nLoad it: from zeroshot.inference import load_exported; load_exported({str(output)!r})"
    )
