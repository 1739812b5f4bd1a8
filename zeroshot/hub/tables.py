"""The tables of a model card, each from one file beside the weights; None where there is nothing to show."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.metrics import METRICS
from ..training.arguments import FILE_SETTINGS, DataArguments, ModelArguments, ZeroShotTrainingArguments
from ..training.preparation import split_names
from ..training.records import Hardware, name_source
from ..training.runs import collect_settings
from .markdown import MISSING, escape, show_number, strip_folder, write_table
from .run_files import RunFiles

THIS_MODEL = "**this model**"
MOST_LOG_ROWS = 12
PATH_SETTINGS = ("encoder", "class_encoder")


def show_sources(data: Mapping[str, Any]) -> str:
    """What was trained on, with counts and licences."""
    rows = [
        (one["name"], one["rows"], one["labels"], one["refused"], one["license"] or "not stated") for one in data["sources"]
    ]
    return write_table(("source", "rows", "distinct labels", "rows refused", "licence"), rows)


def show_measured_sets(data: Mapping[str, Any]) -> str | None:
    """Sets that were held out of training."""
    parts = (("validation", "chooses the checkpoint"), ("zero_shot", "labels that training never saw"))
    rows = [(name, use, one["rows"], one["labels"]) for part, use in parts for name, one in data.get(part, {}).items()]
    return write_table(("held-out set", "use", "rows", "candidate labels"), rows) if rows else None


def _strip_folders(name: str, value: Any) -> Any:
    """The value of a setting without the folders of this machine."""
    if isinstance(value, dict):
        return {key: _strip_folders(str(key), one) for key, one in value.items()}
    if isinstance(value, list):
        return [_strip_folders(name, one) for one in value]
    if not isinstance(value, str):
        return value
    if name in FILE_SETTINGS:
        return ", ".join(name_source(one)["name"] for one in split_names(value))
    if name in PATH_SETTINGS:
        return name_source(value)["name"]
    # A setting of the Trainer or an option of an architecture may name a file, too.
    return strip_folder(value) if value.startswith((".", "/", "~")) or value[1:2] == ":" else value


def _show_setting(name: str, value: Any) -> str:
    value = _strip_folders(name, value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_settings(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Settings that differ from their defaults on this machine, and all others."""
    defaults = collect_settings(ModelArguments(), DataArguments(), ZeroShotTrainingArguments())
    known = {name: value for name, value in settings.items() if name in defaults}
    changed = [name for name, value in known.items() if value != defaults[name]]
    head = ("setting", "value", "default")
    first = [(name, _show_setting(name, known[name]), _show_setting(name, defaults[name])) for name in changed]
    rest = [(name, _show_setting(name, known[name])) for name in known if name not in changed]
    return write_table(head, first), write_table(head[:2], rest)


