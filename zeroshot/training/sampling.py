"""The order in which examples are seen: like lengths together, one source a batch, anew each epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class GroupedSampler(Sampler[int]):
    """Yield positions so that each run of `batch_size` holds one group and like lengths.

    The order follows from (seed, epoch) alone, so a resumed run sees what the interrupted one would have seen. The
    last, incomplete batch of a group is left out; another draw decides in each epoch which examples that are. Groups
    smaller than a batch are treated as one group; if even that one is smaller than a batch, it comes whole and last.

    Args:
        lengths: Length of every example, in any unit.
        groups: Group number of every example; None for one group.
        batch_size: Examples per batch, over all processes.
        seed: Decides the order together with the epoch.
    """

    def __init__(self, lengths: Sequence[int], groups: Sequence[int] | None, batch_size: int, seed: int):
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        members: dict[int, list[int]] = {}
        for position, group in enumerate(groups if groups is not None else [0] * len(self.lengths)):
            members.setdefault(group, []).append(position)
        self.members = [positions for _, positions in sorted(members.items()) if len(positions) >= batch_size]
        pooled = sorted(position for positions in members.values() if len(positions) < batch_size for position in positions)
        # Better one small batch than none; it comes last, where its size shifts no other batch.
        self.last = pooled if len(pooled) < batch_size else []
        if not self.last and pooled:
            self.members.append(pooled)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def _count_kept(self, positions: Sequence[int]) -> int:
        return len(positions) // self.batch_size * self.batch_size

    def __len__(self) -> int:
        return sum(map(self._count_kept, self.members)) + len(self.last)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batches: list[list[int]] = []
        for positions in self.members:
            kept = torch.randperm(len(positions), generator=generator)[: self._count_kept(positions)]
            chosen = [positions[i] for i in kept.tolist()]
            order = get_length_grouped_indices([self.lengths[i] for i in chosen], self.batch_size, generator=generator)
            ordered = [chosen[i] for i in order]
            batches += [ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)]
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return (position for batch in [*shuffled, self.last] for position in batch)
