"""One training run, one measurement or one timing, in a process of its own, so that its peak of memory is its own.

Started by [`benchmark_command`] as `python -m zeroshot.benchmark.worker SETTINGS.json`; the result is written beside the
model, in the file that [`RESULTS`] names.
"""

import json
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from transformers import set_seed

from ..console import run_command
from ..data import build_evaluation_set, load_source
from ..evaluation import compute_metrics, evaluate_model, load_suite
from ..evaluation.speed import time_prediction
from ..files import write_json
from ..models import ZeroShotPreTrainedModel
from ..models.loading import load_model
from ..training import ZeroShotTrainer, build_training_dataset, copy_backbones, parse_arguments, prepare_data
from ..training.runs import begin_run, build_model, find_run, finish_training

LABEL_COUNTS = (10, 100, 1000)
PACKAGED_TEXTS = ("packaged:zero_shot/topics/test.jsonl", "packaged:topics/test.jsonl")  # median 40 words
# What a worker can do, in this order, and the file of each result. Timings come last and in turn, so that whatever else the
# machine did during hours of training is the same for all.
RESULTS = {"train": "training.json", "measure": "measurement.json", "time": "timing.json"}


class WorkerSettings(TypedDict):
    """What a worker is told."""

    job: str  # of RESULTS
    words: list[str]  # the training command line: recipe and overrides
    suites: list[str]  # folders of test sets
    rows: int  # most rows of a set
    output_dir: str


def read_peak_memory() -> float:
    """The most memory that this process has held so far, in GiB; of the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


def train(settings: WorkerSettings) -> dict[str, Any]:
    """Train one model as `train.py` does, without its reports."""
    model_arguments, data_arguments, training_arguments = parse_arguments(settings["words"])
    set_seed(training_arguments.seed)
    run = find_run(model_arguments, data_arguments, training_arguments)
    model = build_model(model_arguments, training_arguments).to(training_arguments.device)
    data = prepare_data(data_arguments, training_arguments.seed)
    initial = copy_backbones(model)
    dataset = build_training_dataset(data, data_arguments, training_arguments.seed)
    trainer = ZeroShotTrainer(
        model,
        training_arguments,
        train_dataset=dataset,
        eval_dataset=data.validation or None,
        compute_metrics=compute_metrics,
    )
    begin_run(run, model_arguments, data_arguments, training_arguments)
    result = trainer.train(resume_from_checkpoint=run.checkpoint)
    finish_training(trainer, initial, data.validation.values())
    return {
        "train_texts_per_second": result.metrics["train_samples_per_second"],
        "train_seconds": result.metrics["train_runtime"],
        "train_peak_memory": read_peak_memory(),
        "resumed": run.checkpoint is not None,  # then the speed is that of a part of the run
    }


def load_trained(settings: WorkerSettings) -> tuple[ZeroShotPreTrainedModel, torch.autocast, str]:
    """The trained model, the precision to measure it in and that one's name."""
    model = load_model(settings["output_dir"])
    if model.pays_per_pair and not model.has_shortlist:  # every wording costs as much again; the others keep theirs
        model.config.class_templates = model.config.class_templates[:1]
    precision = "bf16" if parse_arguments(settings["words"])[2].bf16 else "fp32"
    return model, torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"), precision


def measure(settings: WorkerSettings) -> dict[str, Any]:
    """Measure a trained model: packaged test sets, further suites, size."""
    model, autocast, precision = load_trained(settings)
    packaged = {**load_suite("packaged:topics"), "unseen topics": load_suite("packaged:zero_shot/topics")["topics"]}
    packaged["unseen variety"] = build_evaluation_set(load_source("packaged:variety/test.jsonl"))
    with autocast:
        result: dict[str, Any] = {"packaged": evaluate_model(model, packaged)["sets"], "suites": {}}
        for suite in settings["suites"]:
            result["suites"][Path(suite).name] = evaluate_model(model, load_suite(suite, settings["rows"]))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {**result, "parameters": parameters, "precision": precision, "peak_memory": read_peak_memory()}


def time_labels(settings: WorkerSettings) -> dict[str, Any]:
    """Texts per second of a trained model against some numbers of labels, encoded already."""
    model, autocast, precision = load_trained(settings)
    texts = [row["text"] for name in PACKAGED_TEXTS for row in load_source(name).rows]
    names = load_source("packaged:variety/train.jsonl").rows["labels"]
    labels = list(dict.fromkeys(name for row in names for name in row))
    with autocast:
        speeds = {str(count): time_prediction(model, texts, labels[:count]) for count in LABEL_COUNTS}
    return {"texts_per_second": speeds, "precision": precision, "threads": torch.get_num_threads()}


JOBS: dict[str, Callable[[WorkerSettings], dict[str, Any]]] = {"train": train, "measure": measure, "time": time_labels}


def main(arguments: Sequence[str]) -> None:
    """Do the job of a settings file and write its result."""
    settings: WorkerSettings = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    result = JOBS[settings["job"]](settings)
    write_json(Path(settings["output_dir"]) / RESULTS[settings["job"]], result)


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
