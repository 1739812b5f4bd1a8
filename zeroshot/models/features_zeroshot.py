"""What the two phases hand to `score`: named tensors whose first dimension is the row (a text, or a worded label).

What they hold differs by architecture (vectors, token matrices with their mask, keys and values, plain ids); whoever
stores, joins or picks rows of them needs to know only this file.
"""

from collections.abc import Sequence

import torch

Features = dict[str, torch.Tensor]


def concatenate_features(parts: Sequence[Features]) -> Features:
    """Put rows under each other; a tensor that is smaller in a later dimension is padded with zeros.

    Zero is what a mask holds where nothing is real, so that padding in this way changes no score.

    Args:
        parts: Features with the same names; each tensor (rows, ...).

    Raises:
        ValueError: If there is no part.
    """
    if not parts:
        raise ValueError("Expected features of at least one batch, found none. Pass at least one text or label.")
    joined = {}
    for name in parts[0]:
        tensors = [part[name] for part in parts]
        sizes = [max(lengths) for lengths in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
        padded = []
        for tensor in tensors:
            missing = [size - length for size, length in zip(sizes, tensor.shape[1:], strict=True)]
            widths = [width for size in reversed(missing) for width in (0, size)]
            padded.append(torch.nn.functional.pad(tensor, widths) if any(missing) else tensor)
        joined[name] = torch.cat(padded)
    return joined


def select_features(features: Features, rows: torch.Tensor) -> Features:
    """Pick rows, by position; repeated positions repeat rows."""
    return {name: tensor[rows] for name, tensor in features.items()}


def split_features(features: Features, rows: int) -> list[Features]:
    """Cut into parts of at most `rows` rows, so that work on one part at a time is bounded in memory. Nothing is copied."""
    parts = zip(*(tensor.split(rows) for tensor in features.values()), strict=True)
    return [dict(zip(features, part, strict=True)) for part in parts]


def count_rows(features: Features) -> int:
    """How many rows there are."""
    return len(next(iter(features.values())))


def list_candidates(candidate_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn a mask of cells into positions, so that work is done for those cells only.

    Args:
        candidate_mask: (B, N), true where a text is to be scored against a label.

    Returns:
        The columns of each text's candidates in rising order, (B, K) int64, and which of them are real, (B, K) bool, with
        K the most candidates of a text. Places that are not real repeat some column.

    Example:
        >>> list_candidates(torch.tensor([[True, False, True], [False, True, False]]))
        (tensor([[0, 2],
                [1, 0]]), tensor([[ True,  True],
                [ True, False]]))
    """
    most = int(candidate_mask.sum(dim=1).max()) if candidate_mask.numel() else 0
    columns = torch.argsort(candidate_mask.long(), dim=1, descending=True, stable=True)[:, :most]  # (B, K)
    return columns, candidate_mask.gather(1, columns)


def scatter_candidates(values: torch.Tensor, columns: torch.Tensor, real: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Write values (B, K) into a copy of `grid` (B, N) at the columns that [`list_candidates`] gave; the rest stays."""
    kept = grid.gather(1, columns)  # (B, K)
    return grid.scatter(1, columns, torch.where(real, values.to(grid.dtype), kept))
