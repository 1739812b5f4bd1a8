"""Texts that are longer than the model reads: windows that overlap, and what their logits become together.

A window holds as many tokens as the model takes, and begins a quarter of a window before the last one ended, so that what is
cut in two by one window's end stands whole in the next. The pooled logit of a label is, over windows w,

    max        max_w z_w                                   one part of the text is about the label
    mean       mean_w z_w                                  the text is about it on the whole
    noisy_or   logit(1 - prod_w (1 - sigmoid(z_w)))        parts add up, as if each gave evidence by itself

Noisy-or is Pearl's (Probabilistic Reasoning in Intelligent Systems, 1988, ch. 4); it reads logits as those of a sigmoid, and
is meant for labels that are judged one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from .inputs_zeroshot import TextError

logger = logging.get_logger(__name__)

OVERLAP = 4  # a window shares this part of its tokens, a quarter, with the next one


@dataclass
class FittedTexts:
    """Rows of tokens that fit the model.

    Args:
        token_ids: Of R rows, special tokens included.
        spans: For each text, the rows that are its windows, as (first, last + 1).
        truncated: For each text, how many of its tokens are in no row.
        parts: For each text, which of its tokens are read beside all of its labels, as (first, last + 1) for each of its
            rows, special tokens aside; none where the text is read whole.
    """

    token_ids: list[list[int]]
    spans: list[tuple[int, int]]
    truncated: list[int]
    parts: list[list[tuple[int, int]]]


def read_special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids that a tokenizer puts before and behind a text."""
    probe = "text"
    bare = tokenizer(probe, add_special_tokens=False)["input_ids"]
    whole = tokenizer(probe)["input_ids"]
    starts = range(len(whole) - len(bare) + 1)
    before = next((start for start in starts if whole[start : start + len(bare)] == bare), None)
    if before is None:
        raise ValueError(
            f"Expected a tokenizer that puts special tokens around a text, found {whole} for the tokens {bare}. Pass "
            "overflow='truncate' or 'error' for long texts."
        )
    return whole[:before], whole[before + len(bare) :]


def split_tokens(length: int, size: int) -> list[tuple[int, int]]:
    """Windows (first, last + 1) of at most `size` of so many tokens; each but the first begins inside the one before.

    Example:
        >>> split_tokens(8, 4)
        [(0, 4), (3, 7), (6, 8)]
    """
    windows, start = [(0, min(size, length))], 0
    while start + size < length:
        start += max(1, size - size // OVERLAP)
        windows.append((start, min(start + size, length)))
    return windows


def fit_texts(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[list[int]], rooms: Sequence[int], limit: int, overflow: str
) -> FittedTexts:
    """Make rows that fit the model of texts of any length; a text that fits is one row, as it is.

    Args:
        tokenizer: The encoder's tokenizer.
        token_ids: Of B texts, special tokens included, of any length.
        rooms: For each text, the most tokens that stand whole beside its labels, special tokens included.
        limit: The most tokens of a row, to which texts are cut.
        overflow: `split`, `error` or `truncate`, see [`CallOptions`].

    Raises:
        TextError: If a text is too long and `overflow` is `error`.
    """
    long = [position for position, (ids, room) in enumerate(zip(token_ids, rooms, strict=True)) if len(ids) > room]
    if not long:
        ones = [(position, position + 1) for position in range(len(token_ids))]
        return FittedTexts(list(token_ids), ones, [0] * len(token_ids), [[] for _ in token_ids])
    if overflow == "error":
        raise TextError(
            f"Expected texts of at most {rooms[long[0]]} tokens beside their labels, found {len(token_ids[long[0]])}",
            long[0],
            "Shorten it, or pass overflow='split' or 'truncate'.",
        )
    beyond = [position for position in long if len(token_ids[position]) > limit]
    if overflow == "truncate" and beyond:
        logger.warning(
            f"{len(beyond)} of {len(token_ids)} texts are longer than the model's {limit} tokens and were cut "
            f"(the first, at position {beyond[0]}, has {len(token_ids[beyond[0]])})."
        )
    prefix, suffix = read_special_tokens(tokenizer)
    around = len(prefix) + len(suffix)
    fitted = FittedTexts([], [], [], [])
    for ids, room in zip(token_ids, rooms, strict=True):
        first, rows, parts = len(fitted.token_ids), [list(ids)], []
        if len(ids) > room and overflow == "split":
            windows = split_tokens(len(ids) - around, room - around)
            parts = [(len(prefix) + start, len(prefix) + end) for start, end in windows]
            rows = [[*prefix, *ids[start:end], *suffix] for start, end in parts]
        elif len(ids) > room:
            # A label that is shorter than the longest one leaves room for more tokens of this row.
            kept = min(len(ids), limit) - around
            start = len(ids) - len(suffix) - kept if tokenizer.truncation_side == "left" else len(prefix)
            parts = [(start, start + room - around)]
            rows = [[*prefix, *ids[start : start + kept], *suffix]]
        fitted.token_ids += rows
        fitted.spans.append((first, first + len(rows)))
        fitted.truncated.append(max(0, len(ids) - room) if overflow == "truncate" else 0)
        fitted.parts.append(parts)
    return fitted


def pool_windows(logits: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce logits (windows, N) of one text to (N,).

    Example:
        >>> pool_windows(torch.tensor([[0.0, 2.0], [0.0, -4.0]]), "mean")
        tensor([ 0., -1.])
        >>> pool_windows(torch.tensor([[0.0], [0.0]]), "noisy_or").sigmoid()
        tensor([0.7500])
    """
    if len(logits) == 1:
        return logits[0]
    if pooling == "max":
        return logits.amax(dim=0)
    if pooling == "mean":
        return logits.mean(dim=0)
    none = -torch.nn.functional.softplus(logits.double()).sum(dim=0)  # log prod (1 - p)
    # log(1 - e^x) loses its digits near 0, log(-expm1(x)) does not; below the least double no window says anything.
    some = torch.log(-torch.expm1(none).clamp(max=-torch.finfo(torch.double).tiny))
    return (some - none).to(logits.dtype)
