"""Several training files in proportions that the recipe says, and examples that know how late in a run they come."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch.utils.data import Sampler

from ..data.negatives import Draw
from .sampling import GroupedSampler


class EpochSampler(Protocol):
    """An order of examples that is another one in each epoch."""

    @property
    def epoch(self) -> int:
        """The epoch whose order is yielded."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator: ...


def share_examples(sizes: Sequence[int], weights: Sequence[float], temperature: float) -> list[int]:
    """How many examples of each source an epoch holds: as many in all as there are examples.

    The share of a source is proportional to `weight * size ** (1 / temperature)`: a weight is how much more often a row is
    seen than one of another source; a temperature above 1 brings small sources nearer to large ones.

    Args:
        sizes: Examples per source.
        weights: Per source; all 1 when empty.
        temperature: Above 0, up to infinity, with which sizes do not count.

    Raises:
        ValueError: If no source with an example has a weight above 0.

    Example:
        >>> share_examples([90, 10], [1, 1], 1.0), share_examples([90, 10], [1, 1], float("inf"))
        ([90, 10], [50, 50])
    """
    scaled = [
        weight * size ** (1 / temperature) if size else 0.0
        for size, weight in zip(sizes, weights or [1.0] * len(sizes), strict=True)
    ]
    if not any(scaled):
        raise ValueError(f"Expected a source with rows and a weight above 0, found {list(weights)}. Raise one.")
    exact = [sum(sizes) * one / sum(scaled) for one in scaled]
    counts = [int(one) for one in exact]
    # What rounding down leaves goes to the largest remainders, so that the length of an epoch stays what it was.
    by_remainder = sorted(range(len(exact)), key=lambda source: counts[source] - exact[source])
    for source in by_remainder[: sum(sizes) - sum(counts)]:
        counts[source] += 1
    return counts


class WeightedSampler(Sampler[Draw]):
    """Yield examples of several sources in given proportions, otherwise like [`GroupedSampler`].

    A source that is to give more examples than it has is passed through as often as needed; of the last pass an epoch
    draws which. The order follows from (seed, epoch) alone.

    Args:
        lengths: Length of every example.
        sources: Source number of every example.
        counts: Examples of each source per epoch, see [`share_examples`].
        batch_size: Examples per batch, over all processes.
        seed: Decides the order together with the epoch.
        grouped: Whether a batch holds one source.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        sources: Sequence[int],
        counts: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        grouped: bool,
    ):
        self.lengths = list(lengths)
        self.counts = list(counts)
        self.batch_size = batch_size
        self.seed = seed
        self.grouped = grouped
        self.epoch = 0
        self.members: list[list[int]] = [[] for _ in counts]
        for position, source in enumerate(sources):
            self.members[source].append(position)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def _build_order(self, draws: Sequence[Draw]) -> GroupedSampler:
        groups = [source for source, count in enumerate(self.counts) for _ in range(count)]
        lengths = [self.lengths[draw.position] for draw in draws]
        return GroupedSampler(lengths, groups if self.grouped else None, self.batch_size, self.seed)

    def _draw_epoch(self) -> list[Draw]:
        """All examples of an epoch, source by source."""
        draws = []
        for source, (positions, count) in enumerate(zip(self.members, self.counts, strict=True)):
            for visit in range(-(-count // len(positions)) if count else 0):
                wanted = min(count - visit * len(positions), len(positions))
                generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) * 1_009 + source)
                chosen = torch.randperm(len(positions), generator=generator)[:wanted].tolist()
                draws += [Draw(positions[place], visit) for place in chosen]
        return draws

    def __len__(self) -> int:
        return len(self._build_order([Draw(0)] * sum(self.counts)))

    def __iter__(self) -> Iterator[Draw]:
        draws = self._draw_epoch()
        order = self._build_order(draws)
        order.set_epoch(self.epoch)
        return (draws[place] for place in order)


class MiningSampler(Sampler[Draw]):
    """Tell every example which mining its negatives come from, by the step in which it is seen.

    In the steps from k * interval on, the result of step (k - 1) * interval is used: batches that a loader fetched ahead
    then do not depend on how far ahead it was.

    Args:
        order: The order of examples.
        batch_size: Examples per batch, over all processes.
        batches_per_step: Batches whose gradients are accumulated.
        interval: Steps between two minings.
    """

    def __init__(self, order: EpochSampler, batch_size: int, batches_per_step: int, interval: int):
        self.order = order
        self.batch_size = batch_size
        self.batches_per_step = batches_per_step
        self.interval = interval

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.order.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        """The epoch whose order is yielded."""
        return self.order.epoch

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Draw]:
        batches = -(-len(self.order) // self.batch_size)
        first_step = self.order.epoch * max(-(-batches // self.batches_per_step), 1)
        for number, index in enumerate(self.order):
            step = first_step + number // self.batch_size // self.batches_per_step
            place = index if isinstance(index, Draw) else Draw(index)
            yield place._replace(mining=max(step // self.interval - 1, 0))
