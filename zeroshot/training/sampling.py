"""The order in which examples are seen: like lengths together, one source a batch, anew each epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class GroupedSampler(Sampler[int]):
    """Yield positions so that each run of `batch_size` holds one group and like lengths.

    The order follows from (seed, epoch) alone, so a resumed run sees what the interrupted one would have seen. The
    last, incomplete batch of a group is left out; another draw decides in each epoch which examples that are.

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
        self.members = [positions for _, positions in sorted(members.items())]
        # Fewer examples than one batch: better one small batch than none.
        self.whole = {number for number, positions in enumerate(self.members) if len(positions) < batch_size}

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(
            len(positions) if number in self.whole else len(positions) // self.batch_size * self.batch_size
            for number, positions in enumerate(self.members)
        )

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        full: list[list[int]] = []
        small: list[list[int]] = []
        for number, positions in enumerate(self.members):
            if number in self.whole:
                small.append(positions)
                continue
            kept = torch.randperm(len(positions), generator=generator)[: len(positions) // self.batch_size * self.batch_size]
            chosen = [positions[i] for i in kept.tolist()]
            order = get_length_grouped_indices([self.lengths[i] for i in chosen], self.batch_size, generator=generator)
            ordered = [chosen[i] for i in order]
            full += [ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)]
        shuffled = [full[i] for i in torch.randperm(len(full), generator=generator).tolist()]
        # Small groups come last, where their size shifts no other batch.
        return (position for batch in shuffled + small for position in batch)
