"""Rows to measure with: texts, the candidate labels of all of them, and which hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers.utils import logging

from ..models.inputs_zeroshot import check_candidate_labels
from .validation import Source

logger = logging.get_logger(__name__)


@dataclass
class EvaluationSet:
    """What a model is measured on.

    Args:
        texts: B texts.
        candidate_labels: N label names.
        targets: (B, N), int64: 1 where the label holds, 0 where it does not, -100 where it is no candidate of the text.
        groups: Further fields of the rows, by whose values results are broken down: B values by field.
    """

    texts: list[str]
    candidate_labels: list[str]
    targets: np.ndarray
    groups: dict[str, list[str]] = field(default_factory=dict)

    @property
    def candidate_mask(self) -> torch.Tensor | None:
        """Which labels are candidates of which text, (B, N) bool; None where all are."""
        candidates = self.targets != -100
        return None if candidates.all() else torch.from_numpy(candidates)

    def __len__(self) -> int:
        return len(self.texts)


def build_evaluation_set(
    source: Source, *, candidate_labels: str | Sequence[str] | None = None, keep_unlabelled: bool = False
) -> EvaluationSet:
    """Arrange a source for measuring.

    Args:
        source: Its rows without labels are left out (nothing to find) unless `keep_unlabelled`. Rows of a closed label set
            have all its labels as candidates. Freely labelled rows have their own labels and negatives; a row without
            negatives has all labels of the set, and one that it does not name counts as wrong.
        candidate_labels: Candidates of every row instead of the source's own: a list, or names separated by commas.
        keep_unlabelled: Whether rows without labels stay, as texts of which no candidate holds.

    Raises:
        ValueError: If the rows are pairs of NLI, no row has a label, a row's label is no candidate, or a candidate stands
            there twice.
    """
    if source.labels_are_sentences:
        raise ValueError(
            f"Expected rows with label names to measure with, found premises and hypotheses in {source.name!r}. "
            "Name the file among the train_files only."
        )
    closed = source.candidate_labels if candidate_labels is None else check_candidate_labels(candidate_labels)
    numbered = [(number, row) for number, row in enumerate(source.rows, start=1) if row["labels"] or keep_unlabelled]
    rows = [row for _, row in numbered]
    if not any(row["labels"] for row in rows):
        raise ValueError(f"Expected rows with labels in {source.name!r}, found none. Choose another file.")
    if closed is not None:
        names = list(closed)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row["labels"] + row["negatives"]))
        alone = sum(not row["negatives"] for row in rows)
        if alone:
            logger.warning(f"{source.name}: {alone} rows name no negatives; every label of the set is their candidate.")
    if len(names) < 2:
        logger.warning(f"{source.name}: one candidate label only, so every model is right; its figures say nothing.")
    column = {name: position for position, name in enumerate(names)}
    targets = np.full((len(rows), len(names)), -100 if closed is None else 0, dtype=np.int64)
    for position, (number, row) in enumerate(numbered):
        unknown = [name for name in row["labels"] if name not in column]
        if unknown:
            raise ValueError(
                f"Expected labels among the {len(names)} candidates, found {unknown[0]!r} in row {number} of "
                f"{source.name!r}. Add it to the candidates."
            )
        if closed is None:  # against its own labels alone a row would always be right
            targets[position, [column[name] for name in row["negatives"] or names]] = 0
        targets[position, [column[name] for name in row["labels"]]] = 1
    return EvaluationSet([row["text"] for row in rows], names, targets)
