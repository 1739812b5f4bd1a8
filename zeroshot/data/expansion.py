"""Label expansion and negatives: from valid rows to what the collator turns into a batch.

A training example is a text with the labels it brings into its batch (`positives`, `negatives`) and with all its labels,
so that every true pair of the batch can be marked. Negatives that were not given by the data are drawn anew in each
epoch, from (seed, epoch, position) alone: the same in every process, with any number of workers and after a resume.
"""

import random
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch
from datasets import Dataset, concatenate_datasets

from .validation import Source


class TrainingExample(TypedDict):
    """One item of a [`TrainingDataset`]."""

    text: str
    positives: list[str]  # labels brought into the batch
    labels: list[str]  # every label that holds
    negatives: list[str]  # labels known not to hold
    source: int  # which source it is from
    draw: str  # seeds whatever is drawn for this example


def expand_labels(batch: dict, mode: Literal["pairs", "rows"]) -> dict:
    """The `map` of label expansion.

    Args:
        batch: Columns of valid rows.
        mode: `pairs` makes one example of every (text, label) pair, so that a text with three labels is seen three times
            an epoch; `rows` keeps one example a text, which brings all its labels. A row of negatives alone is one example,
            a row of neither none.

    Returns:
        The columns with `positives` added.
    """
    output: dict[str, list] = {name: [] for name in (*batch, "positives")}
    for position, labels in enumerate(batch["labels"]):
        if not labels and not batch["negatives"][position]:
            continue
        for positives in [labels] if mode == "rows" or not labels else [[label] for label in labels]:
            for name in batch:
                output[name].append(batch[name][position])
            output["positives"].append(positives)
    return output


def draw_negatives(labels: Sequence[str], pool: Sequence[str], count: int, seed: str) -> list[str]:
    """Draw up to `count` names of `pool` that are not in `labels`.

    Example:
        >>> draw_negatives(["sports"], ["sports", "politics"], 3, seed="0-0-0")
        ['politics']
    """
    own = set(labels)
    # A few more than asked for, instead of a scan of the whole pool for every example.
    drawn = random.Random(seed).sample(pool, min(len(pool), count + len(own)))
    return [name for name in drawn if name not in own][:count]


class TrainingDataset(torch.utils.data.Dataset):
    """The expanded rows of all sources, with negatives drawn per epoch.

    Args:
        sources: Where the rows come from. Random negatives are drawn only for closed label sets: where rows are labelled
            freely, another row's label may hold here too.
        expansion: See [`expand_labels`].
        num_negatives: Random negatives per example.
        seed: Decides the draws together with the epoch and the position.

    Raises:
        ValueError: If no row is left, or a setting is out of range.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        expansion: Literal["pairs", "rows"] = "rows",
        num_negatives: int = 0,
        seed: int = 0,
    ):
        if expansion not in ("pairs", "rows"):
            raise ValueError(f"Expected expansion to be 'pairs' or 'rows', found {expansion!r}. Choose one of them.")
        if num_negatives < 0:
            raise ValueError(f"Expected num_negatives of at least 0, found {num_negatives}. Raise it.")
        tables = []
        for number, source in enumerate(sources):
            table = source.rows.add_column("source", [number] * len(source.rows))
            tables.append(table.map(expand_labels, batched=True, fn_kwargs={"mode": expansion}, desc="Expanding labels"))
        if not any(len(table) for table in tables):
            raise ValueError("Expected rows to train on, found none after the splits. Hold out fewer labels or texts.")
        self.rows: Dataset = concatenate_datasets(tables)
        self.pools = [source.candidate_labels for source in sources]
        self.sentence_sources = [number for number, source in enumerate(sources) if source.labels_are_sentences]
        self.num_negatives = num_negatives
        self.seed = seed
        # Shared memory: persistent workers would keep the first epoch's copy of a plain number.
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> TrainingExample:
        row = self.rows[position]
        draw = f"{self.seed}-{int(self._epoch)}-{position}"
        pool = self.pools[row["source"]]
        known = row["labels"] + row["negatives"]
        drawn = draw_negatives(known, pool, self.num_negatives, draw) if pool else []
        return {
            "text": row["text"],
            "positives": row["positives"],
            "labels": row["labels"],
            "negatives": row["negatives"] + drawn,
            "source": row["source"],
            "draw": draw,
        }
