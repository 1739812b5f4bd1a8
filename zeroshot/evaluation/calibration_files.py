"""`zeroshot calibrate`: rows in, the calibration in the checkpoint's config.json, figures and a plot out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import concatenate_datasets

from ..data import EvaluationSet, Source, build_evaluation_set, load_source
from ..data.reading import resolve_path
from ..data.report_files import prepare_folder
from ..files import replace_file, write_json, write_text
from ..models.calibration_zeroshot import check_calibration
from ..models.inputs_zeroshot import check_batch_size
from ..models.loading import find_config, load_model
from .calibration import LEAST_POSITIVES, Method, Report, calibrate, check_rows, choose_method
from .reliability import BINS, ReliabilityBin

REPORT_FILE = "calibration.json"
PLOT_FILE = "calibration.png"


def load_rows(files: Sequence[str]) -> EvaluationSet:
    """Join row files over one label set; rows without labels are out of scope.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If the files have different label sets, or nothing in them has a label.
    """
    sources = [load_source(file, keep_unlabelled=True) for file in files]
    for source in sources[1:]:
        if source.candidate_labels != sources[0].candidate_labels:
            sets = [one.candidate_labels for one in (sources[0], source)]
            found = " and ".join("no labels.json" if names is None else f"one of {len(names)} names" for names in sets)
            raise ValueError(
                f"Expected the same labels.json beside all files, found {found} beside {sources[0].name!r} and "
                f"{source.name!r}. Calibrate on rows of one label set."
            )
    joined = Source(
        " and ".join(source.name for source in sources),
        concatenate_datasets([source.rows for source in sources]),
        sources[0].candidate_labels,
        labels_are_sentences=any(source.labels_are_sentences for source in sources),
    )
    return build_evaluation_set(joined, keep_unlabelled=True)


def _name_data(file: str) -> str:
    """What may be published of a file's name: no folder of this machine."""
    path = None if file.startswith("packaged:") else resolve_path(file)
    return file if path is None else path.name


def store_calibration(folder: Path, calibration: Mapping[str, Any], report: Report) -> None:
    """Write the calibration into `config.json` and the measurements into `calibration.json`, each in one step.

    Args:
        folder: Of a checkpoint.
        calibration: See `models.calibration_zeroshot.check_calibration`.
        report: The second part of [`calibrate`]'s result.

    Raises:
        ValueError: If the checkpoint would not load with it; nothing is written then.
    """
    check_calibration(dict(calibration))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # As `save_pretrained` writes it.
    write_text(folder / "config.json", json.dumps({**config, "calibration": calibration}, indent=2, sort_keys=True) + "\n")
    before, after = report["before"], report["after"]
    content = {
        **calibration,
        "set": calibration["data"],
        "ece_before": before["ece"],
        "ece_after": after["ece"],
        "brier_before": before["brier"],
        "brier_after": after["brier"],
        "bins_before": before["bins"],
        "bins": after["bins"],
        "out_of_scope_before": before["out_of_scope"],
        "out_of_scope_after": after["out_of_scope"],
        **{name: value for name, value in report.items() if name not in ("before", "after")},
    }
    write_json(folder / REPORT_FILE, content, indent=2)


