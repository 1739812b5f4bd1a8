"""From the data a recipe names to training sources and evaluation sets, with every exclusion counted."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers.utils import logging

from ..data import (
    NAME_WEIGHTS,
    EvaluationSet,
    LabelNames,
    Source,
    TrainingDataset,
    build_evaluation_set,
    choose_zero_shot_labels,
    drop_texts,
    hold_out_labels,
    list_unnamed,
    load_source,
    normalize_text,
    read_label_names,
    split_by_text,
    write_rejected_rows,
)
from .arguments import DataArguments

logger = logging.get_logger(__name__)


@dataclass
class PreparedData:
    """What training needs.

    Args:
        train: Training sources without any label or text of the other parts.
        other_names: Of each training source's labels, or None; without any label of the zero-shot sets.
        validation: Sets that choose the checkpoint, by name.
        zero_shot: Sets whose labels training never sees, by name.
    """

    train: list[Source]
    other_names: list[LabelNames | None] = field(default_factory=list)
    validation: dict[str, EvaluationSet] = field(default_factory=dict)
    zero_shot: dict[str, EvaluationSet] = field(default_factory=dict)

    @property
    def train_labels(self) -> set[str]:
        """Every label that training sees, as positive or negative, under every name."""
        seen: set[str] = set()
        for source, names in zip(self.train, self.other_names or [None] * len(self.train), strict=True):
            own = _collect_candidates([source])
            seen.update(own, names.list_names(own) if names else ())
        return seen


def split_names(names: str | Sequence[str] | None) -> list[str]:
    """Split a comma-separated setting, or the list that a recipe has for it."""
    parts = names.split(",") if isinstance(names, str) else names or ()
    return [name.strip() for name in parts if name.strip()]


def _name_set(source: Source, taken: dict[str, EvaluationSet]) -> str:
    """A short name for logs and metrics: the file's folder or the file, made unique."""
    parts = source.name.removeprefix("packaged:").replace("\\", "/").rsplit(".", 1)[0].split("/")
    base = "_".join(parts[-2:]).replace("-", "_").replace(":", "_")
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _limit_rows(source: Source, limit: int | None, seed: int) -> Source:
    if limit is None or len(source.rows) <= limit:
        return source
    chosen = random.Random(f"{seed}-{source.name}").sample(range(len(source.rows)), limit)
    return replace(source, rows=source.rows.select(sorted(chosen)), numbers=[])


def _check_shares(arguments: DataArguments) -> None:
    for share, files in (("zero_shot_label_share", "zero_shot_files"), ("validation_share", "validation_files")):
        if getattr(arguments, share) and getattr(arguments, files):
            raise ValueError(f"Expected {share} or {files}, found both. Set {files} to '' to hold out a share instead.")


def _collect_candidates(sources: list[Source]) -> set[str]:
    """Every candidate label, distractors too: were only those known from training, being new would give the answer away."""
    candidates = {name for source in sources for name in source.candidate_labels or ()}
    for source in sources:
        candidates.update(name for column in ("labels", "negatives") for names in source.rows[column] for name in names)
    return candidates


def prepare_data(arguments: DataArguments, seed: int, rejected_file: Path | None = None) -> PreparedData:
    """Read, validate and split.

    Candidate labels of the zero-shot sets are taken out of training, whether they hold or not; texts of any evaluation set
    are taken out of training too. Both are counted in the log.

    Args:
        arguments: What the recipe says about data.
        seed: Decides the splits.
        rejected_file: Where refused rows are listed with their reasons.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a source has no valid row, or a share and files are given for the same part.
    """
    _check_shares(arguments)
    train = [load_source(name) for name in split_names(arguments.train_files)]
    if not train:
        raise ValueError("Expected train_files, found none. Name at least one file of rows.")
    validation = [load_source(name) for name in split_names(arguments.validation_files)]
    zero_shot = [load_source(name, keep_unlabelled=True) for name in split_names(arguments.zero_shot_files)]
    if rejected_file is not None:
        write_rejected_rows(train + validation + zero_shot, rejected_file)
    held_out = _collect_candidates(zero_shot)
    if not zero_shot and arguments.zero_shot_label_share:
        named = [source for source in train if not source.labels_are_sentences]
        for source in named:
            held_out.update(choose_zero_shot_labels(source.rows, arguments.zero_shot_label_share, seed))
        zero_shot = [hold_out_labels(source, held_out)[1] for source in named]
        zero_shot = [source for source in zero_shot if len(source.rows)]
    prepared = PreparedData(train=[])
    for source in train:
        kept, _, left_out = hold_out_labels(source, held_out)
        if len(kept.rows) < len(source.rows):
            logger.info(
                f"{source.name}: {len(source.rows) - len(kept.rows)} rows with a held-out label are not trained on "
                f"({left_out} of them have other labels too)."
            )
        if not validation and arguments.validation_share and not source.labels_are_sentences:
            rest, part = split_by_text(kept.rows, arguments.validation_share, seed)
            if len(part):
                part_source = replace(kept, rows=part, numbers=[])
                prepared.validation[_name_set(part_source, prepared.validation)] = build_evaluation_set(part_source)
            kept = replace(kept, rows=rest, numbers=[])
        prepared.train.append(_limit_rows(kept, arguments.max_train_rows, seed))
    for source in validation:
        prepared.validation[_name_set(source, prepared.validation)] = build_evaluation_set(source)
    for source in zero_shot:
        prepared.zero_shot[_name_set(source, prepared.zero_shot)] = build_evaluation_set(source)
    measured = [text for part in (prepared.validation, prepared.zero_shot) for one in part.values() for text in one.texts]
    for position, source in enumerate(prepared.train):
        prepared.train[position], dropped = drop_texts(source, measured)
        if dropped:
            logger.warning(f"{source.name}: {dropped} rows have a text of an evaluation set and are not trained on.")
    prepared.other_names = _read_other_names(arguments, prepared.train, held_out)
    _warn_of_known_labels(arguments, prepared)
    return prepared


