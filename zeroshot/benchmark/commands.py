"""`zeroshot benchmark`: every architecture, every seed, one recipe, one table."""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tqdm.auto import tqdm
from transformers.utils import logging

from ..files import write_json, write_text
from ..models import ARCHITECTURES, get_architecture
from .worker import LABEL_COUNTS, RESULTS, WorkerSettings

logger = logging.get_logger(__name__)

PACKAGED_SETS = ("topics", "unseen topics", "unseen variety")


def _run_worker(job: str, settings: WorkerSettings) -> dict[str, Any]:
    """Run a job unless its result lies there already; the worker's messages go to a log beside the model."""
    folder = Path(settings["output_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    result, asked = folder / RESULTS[job], folder / f"{job}_settings.json"
    words = json.dumps({**settings, "job": job}, indent=1)
    if result.is_file() and asked.is_file() and asked.read_text(encoding="utf-8") == words:
        return json.loads(result.read_text(encoding="utf-8"))
    result.unlink(missing_ok=True)
    asked.write_text(words, encoding="utf-8")
    log = folder / f"{job}.log"
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-m", "zeroshot.benchmark.worker", str(asked)]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode or not result.is_file():
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise ValueError(
            f"Expected {job} of {folder.name} to end well, found status {done.returncode}: {last[0][:300]}. The log is "
            f"{log}; when it is mended, the same command goes on."
        )
    return json.loads(result.read_text(encoding="utf-8"))


def summarise(numbers: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation; None as the deviation of a single number."""
    return {"mean": mean(numbers), "deviation": stdev(numbers) if len(numbers) > 1 else None}


def _collect_figures(run: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one run, flat."""
    figures: dict[str, float] = {}
    for name, values in run["packaged"].items():
        figures.update({f"{name} {metric}": values[metric] for metric in ("accuracy", "macro_f1")})
    for name, suite in run["suites"].items():
        figures.update({f"{name} {metric}": value for metric, value in suite["mean"].items()})
    figures["train texts/s"] = run["train_texts_per_second"]
    figures.update({f"texts/s at {count} labels": value for count, value in run.get("texts_per_second", {}).items()})
    figures.update({"parameters": run["parameters"], "train GiB": run["train_peak_memory"], "GiB": run["peak_memory"]})
    return figures


def summarise_runs(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Per architecture and figure the mean and spread over the seeds."""
    summary = {}
    for architecture, seeds in runs.items():
        figures = [_collect_figures(run) for run in seeds]
        summary[architecture] = {name: summarise([one[name] for one in figures if name in one]) for name in figures[0]}
    return summary


def _show_share(value: Mapping[str, float | None]) -> str:
    """A share as .xxx, with its spread where there is one."""
    shown = f"{value['mean']:.3f}".removeprefix("0")
    return shown if value["deviation"] is None else shown + f" ± {value['deviation']:.3f}".replace("0.", ".")


def _show_speed(value: float) -> str:
    """Texts per second; below ten with a digit behind the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def format_benchmark(summary: Mapping[str, Mapping[str, Mapping[str, float | None]]], suites: Sequence[str]) -> str:
    """Two Markdown tables: how well, and at what price."""
    sets = [*PACKAGED_SETS, *suites]
    head = ["architecture", *(f"{name}: accuracy / macro-F1" for name in sets)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for architecture, figures in summary.items():
        cells = [
            " / ".join(_show_share(figures[f"{name} {metric}"]) for metric in ("accuracy", "macro_f1")) for name in sets
        ]
        lines.append("| " + " | ".join([f"`{architecture}`", *cells]) + " |")
    counts = [f"texts/s at {count} labels" for count in LABEL_COUNTS]
    head = ["architecture", "train texts/s", *counts, "parameters", "peak GiB in training", "peak GiB measuring"]
    lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for architecture, figures in summary.items():
        cells = [_show_speed(figures[name]["mean"] or 0.0) for name in ("train texts/s", *counts)]
        cells.append(f"{(figures['parameters']['mean'] or 0) / 1e6:.1f} M")
        cells += [f"{figures[name]['mean']:.1f}" for name in ("train GiB", "GiB")]
        lines.append("| " + " | ".join([f"`{architecture}`", *cells]) + " |")
    return "\n".join(lines)


def format_short(summary: Mapping[str, Mapping[str, Mapping[str, float | None]]], suites: Sequence[str]) -> str:
    """One Markdown table for a README: unseen labels, and texts per second."""
    sets = ["unseen topics", *suites]
    counts = [f"texts/s at {count} labels" for count in LABEL_COUNTS]
    head = ["architecture", *(f"{name}: accuracy / macro-F1" for name in sets), "train texts/s", *counts]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for architecture, figures in summary.items():
        cells = [
            " / ".join(_show_share(figures[f"{name} {metric}"]) for metric in ("accuracy", "macro_f1")) for name in sets
        ]
        cells += [_show_speed(figures[name]["mean"] or 0.0) for name in ("train texts/s", *counts)]
        lines.append("| " + " | ".join([f"`{architecture}`", *cells]) + " |")
    return "\n".join(lines)


def _run_all(
    recipe: str,
    keys: Sequence[str],
    seeds: Sequence[int],
    suites: Sequence[str],
    rows: int,
    output: Path,
    overrides: Sequence[str],
) -> dict[str, list[dict[str, Any]]]:
    """Every job of every run; per architecture the results of its seeds.

    Timings come last, of the first seed alone: another seed changes what the weights are, not what they cost.
    """
    pairs = [(key, seed) for seed in seeds for key in keys]
    rounds = [(pairs, ("train", "measure")), ([(key, seeds[0]) for key in keys], ("time",))]
    results: dict[tuple[str, int], dict[str, Any]] = {(key, seed): {"seed": seed} for key, seed in pairs}
    total = sum(len(runs) * len(jobs) for runs, jobs in rounds)
    with tqdm(total=total, desc="Benchmark", unit="job", disable=None) as bar:
        for runs, jobs in rounds:
            for key, seed in runs:
                folder = str(output / f"{key}-{seed}")
                words = [recipe, *overrides, "--architecture", key, "--seed", str(seed), "--output_dir", folder]
                for job in jobs:
                    settings: WorkerSettings = {
                        "job": job,
                        "words": words,
                        "suites": list(suites),
                        "rows": rows,
                        "output_dir": folder,
                    }
                    results[key, seed].update(_run_worker(job, settings))
                    bar.update()
    return {key: [results[key, seed] for seed in seeds] for key in keys}


def benchmark_command(
    recipe: str,
    *,
    architectures: Sequence[str],
    seeds: Sequence[int],
    suites: Sequence[str],
    rows: int,
    output: Path,
    overrides: Sequence[str] = (),
) -> str:
    """Train and measure architectures on one recipe and return the tables; finished parts are not run again.

    Args:
        recipe: A training recipe.
        architectures: Keys, or `all`.
        seeds: One training run for each.
        suites: Folders of test sets, measured besides the packaged ones.
        rows: The most rows of a set of the suites.
        output: Folder for the models, `benchmark.json` and `benchmark.md` (a short table, and two whole ones).
        overrides: Further words of the training command line (`--max_steps 20`).

    Raises:
        ValueError: If an architecture is unknown or a run fails; finished runs are kept.
    """
    keys = list(ARCHITECTURES) if list(architectures) == ["all"] else list(architectures)
    for key in keys:
        get_architecture(key)
    runs = _run_all(recipe, keys, seeds, suites, rows, output, overrides)
    summary = summarise_runs(runs)
    names = [Path(suite).name for suite in suites]
    table = f"{format_short(summary, names)}\n\n{format_benchmark(summary, names)}"
    words = ["zeroshot", "benchmark", recipe, "--architectures", *architectures, "--seeds", *map(str, seeds)]
    words += ["--rows", str(rows), *(word for suite in suites for word in ("--suite", suite))]
    command = shlex.join([*words, "--overrides", *overrides] if overrides else words)
    write_json(output / "benchmark.json", {"command": command, "summary": summary, "runs": runs})
    write_text(output / "benchmark.md", f"`{command}`\n\n{table}\n")
    return table
