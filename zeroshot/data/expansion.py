"""Label expansion and negatives: from valid rows to what the collator turns into a batch.

A training example is a text with the labels it brings into its batch (`positives`, `negatives`) and with all its labels,
so that every true pair of the batch can be marked. Negatives that were not given by the data are drawn anew in each
epoch, from (seed, epoch, position) alone: the same in every process, with any number of workers and after a resume.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypedDict

import torch
from datasets import Dataset, concatenate_datasets

from .label_names import NAME_KINDS, NAME_WEIGHTS, LabelNames
from .negations import ask_question, list_deniable
from .negatives import (
    NEGATIVE_KINDS,
    Draw,
    MinedNegatives,
    check_weights,
    draw_negatives,
    drop_names,
    mix_negatives,
)
from .splitting import normalize_text
from .validation import Source


class TrainingExample(TypedDict):
    """One item of a [`TrainingDataset`]."""

    text: str
    positives: list[str]  # labels brought into the batch
    labels: list[str]  # every label that holds
    negatives: list[str]  # labels brought into the batch that do not hold
    known_negatives: list[str]  # every label known not to hold, brought or not
    unjudged: list[str]  # names of its source that may hold, whoever brings them
    denials: list[str]  # brought labels that deny another; no other text of the batch is judged by them
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


def _check_negatives(num_negatives: int, hard_negatives: int, negative_weights: Mapping[str, float] | None) -> None:
    for name, count in (("num_negatives", num_negatives), ("hard_negatives", hard_negatives)):
        if count < 0:
            raise ValueError(f"Expected {name} of at least 0, found {count}. Raise it.")
    if negative_weights is not None:
        check_weights(negative_weights, NEGATIVE_KINDS, "negatives")
        if hard_negatives or not num_negatives:
            raise ValueError(
                f"Expected num_negatives above 0 and no hard_negatives with negative_weights, found {num_negatives} and "
                f"{hard_negatives}. num_negatives is how many are mixed; the weights say how many of them are mined."
            )


def _expand_sources(sources: Sequence[Source], expansion: Literal["pairs", "rows"]) -> Dataset:
    """The examples of all sources, one source after the other."""
    tables = []
    for number, source in enumerate(sources):
        table = source.rows.add_column("source", [number] * len(source.rows))
        tables.append(table.map(expand_labels, batched=True, fn_kwargs={"mode": expansion}, desc="Expanding labels"))
    if not any(len(table) for table in tables):
        raise ValueError("Expected rows to train on, found none after the splits. Hold out fewer labels or texts.")
    return concatenate_datasets(tables)


class TrainingDataset(torch.utils.data.Dataset):
    """The expanded rows of all sources, with negatives drawn per epoch.

    Args:
        sources: Where the rows come from. Random negatives are drawn only for closed label sets: where rows are labelled
            freely, another row's label may hold here too.
        expansion: See [`expand_labels`].
        num_negatives: Random negatives per example; with `negative_weights` all negatives per example.
        hard_negatives: Mined negatives per example, once `mined` is set.
        negative_weights: Mixes own, random and mined negatives, see [`mix_negatives`], instead of bringing all own ones.
        label_dropout: Probability with which each label of an example stays out of its batch; what is true of it when
            another example brings it stays true. One label is always brought, a positive one where there is any.
        question_rate: Probability with which an example asks yes or no, see [`ask_question`]: whether one of its labels
            holds, against its denial. It brings the denial of a label that does not hold in place of its positives.
        taken: Names that no denial may have, since they are measured; nor may it have one that a row has.
        other_names: Of each source's labels, or None; none when empty. Every label that an example of such a source brings
            is drawn one of its names, see [`LabelNames.draw`], anew at each visit; one that asks a question keeps its own.
        name_weights: How often it is its own name, one of the same meaning, a broader one.
        source_weights: Of each source, how much more often its rows are seen; all 1 when empty.
        source_temperature: Sizes of sources count to the power of its inverse: 1 as they are, infinity not at all.
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
        hard_negatives: int = 0,
        negative_weights: Mapping[str, float] | None = None,
        label_dropout: float = 0.0,
        question_rate: float = 0.0,
        taken: Collection[str] = (),
        other_names: Sequence[LabelNames | None] = (),
        name_weights: Mapping[str, float] = NAME_WEIGHTS,
        source_weights: Sequence[float] = (),
        source_temperature: float = 1.0,
        seed: int = 0,
    ):
        if expansion not in ("pairs", "rows"):
            raise ValueError(f"Expected expansion to be 'pairs' or 'rows', found {expansion!r}. Choose one of them.")
        _check_negatives(num_negatives, hard_negatives, negative_weights)
        if not 0 <= question_rate <= 1:
            raise ValueError(
                f"Expected question_rate between 0 and 1, found {question_rate}. A fifth of the examples is 0.2."
            )
        check_weights(name_weights, NAME_KINDS, "names")
        if other_names and len(other_names) != len(sources):
            raise ValueError(
                f"Expected other names, or None, per source ({len(sources)}), found {len(other_names)}. Add the others."
            )
        if source_weights and len(source_weights) != len(sources):
            raise ValueError(
                f"Expected one of source_weights per source ({len(sources)}), found {len(source_weights)}. "
                "Write them in the order of the train_files."
            )
        self.rows = _expand_sources(sources, expansion)
        self.pools = [source.candidate_labels for source in sources]
        self.sentence_sources = [number for number, source in enumerate(sources) if source.labels_are_sentences]
        self.num_negatives = num_negatives
        self.negative_weights = negative_weights
        self.hard_negatives = num_negatives if (negative_weights or {}).get("mined") else hard_negatives
        self.label_dropout = label_dropout
        self.question_rate = question_rate
        self.other_names = list(other_names) or [None] * len(sources)
        found = zip(self.pools, self.other_names, strict=True)
        self.label_sets = [pool and [*pool, *(names.list_names(pool) if names else ())] for pool, names in found]
        self.name_weights = dict(name_weights)
        self.source_weights = list(source_weights)
        self.source_temperature = source_temperature
        self.seed = seed
        self.deniable: frozenset[str] = frozenset()  # names that questions may be about
        self.taken: frozenset[str] = frozenset()
        if question_rate:
            self._read_names(taken)
        self.mined: MinedNegatives | None = None
        # Shared memory: persistent workers would keep the first epoch's copy of a plain number.
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def count_without_negatives(self) -> int:
        """Examples that nothing is known not to hold for: freely labelled rows without negatives of their own."""
        columns = (self.rows[column][:] for column in ("source", "negatives"))
        return sum(self.pools[source] is None and not negatives for source, negatives in zip(*columns, strict=True))

    def _choose_negatives(self, row: dict, place: Draw, draw: str) -> list[str]:
        """The negatives that an example brings into its batch."""
        pool = self.pools[row["source"]]
        known = row["labels"] + row["negatives"]
        drawn = draw_negatives(known, pool, self.num_negatives, draw) if pool else []
        mined = [] if self.mined is None else self.mined.find(place.position, place.mining)
        mined = draw_negatives(known, mined, self.hard_negatives, f"{draw}-mined")
        if self.negative_weights is None:
            return list(dict.fromkeys(row["negatives"] + drawn + mined))
        kinds = {"own": row["negatives"], "random": drawn, "mined": mined}
        mixed = mix_negatives(kinds, self.negative_weights, self.num_negatives, draw)
        return mixed if mixed or row["labels"] else row["negatives"][:1]  # an example brings at least one label

    def __getitem__(self, index: int | Draw) -> TrainingExample:
        place = index if isinstance(index, Draw) else Draw(index)
        row = self.rows[place.position]
        draw = f"{self.seed}-{int(self._epoch)}-{place.position}" + (f"-{place.visit}" if place.visit else "")
        positives, negatives = row["positives"], self._choose_negatives(row, place, draw)
        known_negatives = list(dict.fromkeys(row["negatives"] + negatives))
        if self.label_dropout:
            negatives = drop_names(negatives, self.label_dropout, f"{draw}-drop-", keep_one=not positives)
            positives = drop_names(positives, self.label_dropout, f"{draw}-drop+", keep_one=True)
        example: TrainingExample = {
            "text": row["text"],
            "positives": positives,
            "labels": row["labels"],
            "negatives": negatives,
            "known_negatives": known_negatives,
            "unjudged": [],
            "denials": [],
            "source": row["source"],
            "draw": draw,
        }
        asks = self.question_rate > 0 and random.Random(f"{draw}-asks").random() < self.question_rate
        if other_names := self.other_names[row["source"]]:
            self._rename(example, other_names, row["negatives"], {"own": 1.0} if asks else self.name_weights)
        if asks:
            self._add_question(example, row["negatives"])
        return example

    def _read_names(self, taken: Collection[str]) -> None:
        """Which names questions may be about, and which ones no denial may have."""
        names: dict[bool, set[str]] = {True: set(), False: set()}  # by whether they are sentences
        columns = (self.rows[column][:] for column in ("source", "labels", "negatives"))
        for source, labels, negatives in zip(*columns, strict=True):
            names[source in self.sentence_sources].update(labels, negatives)
        names[False].update(name for pool in self.pools for name in pool or ())
        self.deniable = frozenset(list_deniable(sorted(names[False])))
        every_name = (*taken, *names[True], *names[False], *self.list_other_names())
        self.taken = frozenset(normalize_text(name) for name in every_name)

    def list_other_names(self) -> list[str]:
        """The distinct other names that examples may bring."""
        if not any(self.other_names):
            return []
        own: list[set[str]] = [set(pool or ()) for pool in self.pools]
        columns = (self.rows[column][:] for column in ("source", "labels", "negatives"))
        for source, labels, negatives in zip(*columns, strict=True):
            own[source].update(labels, negatives)
        found = zip(self.other_names, own, strict=True)
        return list(dict.fromkeys(name for names, labels in found if names for name in names.list_names(sorted(labels))))

    def _rename(
        self, example: TrainingExample, names: LabelNames, ruled_out: Sequence[str], weights: Mapping[str, float]
    ) -> None:
        """Let the example bring its labels under drawn names, and know all that are true of it.

        Whatever its labels imply, names that its row rules out are not true. That a broader name is false is known where the
        row was labelled in full, from a closed set, with labels that all have a place in the file.
        """
        generator = random.Random(f"{example['draw']}-names")
        labels, excluded = example["labels"], {normalize_text(name) for name in ruled_out}
        true = [name for name in names.list_true(labels) if normalize_text(name) not in excluded]
        implied = {*labels, *names.list_open(labels)}
        placed = names.labels.issuperset(labels)
        closed = self.pools[example["source"]] is not None
        untrue = weights if closed and placed else {**weights, "broader": 0.0}
        untold = implied - {*labels, *true}  # they hold for one of its labels only, or the row rules them out
        positives = [names.draw(label, weights, generator, untold) for label in example["positives"]]
        unsafe = implied.difference(ruled_out)  # a drawn negative may be what a larger class of the row's labels is called
        drawn = [names.draw(label, untrue, generator, implied) for label in example["negatives"] if label not in unsafe]
        known = [label for label in example["known_negatives"] if label not in unsafe]
        example["positives"], example["negatives"] = list(dict.fromkeys(positives)), list(dict.fromkeys(drawn))
        example["known_negatives"] = list(dict.fromkeys([*known, *drawn]))
        example["labels"] = [*labels, *true]
        open_names = unsafe if placed else {*unsafe, *names.list_broader()}
        example["unjudged"] = sorted(open_names.difference(example["labels"])) if closed else []

    def _add_question(self, example: TrainingExample, negatives: Sequence[str]) -> None:
        """Let the example ask about a label: one that holds, an own negative, or one that a closed set rules out."""
        if example["source"] in self.sentence_sources:
            return
        pool = self.pools[example["source"]]
        if not negatives and pool:
            negatives = draw_negatives(example["labels"], pool, 1, f"{example['draw']}-failing")
        question = ask_question(example["positives"], negatives, seed=example["draw"], taken=self.taken)
        if question is None:
            return
        example["denials"] = [question.denial]
        untrue = question.denial if question.holds else question.label
        for names in ("negatives", "known_negatives"):  # first, so that a limit of candidates does not cut it
            example[names] = list(dict.fromkeys([untrue, *example[names]]))
        if not question.holds:
            example["positives"], example["labels"] = [question.denial], [*example["labels"], question.denial]
