"""What processes that train together tell each other, so that W of them with batch b equal one with batch W * b.

Every process holds the same number of rows of a batch ([`list_share`]), encodes them, and gets the rows of the others with
their gradients. Each computes the loss of the whole batch. Then the gradients of a process, averaged over processes as
`DistributedDataParallel` does it, are those of one process: what comes back through an exchange is summed over all W, and
so W times its own part.

Source: CLIP's loss over all processes (https://arxiv.org/abs/2103.00020), where a gather without gradients would lose what
a row means to the other processes' loss.
"""

import torch
from torch import distributed

from ..models.features_zeroshot import Features


def count_processes() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _gather(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.contiguous()
    parts = [torch.empty_like(tensor) for _ in range(count_processes())]
    distributed.all_gather(parts, tensor)
    return torch.cat(parts)


class GatherRows(torch.autograd.Function):
    """The rows (rows, ...) of all processes under each other, (W * rows, ...); gradients find their way back.

    Written out because `torch.distributed.nn` is deprecated, and because this runs on every backend.
    """

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:
        """Called by `apply`."""
        ctx.rows = len(rows)
        return _gather(rows)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        """From the gradient of all rows to that of this process's."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        start = distributed.get_rank() * ctx.rows
        return total[start : start + ctx.rows]


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, with gradients."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        """Called by `apply`."""
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        """Each process's loss depends on each process's part."""
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def gather_rows(rows: torch.Tensor, total: int) -> torch.Tensor:
    """Put the rows of all processes under each other, without the repeated ones at the end.

    Args:
        rows: (rows, ...), of the same shape in every process.
        total: How many rows there are without repetition.

    Returns:
        (total, ...); gradients flow back to every process.
    """
    if count_processes() == 1:
        return rows
    return (GatherRows.apply(rows) if rows.is_floating_point() else _gather(rows))[:total]


def gather_features(features: Features, total: int) -> Features:
    """[`gather_rows`] of features, which may be wider in one process than in another: zeros fill them up."""
    if count_processes() == 1:
        return features
    widths = [size for tensor in features.values() for size in tensor.shape[1:]]
    widest = torch.tensor(widths, device=next(iter(features.values())).device)
    distributed.all_reduce(widest, distributed.ReduceOp.MAX)
    sizes = iter(widest.tolist())
    gathered = {}
    for name, tensor in features.items():
        missing = [next(sizes) - size for size in tensor.shape[1:]]
        padding = [width for size in reversed(missing) for width in (0, size)]
        gathered[name] = gather_rows(torch.nn.functional.pad(tensor, padding), total)
    return gathered


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes; gradients flow back to every process."""
    return tensor if count_processes() == 1 else SumOverProcesses.apply(tensor)
