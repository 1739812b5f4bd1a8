"""A model is not replaced by a worse one by accident: measurements beside the new weights against the published ones."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from huggingface_hub import ModelCard
from huggingface_hub.errors import HTTPError

SUMMARY_FILE = "evaluation/summary.json"
METRICS = ("macro_f1", "accuracy")  # the first that both have of every set in common
TOLERANCE = 1e-6  # two measurements of the same weights differ by rounding
SAME = 5e-3  # above this, two measurements of one set are not of the same weights

Summary = dict[str, dict[str, float]]  # metrics by set; the same name with other rows or labels is another set


class Verdict(NamedTuple):
    """How a new model compares with the published one."""

    kind: Literal["new", "unmeasured", "incomparable", "worse", "not worse"]
    text: str


def read_sets(content: Any) -> Summary:
    """The sets of a measurement as `zeroshot evaluate --output` writes it; none where it is something else."""
    sets = content.get("sets") if isinstance(content, dict) else None
    if not isinstance(sets, dict):
        return {}
    found: Summary = {}
    for name, values in sets.items():
        if isinstance(values, dict) and isinstance(values.get("accuracy"), int | float):
            numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
            size = f"{values['n']} rows, {values['labels']} labels" if "n" in values and "labels" in values else ""
            found[f"{name} ({size})" if size else name] = numbers
    return found


def summarise(files: Iterable[Path]) -> tuple[Summary, list[str]]:
    """Join the measurements beside a model.

    Returns:
        The metrics of every set, and problems: sets that were measured twice with two outcomes.
    """
    joined: Summary = {}
    origin: dict[str, str] = {}
    problems = []
    for file in files:
        if file.name == Path(SUMMARY_FILE).name:
            continue
        try:
            sets = read_sets(json.loads(file.read_text(encoding="utf-8")))
        except ValueError:  # the check of the staged files says so
            continue
        for name, values in sets.items():
            earlier = joined.setdefault(name, values)
            first = origin.setdefault(name, file.name)
            if any(abs(values[key] - earlier[key]) > SAME for key in METRICS if key in values and key in earlier):
                problems.append(
                    f"Expected one outcome on {name}, found two in {first} and {file.name}. Remove the file that is not "
                    "of these weights."
                )
    return joined, problems


def write_summary(staged: Path, summary: Summary) -> None:
    """Write what is measured of a model beside it, for the comparison with the next one."""
    content = json.dumps({"sets": summary}, indent=2, ensure_ascii=False)
    (staged / SUMMARY_FILE).write_text(content + "\n", encoding="utf-8")


def read_published(summary: Path | None, card: Path | None) -> Summary:
    """What a published model says of itself: its summary, or else the results in its card.

    Args:
        summary: The downloaded summary, if there is one.
        card: The downloaded card, if there is one.

    Raises:
        ValueError: If the summary is none.
    """
    if summary is not None:
        try:
            return dict(json.loads(summary.read_text(encoding="utf-8"))["sets"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"Expected the summary that this package writes in the published {SUMMARY_FILE}, found something else "
                f"({type(error).__name__}). Remove it on the Hub, or push to another name."
            ) from error
    if card is None:
        return {}
    try:
        results = ModelCard.load(card, ignore_metadata_errors=True).data.eval_results or []
    except (ValueError, TypeError, HTTPError):  # another's card, which may be wrong in any way
        return {}
    found: Summary = {}
    for one in results:
        if one.metric_type in METRICS and isinstance(one.metric_value, int | float):
            found.setdefault(str(one.dataset_name), {})[one.metric_type] = float(one.metric_value)
    return found


def compare(new: Summary, published: Summary | None) -> Verdict:
    """Compare by the mean over the sets that both have: of macro-F1 where all have it, else of accuracy.

    Args:
        new: Of the model to be published.
        published: Of the one that is there; None where there is no model.
    """
    unmeasured = (
        "Nothing is measured of this model: 'zeroshot evaluate MODEL --suite DIR --output MODEL/evaluation/NAME.json'"
    )
    if published is None:
        return Verdict("new", "" if new else unmeasured)
    if not published:
        return Verdict(
            "unmeasured", "The published model has no measurements to compare with" + ("" if new else ", nor has this")
        )
    common = [name for name in new if name in published]
    if not common:
        own = ", ".join(new) or "none"
        return Verdict(
            "incomparable",
            f"Expected a set that both models are measured on, found {', '.join(published)} for the published one and {own} "
            "for this. Measure this model on them, or publish it all the same with --force.",
        )
    metric = next((one for one in METRICS if all(one in sets[name] for sets in (new, published) for name in common)), None)
    if metric is None:
        return Verdict(
            "incomparable",
            f"Expected {' or '.join(METRICS)} of {', '.join(common)} for both models, found neither. Measure both with "
            "'zeroshot evaluate', or publish this one all the same with --force.",
        )
    ours, theirs = (sum(sets[name][metric] for name in common) / len(common) for sets in (new, published))
    figures = f"mean {metric} {ours:.4f} against {theirs:.4f} over {', '.join(common)}"
    if ours < theirs - TOLERANCE:
        return Verdict(
            "worse",
            f"Expected a model no worse than the published one, found {figures}. Keep the better one, push to another name "
            "or --revision, or publish this one all the same with --force.",
        )
    return Verdict("not worse", f"Compared with the published model: {figures}")
