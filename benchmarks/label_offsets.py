"""How many texts label offsets need: python benchmarks/label_offsets.py MODEL --sets FOLDER.

Each set is a folder with labels.json, train.jsonl and test.jsonl (or validation.jsonl). Offsets are estimated on texts of
train.jsonl, of which nothing but the text is read, and measured on rows of the other file, whose texts are not among them.
`nearest_share` and `strength` are those of the package unless others are asked for. The model should not have been trained
on the sets.
"""

import argparse
import itertools
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from zeroshot.data import build_evaluation_set, load_source
from zeroshot.evaluation.metrics import METRICS
from zeroshot.models.loading import load_model
from zeroshot.models.offsets_zeroshot import NEAREST_SHARE, STRENGTH, compute_label_offsets

SHOWN = ("accuracy", "macro_f1")


@dataclass
class MeasuredSet:
    """Logits (B, N) and targets (B, N) of rows with labels, and logits (T, N) of texts without."""

    logits: torch.Tensor
    targets: np.ndarray
    others: torch.Tensor


def read_set(folder: Path, model, *, rows: int, texts: int, batch_size: int) -> MeasuredSet:
    """Score the rows and the texts of a folder."""
    files = [path for name in ("test", "validation") if (path := folder / f"{name}.jsonl").is_file()]
    if not files:
        sys.exit(f"Expected test.jsonl or validation.jsonl beside train.jsonl in {str(folder)!r}, found neither.")
    source = load_source(str(files[0]))
    order = list(range(len(source.rows)))
    random.Random(0).shuffle(order)
    own = build_evaluation_set(replace(source, rows=source.rows.select(order[:rows]), numbers=[]))
    judged = set(own.texts)
    train = load_source(str(folder / "train.jsonl"), keep_unlabelled=True).rows["text"]
    pool = [text for text in dict.fromkeys(train) if text not in judged]
    random.Random(1).shuffle(pool)
    logits, others = (
        model.predict_logits(
            some, own.candidate_labels, batch_size=batch_size, precision="auto", show_progress_bar=sys.stderr.isatty()
        )
        for some in (own.texts, pool[:texts])
    )
    return MeasuredSet(logits, own.targets, others)


def measure(sets: Sequence[MeasuredSet], texts: int, draws: int, nearest_share: float, strength: float) -> str:
    """Accuracy / macro-F1, the mean over sets and over several draws of so many texts."""
    values = []
    for draw in range(draws):
        generator = torch.Generator().manual_seed(draw)
        for one in sets:
            drawn = one.others[torch.randperm(len(one.others), generator=generator)[:texts]]
            offsets = compute_label_offsets(drawn, nearest_share=nearest_share, strength=strength) if texts else 0
            moved = one.logits + offsets
            values.append([METRICS[name](moved.numpy(), one.targets) for name in SHOWN])
    return " / ".join(f"{value:.3f}".removeprefix("0") for value in np.mean(values, axis=0))


def main() -> None:
    """Read the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description="Measure label offsets by the number of texts they are estimated on.")
    parser.add_argument("model", help="folder or Hub id of a checkpoint")
    parser.add_argument("--sets", required=True, type=Path, help="folder of sets with train.jsonl, test.jsonl, labels.json")
    parser.add_argument("--texts", nargs="+", type=int, default=[0, 10, 20, 50, 100, 200, 500, 1000, 1600])
    parser.add_argument("--nearest_share", nargs="+", type=float, default=[NEAREST_SHARE], help="of the texts that count")
    parser.add_argument("--strength", nargs="+", type=float, default=[STRENGTH], help="share that is taken away")
    parser.add_argument("--rows", type=int, default=500, help="rows of a set that are measured (default %(default)s)")
    parser.add_argument(
        "--draws", type=int, default=4, help="of the texts; their results are averaged (default %(default)s)"
    )
    parser.add_argument("--batch_size", type=int, default=64, help="texts per pass (default %(default)s)")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    folders = sorted(path.parent for path in arguments.sets.glob("*/train.jsonl"))
    if not folders:
        sys.exit(f"Expected folders with train.jsonl in {str(arguments.sets)!r}, found none.")
    most = max(arguments.texts)
    sets = [read_set(folder, model, rows=arguments.rows, texts=most, batch_size=arguments.batch_size) for folder in folders]
    fewest = min(len(one.others) for one in sets)
    if most > fewest:
        sys.exit(f"Expected sets with {most} different texts in train.jsonl, found one with {fewest}. Lower --texts.")
    ways = list(itertools.product(arguments.nearest_share, arguments.strength))
    print(f"{', '.join(folder.name for folder in folders)}: mean accuracy / macro-F1")
    print("| texts | " + " | ".join(f"nearest_share {one}, strength {other}" for one, other in ways) + " |")
    print("|" + "---|" * (len(ways) + 1))
    for texts in arguments.texts:
        cells = [measure(sets, texts, arguments.draws if texts else 1, *way) for way in ways]
        print(f"| {texts} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
