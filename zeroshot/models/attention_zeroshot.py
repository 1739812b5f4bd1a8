"""Label-isolated attention: the tokens of a label see the text and themselves, those of the text see the text alone.

Texts are encoded first, by the encoder as it is, while every layer's keys and values are remembered. Labels follow as rows
of their own (text, label): in each layer they attend to the remembered keys and values of their text and to themselves.
So the two passes give, token for token, what one pass over the text and all labels side by side would give under a mask
that lets no label see another, with the positions of each label beginning anew; but no text is encoded twice, labels may
come in portions, and the padding of one label costs nothing to the others.

What a label sees of the text is weighed by one learned number per layer and head, added to the attention scores
before the softmax: far below zero, labels are encoded as if there were no text, as in a bi-encoder.

It works in encoders whose attention goes through transformers' `AttentionInterface`.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from .features_zeroshot import Features

ISOLATED = "zeroshot_isolated"
# The most label tokens of a pass when no gradient is needed: bounds memory, changes no score.
TOKENS_PER_PASS = 16_384
# Labels shorter than this share of the longest of their pass go into the next one, once a pass has this many tokens.
LEAST_SHARE = 0.75
LEAST_TOKENS = 1024


@dataclass
class TextMemory:
    """What the texts leave for the labels: per attention module its keys and values, both (B, heads, S, head size).

    Args:
        order: Attention modules by their identity, numbered as they are first called in this pass; gradient checkpointing
            calls them again, in another order.
        keys: Per number the keys, while texts are encoded or read.
        values: Per number the values.
        mask: (B, S), 1 where a text token is real; None while texts are being encoded.
        gates: (layers, heads), added to the scores of text tokens.
    """

    order: dict[int, int] = field(default_factory=dict)
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    mask: torch.Tensor | None = None
    gates: torch.Tensor | None = None

    def number(self, module: nn.Module) -> int:
        """Which layer an attention module is."""
        return self.order.setdefault(id(module), len(self.order))

    def store(self, module: nn.Module, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Remember a layer; the repeated call of gradient checkpointing changes nothing."""
        number = self.number(module)
        self.keys.setdefault(number, keys)
        self.values.setdefault(number, values)


def _attend_to_text_and_self(
    query: torch.Tensor, own_scores: torch.Tensor, values: torch.Tensor, memory: TextMemory, layer: int, scaling: float,
    dropout: float, training: bool,
) -> torch.Tensor:  # fmt: skip
    """Labels (R, heads, L, size), R = B * K rows, with the keys and values of their texts (B, heads, S, size)."""
    keys, text_values = memory.keys[layer], memory.values[layer]
    texts, heads, tokens, _ = keys.shape
    length = query.shape[2]

    def by_text(states: torch.Tensor) -> torch.Tensor:
        last = states.shape[-1]
        states = states.unflatten(0, (texts, -1)).transpose(1, 2)  # (B, heads, K, L, .)
        return states.reshape(texts, heads, -1, last)  # (B, heads, K * L, .)

    def by_label(states: torch.Tensor) -> torch.Tensor:
        states = states.unflatten(2, (-1, length)).transpose(1, 2)  # (B, K, heads, L, .)
        return states.flatten(0, 1)  # (R, heads, L, .)

    text_scores = by_text(query) @ keys.transpose(2, 3) * scaling  # (B, heads, K * L, S)
    if memory.gates is not None:
        text_scores = text_scores + memory.gates[layer].view(1, heads, 1, 1)
    if memory.mask is not None:
        text_scores = text_scores.masked_fill(~memory.mask.bool().view(texts, 1, 1, tokens), float("-inf"))
    scores = torch.cat([by_label(text_scores), own_scores], dim=-1)  # (R, heads, L, S + L)
    weights = nn.functional.dropout(scores.softmax(dim=-1), dropout, training).to(values.dtype)
    from_text = by_label(by_text(weights[..., :tokens]) @ text_values)  # (R, heads, L, size)
    return from_text + weights[..., tokens:] @ values