def _read_other_names(arguments: DataArguments, train: list[Source], held_out: set[str]) -> list[LabelNames | None]:
    """The other names of each source's labels, without those that are measured or are labels of the source themselves."""
    files = split_names(arguments.names_files)
    if not files:
        return []
    if len(files) not in (1, len(train)):
        raise ValueError(
            f"Expected one of names_files per training file ({len(train)}) or one for all, found {len(files)}. Write them "
            "in the order of the train_files, 'none' where there is none."
        )
    found: list[LabelNames | None] = []
    for source, file in zip(train, files * len(train) if len(files) == 1 else files, strict=True):
        if file == "none":
            found.append(None)
            continue
        if source.labels_are_sentences:
            raise ValueError(
                f"Expected names_files of 'none' for {source.name!r}, found {file!r}: its labels are sentences."
            )
        own = _collect_candidates([source])
        names, measured = read_label_names(file).drop(held_out)
        names, labels = names.drop(own)
        without = list_unnamed(names, own, source.name, file)
        unknown = sorted(names.labels - own - held_out)
        if without:
            logger.info(f"{source.name}: {len(without)} labels have no other name in {file} (first {without[0]!r}).")
        if measured:
            logger.info(f"{file}: {measured} names are labels of the zero-shot sets and are not trained on.")
        if labels:
            logger.warning(f"{file}: {labels} names are labels of {source.name} themselves and are left out.")
        if unknown:
            logger.warning(f"{file}: {len(unknown)} labels are not those of {source.name} (first {unknown[0]!r}).")
        found.append(names)
    return found


def _warn_of_known_labels(arguments: DataArguments, prepared: PreparedData) -> None:
    """Say where a checkpoint for unseen labels is chosen by labels that training sees."""
    if not prepared.zero_shot or not arguments.validation_files:
        return  # rows held out by text share their labels with training on purpose
    seen = {normalize_text(name) for name in prepared.train_labels}
    for name, one in prepared.validation.items():
        known = sum(normalize_text(label) in seen for label in one.candidate_labels)
        if known:
            logger.warning(
                f"{known} of {len(one.candidate_labels)} labels of the validation set {name!r} occur in training, while "
                "those of the zero-shot sets do not: what it chooses is not chosen by unseen labels alone."
            )


def build_training_dataset(data: PreparedData, arguments: DataArguments, seed: int) -> TrainingDataset:
    """The training examples of a recipe.

    Args:
        data: What [`prepare_data`] made.
        arguments: What the recipe says about data.
        seed: Decides the draws.
    """
    weights = arguments.negative_weights
    taken = {name for part in (data.validation, data.zero_shot) for one in part.values() for name in one.candidate_labels}
    return TrainingDataset(
        data.train,
        expansion=arguments.label_expansion,
        num_negatives=arguments.num_negatives,
        hard_negatives=arguments.hard_negatives,
        negative_weights=weights if isinstance(weights, dict) else None,
        label_dropout=arguments.label_dropout,
        question_rate=arguments.question_rate,
        taken=taken,
        other_names=data.other_names,
        name_weights=arguments.name_weights if isinstance(arguments.name_weights, dict) else NAME_WEIGHTS,
        source_weights=arguments.source_weights,
        source_temperature=arguments.source_temperature,
        seed=seed,
    )