def plot_reliability(before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin], path: Path) -> None:
    """Draw two reliability diagrams side by side: in each bin of scores, the share that holds.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), dpi=120, layout="constrained")  # without pyplot: no window, no state of the process
    for axes, bins, title in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
        axes.bar([one["lower"] for one in bins], [one["accuracy"] for one in bins], 1 / BINS, align="edge", alpha=0.5)
        axes.plot([one["confidence"] for one in bins], [one["accuracy"] for one in bins], marker="o")
        axes.set(title=title, xlabel="mean score", ylabel="share that holds", xlim=(0, 1), ylim=(0, 1))
    with replace_file(path) as partial:
        figure.savefig(partial, format="png")


def _show(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def format_calibration(calibration: Mapping[str, Any], report: Report) -> str:
    """The measurements as two Markdown tables, and what was stored."""
    lines = ["| scores | expected calibration error | Brier score | AUROC | FPR at 95% recall |", "|" + "---|" * 5]
    for name, one in (("before", report["before"]), ("after", report["after"])):
        scope = one["out_of_scope"] or {"auroc": None, "fpr_at_95_recall": None}
        cells = [one["ece"], one["brier"], scope["auroc"], scope["fpr_at_95_recall"]]
        lines.append(f"| {name} | " + " | ".join(map(_show, cells)) + " |")
    lines += ["", "| what passes | micro-F1 | macro-F1 | out of scope refused |", "|" + "---|" * 4]
    untouched = "before, at 0.5" if calibration["multi_label"] else "before, the highest label"
    ways = {"before": untouched, "default_threshold": "default threshold", "thresholds": "threshold of the label"}
    for name, title in ways.items():
        lines.append(f"| {title} | " + " | ".join(map(_show, report["decisions"][name].values())) + " |")
    first, second = report["temperatures_of_halves"]
    kind = "each by itself" if calibration["multi_label"] else "sharing 1"
    lines += [
        "",
        f"{calibration['rows']} rows ({report['out_of_scope_rows']} without a label), {report['labels']} labels, {kind}. "
        "What is measured after was fitted on the other half.",
        f"Temperature {calibration['temperature']:.4f} ({first:.4f} and {second:.4f} on the halves), bias "
        f"{calibration['bias']:.4f}, default threshold {calibration['default_threshold']:.4f}, "
        f"{len(calibration['thresholds'])} labels with a threshold of their own.",
    ]
    if report["after"]["ece"] > report["before"]["ece"]:
        lines.append(
            "The calibration error is not lower than before: the scores meant about what they said, or the method does not "
            "fit them."
        )
    f1 = {name: report["decisions"][name]["micro_f1"] for name in ways}
    if f1["thresholds"] < f1["default_threshold"]:
        lines.append(
            "Thresholds of labels do worse here than the default on rows they were not chosen on: give more rows, or raise "
            "--least_positives."
        )
    return "\n".join(lines)


def _find_folder(model_name: str) -> Path:
    folder = Path(model_name)
    if not folder.is_dir():
        raise ValueError(
            f"Expected the local folder of a checkpoint, in whose config.json the calibration is stored, found "
            f"{model_name!r}. Download a model of the Hub first: hf download {model_name} --local-dir FOLDER."
        )
    find_config(model_name)
    return folder


def calibrate_command(
    model_name: str,
    files: Sequence[str],
    *,
    method: Method | None = None,
    multi_label: bool = False,
    least_positives: int = LEAST_POSITIVES,
    output: Path | None = None,
    batch_size: int = 64,
) -> str:
    """Calibrate a checkpoint and return what was measured.

    Args:
        model_name: Folder of one of our checkpoints.
        files: Row files over one label set.
        method: `temperature` or `platt`; when left out, what [`choose_method`] says.
        multi_label: Whether the scores are sigmoids, or a softmax.
        least_positives: Rows of a label from which on it gets a threshold of its own.
        output: Folder for the plot.
        batch_size: Texts per pass.

    Raises:
        FileNotFoundError: If the folder holds no checkpoint, or a file is not there.
        ImportError: If matplotlib is not installed and a plot is asked for.
        ValueError: If the model is no local folder, or nothing can be fitted on the rows.
    """
    check_batch_size(batch_size)
    method = method or choose_method(multi_label)
    folder = _find_folder(model_name)
    if output is not None:
        prepare_folder(output)
    rows = load_rows(files)
    check_rows(rows.targets, rows.candidate_labels, method=method, multi_label=multi_label)
    model = load_model(model_name)
    logits = model.predict_logits(
        rows.texts,
        rows.candidate_labels,
        multi_label=multi_label,
        candidate_mask=rows.candidate_mask,
        batch_size=batch_size,
        show_progress_bar=True,
    )
    calibration, report = calibrate(
        logits.numpy(),
        rows.targets,
        rows.texts,
        rows.candidate_labels,
        method=method,
        multi_label=multi_label,
        least_positives=least_positives,
    )
    calibration["data"] = ", ".join(_name_data(file) for file in files)
    store_calibration(folder, calibration, report)
    if output is not None:
        plot_reliability(report["before"]["bins"], report["after"]["bins"], output / PLOT_FILE)
    stored = f"Stored in {folder / 'config.json'}; the figures are in {folder / REPORT_FILE}."
    return f"{format_calibration(calibration, report)}\n{stored}"
