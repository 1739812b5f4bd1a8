"""Packed batches: texts and labels side by side in one sequence, so that the encoder runs once and hardly on padding.

Rows are sorted by length and cut into blocks of nearly the same length. The blocks lie one behind the other in one sequence
of T tokens, positions begin anew in every row, and attention goes block by block, so that no row sees another. All else in
an encoder works token by token and does not notice. The states are those of padded batches, up to the order of sums.

What it saves in training: the padding between short and long rows, half of the small operations, and one of the two
gradients as large as the table of word embeddings.

It works in encoders whose attention goes through transformers' `AttentionInterface` and whose positions are given as ids.
Source: packing as for BERT in https://arxiv.org/abs/2107.02027. Departure: attention is computed per block, not under a mask
over the whole sequence, whose cost would grow with the square of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from .encoder_zeroshot import find_first_position

PACKED = "zeroshot_packed"
# Encoders with learned absolute positions, full attention in every layer and the interface; each is tested.
PACKABLE = frozenset({"bert", "roberta", "xlm-roberta", "electra"})
# A row shorter than this share of its block's longest begins a new block: few blocks, little padding.
LEAST_SHARE = 0.875
# The whole sequence is filled up to a multiple of this: for every new number of tokens oneDNN builds its kernels anew, which
# slows its matrix products down visibly.
TOKEN_MULTIPLE = 32

Grid = tuple[torch.Tensor, torch.Tensor]  # token ids and mask (1 where real), both (rows, tokens) int64


@dataclass
class Block:
    """Rows of nearly the same length, which follow each other in the packed sequence.

    Args:
        rows: How many rows.
        tokens: Tokens of each row, padding included.
        mask: (rows, 1, 1, tokens) bool, true where a token is real; None where all are.
    """

    rows: int
    tokens: int
    mask: torch.Tensor | None


def cut_blocks(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut rows, sorted from long to short, into blocks.

    Returns:
        Per block the first row and the row behind its last.

    Example:
        >>> cut_blocks([16, 15, 14, 9, 9, 4])
        [(0, 3), (3, 5), (5, 6)]
    """
    starts = [0] if lengths else []
    for row, length in enumerate(lengths):
        if length < LEAST_SHARE * lengths[starts[-1]]:
            starts.append(row)
    return list(zip(starts, [*starts[1:], len(lengths)], strict=True))


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    blocks: Sequence[Block] | None = None,
    **_settings_of_other_implementations,
) -> tuple[torch.Tensor, None]:
    """Attention for transformers' `AttentionInterface`; without blocks it is plain bidirectional attention.

    Args:
        module: The attention module that calls.
        query: (rows, heads, tokens, head size), as are `key` and `value`; with blocks (1, heads, T, head size).
        key: Keys.
        value: Values.
        attention_mask: Added to the scores, (rows, 1, tokens, tokens); not read with blocks.
        scaling: Factor on the scores.
        dropout: Rate on the weights.
        blocks: Where rows lie in a packed sequence.

    Returns:
        (rows, tokens, heads, head size), and no weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        scores = query @ key.transpose(2, 3) * scaling  # (rows, heads, tokens, tokens)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        weights = nn.functional.dropout(scores.softmax(dim=-1), dropout, module.training).to(value.dtype)
        return (weights @ value).transpose(1, 2)  # (rows, tokens, heads, head size)

    if blocks is None:
        return attend(query, key, value, attention_mask).contiguous(), None
    # Not slices: the gradient of each would be as large as all blocks together.
    sizes = [block.rows * block.tokens for block in blocks]
    parts = zip(*(states.squeeze(0).split(sizes, dim=1) for states in (query, key, value)), strict=True)
    outputs = []
    for block, part in zip(blocks, parts, strict=True):
        grids = [states.unflatten(1, (block.rows, block.tokens)).transpose(0, 1) for states in part]
        # each (rows, heads, tokens, head size)
        outputs.append(attend(grids[0], grids[1], grids[2], block.mask).flatten(0, 1))  # (rows * tokens, heads, head size)
    return torch.cat(outputs).unsqueeze(0), None  # (1, T, heads, head size)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, eager_mask)


def can_pack(encoder: PreTrainedModel) -> bool:
    """Whether an encoder gives the same states when its rows lie in one sequence."""
    absolute = getattr(encoder.config, "position_embedding_type", "absolute") in (None, "absolute")
    return encoder.config.model_type in PACKABLE and absolute and not encoder.config.is_decoder


def encode_packed(encoder: PreTrainedModel, grids: Sequence[Grid]) -> list[torch.Tensor]:
    """Run the encoder once over the rows of several grids.

    Args:
        encoder: Its attention is [`packed_attention`], and [`can_pack`] holds.
        grids: Token ids and mask (1 where real) of each, both (rows, tokens) int64, padded on the right.

    Returns:
        Token states of each grid, (rows, tokens, D), zeros where the mask is 0.
    """
    device, first_position = grids[0][0].device, find_first_position(encoder)
    rows = [row for ids, _ in grids for row in ids]
    lengths = torch.cat([mask.sum(dim=1) for _, mask in grids]).tolist()
    order = sorted(range(len(rows)), key=lambda row: -lengths[row])
    parts, positions, blocks = [], [], []
    starts = [0] * len(rows)  # where each row begins in the packed sequence
    end = 0
    for first, behind in cut_blocks([lengths[row] for row in order]):
        members, tokens = order[first:behind], lengths[order[first]]
        place = torch.arange(tokens, device=device)
        real = torch.tensor([lengths[row] for row in members], device=device)[:, None] > place  # (members, tokens)
        # A row may come from a grid narrower than its block: what is missing there is padding.
        parts += [nn.functional.pad(rows[row][:tokens], (0, max(0, tokens - len(rows[row])))) for row in members]
        positions.append(place.repeat(len(members)) + first_position)
        blocks.append(Block(len(members), tokens, None if real.all() else real[:, None, None, :]))
        for row in members:
            starts[row], end = end, end + tokens
    if filler := -end % TOKEN_MULTIPLE:  # a row of its own, which nobody reads
        parts.append(rows[0].new_zeros(filler))
        positions.append(torch.full((filler,), first_position, device=device))
        blocks.append(Block(1, filler, None))
    states = encoder(
        input_ids=torch.cat(parts).unsqueeze(0),  # (1, T)
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),  # of four dimensions: transformers builds no (T, T) mask
        position_ids=torch.cat(positions).unsqueeze(0),
        blocks=blocks,
    ).last_hidden_state.squeeze(0)  # (T, D)
    unpacked = []
    for ids, mask in grids:
        own, starts = torch.tensor(starts[: len(ids)], device=device), starts[len(ids) :]
        real = mask.bool()
        index = own[:, None] + torch.arange(ids.shape[1], device=device)  # (rows, tokens)
        gathered = states[index.masked_fill(~real, 0)]  # (rows, tokens, D)
        unpacked.append(gathered.masked_fill(~real.unsqueeze(-1), 0.0))
    return unpacked
