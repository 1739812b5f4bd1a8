"""ONNX Runtime and OpenVINO behind one face: write a graph to a file, make it int8, run it on tensors."""

import importlib
import io
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

import torch

from .foreign_lines import hide_foreign_lines, shows_foreign_lines
from .graphs import Graph

Format = Literal["onnx", "openvino"]
Tensors = Mapping[str, torch.Tensor]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml"}
# A file of protobuf holds less than 2 GiB; beyond, weights lie beside it.
LARGEST_FILE = 2**31 - 2**26


class Runtime(Protocol):
    """A graph that is loaded."""

    def run(self, inputs: Tensors) -> list[torch.Tensor]:
        """From inputs by name to all outputs in their order."""


def require(package: str) -> ModuleType:
    """Import a package of the extra `export`.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise ImportError(
            f'Expected the package {error.name}, found none. Install the extra: pip install "zeroshot[export]".'
        ) from error


def write_onnx(graph: Graph, file: Path) -> None:
    """Write a graph as ONNX.

    Raises:
        ValueError: If PyTorch cannot export the encoder.
    """
    require("onnxscript")
    weights = sum(parameter.numel() * parameter.element_size() for parameter in graph.module.parameters())
    shapes = {name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in graph.axes.items()}
    try:
        with torch.no_grad(), hide_foreign_lines("torch.onnx"):
            torch.onnx.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                file,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=shapes,
                external_data=weights > LARGEST_FILE,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"Expected an encoder that torch.onnx can export, found another ({str(error).splitlines()[0][:200]}). "
            "Classify with PyTorch, or choose an encoder such as BERT, MiniLM, RoBERTa or XLM-RoBERTa."
        ) from error


def quantize_onnx(source: Path, target: Path) -> None:
    """Weights of matrix products in int8, one scale a column; activations become int8 while it runs."""
    quantization = require("onnxruntime.quantization")
    with hide_foreign_lines():
        quantization.quantize_dynamic(
            source,
            target,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            use_external_data_format=source.with_name(source.name + ".data").exists(),
            extra_options={"MatMulConstBOnly": True},
        )


def write_openvino(source: Path, target: Path, calibration: Iterable[Tensors] | None) -> None:
    """Turn ONNX into OpenVINO's format; with `calibration`, inputs as they occur, weights and activations become int8."""
    openvino = require("openvino")
    model = openvino.convert_model(source)
    if calibration is not None:
        nncf = require("nncf")
        rows = [{name: tensor.numpy() for name, tensor in inputs.items()} for inputs in calibration]
        bars = sys.stderr if sys.stderr.isatty() or shows_foreign_lines() else io.StringIO()
        with redirect_stdout(bars), hide_foreign_lines("nncf"):
            model = nncf.quantize(model, nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    openvino.save_model(model, target, compress_to_fp16=False)


class OnnxRuntime:
    """ONNX Runtime on the CPU, float32 or int8 as the file is."""

    def __init__(self, file: Path, threads: int):
        onnxruntime = require("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Tensors) -> list[torch.Tensor]:
        """See [`Runtime`]."""
        outputs = self._session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(output) for output in outputs]


class OpenVinoRuntime:
    """OpenVINO on the CPU, in the precision asked for: by itself it would take bfloat16 where the hardware has it."""

    def __init__(self, file: Path, threads: int, precision: str):
        openvino = require("openvino")
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled = openvino.Core().compile_model(file, "CPU", settings)

    def run(self, inputs: Tensors) -> list[torch.Tensor]:
        """See [`Runtime`]."""
        outputs = self._compiled({name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(outputs[position]) for position in range(len(self._compiled.outputs))]


def load_runtime(file: Path, file_format: str, precision: str, threads: int) -> Runtime:
    """Load a graph's file.

    Raises:
        ValueError: If the runtime has no such precision.
    """
    if file_format == "openvino":
        return OpenVinoRuntime(file, threads, precision)
    if precision != "fp32":
        raise ValueError(
            f"Expected precision 'fp32' for ONNX, found {precision!r}. Export with --format openvino for bf16, "
            "or with --int8."
        )
    return OnnxRuntime(file, threads)
