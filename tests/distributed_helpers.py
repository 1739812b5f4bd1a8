"""One small training run after another, in the test's own process or in several that torchrun started.

As a script: `torchrun --nproc_per_node 2 distributed_helpers.py JOB ENCODER ROWS OUTPUT`, where JOB is `train`, which ends
by killing itself in the middle of a run, or `resume`, which goes on with that run.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import set_seed

import train
from zeroshot.data import TrainingDataset, load_source
from zeroshot.models import ARCHITECTURES
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments, hooks, teachers
from zeroshot.training.lora import merge_adapters
from zeroshot.training.processes import count_processes

BATCH_SIZE = 8  # over all processes
STEPS = 5


@dataclass(frozen=True)
class Case:
    """A model, and the arguments that it is trained with."""

    architecture: str
    loss: str | dict[str, float]
    options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    small: str = "three"  # what the last, incomplete batch holds: "three" texts or "one"
    hard_negatives: int = 0
    taught: bool = False
    question_rate: float = 0.0

    def __str__(self) -> str:
        words = [f"{name}={value}" for name, value in (self.options | self.arguments).items()]
        words += [f"hard_negatives={self.hard_negatives}"] if self.hard_negatives else []
        words += ["taught"] if self.taught else []
        words += [f"question_rate={self.question_rate}"] if self.question_rate else []
        return " ".join([self.architecture, str(self.loss), *words, f"last={self.small}"])


MARGIN: dict[str, Any] = {"in_batch_margin": 0.5}
CASES = [
    *(Case(key, loss, arguments=MARGIN) for key in ("biencoder", "polyencoder") for loss in ("sigmoid", "infonce", "bce")),
    *(Case("lateinteraction", loss, arguments=MARGIN) for loss in ("infonce", "bce")),
    *(Case(key, "infonce") for key in ("crossencoder", "jointencoder")),
    *(Case(key, "bce", arguments={"candidates_per_text": 3, **MARGIN}) for key in ("crossencoder", "jointencoder")),
    Case("jointencoder", "sigmoid", options={"label_isolation": False}, arguments={"candidates_per_text": 3}),
    Case("cascade", "infonce", options={"shortlist_size": 2}, arguments={"distillation_weight": 0.5, **MARGIN}),
    Case("cascade", "sigmoid", arguments={"candidates_per_text": 3, "distillation_weight": 0.5, **MARGIN}),
    Case("cascade", "bce", arguments={"candidates_per_text": 3}, small="one"),
    Case("biencoder", "sigmoid", small="one"),
    Case("biencoder", "bce", arguments={"class_weight_cap": 4.0, **MARGIN}),
    Case("cascade", {"infonce": 1.0, "bce": 0.2}, arguments={"class_weight_cap": 4.0, "candidates_per_text": 3}),
    Case("polyencoder", "triplet", arguments={"learning_rate": 0.05}),  # cosines are small numbers
    Case("biencoder", "infonce", arguments={"gradient_accumulation_steps": 2, **MARGIN}),
    Case("biencoder", "bce", arguments={"gradient_accumulation_steps": 2, "gradient_cache_size": 2, **MARGIN}),
    Case("cascade", "infonce", arguments={"gradient_cache_size": 2, "candidates_per_text": 3, "distillation_weight": 0.5}),
    Case("lateinteraction", "infonce", arguments={"gradient_cache_size": 1, "gradient_accumulation_steps": 2}),
    Case("biencoder", "infonce", arguments={"gradient_cache_size": 2, "bf16": True}),
    Case("biencoder", "infonce", hard_negatives=1),
    Case("biencoder", "bce", hard_negatives=1, taught=True),
    Case("biencoder", "infonce", arguments=MARGIN, question_rate=0.5),
    Case("cascade", "bce", arguments={"candidates_per_text": 3, **MARGIN}, taught=True, question_rate=0.5),
    Case("biencoder", "infonce", arguments={"lora_rank": 2, "learning_rate": 0.5}),
]


class RecordingTrainer(ZeroShotTrainer):
    """Keeps the loss of every batch."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss


@contextmanager
def listen() -> Iterator[list[str]]:
    """What the trainer logs."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("zeroshot.training.trainer")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield heard
    logger.removeHandler(handler)
    logger.setLevel(level)


class CountingTeacher(teachers.Teacher):
    """Counts the pairs that its process asks about."""

    asked = 0

    def _score_grid(self, texts: Any, features: dict, mask: torch.Tensor, batch_size: int) -> Any:
        CountingTeacher.asked += int(mask.sum())
        return super()._score_grid(texts, features, mask, batch_size)


class DyingTrainer(ZeroShotTrainer):
    """Ends its process in the fifth step."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        if self.state.global_step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(model, inputs, num_items_in_batch)


def train_case(case: Case, encoder: str, rows: Path, output: Path, processes: int) -> dict[str, Any]:
    """Losses of all batches, the weights, how far they moved, what was logged, and how many pairs a teacher was asked."""
    set_seed(1)
    CountingTeacher.asked, teachers.TEXTS_PER_CHUNK, hooks.Teacher = 0, 4, CountingTeacher  # type: ignore[misc]
    settings = {"class_templates": ["{}", "about {}"], "dropout": 0.0, **case.options}
    model = ARCHITECTURES[case.architecture].from_encoder(encoder, **settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sources = [load_source(str(rows / name)) for name in ("closed/train.jsonl", f"{case.small}.jsonl")]
    # Adam would blow up the noise of gradients that are zero in theory, such as those of the keys' biases; clipping would
    # hide a wrong scale.
    arguments = {"optim": "sgd", "learning_rate": 0.005, "max_grad_norm": 0.0, "max_steps": STEPS}
    arguments |= {"save_strategy": "no", "disable_tqdm": True}
    if case.taught:
        arguments |= {"teacher": str(rows / "teacher"), "teacher_cache": str(output / f"scores_{case.architecture}")}
    args = ZeroShotTrainingArguments(
        output_dir=str(output),
        loss=case.loss,
        per_device_train_batch_size=BATCH_SIZE // processes,
        precision="auto" if "bf16" in case.arguments else "fp32",
        use_cpu=True,
        **(arguments | case.arguments),
    )
    drawn = {"num_negatives": 2, "hard_negatives": case.hard_negatives, "question_rate": case.question_rate}
    dataset = TrainingDataset(sources, **drawn, seed=0)
    with listen() as log:
        trainer = RecordingTrainer(model, args, train_dataset=dataset)
    trainer.train()
    merge_adapters(model)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    moved = max((weights[name] - before[name]).abs().max().item() for name in weights if "encoder" in name)
    found = {"losses": trainer.losses, "weights": weights, "moved": moved, "processes": count_processes()}
    return {**found, "log": "\n".join(log), "asked": CountingTeacher.asked}


def run_recipe(encoder: str, rows: Path, output: Path) -> None:
    """train.py with dropout, whose state of random numbers each process has to find again."""
    words = {"encoder": encoder, "train_files": f"{rows}/closed/train.jsonl,{rows}/three.jsonl", "output_dir": output}
    words |= {"per_device_train_batch_size": 4, "max_steps": 6, "save_steps": 3, "learning_rate": 1e-3, "dropout": 0.1}
    words |= {"num_negatives": 2, "precision": "fp32", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    train.main([f"--{name}={value}" for name, value in words.items()])


def main(job: str, encoder: str, rows: Path, output: Path) -> None:
    """What a process of torchrun does."""
    torch.set_num_threads(1)
    if job == "resume":
        run_recipe(encoder, rows, output / "cut")
        return
    processes = int(os.environ["WORLD_SIZE"])
    results = {str(case): train_case(case, encoder, rows, output / "case", processes) for case in CASES}
    torch.save(results, output / f"results_{os.environ['RANK']}.pt")
    run_recipe(encoder, rows, output / "whole")
    train.ZeroShotTrainer = DyingTrainer  # type: ignore[misc]
    run_recipe(encoder, rows, output / "cut")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
