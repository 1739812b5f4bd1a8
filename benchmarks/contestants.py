"""Who takes part in benchmarks/inference.py: each encodes labels once where it can, and finds each text's best label."""

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification, pipeline, set_seed

from zeroshot.inference.exported import load_exported
from zeroshot.inference.exporting import export_model
from zeroshot.inference.runtimes import Format
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

NLI_TOKENS = 256  # of a pair, as sentence-transformers cuts texts for this encoder
GLICLASS_MARKS = ("<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>")


class TooManyLabels(ValueError):
    """A contestant cannot score so many labels."""


class Contestant(Protocol):
    """What is timed."""

    def prepare(self, labels: Sequence[str]) -> Any:
        """Everything that is done once for a set of labels; may raise [`TooManyLabels`]."""

    def classify(self, texts: Sequence[str], prepared: Any) -> list[int]:
        """Which label is the best, for each text."""


class Ours:
    """A model of this package, scores of all labels as one tensor."""

    def __init__(self, model: ZeroShotPreTrainedModel, *, batch_size: int = 64, bfloat16: bool = False):
        self.model = model
        self.batch_size = batch_size
        self.bfloat16 = bfloat16

    def _precision(self):
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.bfloat16 else nullcontext()

    def prepare(self, labels: Sequence[str]) -> Any:
        """Features of the labels."""
        with self._precision():
            return self.model.encode_candidate_labels(labels, ["{}"]), len(labels)

    def classify(self, texts: Sequence[str], prepared: Any) -> list[int]:
        """By `score_texts`."""
        with self._precision():
            logits = self.model.score_texts(texts, *prepared, batch_size=self.batch_size, overflow="cut")
        return logits.argmax(dim=1).tolist()


class SentenceTransformers:
    """Vectors of texts and labels, compared by cosine."""

    def __init__(self, encoder: str, backend: Any = "torch", **encode_settings: Any):
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(encoder, device="cpu", backend=backend)
        self.settings = {"convert_to_tensor": True, "show_progress_bar": False, **encode_settings}

    def prepare(self, labels: Sequence[str]) -> Any:
        """Vectors of the labels."""
        return self.model.encode(list(labels), **self.settings)

    def classify(self, texts: Sequence[str], prepared: Any) -> list[int]:
        """By `similarity`."""
        return self.model.similarity(self.model.encode(list(texts), **self.settings), prepared).argmax(dim=1).tolist()


class StockPipeline:
    """transformers' zero-shot pipeline with an NLI model of the encoder's size; how well it answers does not count here."""

    def __init__(self, encoder: str, batch_size: int = 32):
        set_seed(0)
        names = {"contradiction": 0, "neutral": 1, "entailment": 2}
        config = AutoConfig.from_pretrained(encoder, label2id=names, id2label={value: key for key, value in names.items()})
        tokenizer = AutoTokenizer.from_pretrained(encoder, model_max_length=min(NLI_TOKENS, config.max_position_embeddings))
        model = BertForSequenceClassification(config).eval()
        self.pipeline = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, device="cpu")
        self.batch_size = batch_size

    def prepare(self, labels: Sequence[str]) -> Any:
        """Nothing of a label can be kept."""
        return list(labels)

    def classify(self, texts: Sequence[str], prepared: Any) -> list[int]:
        """As it is called."""
        answers = self.pipeline(list(texts), prepared, batch_size=self.batch_size)
        return [prepared.index(answer["labels"][0]) for answer in answers]


