"""The model card: what a visitor of the Hub must know, each figure from a file beside the weights or measured now.

What is not there is said to be missing. No path of a machine gets in: local files are known by their base names.
"""

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..models import ZeroShotPreTrainedModel
from ..models.loading import load_model
from ..training.records import describe_versions
from ..training.watching import CURVE_FILE
from ..version import __version__
from . import DEFAULT_LICENCE, tables
from .front_matter import build_card_data, describe_emissions, find_architecture, list_encoders
from .markdown import MISSING, escape, show_number, write_table
from .measurements import WidgetExample, build_widget, choose_examples, record_speed
from .run_files import CALIBRATION_PLOT, RunFiles, read_run_files

TEMPLATE = Path(__file__).parent / "card_template.md"
CITATION = f"""@software{{zeroshot,
  title   = {{zeroshot: train, measure, publish and run zero-shot text classifiers}},
  version = {{{__version__}}},
  note    = {{Python library, Apache-2.0}}
}}"""


def explain_architecture(model: ZeroShotPreTrainedModel) -> str:
    """The text of the model's module, with its formula as a block of code."""
    text = inspect.cleandoc(sys.modules[type(model).__module__].__doc__ or f"Not stated ({type(model).__name__}).")
    return re.sub(r"(?m)(?:^ {4}.*\n?)+", lambda block: f"```text\n{inspect.cleandoc(block[0])}\n```\n", text).rstrip()


def _show_facts(model: ZeroShotPreTrainedModel, files: RunFiles) -> str:
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = [
        ("encoder", _name_encoders(files) or config.text_config.model_type),
        ("parameters", f"{parameters:,}"),
        ("hidden size, layers", f"{config.text_config.hidden_size}, {config.text_config.num_hidden_layers}"),
        ("most tokens of a text or label", config.max_tokens),
        ("wordings of a label", "; ".join(config.class_templates)),
        ("learned scale exp(a), bias b", f"{model.logit_scale.exp().item():.2f}, {model.logit_bias.item():.2f}"),
    ]
    return write_table(("", ""), facts)


def _name_encoders(files: RunFiles) -> str:
    return " and ".join(one["name"] for one in list_encoders(files))


def _describe_duration(files: RunFiles) -> str:
    seconds = (files.record or {}).get("seconds")
    if files.record is None or seconds is None:
        return f"duration {MISSING}"
    part = " (of the part after its last start: the run was resumed)" if files.record.get("resumed") else ""
    processes = files.record.get("processes", 1)
    length = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    return f"{length}{part}, {processes} process{'es' if processes > 1 else ''}"


def _describe_energy(files: RunFiles) -> str:
    emissions = describe_emissions(files)
    if emissions is None:
        return "Not measured (CodeCarbon was not used)."
    hours, used = emissions["hours_used"], escape(emissions["hardware_used"])
    return f"{emissions['emissions']:g} g of CO2 equivalent by CodeCarbon's estimate, in {hours:g} hours on {used}."


def _describe_speed(speed: dict[str, Any]) -> str:
    return (
        f"Labels encoded already, one wording, batches of 64 texts with a median of 40 words, {escape(speed['dtype'])} on "
        f"{escape(speed['device'])}: {tables.name_hardware(speed['hardware'])}."
    )


def _describe_calibration(calibration: dict[str, Any]) -> str:
    errors = [show_number(calibration.get(name)) for name in ("ece_before", "ece_after")]
    return (
        f"Temperature {show_number(calibration.get('temperature'))}, fitted on {escape(calibration.get('set', MISSING))}; "
        f"expected calibration error {errors[0]} before, {errors[1]} after."
    )


def _list_sections(model: ZeroShotPreTrainedModel, files: RunFiles, repo_id: str) -> dict[str, Any]:
    """The parts of the card that come from files."""
    evaluations = [
        {"name": escape(name), "table": tables.show_evaluation(one), "command": tables.show_command(one, repo_id)}
        for name, one in files.evaluations.items()
    ]
    languages = {code for one in (files.data or {}).get("sources", []) for code in one["language"]}
    return {
        "sources": tables.show_sources(files.data) if files.data else None,
        "held_out": tables.show_measured_sets(files.data) if files.data else None,
        "settings": tables.show_settings(files.settings) if files.settings else None,
        "curve_plot": files.find(CURVE_FILE),
        "history": tables.show_history(files.history, (files.settings or {}).get("metric_for_best_model")),
        "evaluations": evaluations,
        "calibration_plot": files.find(CALIBRATION_PLOT),
        "calibration": tables.show_calibration(files.calibration) if files.calibration else None,
        "calibration_note": _describe_calibration(files.calibration) if files.calibration else None,
        "breakdowns": tables.show_breakdowns(files.evaluations),
        "losses": tables.list_losses(files.evaluations),
        "languages": escape(", ".join(sorted(languages)) or "not stated"),
        "versions": tables.show_versions(files, describe_versions()),
        "hardware": tables.name_hardware((files.record or {}).get("hardware")),
        "duration": _describe_duration(files),
        "energy": _describe_energy(files),
        "explanation": explain_architecture(model),
        "facts": _show_facts(model, files),
        "max_tokens": model.config.max_tokens,
    }


def _show_answer(example: WidgetExample) -> str:
    best = example["output"][0]
    return f"# {{'sequence': ..., 'labels': [{best['label']!r}, ...], 'scores': [{best['score']:.4f}, ...]}}"


def build_model_card(
    folder: Path, repo_id: str, *, licence: str = DEFAULT_LICENCE, speed: dict[str, Any] | None = None
) -> str:
    """Write the card of a checkpoint, as the text of README.md; the folder is only read.

    Args:
        folder: The checkpoint; what else `train.py` and `zeroshot evaluate` left in it is shown.
        repo_id: Where it will be on the Hub, `user/name`.
        licence: Of the weights, as the Hub spells it.
        speed: What [`record_speed`] returned; `speed.json` of the folder, or measured now, when left out.

    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
        ValueError: If `repo_id` cannot be one, or a file of results is broken.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"Expected a repository like user/name, found {repo_id!r} ({error}). Use letters, digits, '-', '_' and '.'."
        ) from error
    files = read_run_files(folder)
    model = load_model(str(folder))
    widget = build_widget(model, *choose_examples(files.record))
    measured = speed or files.speed or dict(record_speed(model))
    encoders = _name_encoders(files)
    card = ModelCard.from_template(
        build_card_data(model, files, repo_id, widget, licence),
        template_path=str(TEMPLATE),
        title=repo_id.rsplit("/", maxsplit=1)[-1],
        repo=json.dumps(repo_id),
        key=find_architecture(model),
        encoders=f"started from {escape(encoders)}" if encoders else f"encoder {MISSING}",
        text=json.dumps(widget[0]["text"], ensure_ascii=False),
        labels=json.dumps(widget[0]["candidate_labels"].split(", "), ensure_ascii=False),
        answer=_show_answer(widget[0]),
        speed=tables.show_speed(measured),
        speed_note=_describe_speed(measured),
        citation=CITATION,
        **_list_sections(model, files, repo_id),
    )
    return re.sub(r"\n{3,}", "\n\n", str(card)).rstrip() + "\n"
