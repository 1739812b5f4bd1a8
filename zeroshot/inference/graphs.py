"""What is exported of a model: its encoder, as one or two graphs of tensors. Everything else of it stays as it is.

    encoder, class_encoder    ids and mask (rows, tokens) -> token states (rows, tokens, D), or the head's outputs of a pair
    texts                     ids and mask (B, S) -> token states, and the keys and values that labels will read
    labels                    ids and mask (B, K, L), what `texts` gave, gates -> token states (B, K, L, D)

`texts` and `labels` are the two passes of label-isolated attention.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from ..models import CrossEncoderForZeroShotClassification, ZeroShotPreTrainedModel
from ..models.attention_zeroshot import encode_labels_in_texts, encode_texts

# Sizes of the inputs with which a graph is traced. All differ and none is 1, so that none is taken for another or for a
# constant; and every input is a tensor of its own, for one that is given twice becomes one input.
TEXTS, TEXT_TOKENS, LABELS, LABEL_TOKENS = 3, 9, 4, 5
KEYS_AXES = {0: "texts", 3: "tokens"}


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Args:
        name: What its file is called.
        module: What it computes.
        inputs: Inputs of any size, by name, in the order that `module` takes them.
        axes: Per input, which dimensions may have any size, and what they count.
        outputs: Names of what `module` returns.
    """

    name: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]


class _OfEncoder(nn.Module):
    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder


class _Encoder(_OfEncoder):
    """The first value of the encoder's output: token states, or the outputs of a classification head."""

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)[0]


class _Texts(_OfEncoder):
    def forward(self, input_ids, attention_mask):
        states, features = encode_texts(self.encoder, input_ids, attention_mask)
        return states, features["keys"], features["values"]


class _Labels(_OfEncoder):
    def forward(self, input_ids, attention_mask, keys, values, text_mask, gates):
        features = {"keys": keys, "values": values, "mask": text_mask}
        return encode_labels_in_texts(self.encoder, features, gates, input_ids, attention_mask)


def _draw_tokens(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and a mask with padding in it: a mask of ones might be left out of the graph."""
    mask = torch.ones(size, dtype=torch.long)
    mask[0, ..., -1] = 0
    return torch.ones(size, dtype=torch.long), mask


def _describe_encoder(name: str, encoder: nn.Module, takes_token_types: bool, output: str) -> Graph:
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_token_types else [])]
    ids, mask = _draw_tokens(TEXTS, TEXT_TOKENS)
    inputs = dict(zip(names, (ids, mask, torch.zeros_like(ids)), strict=False))
    return Graph(name, _Encoder(encoder), inputs, {key: {0: "rows", 1: "tokens"} for key in names}, (output,))


def _describe_isolated(encoder: nn.Module, gates: torch.Tensor) -> list[Graph]:
    ids, mask = _draw_tokens(TEXTS, TEXT_TOKENS)
    with torch.no_grad():
        _, features = encode_texts(encoder, ids, mask)
    label_ids, label_mask = _draw_tokens(TEXTS, LABELS, LABEL_TOKENS)
    text_axes, label_axes = {0: "texts", 1: "tokens"}, {0: "texts", 1: "labels", 2: "label_tokens"}
    texts = {"input_ids": ids, "attention_mask": mask}
    labels = {
        "input_ids": label_ids,
        "attention_mask": label_mask,
        "keys": features["keys"],
        "values": features["values"],
        "text_mask": mask,
        "gates": gates,
    }
    axes: dict[str, dict[int, str]] = {
        **dict.fromkeys(texts, label_axes),
        **dict.fromkeys(("keys", "values"), KEYS_AXES),
        "text_mask": text_axes,
        "gates": {},
    }
    return [
        Graph("texts", _Texts(encoder), texts, dict.fromkeys(texts, text_axes), ("states", "keys", "values")),
        Graph("labels", _Labels(encoder), labels, axes, ("states",)),
    ]


def describe_graphs(model: ZeroShotPreTrainedModel) -> list[Graph]:
    """The graphs that together are the encoder of a model, float32, on the CPU.

    Raises:
        ValueError: If labels and text are one growing sequence, which has no such graph.
    """
    if model.needs_attention_interface and model.fixed_attention is None:
        raise ValueError(
            f"Expected a model that can be exported, found {type(model).__name__} with label_isolation false, whose tokens "
            "are numbered anew for every label. Export one with label_isolation true, or classify with PyTorch."
        )
    encoder = copy.deepcopy(model.encoder).to(device="cpu", dtype=torch.float32).eval()
    if model.fixed_attention is not None:
        return _describe_isolated(encoder, model.text_gates.detach().to(device="cpu", dtype=torch.float32))
    encoder.set_attn_implementation("eager")  # plain products, which runtimes know to fuse
    if isinstance(model, CrossEncoderForZeroShotClassification):
        return [_describe_encoder("encoder", encoder, model.takes_token_types, "logits")]
    graphs = [_describe_encoder("encoder", encoder, False, "states")]
    if model.config.class_config is not None:
        class_encoder = copy.deepcopy(model.class_encoder).to(device="cpu", dtype=torch.float32).eval()
        class_encoder.set_attn_implementation("eager")
        graphs.append(_describe_encoder("class_encoder", class_encoder, False, "states"))
    return graphs