def show_history(history: Sequence[Mapping[str, Any]], metric: str | None) -> str | None:
    """The log of training: some of its lines, and every evaluation.

    Args:
        history: Entries of `trainer_state.json`.
        metric: What chose the checkpoint, such as `eval_mean_mrr`; the loss when None.
    """
    suffix = "_" + (metric or "loss").rsplit("_", 1)[-1]
    keys = dict.fromkeys(key for entry in history for key in entry)
    measured = [key for key in keys if key.startswith("eval_") and key.endswith(suffix)]
    if len(measured) == 2:  # the mean over one set is that set
        measured = [key for key in measured if key != f"eval_mean{suffix}"]
    losses = [entry for entry in history if "loss" in entry and "step" in entry]
    if not losses:
        return None
    stride = -(-len(losses) // MOST_LOG_ROWS)
    chosen = {entry["step"] for entry in losses[::-1][::stride]}  # from the end, which must not be left out
    steps: dict[int, dict[str, Any]] = {}
    for entry in history:
        if entry.get("step") in chosen or any(key in entry for key in measured):
            steps.setdefault(entry["step"], {}).update(entry)
    rows = [
        (
            step,
            f"{float(entry['epoch']):.2f}",
            show_number(entry.get("loss")),
            *(show_number(entry.get(k)) for k in measured),
        )
        for step, entry in sorted(steps.items())
    ]
    return write_table(("step", "epoch", "training loss", *map(escape, measured)), rows)


def show_evaluation(content: Mapping[str, Any]) -> str:
    """A result beside its baselines, the model's line last in each set, then the mean over the sets."""
    results = {**content.get("baselines", {}), THIS_MODEL: content}
    rows = []
    for name, figures in content["sets"].items():
        for model, result in results.items():
            one = result["sets"].get(name, {})
            values = [show_number(one.get(key)) for key in METRICS]
            rows.append((name, figures["n"], figures["labels"], model, *values))
    if len(content["sets"]) > 1:
        for model, result in results.items():
            rows.append(("mean", "", "", model, *(show_number(result["mean"].get(key)) for key in METRICS)))
    table = write_table(("set", "rows", "candidate labels", "model", "accuracy", "accuracy@k", "macro F1", "MRR"), rows)
    return table.replace(escape(THIS_MODEL), THIS_MODEL)


def show_command(content: Mapping[str, Any], repo_id: str) -> str | None:
    """The command of a result as another can give it: the model from the Hub, folders by their last part."""
    if not isinstance(content.get("command"), str):
        return None
    words = shlex.split(content["command"])
    shown = [repo_id if position == 2 else strip_folder(word) for position, word in enumerate(words)]
    return shlex.join(shown).replace("`", "'")


def show_breakdowns(evaluations: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """For every set that was measured by a field of its rows: set, field and table, the lowest accuracy first."""
    found = []
    for content in evaluations.values():
        for name, figures in content["sets"].items():
            for field, values in figures.get("by", {}).items():
                ranked = sorted(values.items(), key=lambda pair: pair[1]["accuracy"])
                rows = [
                    (value, one["n"], show_number(one["accuracy"]), show_number(one["macro_f1"])) for value, one in ranked
                ]
                table = write_table((escape(field), "rows", "accuracy", "macro F1"), rows)
                found.append((escape(name), escape(field), table))
    return found


def list_losses(evaluations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """In words, where the model is less accurate than a baseline that was measured beside it."""
    found = []
    for content in evaluations.values():
        for name, figures in content["sets"].items():
            for baseline, result in content.get("baselines", {}).items():
                other = result["sets"].get(name)
                if other is not None and other["accuracy"] > figures["accuracy"]:
                    pair = f"{show_number(figures['accuracy'])} against {show_number(other['accuracy'])}"
                    found.append(f"{escape(name)}: accuracy {pair} ({escape(baseline)})")
    return found


def show_speed(speed: Mapping[str, Any]) -> str:
    """Texts per second by number of labels."""
    rows = [
        (f"{int(count):,}", "not measured" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}")
        for count, value in speed["texts_per_second"].items()
    ]
    return write_table(("candidate labels", "texts/s"), rows)


def show_calibration(calibration: Mapping[str, Any]) -> str:
    """The reliability of scores: in each bin of scores, how often the label held."""
    rows = [(show_number(one["confidence"]), show_number(one["accuracy"]), one["count"]) for one in calibration["bins"]]
    return write_table(("mean score", "share that holds", "pairs"), rows)


def name_hardware(hardware: Hardware | Mapping[str, Any] | None) -> str:
    """Hardware in words."""
    if not hardware:
        return MISSING
    threads = f"{hardware['processor']}, {hardware['cores']} cores, threads of torch: {hardware['threads']}"
    return escape(f"{hardware['accelerator']} ({threads})" if hardware.get("accelerator") else threads)


def show_versions(files: RunFiles, built_with: Mapping[str, str]) -> str:
    """Versions in training and when the card was written."""
    trained = (files.record or {}).get("versions", {})
    rows = [(name, trained.get(name, MISSING), version) for name, version in built_with.items()]
    return write_table(("", "training", "this card"), rows)
