"""Measuring a model on a folder of test sets, beside the untrained encoder."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from transformers.utils import logging

from ..data import EvaluationSet, build_evaluation_set, load_source
from ..data.reading import expand_path
from ..data.validation import read_label_file
from ..files import write_json, write_text
from ..json_text import parse_json, read_text
from ..models import ZeroShotPreTrainedModel
from ..models.offsets_zeroshot import LEAST_NEAREST, compute_label_offsets
from .breakdown import Breakdown, break_down, check_fields, read_groups
from .metrics import METRICS, shortlist_recall

logger = logging.get_logger(__name__)

DEFAULT_ROWS = 1500
DEFAULT_METRICS = ("accuracy", "macro_f1")
SET_FILES = ("labels.json", "test.jsonl")
REPORTS_FOLDER = "evaluation"  # beside the weights, where the model card looks for results


class _Measured(TypedDict):
    accuracy: float
    accuracy_at_k: float
    macro_f1: float
    mrr: float
    n: int  # rows measured
    labels: int  # candidate labels


class SetResult(_Measured, total=False):
    """Result on one set."""

    shortlist_recall: float  # share of the labels that hold which the second stage got to see, where there are two stages
    label_offsets: dict[str, float]  # the metrics with label offsets, where they were asked for and can be estimated
    by: Breakdown  # the metrics by the values of a field of the rows, where that was asked for


class SuiteResult(TypedDict):
    """Result on all sets, with the unweighted mean."""

    mean: dict[str, float]
    sets: dict[str, SetResult]


def load_suite(
    folder: str | Path,
    rows: int = DEFAULT_ROWS,
    *,
    candidate_labels: Sequence[str] | None = None,
    by: Sequence[str] = (),
) -> dict[str, EvaluationSet]:
    """Read every set of a suite: sub-folders with `labels.json` and `test.jsonl`.

    Args:
        folder: The suite, or one set; `packaged:` and a path stand for the data in the package.
        rows: The most rows of a set: the first of a shuffle with seed 0 over the rows that have a label.
        candidate_labels: Names that are candidates in every set instead of its own `labels.json`; names that nobody
            judged for a row count as wrong.
        by: Fields of the rows by whose values the result is broken down, in the sets that have them.

    Raises:
        FileNotFoundError: If there is no set.
        ValueError: If `rows` is below 1, a row's label is not among the candidates, or no set has a field of `by`.
    """
    folder = expand_path(str(folder))
    if rows < 1:
        raise ValueError(f"Expected at least 1 row per set, found {rows}. Raise --rows.")
    sets = {}
    for path in [folder.resolve()] if (folder / "labels.json").is_file() else sorted(folder.glob("*/")):
        missing = [name for name in SET_FILES if not (path / name).is_file()]
        if missing:
            if len(missing) < len(SET_FILES):
                logger.warning(f"{path} is left out: a set has {' and '.join(SET_FILES)}, here is no {missing[0]}.")
            continue
        source = load_source(str(path / "test.jsonl"), keep_unlabelled=True)
        labelled = [row for row, labels in enumerate(source.rows["labels"]) if labels]
        if len(labelled) < len(source.rows):
            left_out = len(source.rows) - len(labelled)
            logger.info(f"{path.name}: {left_out} of {len(source.rows)} rows have no label and are not measured.")
        if len(labelled) > rows:
            random.Random(0).shuffle(labelled)
        chosen = replace(source, rows=source.rows.select(labelled[:rows]), numbers=[])
        sets[path.name] = build_evaluation_set(chosen, candidate_labels=candidate_labels)
        if by:
            numbers = [source.numbers[row] for row in labelled[:rows]]
            sets[path.name].groups = read_groups(path / "test.jsonl", numbers, by)
    if not sets:
        raise FileNotFoundError(
            f"Expected sets in {str(folder)!r}, found none. A set is a folder with labels.json (a list of names) and "
            'test.jsonl (rows {"text", "labels"}); a suite is a folder of sets.'
        )
    check_fields(sets, by)
    return sets


def read_candidate_labels(files: Sequence[str]) -> list[str]:
    """Join the names of several `labels.json` files, each name once.

    Args:
        files: Paths; `packaged:` and a path stand for the data in the package.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If one is not a list of names.
    """
    return list(dict.fromkeys(name for file in files for name in read_label_file(expand_path(file))))


def add_offsets_by_halves(logits: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
    """Logits (B, N) with label offsets: those of each half of the texts are estimated on the other half's logits.

    So no text has a part in its own offsets; equal texts are in one half. Gold labels have no part either.
    """
    distinct = list(dict.fromkeys(texts))
    random.Random(0).shuffle(distinct)
    place = {text: position for position, text in enumerate(texts)}
    half = {text: position % 2 for position, text in enumerate(distinct)}
    moved = logits.clone()
    for own in (0, 1):
        others = [place[text] for text in distinct if half[text] != own]
        rows = [row for row, text in enumerate(texts) if half[text] == own]
        moved[rows] += compute_label_offsets(logits[others])
    return moved


def _measure_with_offsets(logits: torch.Tensor, one: EvaluationSet) -> dict[str, float] | None:
    """The metrics with offsets; None where rows have candidates of their own, or texts or labels are too few."""
    if one.candidate_mask is not None or len(set(one.texts)) < 2 * LEAST_NEAREST or len(one.candidate_labels) < 2:
        return None
    moved = add_offsets_by_halves(logits, one.texts).numpy()
    return {key: metric(moved, one.targets) for key, metric in METRICS.items()}


def show_with_offsets(result: SuiteResult) -> SuiteResult:
    """The result as it is with label offsets; sets for which there are none stay as they are."""
    sets: dict[str, Any] = {name: {**one, **one.get("label_offsets", {})} for name, one in result["sets"].items()}
    mean = {key: sum(one[key] for one in sets.values()) / len(sets) for key in METRICS}
    return {"mean": {**result["mean"], **mean}, "sets": sets}


def evaluate_model(
    model: ZeroShotPreTrainedModel,
    sets: Mapping[str, EvaluationSet],
    *,
    label_offsets: bool = False,
    show_progress_bar: bool = False,
    **kwargs: Any,
) -> SuiteResult:
    """Measure a model on each set.

    Args:
        model: The model.
        sets: Evaluation sets by name.
        label_offsets: Whether to measure with label offsets too, see [`add_offsets_by_halves`].
        show_progress_bar: Whether to show progress.
        **kwargs: Passed to `predict_logits` (`class_templates`, `batch_size`).
    """
    results: dict[str, Any] = {}
    for name, one in sets.items():
        asked = {"candidate_mask": one.candidate_mask, **kwargs}
        logits = model.predict_logits(one.texts, one.candidate_labels, show_progress_bar=show_progress_bar, **asked)
        values: dict[str, Any] = {key: metric(logits.numpy(), one.targets) for key, metric in METRICS.items()}
        shortlist = model.predict_shortlist(one.texts, one.candidate_labels, **asked)
        if shortlist is not None:
            values["shortlist_recall"] = shortlist_recall(shortlist.numpy(), one.targets)
        if label_offsets and (moved := _measure_with_offsets(logits, one)) is not None:
            values["label_offsets"] = moved
        if one.groups:
            values["by"] = break_down(logits.numpy(), one)
        results[name] = {**values, "n": len(one), "labels": len(one.candidate_labels)}
    measured = [key for key in next(iter(results.values())) if key not in ("n", "labels", "label_offsets", "by")]
    mean = {key: sum(result[key] for result in results.values()) / len(results) for key in measured}
    return {"mean": mean, "sets": results}


def format_table(results: Mapping[str, SuiteResult], metrics: Sequence[str] = DEFAULT_METRICS) -> str:
    """A Markdown table: one row per model, one column per set, then the mean; the metrics between slashes."""
    sets = list(next(iter(results.values()))["sets"])

    def show(values: Mapping[str, Any]) -> str:
        return " / ".join(f"{values[key]:.3f}".removeprefix("0") for key in metrics)

    head = ["model (" + " / ".join(metrics) + ")", *sets, "mean"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, result in results.items():
        cells = [name, *(show(result["sets"][one]) for one in sets), show(result["mean"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse a metric that is not measured.

    Raises:
        ValueError: If there is such a one, or none at all.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        found = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"Expected metrics among {', '.join(METRICS)}, found {found}. Choose from these.")


def prepare_report(path: Path) -> None:
    """Make the folder of a report; a long measurement calls this before it begins.

    Raises:
        ValueError: If `path` is a folder, is the place of the table, or holds something else than a report.
    """
    if path.is_dir() or path.suffix == ".md":
        raise ValueError(
            f"Expected a JSON file to write, like report.json, found {str(path)!r}. Name a .json file; the table is "
            "written beside it as .md."
        )
    if path.is_file() and not _is_report(path):
        raise ValueError(
            f"Expected a new file, or a report to replace, found something else in {str(path)!r}, which would be lost. "
            "Choose another name."
        )
    path.parent.mkdir(parents=True, exist_ok=True)


def _is_report(path: Path) -> bool:
    try:
        content = parse_json(read_text(path))
    except ValueError:
        return False
    return isinstance(content, dict) and "sets" in content


def write_report(path: Path, result: SuiteResult, **extra: Any) -> None:
    """Write a result as JSON, and the table beside it as Markdown, each in one step.

    Raises:
        ValueError: See [`prepare_report`].
    """
    prepare_report(path)
    write_json(path, {**result, **extra}, indent=2)
    write_text(path.with_suffix(".md"), f"{extra.get('table', '')}\n")
