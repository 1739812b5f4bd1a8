"""A text and a label in one sequence, put together from token ids: what `tokenizer(text, label)` gives, without it.

Texts and labels are tokenised once each; B x N pairs of them are then a matter of tensors.
"""

import itertools
from collections.abc import Iterator

import torch

from .features_zeroshot import Features

PROBES = ("first words of a text", "a label", "text, with 3 marks!")


def _find(part: list[int], whole: list[int], start: int = 0) -> int:
    """Where `part` begins in `whole`, or -1."""
    positions = range(start, len(whole) - len(part) + 1)
    return next((position for position in positions if whole[position : position + len(part)] == part), -1)


def describe_pairs(tokenizer) -> dict:
    """How a tokenizer puts two texts into one sequence.

    Returns:
        `single_special_tokens`: how many special tokens stand before and behind a text alone; `prefix`, `separator` and
        `suffix`: the ids before, between and behind a pair; `token_types`: those of prefix, first text, separator, second
        text and suffix, None where the tokenizer gives none; `pad_token_id`.

    Raises:
        ValueError: If the tokenizer does not put pairs together in this way.
    """
    layout = None
    if tokenizer.truncation_side == "right" and tokenizer.pad_token_id is not None:
        layout = _read_layout(tokenizer, *PROBES[:2])
    if layout is None or not all(_fits(tokenizer, layout, *pair) for pair in itertools.permutations(PROBES, 2)):
        raise ValueError(
            "Expected a tokenizer that pads, cuts a text at its end and writes a pair as prefix, text, separator, label, "
            f"suffix, found {type(tokenizer).__name__}, which gives {tokenizer(*PROBES[:2])['input_ids']} for "
            f"{PROBES[:2]}. Choose an encoder of the kind of BERT, RoBERTa, DeBERTa or ModernBERT."
        )
    return layout


def _read_layout(tokenizer, text: str, label: str) -> dict | None:
    """The layout as one pair shows it; None where the ids of the two are not found in it."""
    first, second = (tokenizer(one, add_special_tokens=False)["input_ids"] for one in (text, label))
    single, pair = tokenizer(text)["input_ids"], tokenizer(text, label)
    ids, types = pair["input_ids"], pair.get("token_type_ids")
    before, begin = _find(first, single), _find(first, ids)
    middle = _find(second, ids, begin + len(first)) if begin >= 0 else -1
    if not first or not second or min(before, begin, middle) < 0:
        return None
    end = middle + len(second)
    starts = [0, begin, begin + len(first), middle, end]  # of the five segments, empty ones among them
    return {
        "single_special_tokens": [before, len(single) - before - len(first)],
        "prefix": ids[:begin],
        "separator": ids[begin + len(first) : middle],
        "suffix": ids[end:],
        "token_types": None if types is None else [types[min(start, len(types) - 1)] for start in starts],
        "pad_token_id": tokenizer.pad_token_id,
    }


def _fits(tokenizer, layout: dict, text: str, label: str) -> bool:
    """Whether pairs that are put together here are those of the tokenizer, cut ones too."""
    encoded = (tokenizer([one], return_tensors="pt") for one in (text, label))
    texts, labels = (strip_special_tokens(one["input_ids"], one["attention_mask"], layout) for one in encoded)
    whole = len(tokenizer(text, label)["input_ids"])
    for limit in (whole, whole - 1):
        expected = tokenizer(text, label, truncation="only_first", max_length=limit)
        ids, _, types = assemble_pairs(texts, labels, layout, limit)
        if ids[0].tolist() != expected["input_ids"]:
            return False
        if types is not None and types[0].tolist() != expected["token_type_ids"]:
            return False
    return True


def strip_special_tokens(input_ids: torch.Tensor, attention_mask: torch.Tensor, layout: dict) -> Features:
    """Mark which tokens of rows (rows, tokens) are their content: `ids` int64 and `mask` bool, both (rows, tokens)."""
    before, behind = layout["single_special_tokens"]
    rank = attention_mask.cumsum(dim=1)  # 1 for the first real token
    inside = (rank > before) & (rank <= rank[:, -1:] - behind)
    return {"ids": input_ids, "mask": attention_mask.bool() & inside}


def count_special_tokens(layout: dict) -> int:
    """How many tokens of a pair are neither text nor label."""
    return len(layout["prefix"]) + len(layout["separator"]) + len(layout["suffix"])


def assemble_pairs(
    texts: Features, labels: Features, layout: dict, limit: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Put the text and the label of each row into one sequence; where they are too long together, the text's end is cut.

    Args:
        texts: What [`strip_special_tokens`] gave, one row a pair.
        labels: Likewise, as many rows.
        layout: See [`describe_pairs`].
        limit: The most tokens of a pair.

    Returns:
        Ids, mask and token types (None where there are none), (rows, tokens of the longest) int64.
    """
    rows, device = len(texts["ids"]), texts["ids"].device
    room = limit - count_special_tokens(layout) - labels["mask"].sum(dim=1, keepdim=True)  # (rows, 1)
    kept = texts["mask"] & (texts["mask"].cumsum(dim=1) <= room)  # (rows, S)

    def repeat(ids: list[int]) -> torch.Tensor:
        return torch.tensor(ids, dtype=torch.long, device=device).expand(rows, -1)

    segments = [repeat(layout["prefix"]), texts["ids"], repeat(layout["separator"]), labels["ids"], repeat(layout["suffix"])]
    masks = [torch.ones_like(segment, dtype=torch.bool) for segment in segments]
    masks[1], masks[3] = kept, labels["mask"]
    mask = torch.cat(masks, dim=1)
    # A stable sort by "not real" moves the real tokens to the front, in their order.
    order = mask.long().argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(dim=1).max())]
    mask = mask.gather(1, order)  # (rows, tokens)
    ids = torch.cat(segments, dim=1).gather(1, order).masked_fill(~mask, layout["pad_token_id"])
    if layout["token_types"] is None:
        return ids, mask.long(), None
    types = [torch.full_like(segment, kind) for segment, kind in zip(segments, layout["token_types"], strict=True)]
    return ids, mask.long(), torch.cat(types, dim=1).gather(1, order).masked_fill(~mask, 0)


def batch_by_length(lengths: torch.Tensor, max_tokens: int, least_share: float = 0.0) -> Iterator[torch.Tensor]:
    """Yield positions of rows, longest rows first, in batches of at most `max_tokens` padded tokens (or one row).

    Args:
        lengths: Tokens of each row, (rows,) int64.
        max_tokens: The most rows times tokens of the longest.
        least_share: A row shorter than this share of its batch's longest begins a new batch.

    Example:
        >>> [batch.tolist() for batch in batch_by_length(torch.tensor([2, 6, 3, 2]), 6)]
        [[1], [2, 0], [3]]
    """
    ordered, order = lengths.sort(descending=True, stable=True)
    longest, start = ordered.tolist(), 0
    while start < len(longest):
        end = min(start + max(1, max_tokens // max(1, longest[start])), len(longest))
        while longest[end - 1] < least_share * longest[start]:
            end -= 1
        yield order[start:end]
        start = end
