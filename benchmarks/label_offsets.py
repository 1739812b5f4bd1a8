"""How many texts label offsets need: python benchmarks/label_offsets.py MODEL --sets FOLDER.

Each set is a folder with labels.json, train.jsonl and test.jsonl (or validation.jsonl). Offsets are estimated on texts of
train.jsonl, of which nothing but the text is read, and measured on rows of the other file, whose texts are not among them.
"Nearest" and "share" are those of the package unless others are asked for. The model should not have been trained on the
sets.
"""

import argparse
import math
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
from zeroshot.models.offsets_zeroshot import LEAST_NEAREST, NEAREST_SHARE

SHOWN = ("accuracy", "macro_f1")


@dataclass
class MeasuredSet:
    """Logits (B, N) and targets (B, N) of rows with labels, and logits (T, N) of texts without."""

    logits: torch.Tensor
    targets: np.ndarray
    others: torch.Tensor


def read_set(folder: Path, model, *, rows: int, texts: int, batch_size: int) -> MeasuredSet:
    """Score the rows and the texts of a folder."""
    file = next(path for name in ("test", "validation") if (path := folder / f"{name}.jsonl").is_file())
    source = load_source(str(file))
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


def estimate(logits: torch.Tensor, nearest_share: float, share: float) -> torch.Tensor:
    """Offsets as `compute_label_offsets` has them, with other constants."""
    nearest = min(len(logits), max(LEAST_NEAREST, math.ceil(nearest_share * len(logits))))
    return -share * logits.topk(nearest, dim=0).values.mean(dim=0)


def measure(sets: Sequence[MeasuredSet], texts: int, draws: int, nearest_share: float, share: float) -> str:
    """Accuracy / macro-F1, the mean over sets and over several draws of so many texts."""
    values = []
    for draw in range(draws):
        generator = torch.Generator().manual_seed(draw)
        for one in sets:
            drawn = one.others[torch.randperm(len(one.others), generator=generator)[:texts]]
            moved = one.logits + (estimate(drawn, nearest_share, share) if texts else 0)
            values.append([METRICS[name](moved.numpy(), one.targets) for name in SHOWN])
    return " / ".join(f"{value:.3f}".removeprefix("0") for value in np.mean(values, axis=0))


def main() -> None:
    """Read the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description="Measure label offsets by the number of texts they are estimated on.")
    parser.add_argument("model", help="folder or Hub id of a checkpoint")
    parser.add_argument("--sets", required=True, type=Path, help="folder of sets with train.jsonl, test.jsonl, labels.json")
    parser.add_argument("--texts", nargs="+", type=int, default=[0, 10, 20, 50, 100, 200, 500, 1000, 2000])
    parser.add_argument("--nearest", nargs="+", type=float, default=[NEAREST_SHARE], help="share of the texts that are near")
    parser.add_argument("--share", nargs="+", type=float, default=[0.5], help="of their mean logit that is taken away")
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
    ways = [(nearest, share) for nearest in arguments.nearest for share in arguments.share]
    print(f"{', '.join(folder.name for folder in folders)}: mean accuracy / macro-F1")
    print("| texts | " + " | ".join(f"nearest {nearest}, share {share}" for nearest, share in ways) + " |")
    print("|" + "---|" * (len(ways) + 1))
    for texts in arguments.texts:
        cells = [measure(sets, texts, arguments.draws if texts else 1, nearest, share) for nearest, share in ways]
        print(f"| {texts} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