def isolated_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    text_memory: TextMemory | None = None,
    **_settings_of_other_implementations,
) -> tuple[torch.Tensor, None]:
    """Attention for transformers' `AttentionInterface`; without a memory it is plain bidirectional attention.

    Args:
        module: The attention module that calls.
        query: (rows, heads, tokens, head size), as are `key` and `value`.
        key: Keys.
        value: Values.
        attention_mask: Added to the scores, (rows, 1, tokens, tokens).
        scaling: Factor on the scores.
        dropout: Rate on the weights.
        text_memory: Where texts leave their keys and values, or where labels find them.

    Returns:
        (rows, tokens, heads, head size), and no weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(2, 3) * scaling  # (rows, heads, tokens, tokens)
    if attention_mask is not None:
        scores = scores + attention_mask
    if text_memory is None or text_memory.mask is None:
        if text_memory is not None:
            text_memory.store(module, key, value)
        output = nn.functional.dropout(scores.softmax(dim=-1), dropout, module.training).to(value.dtype) @ value
    else:
        layer = text_memory.number(module)
        output = _attend_to_text_and_self(query, scores, value, text_memory, layer, scaling, dropout, module.training)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(ISOLATED, isolated_attention)
AttentionMaskInterface.register(ISOLATED, eager_mask)


def check_attention_interface(encoder: PreTrainedModel) -> None:
    """Refuse an encoder whose attention cannot be replaced.

    Raises:
        ValueError: If its code computes attention by itself.
    """
    if "ALL_ATTENTION_FUNCTIONS" not in vars(sys.modules[type(encoder).__module__]):
        raise ValueError(
            "Expected an encoder whose attention goes through transformers' AttentionInterface (BERT, MiniLM, RoBERTa, "
            f"XLM-RoBERTa, ELECTRA, DistilBERT, ModernBERT), found {encoder.config.model_type!r}, which computes its own. "
            "Choose another encoder, or an architecture without label-isolated attention."
        )


def isolate_labels(encoder: PreTrainedModel) -> nn.Parameter:
    """Give an encoder [`isolated_attention`], and return the gates (layers, heads) of [`TextMemory`], without values yet.

    Raises:
        ValueError: As [`check_attention_interface`].
    """
    check_attention_interface(encoder)
    encoder.set_attn_implementation(ISOLATED)
    return nn.Parameter(torch.empty(encoder.config.num_hidden_layers, encoder.config.num_attention_heads))


def encode_texts(
    encoder: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, Features]:
    """Encode texts, and keep what labels will read of them.

    Args:
        encoder: An encoder whose attention is [`isolated_attention`].
        input_ids: (B, S).
        attention_mask: (B, S), 1 where a token is real.

    Returns:
        Token states (B, S, D), and the features `keys` and `values` (B, layers, heads, S, head size) and `mask` (B, S).
    """
    memory = TextMemory()
    states = encoder(input_ids=input_ids, attention_mask=attention_mask, text_memory=memory).last_hidden_state
    layers = range(len(memory.order))
    keys = torch.stack([memory.keys[layer] for layer in layers], dim=1)
    values = torch.stack([memory.values[layer] for layer in layers], dim=1)
    return states, {"keys": keys, "values": values, "mask": attention_mask}


def encode_labels_in_texts(
    encoder: PreTrainedModel, text_features: Features, gates: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Encode labels that read their text.

    Args:
        encoder: The encoder of [`encode_texts`].
        text_features: What it kept of B texts.
        gates: (layers, heads), see [`TextMemory`].
        ids: K labels a text, (B, K, L) token ids.
        mask: (B, K, L), 1 where a token is real.

    Returns:
        Token states (B, K, L, D).
    """
    memory = TextMemory(
        keys=dict(enumerate(text_features["keys"].unbind(1))),
        values=dict(enumerate(text_features["values"].unbind(1))),
        mask=text_features["mask"],
        gates=gates,
    )
    output = encoder(input_ids=ids.flatten(0, 1), attention_mask=mask.flatten(0, 1), text_memory=memory)
    return output.last_hidden_state.unflatten(0, ids.shape[:2])


def cut_places(longest: Sequence[int], rows: int, bounded: bool) -> list[tuple[int, int]]:
    """Cut the places of candidates, sorted from long to short, into parts of like lengths that are worth a pass.

    Args:
        longest: Tokens of the longest label at each place.
        rows: Texts, each with one label at each place.
        bounded: Whether a part is also kept to `TOKENS_PER_PASS`.

    Returns:
        Per part the first place and the place behind its last.

    Example:
        >>> cut_places([16, 15, 9, 9, 4], rows=200, bounded=False)
        [(0, 2), (2, 4), (4, 5)]
        >>> cut_places([16, 15, 9, 9, 4], rows=2, bounded=False)
        [(0, 5)]
    """
    parts, first = [], 0
    for place, length in enumerate(longest):
        tokens = rows * (place - first) * longest[first]
        full = bounded and tokens + rows * longest[first] > TOKENS_PER_PASS and place > first
        if full or (tokens >= LEAST_TOKENS and length < LEAST_SHARE * longest[first]):
            parts.append((first, place))
            first = place
    return [*parts, (first, len(longest))] if longest else []


def encode_candidates(
    encoder: PreTrainedModel,
    text_features: Features,
    gates: torch.Tensor,
    class_features: Features,
    columns: torch.Tensor,
    pool: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Encode each text's candidates in its light, those of like lengths in one pass: labels differ more than texts.

    Args:
        encoder: The encoder of [`encode_texts`].
        text_features: What it kept of B texts, and their `vectors` (B, D).
        gates: (layers, heads), see [`TextMemory`].
        class_features: `ids` and `mask` (N, L) of labels.
        columns: K labels of each text, (B, K).
        pool: Makes a vector (rows, D) of token states (rows, L, D) and their mask.

    Returns:
        Vectors (B, K, D).
    """
    if not columns.shape[1]:
        return text_features["vectors"].unsqueeze(1)[:, :0]
    ids, mask = class_features["ids"], class_features["mask"]
    ends = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)  # (N,) behind the last real token
    lengths, order = ends[columns].sort(dim=1, descending=True)  # (B, K) each
    longest, columns = lengths.amax(dim=0).tolist(), columns.gather(1, order)
    vectors = []
    for first, behind in cut_places(longest, len(columns), not torch.is_grad_enabled()):
        part = columns[:, first:behind]  # (B, k)
        own, real = ids[part][..., : longest[first]], mask[part][..., : longest[first]]  # (B, k, l)
        states = encode_labels_in_texts(encoder, text_features, gates, own, real)  # (B, k, l, D)
        vectors.append(pool(states.flatten(0, 1), real.flatten(0, 1)).unflatten(0, part.shape))
    places = order.argsort(dim=1).unsqueeze(-1)  # (B, K, 1)
    together = torch.cat(vectors, dim=1)
    return together.gather(1, places.expand_as(together))
