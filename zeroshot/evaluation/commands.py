"""`zeroshot evaluate`: a model beside the untrained encoder, as a table and a file."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from ..data import EvaluationSet
from ..models import ZeroShotPreTrainedModel
from ..models.inputs_zeroshot import check_batch_size
from ..models.loading import DEFAULT_ENCODER, build_untrained, load_model
from .suites import (
    DEFAULT_METRICS,
    REPORTS_FOLDER,
    SuiteResult,
    check_metrics,
    evaluate_model,
    format_table,
    load_suite,
    prepare_report,
    read_candidate_labels,
    show_with_offsets,
    write_report,
)

logger = logging.get_logger(__name__)

BARE = "untrained encoder, bare label"
WORDED = "untrained encoder, the model's templates"


def _word_command(model_name: str, **options: str | int | Path | Sequence[str] | None) -> str:
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None:
            words += [f"--{name}", *([str(value)] if isinstance(value, str | int | Path) else value)]
    return shlex.join(["zeroshot", "evaluate", model_name, *words])


def _measure_untrained(
    model: ZeroShotPreTrainedModel, encoder: str, sets: dict[str, EvaluationSet], **kwargs: Any
) -> dict[str, SuiteResult]:
    """Measure an encoder as it is, with bare labels and, where the model has others, with the model's templates."""
    untrained = build_untrained(type(model), encoder, max_tokens=model.config.max_tokens)
    wordings = {BARE: ["{}"]}
    if model.config.class_templates != ["{}"]:
        wordings[WORDED] = model.config.class_templates
    return {
        name: evaluate_model(untrained, sets, class_templates=templates, **kwargs) for name, templates in wordings.items()
    }


def _measure(
    model: ZeroShotPreTrainedModel, sets: dict[str, EvaluationSet], baseline: str | None, precision: str, **kwargs: Any
) -> tuple[SuiteResult, dict[str, SuiteResult]]:
    """The model's result and those of the untrained encoder; further arguments as those of [`evaluate_model`]."""
    kwargs["show_progress_bar"] = True
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        baselines = {} if baseline == "none" else _measure_untrained(model, baseline or DEFAULT_ENCODER, sets, **kwargs)
        return evaluate_model(model, sets, **kwargs), baselines


def _list_with_offsets(results: Mapping[str, SuiteResult]) -> dict[str, SuiteResult]:
    sets = next(iter(results.values()))["sets"]
    left_out = [name for name, one in sets.items() if "label_offsets" not in one]
    if left_out:
        logger.warning(
            f"No label offsets for {', '.join(left_out)}: their rows have candidates of their own, or they have fewer "
            "than 20 different texts (--rows) or 2 labels. Their results stay as they are."
        )
    if len(left_out) == len(sets):
        return {}
    return {f"{name}, label offsets": show_with_offsets(result) for name, result in results.items()}


def choose_output(model_name: str, suite: str | Path, *, own_candidates: bool = False) -> Path | None:
    """Where a result goes when nobody says: beside the weights, where the model card looks for it.

    Args:
        model_name: Folder or Hub id of a checkpoint.
        suite: What was measured on.
        own_candidates: Whether the sets' own labels were replaced, which is another measurement.

    Returns:
        `MODEL/evaluation/SUITE.json`; None for a model on the Hub and for a folder that cannot be written.
    """
    folder = Path(model_name)
    if not (folder / "config.json").is_file():
        return None
    if not os.access(folder, os.W_OK):
        logger.warning(f"{folder} cannot be written: the result is shown only. Name a file with --output to keep it.")
        return None
    name = str(suite) if str(suite).startswith("packaged:") else Path(suite).expanduser().resolve().name
    stem = "-".join(part for part in name.replace(":", "/").split("/") if part)
    return folder / REPORTS_FOLDER / f"{stem}{'-candidates' if own_candidates else ''}.json"


def evaluate_command(
    model_name: str,
    suite: str | Path,
    *,
    rows: int,
    candidate_labels: Sequence[str] | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    output: Path | None = None,
    baseline: str | None = None,
    batch_size: int = 64,
    precision: str = "fp32",
    by: Sequence[str] = (),
    label_offsets: bool = False,
) -> str:
    """Measure a checkpoint and return the Markdown table.

    Args:
        model_name: Folder or Hub id of one of our checkpoints.
        suite: Folder of sets; `packaged:` and a path stand for the data in the package.
        rows: The most rows of a set.
        candidate_labels: Files with names that are candidates in every set, instead of each set's own.
        metrics: What the table shows; the report holds all.
        output: JSON file to write; the table goes beside it as `.md`. When left out, what [`choose_output`] says.
        baseline: Encoder of the first rows; the default encoder when None, no such rows when `none`.
        batch_size: Texts per pass.
        precision: `fp32`, or `bf16` for autocast matrix products.
        by: Fields of the rows by whose values the report breaks the result down, see [`load_suite`].
        label_offsets: Whether to add rows with label offsets, see [`add_offsets_by_halves`].
    """
    check_batch_size(batch_size)
    output = output or choose_output(model_name, suite, own_candidates=bool(candidate_labels))
    if output is not None:
        prepare_report(output)
    check_metrics(metrics)
    candidates = read_candidate_labels(candidate_labels) if candidate_labels else None
    sets = load_suite(suite, rows, candidate_labels=candidates, by=by)
    model = load_model(model_name)
    result, baselines = _measure(model, sets, baseline, precision, batch_size=batch_size, label_offsets=label_offsets)
    name = Path(model_name).resolve().name if Path(model_name).is_dir() else model_name
    measured = {**baselines, name: result}
    moved = _list_with_offsets(measured) if label_offsets else {}
    table = format_table({**measured, **moved}, tuple(metrics))
    if output is not None:
        command = _word_command(
            model_name,
            suite=suite,
            rows=rows,
            candidate_labels=candidate_labels,
            metrics=metrics,
            baseline=baseline,
            batch_size=batch_size,
            precision=precision,
            by=by or None,
            label_offsets=label_offsets or None,
        )
        means = {name: one["mean"] for name, one in moved.items()}
        extra = {"means_with_label_offsets": means} if means else {}
        write_report(output, result, baselines=baselines, command=command, table=table, **extra)
        logger.info(f"The result is in {output}.")
    return table
