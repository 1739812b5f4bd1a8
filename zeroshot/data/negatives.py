"""Where the negatives of an example come from, and how many of each kind it brings.

Three kinds: its `own` (the column `negatives`), `random` ones of a closed label set, and those that were `mined` with a
model. Whatever is drawn follows from a seed that the caller names.
"""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

NEGATIVE_KINDS = ("own", "random", "mined")


class Draw(NamedTuple):
    """An index into a [`TrainingDataset`] that says more than the position."""

    position: int
    visit: int = 0  # how often the example came before in this epoch
    mining: int = 0  # which result of mining it uses


def draw_negatives(labels: Sequence[str], pool: Sequence[str], count: int, seed: str) -> list[str]:
    """Draw up to `count` names of `pool` that are not in `labels`.

    Example:
        >>> draw_negatives(["sports"], ["sports", "politics"], 3, seed="0-0-0")
        ['politics']
    """
    if not count:
        return []
    own = set(labels)
    # A few more than asked for, instead of a scan of the whole pool for every example.
    drawn = random.Random(seed).sample(pool, min(len(pool), count + len(own)))
    return [name for name in drawn if name not in own][:count]


def check_weights(weights: Mapping[str, float], kinds: Sequence[str], of: str) -> None:
    """Refuse weights that are no mixture.

    Args:
        weights: By kind.
        kinds: The kinds that there are.
        of: What they are kinds of, for messages.

    Raises:
        ValueError: If a kind is unknown, a weight is below 0 or no number, or all are 0.
    """
    for kind, weight in weights.items():
        if kind not in kinds:
            raise ValueError(f"Expected kinds of {of} among {', '.join(kinds)}, found {kind!r}. Choose among them.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"Expected a weight of {kind!r} {of} from 0 upwards, found {weight!r}. Write a number.")
    if not any(weights.values()):
        raise ValueError(f"Expected a kind of {of} with a weight above 0, found {dict(weights)}. Raise one.")


def mix_negatives(kinds: Mapping[str, Sequence[str]], weights: Mapping[str, float], count: int, seed: str) -> list[str]:
    """Draw up to `count` distinct names, each from a kind that is drawn by its weight.

    Args:
        kinds: The names that there are, by kind.
        weights: By kind; one that is not named has 0. A kind that runs out leaves its places to the others.
        count: How many.
        seed: Decides the draws.

    Example:
        >>> mix_negatives({"own": ["rain"], "random": ["joy"]}, {"own": 1}, 3, seed="0")
        ['rain']
    """
    generator = random.Random(f"{seed}-mix")
    left = {kind: generator.sample(list(names), len(names)) for kind, names in kinds.items() if weights.get(kind)}
    chosen: dict[str, None] = {}
    while len(chosen) < count and (filled := [kind for kind, names in left.items() if names]):
        [kind] = generator.choices(filled, [weights[kind] for kind in filled])
        chosen[left[kind].pop()] = None  # a name of two kinds stands there once
    return list(chosen)


def drop_names(names: Sequence[str], rate: float, seed: str, *, keep_one: bool) -> list[str]:
    """Leave out each name with probability `rate`; with `keep_one` a drawn one stays where all would go."""
    generator = random.Random(seed)
    kept = [name for name in names if generator.random() >= rate]
    return [generator.choice(list(names))] if keep_one and names and not kept else kept


class MinedNegatives:
    """What mining found, where the workers of a data loader see it too.

    Args:
        names: Label names, to which tables refer by number.
        example_rows: For every example the row of the tables that is its text's.
        top_k: Most names per row.
    """

    def __init__(self, names: Sequence[str], example_rows: Sequence[int], top_k: int):
        self.names = list(names)
        self.example_rows = torch.tensor(example_rows, dtype=torch.long).share_memory_()
        rows = int(self.example_rows.max()) + 1 if len(example_rows) else 0
        # Two tables in turn: examples that a loader fetches ahead still use the older one.
        self.tables = torch.full((2, rows, top_k), -1, dtype=torch.int32).share_memory_()

    def put(self, mining: int, table: torch.Tensor) -> None:
        """Keep the result of a mining, (rows, top_k) int32, -1 for no name; it replaces the one before the last."""
        self.tables[mining % 2].copy_(table)

    def find(self, position: int, mining: int) -> list[str]:
        """The names that a mining found for an example, the most likely first."""
        numbers = self.tables[mining % 2, self.example_rows[position]].tolist()
        return [self.names[number] for number in numbers if number >= 0]
