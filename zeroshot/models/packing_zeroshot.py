"""Packed batches: texts and labels side by side in one sequence, so that the encoder runs once and without padding.

Rows are sorted by length and lie one behind the other in one sequence of T tokens; positions begin anew in every row. For
attention alone, rows of like lengths are put into one padded grid, so that no row sees another. All else in an encoder works
token by token and does not notice. The states are those of padded batches, up to the order of sums.

What it saves in training: the padding, half of the small operations, and one of the two gradients as large as the table of
word embeddings.

It works in encoders whose attention goes through transformers' `AttentionInterface` and whose positions are given as ids.
Source: packing as for BERT in https://arxiv.org/abs/2107.02027. Departure: attention is computed per group of rows, not
under a mask over the whole sequence, whose cost would grow with the square of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from .encoder_zeroshot import find_first_position

PACKED = "zeroshot_packed"
# Encoders with learned absolute positions, full attention in every layer and the interface; each is tested.
PACKABLE = frozenset({"bert", "roberta", "xlm-roberta", "electra"})
# A row shorter than this share of its group's longest begins a new group: every group costs some twenty small operations a
# layer, and padding costs attention only.
LEAST_SHARE = 0.6
# The whole sequence is filled up to a multiple of this: for every new number of tokens oneDNN builds its kernels anew, which
# slows its matrix products down visibly.
TOKEN_MULTIPLE = 32

Grid = tuple[torch.Tensor, torch.Tensor]  # token ids and mask (1 where real), both (rows, tokens) int64


@dataclass
class Places:
    """Where n vectors lie among m cells, of which the others are empty.

    Args:
        cells: Which vector is in each cell, (m,) int64; any one where it is empty.
        vectors: The cell of each vector, (n,) int64.
        empty: The empty cells, (m - n,) int64.
    """

    cells: torch.Tensor
    vectors: torch.Tensor
    empty: torch.Tensor

    @classmethod
    def build(cls, vectors: torch.Tensor, cells: int) -> "Places":
        """From the cell of each vector."""
        inside = torch.full((cells,), -1, device=vectors.device)
        inside[vectors] = torch.arange(len(vectors), device=vectors.device)
        return cls(inside.clamp(min=0), vectors, (inside < 0).nonzero().squeeze(1))

    def spread(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (n, D) in their cells (m, D), zeros in the empty ones."""
        cells = vectors.index_select(0, self.cells)
        return cells.index_fill_(0, self.empty, 0) if len(self.empty) else cells


class Spread(torch.autograd.Function):
    """Vectors (n, D) to cells (m, D). Gradients move back likewise; autograd by itself would add them up one by one."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, places: Places) -> torch.Tensor:
        """Into the cells."""
        ctx.places = places
        return places.spread(vectors)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Out of them."""
        return gradients[0].index_select(0, ctx.places.vectors), None


