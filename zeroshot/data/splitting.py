"""Splits by text and by label. A label of the zero-shot split is never seen in training, as positive or negative."""

import random
import unicodedata
from collections.abc import Collection
from dataclasses import replace

from datasets import Dataset

from .validation import Source


def normalize_text(text: str) -> str:
    """What two texts must share to count as the same: words without case, spacing and ways of composing a letter."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"Expected a share between 0 and 1, found {share}. A tenth is 0.1.")


def split_by_text(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split rows so that a text, however spaced or cased, is on one side only.

    Args:
        rows: Rows with a column `text`.
        share: Share of the distinct texts that goes to the second part, between 0 and 1.
        seed: Decides which.

    Returns:
        The larger remainder and the part held out.

    Raises:
        ValueError: If the share is not between 0 and 1.
    """
    _check_share(share)
    texts = [normalize_text(text) for text in rows["text"]]
    distinct = sorted(set(texts))
    held_out = set(random.Random(seed).sample(distinct, round(share * len(distinct))))
    first = [row for row, text in enumerate(texts) if text not in held_out]
    second = [row for row, text in enumerate(texts) if text in held_out]
    return rows.select(first), rows.select(second)


def hold_out_labels(source: Source, labels: Collection[str]) -> tuple[Source, Source, int]:
    """Split a source by label.

    Rows whose labels are all held out form the zero-shot part. What happens to a row that mixes both kinds depends on how
    it was labelled. In a closed set, a label that is not named does not hold: without its held-out label the row would
    be wrong, so it is left out. Where rows are labelled freely, an unnamed label says nothing: the row stays, without it.

    Args:
        source: Rows and label set.
        labels: The held-out names, in any case.

    Returns:
        The training part, without a held-out label in any field; the zero-shot part; and the number of rows in neither.
    """
    if isinstance(labels, str):
        raise TypeError(f"Expected a list of labels, found the string {labels!r}. Write [{labels!r}].")
    held_out = {normalize_text(label) for label in labels}
    names = source.candidate_labels
    rows = [[normalize_text(label) for label in own] for own in source.rows["labels"]]
    kinds = [(held_out.isdisjoint(own), bool(own) and held_out.issuperset(own)) for own in rows]
    unseen = [row for row, (_, all_held_out) in enumerate(kinds) if all_held_out]
    seen = [row for row, (clean, all_held_out) in enumerate(kinds) if clean or (names is None and not all_held_out)]
    training = source.rows.select(seen).map(
        _drop_labels, batched=True, fn_kwargs={"held_out": sorted(held_out)}, desc="Holding out labels"
    )
    closed_seen = None if names is None else [name for name in names if normalize_text(name) not in held_out]
    closed_unseen = None if names is None else [name for name in names if normalize_text(name) in held_out]
    return (
        replace(source, rows=training, numbers=[], candidate_labels=closed_seen),
        replace(source, rows=source.rows.select(unseen), numbers=[], candidate_labels=closed_unseen, rejected=[]),
        len(kinds) - len(seen) - len(unseen),
    )


def _drop_labels(batch: dict, held_out: list[str]) -> dict:
    unwanted = set(held_out)
    return {
        column: [[name for name in names if normalize_text(name) not in unwanted] for names in batch[column]]
        for column in ("labels", "negatives")
    }


def choose_zero_shot_labels(rows: Dataset, share: float, seed: int) -> list[str]:
    """Draw the labels to hold out as a share (0 to 1) of all labels that rows carry; two at least, to choose between."""
    _check_share(share)
    labels = sorted({label for own in rows["labels"] for label in own})
    return sorted(random.Random(seed).sample(labels, max(min(2, len(labels)), round(share * len(labels)))))


def drop_texts(source: Source, texts: Collection[str]) -> tuple[Source, int]:
    """Leave out rows whose text also stands in `texts`; returns the rest and how many went."""
    if isinstance(texts, str):
        raise TypeError(f"Expected a list of texts, found the string {texts!r}. Write [{texts!r}].")
    unwanted = {normalize_text(text) for text in texts}
    kept = [row for row, text in enumerate(source.rows["text"]) if normalize_text(text) not in unwanted]
    return replace(source, rows=source.rows.select(kept), numbers=[]), len(source.rows) - len(kept)