class GLiClass:
    """Its uni-encoder on an encoder of the same size with random weights, by its own pipeline."""

    def __init__(self, encoder: str, batch_size: int = 32):
        from gliclass import GLiClassModel, GLiClassModelConfig, ZeroShotClassificationPipeline

        set_seed(0)
        config = AutoConfig.from_pretrained(encoder)
        limit = min(512, config.max_position_embeddings)
        tokenizer = AutoTokenizer.from_pretrained(encoder, model_max_length=limit)
        tokenizer.add_tokens(list(GLICLASS_MARKS), special_tokens=True)
        config.vocab_size = len(tokenizer)
        label, text, example = tokenizer.convert_tokens_to_ids(list(GLICLASS_MARKS))
        model = GLiClassModel(
            GLiClassModelConfig(
                encoder_config=config.to_dict(),
                encoder_model=encoder,  # where adapters would lie; weights are random
                class_token_index=label,
                text_token_index=text,
                example_token_index=example,
                architecture_type="uni-encoder",
                vocab_size=len(tokenizer),
            )
        ).eval()
        self.pipeline = ZeroShotClassificationPipeline(
            model, tokenizer, max_length=limit, classification_type="single-label", device="cpu", progress_bar=False
        )
        self.batch_size = batch_size
        self.limit = limit

    def prepare(self, labels: Sequence[str]) -> Any:
        """Labels are read with each text; its pipeline would cut those that do not fit, without a word."""
        tokens = len(labels) + sum(
            map(len, self.pipeline.pipe.tokenizer(list(labels), add_special_tokens=False)["input_ids"])
        )
        if tokens >= self.limit:
            raise TooManyLabels(f"{len(labels)} labels are {tokens} tokens, of {self.limit} that it reads")
        return list(labels)

    def classify(self, texts: Sequence[str], prepared: Any) -> list[int]:
        """As it is called."""
        answers = self.pipeline(list(texts), prepared, batch_size=self.batch_size)
        return [prepared.index(answer[0]["label"]) for answer in answers]


def _build_exported(encoder: str, folder: Path, file_format: Format, int8: bool, precision: Any = "fp32") -> Ours:
    place = folder / f"biencoder-{file_format}{'-int8' if int8 else ''}"
    if not place.exists():
        export_model(ARCHITECTURES["biencoder"].from_encoder(encoder), place, file_format, int8=int8)
    return Ours(load_exported(place, precision=precision))


def list_contestants(encoder: str, folder: Path) -> dict[str, Callable[[], Contestant]]:
    """Names, and how each is built; exports are written into `folder`, and taken from there the next time."""

    def build(key: str, **settings: Any) -> Callable[[], Contestant]:
        return lambda: Ours(ARCHITECTURES[key].from_encoder(encoder), **settings)

    return {
        **{key: build(key) for key in ARCHITECTURES},
        "biencoder, bf16": build("biencoder", bfloat16=True),
        "cascade, bf16": build("cascade", bfloat16=True),
        "biencoder, onnx": lambda: _build_exported(encoder, folder, "onnx", False),
        "biencoder, onnx, int8": lambda: _build_exported(encoder, folder, "onnx", True),
        "biencoder, openvino": lambda: _build_exported(encoder, folder, "openvino", False),
        "biencoder, openvino, bf16": lambda: _build_exported(encoder, folder, "openvino", False, "bf16"),
        "biencoder, openvino, int8": lambda: _build_exported(encoder, folder, "openvino", True),
        "sentence-transformers": lambda: SentenceTransformers(encoder),
        "sentence-transformers, onnx": lambda: SentenceTransformers(encoder, "onnx"),
        "sentence-transformers, openvino": lambda: SentenceTransformers(encoder, "openvino"),
        "transformers NLI pipeline": lambda: StockPipeline(encoder),
        "GLiClass": lambda: GLiClass(encoder),
    }


def find_missing(name: str) -> str | None:
    """Which package a contestant lacks, if any."""
    needs = {"sentence-transformers": "sentence_transformers", "GLiClass": "gliclass"}
    packages = [needs[name.partition(",")[0]]] if name.partition(",")[0] in needs else []
    if name.startswith("sentence-transformers,"):
        packages.append("optimum")
    elif "onnx" in name or "openvino" in name:
        packages += ["onnxscript", "onnxruntime", "openvino", *(["nncf"] if "int8" in name else [])]
    return next((package for package in packages if importlib.util.find_spec(package) is None), None)