class Gather(torch.autograd.Function):
    """Cells (m, D) to vectors (n, D)."""

    @staticmethod
    def forward(ctx: Any, cells: torch.Tensor, places: Places) -> torch.Tensor:
        """Out of the cells."""
        ctx.places = places
        return cells.index_select(0, places.vectors)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Into them."""
        return ctx.places.spread(gradients[0]), None


class AttentionGrid(NamedTuple):
    """Rows of like lengths, each head of a row by itself."""

    rows: int  # times heads
    tokens: int
    bias: torch.Tensor | None  # (rows, 1, tokens), minus infinity at padding; None where there is none


@dataclass
class Packing:
    """How rows lie in a packed sequence.

    Args:
        lengths: Tokens of each row, in the order of the sequence: from long to short.
        device: Where the sequence is.
    """

    lengths: list[int]
    device: torch.device
    _grids: dict[tuple[int, torch.dtype], tuple[Places, list[AttentionGrid]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def lay_out(self, heads: int, dtype: torch.dtype) -> tuple[Places, list[AttentionGrid]]:
        """The grids of attention; the same in all layers, so they are laid out once.

        Args:
            heads: How many.
            dtype: Of the scores.

        Returns:
            Where the vectors of all tokens and heads (T * heads) lie in the cells of all grids, which stand one behind the
            other as (rows, heads, tokens); and the grids.
        """
        if (heads, dtype) not in self._grids:
            cells, grids, end = [], [], 0
            head = torch.arange(heads, device=self.device)
            for first, behind in cut_groups(self.lengths):
                tokens, rows = self.lengths[first], behind - first
                place = torch.arange(tokens, device=self.device)
                real = torch.tensor(self.lengths[first:behind], device=self.device)[:, None] > place  # (rows, tokens)
                row = torch.arange(rows, device=self.device)[:, None, None]
                cell = (row * heads + head) * tokens + place[:, None]  # (rows, tokens, heads)
                cells.append(cell[real] + end)  # (tokens that are real, heads)
                bias = None
                if self.lengths[behind - 1] < tokens:
                    bias = torch.zeros(rows, tokens, device=self.device, dtype=dtype).masked_fill_(~real, float("-inf"))
                    bias = bias.repeat_interleave(heads, dim=0).unsqueeze(1)
                grids.append(AttentionGrid(rows * heads, tokens, bias))
                end += rows * heads * tokens
            self._grids[heads, dtype] = Places.build(torch.cat(cells).flatten(), end), grids
        return self._grids[heads, dtype]


def cut_groups(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut rows, sorted from long to short, into groups of like lengths.

    Returns:
        Per group the first row and the row behind its last.

    Example:
        >>> cut_groups([16, 15, 10, 9, 9, 4])
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
    packing: Packing | None = None,
    **_settings_of_other_implementations,
) -> tuple[torch.Tensor, None]:
    """Attention for transformers' `AttentionInterface`; without a packing it is plain bidirectional attention.

    Args:
        module: The attention module that calls.
        query: (rows, heads, tokens, head size), as are `key` and `value`; with a packing (1, heads, T, head size).
        key: Keys.
        value: Values.
        attention_mask: Added to the scores, (rows, 1, tokens, tokens); not read with a packing.
        scaling: Factor on the scores.
        dropout: Rate on the weights.
        packing: Where rows lie in a packed sequence.

    Returns:
        (rows, tokens, heads, head size), and no weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        scores = query @ key.transpose(-2, -1)  # (..., tokens, tokens)
        scores = scores * scaling if bias is None else torch.add(bias, scores, alpha=scaling)
        # In float32 also under autocast: on a CPU the gradient of a softmax in bfloat16 takes twenty times as long.
        weights = nn.functional.dropout(scores.softmax(dim=-1, dtype=torch.float32), dropout, module.training)
        return weights.to(value.dtype) @ value

    if packing is None:
        return attend(query, key, value, attention_mask).transpose(1, 2).contiguous(), None
    _, heads, tokens, size = query.shape
    places, grids = packing.lay_out(heads, query.dtype)
    # Not slices: the gradient of each would be as large as all grids together.
    sizes = [grid.rows * grid.tokens for grid in grids]
    parts = []
    for states in (query, key, value):
        flat = states.transpose(1, 2).reshape(tokens * heads, size)
        cells = Spread.apply(flat, places).split(sizes)
        parts.append([part.view(grid.rows, grid.tokens, size) for part, grid in zip(cells, grids, strict=True)])
    outputs = [
        attend(queries, keys, values, grid.bias).view(-1, size)
        for queries, keys, values, grid in zip(*parts, grids, strict=True)
    ]
    states = Gather.apply(torch.cat(outputs), places)  # (T * heads, head size)
    return states.view(1, tokens, heads, size), None


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
        grids: Token ids and mask (1 where real) of each, both (rows, tokens) int64; at least one token of a row is real.

    Returns:
        Token states of each grid, (rows, tokens, D), zeros where the mask is 0.
    """
    device = grids[0][0].device
    lengths = torch.cat([mask.sum(dim=1) for _, mask in grids])  # (rows of all grids,)
    if filler := -int(lengths.sum()) % TOKEN_MULTIPLE:  # one more grid, which nobody reads, of rows as long as others are
        longest = int(lengths.max())
        numbers = torch.arange(-(-filler // longest) * longest, device=device).view(-1, longest)
        grids = [*grids, (torch.zeros_like(numbers), (numbers < filler).long())]
        lengths = torch.cat([lengths, grids[-1][1].sum(dim=1)])
    lengths, order = lengths.sort(descending=True, stable=True)
    starts = torch.empty_like(lengths).scatter_(0, order, lengths.cumsum(0) - lengths)  # of each row in the sequence
    packed, positions, cells = (torch.empty(int(lengths.sum()), dtype=torch.long, device=device) for _ in range(3))
    end = 0
    for (ids, mask), own in zip(grids, starts.split([len(ids) for ids, _ in grids]), strict=True):
        real = mask.bool()
        place = torch.arange(ids.shape[1], device=device).expand_as(ids)
        index = (own[:, None] + mask.cumsum(dim=1) - 1)[real]
        packed[index], positions[index] = ids[real], place[real]
        cells[index] = torch.arange(end, end + ids.numel(), device=device).view_as(ids)[real]
        end += ids.numel()
    states = encoder(
        input_ids=packed.unsqueeze(0),  # (1, T)
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),  # of four dimensions: transformers builds no (T, T) mask
        position_ids=positions.unsqueeze(0) + find_first_position(encoder),
        packing=Packing(lengths.tolist(), device),
    ).last_hidden_state.squeeze(0)  # (T, D)
    spread = Spread.apply(states, Places.build(cells, end)).split([ids.numel() for ids, _ in grids])
    unpacked = [part.view(*ids.shape, -1) for part, (ids, _) in zip(spread, grids, strict=True)]
    return unpacked[:-1] if filler else unpacked
