"""Texts per second beside other libraries: python benchmarks/inference.py [--texts FILE] --output FOLDER.

All contestants take turns in one process: in each round each classifies a number of texts that take it about a second, and
rounds repeat, so that whatever else the machine does slows all of them alike. Labels are encoded before, and timed apart.
Weights are untrained: speed does not depend on them. Written to the folder: results.csv, results.md and results.png.

It needs the extras `export`, `bench` and `data`; who lacks a package is left out and named. OMP_NUM_THREADS sets the
threads.
"""

import argparse
import csv
import itertools
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from contestants import Contestant, TooManyLabels, find_missing, list_contestants

from zeroshot.data import load_source
from zeroshot.models.loading import DEFAULT_ENCODER, resolve_encoder

PEER = "sentence-transformers"
PACKAGED = "packaged:topics/train.jsonl"
LATENCY_LABELS = 10


@dataclass
class Cell:
    """One contestant at one number of labels."""

    name: str
    labels: int
    label_seconds: float  # to encode all labels
    texts: int  # of a round
    prepared: Any
    rounds: list[float] = field(default_factory=list)  # texts per second
    milliseconds: list[float] = field(default_factory=list)  # of single texts
    best: list[int] = field(default_factory=list)


def read_texts(name: str) -> list[str]:
    """Texts of a row file, shuffled: who is slow sees only the first, which should be like the others."""
    texts = list(load_source(name, keep_unlabelled=True).rows["text"])
    random.Random(0).shuffle(texts)
    return texts


def make_labels(count: int) -> list[str]:
    """Distinct names: packaged ones, then pairs of them."""
    names = list(dict.fromkeys(name for row in load_source(PACKAGED).rows["labels"] for name in row))
    pairs = (f"{first} and {second}" for first, second in itertools.combinations(names, 2))
    return list(itertools.islice(itertools.chain(names, pairs), count))


