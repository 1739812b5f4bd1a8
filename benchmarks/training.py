"""Training speed beside sentence-transformers: python benchmarks/training.py [--rows FILE] [--output FOLDER].

Every contestant trains the same encoder on the same pairs of text and label in a process of its own. The processes take
turns: each trains a few steps and waits, so that whatever else the machine does slows all of them alike. Printed are the
median over the rounds, and texts per second of processor time, which hardly depends on other programs.

It needs the extra `bench` (sentence-transformers). `make bench` does its own set-up.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = 300
LEARNING_RATE = 2e-5
# Name, trainer, what it is given; the first is the one that others are compared with.
CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours, default": ("ours", {}),
    "ours, padded batches": ("ours", {"pack_batches": "never"}),
    "ours, float32": ("ours", {"precision": "fp32"}),
    "sentence-transformers, default": ("theirs", {}),
    "sentence-transformers, bf16, eager, no dropout": ("theirs", {"bf16": True, "eager": True, "dropout": 0.0}),
    "sentence-transformers, cached loss, default": ("theirs", {"cached": True}),
}


def read_rows(names: list[str], seed: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows with a label, shuffled: those to train on, and some held out to see that all contestants learn."""
    rows = [json.loads(line) for name in names for line in Path(name).read_text(encoding="utf-8").splitlines()]
    rows = [{"text": row["text"], "labels": row["labels"][:1]} for row in rows if row["labels"]]
    random.Random(seed).shuffle(rows)
    held_out = min(HELD_OUT, len(rows) // 5)
    return rows[held_out:], rows[:held_out]


# -- one contestant, in its own process --------------------------------------------------------------------------------


def build_pace(settings: dict[str, Any]) -> Any:
    """A callback that trains a round of steps whenever its parent says so, and tells the time each took."""
    from transformers import TrainerCallback

    class Pace(TrainerCallback):
        """Wait before a round; the first is not timed."""

        def __init__(self) -> None:
            self.began = (0.0, 0.0)

        def on_step_begin(self, args, state, control, **kwargs):
            """The batch is there already: the loader works one ahead, so each round has as many as it has steps."""
            if state.global_step % settings["steps"]:
                return
            if state.global_step:
                tell({"wall": time.perf_counter() - self.began[0], "processor": time.process_time() - self.began[1]})
            else:
                tell({"ready": True})
            if not sys.stdin.readline():
                sys.exit("The parent has ended.")
            self.began = time.perf_counter(), time.process_time()

    return Pace()


def tell(message: dict[str, Any]) -> None:
    """One line to the parent, whatever libraries print."""
    sys.__stdout__.write("@" + json.dumps(message) + "\n")
    sys.__stdout__.flush()


def shared_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """What both trainers are told; one step more than is timed, because a round ends where the next begins."""
    return {
        "output_dir": settings["folder"],
        "max_steps": settings["steps"] * (settings["rounds"] + 1) + 1,
        "per_device_train_batch_size": settings["batch_size"],
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": 0,
    }


def train_ours(settings: dict[str, Any], options: dict[str, Any]) -> tuple[list[float], float]:
    """Train with `ZeroShotTrainer`; losses of the steps and accuracy on the rows held out."""
    from zeroshot.data import TrainingDataset, load_source
    from zeroshot.training import ModelArguments, ZeroShotTrainer, ZeroShotTrainingArguments
    from zeroshot.training.runs import build_model

    arguments = ZeroShotTrainingArguments(**shared_arguments(settings), **options, loss="infonce")
    recipe = ModelArguments(encoder=settings["encoder"], dropout=0.0, max_tokens=settings["max_tokens"])
    model = build_model(recipe, arguments)
    dataset = TrainingDataset([load_source(settings["train_file"])])
    trainer = ZeroShotTrainer(model, arguments, train_dataset=dataset, callbacks=[build_pace(settings)])
    trainer.train()
    held_out = [json.loads(line) for line in Path(settings["held_out_file"]).read_text(encoding="utf-8").splitlines()]
    labels = sorted({name for row in held_out for name in row["labels"]})
    best = model.predict_logits([row["text"] for row in held_out], labels).argmax(dim=1).tolist()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return losses, mean(labels[one] in row["labels"] for one, row in zip(best, held_out, strict=True))


def train_theirs(settings: dict[str, Any], options: dict[str, Any]) -> tuple[list[float], float]:
    """Train with `SentenceTransformerTrainer`; what is not an option here stays as it is by default."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    rates = (
        {f"{part}_dropout_prob": options["dropout"] for part in ("hidden", "attention_probs")}
        if "dropout" in options
        else {}
    )
    model = SentenceTransformer(
        settings["encoder"],
        device="cpu",
        model_kwargs={"attn_implementation": "eager"} if options.get("eager") else {},
        config_kwargs=rates,
    )
    model.max_seq_length = settings["max_tokens"]
    rows = [json.loads(line) for line in Path(settings["train_file"]).read_text(encoding="utf-8").splitlines()]
    pairs = Dataset.from_dict({"anchor": [row["text"] for row in rows], "positive": [row["labels"][0] for row in rows]})
    loss = losses.CachedMultipleNegativesRankingLoss if options.get("cached") else losses.MultipleNegativesRankingLoss
    arguments = SentenceTransformerTrainingArguments(
        **shared_arguments(settings), use_cpu=True, bf16=options.get("bf16", False)
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=pairs, loss=loss(model), callbacks=[build_pace(settings)]
    )
    trainer.train()
    held_out = [json.loads(line) for line in Path(settings["held_out_file"]).read_text(encoding="utf-8").splitlines()]
    labels = sorted({name for row in held_out for name in row["labels"]})
    scores = model.similarity(model.encode([row["text"] for row in held_out]), model.encode(labels))
    values = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    best = scores.argmax(dim=1).tolist()
    return values, mean(labels[one] in row["labels"] for one, row in zip(best, held_out, strict=True))


def measure_peak() -> dict[str, float]:
    """FLOP/s of the matrix products that the encoder is made of, the best of many, per dtype."""
    import torch

    peak = {}
    for dtype in (torch.float32, torch.bfloat16):
        for tokens, inputs, outputs in ((1024, 384, 384), (1024, 384, 1536), (1024, 1536, 384)):
            states, weights = torch.randn(tokens, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
            for _ in range(30):
                start = time.perf_counter()
                torch.nn.functional.linear(states, weights)
                speed = 2 * tokens * inputs * outputs / (time.perf_counter() - start)
                peak[str(dtype)[6:]] = max(speed, peak.get(str(dtype)[6:], 0.0))
    return peak


def count_work(settings: dict[str, Any]) -> float:
    """Floating-point operations that a text needs at least: forward and backward (6 per weight) over its tokens and its
    share of the batch's distinct labels, in the encoder's matrices; attention and elementwise work are left out.
    """
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(settings["encoder"])
    layers = AutoModel.from_pretrained(settings["encoder"]).encoder.layer
    weights = sum(parameter.numel() for parameter in layers.parameters() if parameter.dim() == 2)
    rows = [json.loads(line) for line in Path(settings["train_file"]).read_text(encoding="utf-8").splitlines()]
    size, tokens = settings["batch_size"], 0
    batches = [rows[start : start + size] for start in range(0, len(rows) // size * size, size)][:50] or [rows]
    for batch in batches:
        strings = [row["text"] for row in batch] + list({row["labels"][0] for row in batch})
        tokens += sum(min(len(ids), settings["max_tokens"]) for ids in tokenizer(strings)["input_ids"])
    return 6.0 * weights * tokens / sum(map(len, batches))


def work(settings: dict[str, Any]) -> None:
    """The job of one process."""
    import torch

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    if settings["name"] == "peak":
        tell({"peak": measure_peak(), "flop_per_text": count_work(settings), "threads": torch.get_num_threads()})
        return
    kind, options = CONTESTANTS[settings["name"]]
    losses, accuracy = (train_ours if kind == "ours" else train_theirs)(settings, options)
    tell({"first_loss": losses[0], "final_loss": mean(losses[-settings["steps"] :]), "accuracy": accuracy})


# -- all of them -------------------------------------------------------------------------------------------------------


class Contestant:
    """A process that trains when told to."""

    def __init__(self, name: str, settings: dict[str, Any]):
        self.name = name
        self.rounds: list[dict[str, float]] = []
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self.log = open(Path(settings["folder"]) / f"{name}.log", "w+", encoding="utf-8")  # noqa: SIM115 - closed in `end`
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", json.dumps({**settings, "name": name})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment,
        )  # fmt: skip

    def listen(self) -> dict[str, Any]:
        """The next message."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        self.log.seek(0)
        raise ValueError(
            f"Expected {self.name!r} to train, found that it ended:\n{self.log.read()[-3000:]}\nMend what it says."
        )

    def take_turn(self) -> dict[str, Any]:
        """Train one round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.listen()

    def end(self) -> None:
        """Leave nothing behind, also after an error."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


def compare(settings: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Let all train in turn; speeds are per round."""
    contestants = [Contestant("peak", settings)]
    try:
        result: dict[str, Any] = {"machine": contestants[0].listen(), "rows": {}}
        contestants += [Contestant(name, settings) for name in names]
        for contestant in contestants[1:]:
            contestant.listen()
        for turn in range(settings["rounds"] + 1):
            for contestant in contestants[1:]:
                message = contestant.take_turn()
                if turn:  # the first round warms up
                    contestant.rounds.append(message)
                sys.stderr.write(f"round {turn} {contestant.name}: {message['wall']:.1f} s\n")
        for contestant in contestants[1:]:
            result["rows"][contestant.name] = summarize(contestant, contestant.take_turn(), settings, result["machine"])
        return result
    finally:
        for contestant in contestants:
            contestant.end()


def summarize(contestant: Contestant, outcome: dict[str, Any], settings: dict[str, Any], machine: dict[str, Any]) -> dict:
    """What is printed of one contestant."""
    texts = settings["steps"] * settings["batch_size"]
    speeds = [texts / one["wall"] for one in contestant.rounds]
    flops = median(speeds) * machine["flop_per_text"]
    per_second = median(texts / one["processor"] for one in contestant.rounds)
    return {
        "texts_per_second": median(speeds),
        "slowest_and_fastest_round": [min(speeds), max(speeds)],
        "texts_per_processor_second": per_second,
        "gflops": flops / 1e9,
        "share_of_peak": {dtype: flops / peak for dtype, peak in machine["peak"].items()},
        **outcome,
    }


def format_table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| trainer | texts/s (slowest, fastest round) | ours is faster by | texts per processor second | ours is faster by "
        "| GFLOP/s | of the bfloat16 peak | of the float32 peak | loss first → last | accuracy after |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = next(iter(result["rows"].values()))
    for name, row in result["rows"].items():
        low, high = row["slowest_and_fastest_round"]
        lines.append(
            f"| {name} | {row['texts_per_second']:.0f} ({low:.0f}, {high:.0f}) "
            f"| {first['texts_per_second'] / row['texts_per_second']:.2f} | {row['texts_per_processor_second']:.0f} "
            f"| {first['texts_per_processor_second'] / row['texts_per_processor_second']:.2f} | {row['gflops']:.0f} "
            f"| {row['share_of_peak']['bfloat16']:.0%} | {row['share_of_peak']['float32']:.0%} "
            f"| {row['first_loss']:.2f} → {row['final_loss']:.2f} | {row['accuracy']:.3f} |"
        )
    peak = ", ".join(f"{dtype} {flops / 1e9:.0f} GFLOP/s" for dtype, flops in result["machine"]["peak"].items())
    return "\n".join([*lines, "", f"Threads: {result['machine']['threads']}. Peak of matrix products, measured: {peak}."])


def main(arguments: list[str]) -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    packaged = [str(ROOT / "zeroshot/data/starter" / part / "train.jsonl") for part in ("topics", "variety")]
    parser.add_argument("--rows", nargs="+", default=packaged, help="JSON Lines files of rows; the first label counts")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2", help="folder or Hub id")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), help="contestants")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that warms up")
    parser.add_argument("--steps", type=int, default=12, help="steps of a round; few differ in the length of their texts")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--max_tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, help="of each process; torch's own choice when left out")
    parser.add_argument("--output", type=Path, help="folder for training.json and training.md")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    from zeroshot.models.loading import resolve_encoder

    with tempfile.TemporaryDirectory() as folder:
        settings = {name: getattr(options, name) for name in ("rounds", "steps", "batch_size", "max_tokens", "threads")}
        names: set[str] = set()
        settings |= {"folder": folder, "encoder": resolve_encoder(options.encoder)}
        for name, rows in zip(("train_file", "held_out_file"), read_rows(options.rows), strict=True):
            settings[name] = str(Path(folder) / f"{name}.jsonl")
            Path(settings[name]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            names |= {row["labels"][0] for row in rows}
        # A closed set of labels: then every other label of a batch is a negative, as in MultipleNegativesRankingLoss.
        (Path(folder) / "labels.json").write_text(json.dumps(sorted(names)), encoding="utf-8")
        result = compare(settings, options.only)
    table = format_table(result)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "training.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (options.output / "training.md").write_text(table + "\n", encoding="utf-8")
    sys.stdout.write(table + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]))
    else:
        main(sys.argv[1:])
