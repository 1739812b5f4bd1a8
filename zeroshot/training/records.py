"""What a run leaves beside the model for its card: what it was trained on, with what, where and for how long.

No path gets in: a file of rows or an encoder on this machine is known by its base name.
"""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, TypedDict

import torch
import yaml
from huggingface_hub.repocard import metadata_load

from ..data import EvaluationSet, Source
from ..data.reading import PACKAGED, SUFFIXES, expand_path
from ..files import write_json
from ..version import __version__
from .arguments import DataArguments, ModelArguments
from .preparation import PreparedData
from .soups import read_member_records
from .trainer import ZeroShotTrainer

DATA_FILE = "training_data.json"
RECORD_FILE = "training_record.json"

Kind = Literal["packaged", "local", "hub"]


class SourceRecord(TypedDict):
    """One training file or Hub data set."""

    name: str  # base name of a local file; else as it was given
    kind: Kind
    rows: int  # trained on: without refused rows and those that hold a held-out label or text
    labels: int  # distinct names that hold in some row
    refused: int  # rows that could not be used, for the reasons in rejected_rows.jsonl
    license: str | None  # None where nothing states it
    language: list[str]  # codes; empty where nothing states them


class SetRecord(TypedDict):
    """One set that was measured during the run."""

    rows: int
    labels: int  # candidate labels


class DataRecord(TypedDict):
    """Content of `training_data.json`."""

    sources: list[SourceRecord]
    validation: dict[str, SetRecord]  # chose the checkpoint
    zero_shot: dict[str, SetRecord]  # measured before and after; their labels are not trained on


class Hardware(TypedDict):
    """What a process ran on."""

    processor: str
    cores: int
    threads: int  # of torch
    accelerator: str | None


class NameRecord(TypedDict):
    """An encoder by name."""

    name: str
    kind: Kind


class RunRecord(TypedDict):
    """Content of `training_record.json`."""

    encoders: list[NameRecord]  # of the texts, and of the labels where they have their own
    versions: dict[str, str]
    hardware: Hardware
    processes: int
    seconds: float | None  # of the last start until the end of training
    resumed: bool  # then `seconds` is of a part of the run only
    example_texts: list[str]  # those of the recipe
    example_labels: list[str]


def name_source(name: str) -> NameRecord:
    """How rows or an encoder are named where others read it: a file or folder of this machine by its base name.

    Example:
        >>> name_source("../clients/mails.jsonl"), name_source("user/rows:test")["kind"]
        ({'name': 'mails.jsonl', 'kind': 'local'}, 'hub')
    """
    if name.startswith("packaged:"):
        return {"name": name, "kind": "packaged"}
    looks_local = name.startswith((".", "/", "~")) or "\\" in name or Path(name).suffix.lower() in SUFFIXES
    if looks_local or name.count("/") > 1 or expand_path(name).exists():
        return {"name": PureWindowsPath(name).name or name, "kind": "local"}
    return {"name": name, "kind": "hub"}


def _read_data_card(name: str, kind: Kind) -> Mapping[str, Any]:
    """Front matter of the data card of a file: the packaged one, or one beside a local file that declares it."""
    path = expand_path(name)
    card = (PACKAGED if kind == "packaged" else path.parent) / "README.md"
    if kind == "hub" or not card.is_file():
        return {}
    try:
        front = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError):
        return {}  # some other README
    files = [file for config in front.get("configs") or () for file in config.get("data_files") or ()]
    declared = any(isinstance(file, dict) and file.get("path") == path.name for file in files)
    return front if declared or kind == "packaged" else {}


def describe_source(source: Source) -> SourceRecord:
    """Count the rows and labels of a source, and read its licence and languages where a data card states them."""
    named = name_source(source.name)
    front = _read_data_card(source.name, named["kind"])
    language = front.get("language") or []
    licence = front.get("license")
    return {
        **named,
        "rows": len(source.rows),
        "labels": len({name for names in source.rows["labels"] for name in names}),
        "refused": len(source.rejected),
        "license": None if licence in (None, "unknown") else str(licence),
        "language": [language] if isinstance(language, str) else [str(code) for code in language],
    }


def _describe_sets(sets: Mapping[str, EvaluationSet]) -> dict[str, SetRecord]:
    return {name: {"rows": len(one), "labels": len(one.candidate_labels)} for name, one in sets.items()}


def describe_hardware() -> Hardware:
    """Name the processor and, where there is one, the accelerator of this process."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if accelerator is None and torch.accelerator.is_available():
        accelerator = str(torch.accelerator.current_accelerator())
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "accelerator": accelerator,
    }


def describe_versions() -> dict[str, str]:
    """The versions on which a result depends."""
    libraries = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    return {"zeroshot": __version__, "python": platform.python_version(), **libraries}


def record_run(
    trainer: ZeroShotTrainer, model: ModelArguments, data: DataArguments, prepared: PreparedData, *, resumed: bool
) -> None:
    """Write `training_data.json` and `training_record.json` into `output_dir`.

    Args:
        trainer: After `train()`.
        model: What the recipe says about the model.
        data: What it says about data.
        prepared: What was trained and measured on.
        resumed: Whether the run went on from a checkpoint.
    """
    if not trainer.is_world_process_zero():
        return
    seconds = [entry["train_runtime"] for entry in trainer.state.log_history if "train_runtime" in entry]
    if trainer.args.members:
        records = read_member_records(data, trainer.args, RECORD_FILE)
        resumed = any(record["resumed"] for record in records)
        seconds = [] if None in (parts := [record["seconds"] for record in records]) else [sum(parts)]
    rows: DataRecord = {
        "sources": [describe_source(source) for source in prepared.train],
        "validation": _describe_sets(prepared.validation),
        "zero_shot": _describe_sets(prepared.zero_shot),
    }
    record: RunRecord = {
        "encoders": [name_source(name) for name in (model.encoder, model.class_encoder) if name is not None],
        "versions": describe_versions(),
        "hardware": describe_hardware(),
        "processes": trainer.args.world_size,
        "seconds": seconds[-1] if seconds else None,
        "resumed": resumed,
        "example_texts": data.example_texts,
        "example_labels": data.example_labels,
    }
    folder = Path(trainer.args.output_dir)
    write_json(folder / DATA_FILE, rows)
    write_json(folder / RECORD_FILE, record)