def time_call(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came back."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def build_cell(name: str, contestant: Contestant, texts: Sequence[str], labels: list[str], settings: Any) -> Cell:
    """Encode labels, warm up, and find how many texts a round has."""
    label_seconds, prepared = time_call(lambda: contestant.prepare(labels))
    contestant.classify(texts[:1], prepared)
    count = 2
    seconds, _ = time_call(lambda: contestant.classify(texts[:count], prepared))
    while seconds < settings.seconds / 2 and count < len(texts):
        count = min(len(texts), 2 * count, max(2, int(count * settings.seconds / max(seconds, 1e-6))))
        seconds, _ = time_call(lambda count=count: contestant.classify(texts[:count], prepared))
    return Cell(name, len(labels), label_seconds, count, prepared)


def take_turn(cell: Cell, contestant: Contestant, texts: Sequence[str], calls: int) -> None:
    """One round of a contestant: a batch of texts, then some single ones."""
    seconds, cell.best = time_call(lambda: contestant.classify(texts[: cell.texts], cell.prepared))
    cell.rounds.append(cell.texts / seconds)
    for text in texts[:calls]:
        seconds, _ = time_call(lambda text=text: contestant.classify([text], cell.prepared))
        cell.milliseconds.append(1000 * seconds)


def compare(contestants: dict[str, Contestant], texts: list[str], settings: Any) -> list[Cell]:
    """All contestants at all numbers of labels, slow ones as far as their time allows."""
    done: list[Cell] = []
    seconds_per_text: dict[str, tuple[int, float]] = {}
    for count in settings.labels:
        labels, cells = make_labels(count), []
        for name, contestant in contestants.items():
            before, seconds = seconds_per_text.get(name, (count, 0.0))
            if 3 * seconds * count / before > settings.budget:  # the two texts of the shortest round, and one before
                sys.stderr.write(f"{count} labels, {name}: left out, over --budget\n")
                continue
            try:
                cells.append(build_cell(name, contestant, texts, labels, settings))
            except TooManyLabels as error:
                sys.stderr.write(f"{count} labels, {name}: left out, {error}\n")
        calls = settings.calls if count == LATENCY_LABELS else 0
        for turn in range(settings.rounds):
            for cell in cells:
                take_turn(cell, contestants[cell.name], texts, calls)
                sys.stderr.write(f"{count} labels, round {turn}, {cell.name}: {cell.rounds[-1]:.1f} texts/s\n")
        for cell in cells:
            seconds_per_text[cell.name] = (count, 1 / median(cell.rounds))
            cell.prepared = None
        done += cells
    return done


def summarize(cells: list[Cell]) -> list[dict[str, Any]]:
    """Rows of the CSV file; a ratio is the median of the rounds' ratios to the peer."""
    peers = {cell.labels: cell for cell in cells if cell.name == PEER}
    rows = []
    for cell in cells:
        peer = peers.get(cell.labels)
        row = {
            "contestant": cell.name,
            "labels": cell.labels,
            "texts_per_second": round(median(cell.rounds), 2),
            "slowest_round": round(min(cell.rounds), 2),
            "fastest_round": round(max(cell.rounds), 2),
            "texts_of_a_round": cell.texts,
            f"times_{PEER}": "",
            f"same_best_label_as_{PEER}": "",
            "seconds_to_encode_labels": round(cell.label_seconds, 3),
            "median_ms": "",
            "p99_ms": "",
        }
        if peer is not None:
            ratios = [ours / theirs for ours, theirs in zip(cell.rounds, peer.rounds, strict=True)]
            pairs = list(zip(cell.best, peer.best, strict=False))  # as many texts as both had
            row[f"times_{PEER}"] = round(median(ratios), 3)
            row[f"same_best_label_as_{PEER}"] = round(sum(one == other for one, other in pairs) / len(pairs), 3)
        if len(cell.milliseconds) > 1:
            row["median_ms"] = round(median(cell.milliseconds), 2)
            row["p99_ms"] = round(quantiles(cell.milliseconds, n=100, method="inclusive")[-1], 2)
        rows.append(row)
    return rows


def format_table(rows: list[dict[str, Any]], settings: Any, left_out: dict[str, str]) -> str:
    """Markdown: texts/s by number of labels, with the ratio to the peer in brackets."""
    counts = settings.labels
    lines = [
        "| | "
        + " | ".join(f"{count:,} labels" for count in counts)
        + f" | ms a text, {LATENCY_LABELS} labels: median (p99) |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for name in dict.fromkeys(row["contestant"] for row in rows):
        own = {row["labels"]: row for row in rows if row["contestant"] == name}
        cells = []
        for count in counts:
            ratio = f" ({own[count][f'times_{PEER}']:.2f})" if count in own and own[count][f"times_{PEER}"] != "" else ""
            cells.append(f"{own[count]['texts_per_second']:,.1f}{ratio}" if count in own else "left out")
        single = own.get(LATENCY_LABELS, {"median_ms": ""})
        latency = f"{single['median_ms']} ({single['p99_ms']})" if single["median_ms"] != "" else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {latency} |")
    lines += ["", f"Texts per second, median of {settings.rounds} rounds; in brackets times {PEER} in the same rounds. "
              f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, texts: {settings.texts}."]  # fmt: skip
    lines.append("Left out at some numbers of labels: over the budget of seconds, or more labels than it can read.")
    lines += [f"Left out: {name}, for want of the package {package}." for name, package in left_out.items()]
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Texts per second against labels, both on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for number, name in enumerate(dict.fromkeys(row["contestant"] for row in rows)):
        own = [row for row in rows if row["contestant"] == name]
        style = "--" if name.startswith(("sentence", "transformers", "GLiClass")) else "-"
        axes.plot(
            [row["labels"] for row in own], [row["texts_per_second"] for row in own], style, marker="o", markersize=3,
            color=pyplot.get_cmap("tab20")(number % 20), label=name,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="candidate labels", ylabel="texts per second")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=80, bbox_inches="tight")
    pyplot.close(figure)


def parse(words: list[str]) -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", default=PACKAGED, help="row file with a field text (default %(default)s)")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="folder or Hub id (default %(default)s)")
    parser.add_argument("--labels", nargs="+", type=int, default=[2, 10, 77, 100, 1000, 10_000], help="how many")
    parser.add_argument("--only", nargs="+", help="names of contestants (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round of a contestant (default %(default)s)")
    parser.add_argument("--budget", type=float, default=60.0, help="most seconds of three texts (default %(default)s)")
    parser.add_argument("--calls", type=int, default=50, help="single texts a round (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for tables, plot and exports")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Parse, compare, write."""
    settings = parse(words)
    settings.output.mkdir(parents=True, exist_ok=True)
    known = list_contestants(resolve_encoder(settings.encoder), settings.output / "exports")
    if unknown := set(settings.only or ()) - set(known):
        sys.exit(f"Expected contestants of {'; '.join(known)}, found {'; '.join(sorted(unknown))}. Choose from these.")
    names = [name for name in known if not settings.only or name in settings.only]
    left_out = {name: package for name in names if (package := find_missing(name)) is not None}
    contestants = {name: known[name]() for name in names if name not in left_out}
    rows = summarize(compare(contestants, read_texts(settings.texts), settings))
    with (settings.output / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (settings.output / "results.md").write_text(format_table(rows, settings, left_out), encoding="utf-8")
    plot(rows, settings.output / "results.png")
    sys.stdout.write((settings.output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
