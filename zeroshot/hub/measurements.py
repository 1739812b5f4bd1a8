"""What is measured when a card is written: the widget's answers and the speed."""

from typing import Any, TypedDict

import torch
from transformers.utils import logging

from ..evaluation.speed import measure_speed
from ..models import ZeroShotPreTrainedModel
from ..training.records import Hardware, describe_hardware

logger = logging.get_logger(__name__)

TEXTS = [
    "The keeper tipped it over the bar in the last minute of extra time.",
    "My parcel says delivered, but nothing is here.",
    "The committee postponed its vote on the new rent law.",
]
LABELS = ["sports", "delivery problem", "politics", "cooking"]
SHOWN_TEXTS = 5


class WidgetExample(TypedDict):
    """An example of the Hub's widget, with what this model answers."""

    text: str
    candidate_labels: str  # with commas between
    output: list[dict[str, Any]]  # {"label", "score"} by falling score


class SpeedRecord(TypedDict):
    """Content of `speed.json`."""

    texts_per_second: dict[str, float | None]  # by number of labels; None where it was not measured
    hardware: Hardware
    dtype: str
    device: str


def choose_examples(record: dict[str, Any] | None) -> tuple[list[str], list[str]]:
    """Texts and label names for the widget: those of the recipe, or ours where it has none that the widget can ask.

    The widget takes the label names as one string, so none of them may hold a comma.
    """
    texts, labels = (record or {}).get("example_texts") or [], (record or {}).get("example_labels") or []
    if texts and len(labels) > 1:
        if [name.strip() for name in ",".join(labels).split(",")] == labels:
            return texts[:SHOWN_TEXTS], labels
        logger.warning("A name in example_labels holds a comma, which the Hub's widget cannot ask: it shows other examples.")
    return TEXTS, LABELS


def build_widget(model: ZeroShotPreTrainedModel, texts: list[str], labels: list[str]) -> list[WidgetExample]:
    """Ask the pipeline, as a visitor of the Hub would; scores between 0 and 1, four digits."""
    answers = model.as_pipeline()(texts, candidate_labels=labels)
    return [
        {
            "text": answer["sequence"],
            "candidate_labels": ", ".join(labels),
            "output": [
                {"label": label, "score": round(score, 4)}
                for label, score in zip(answer["labels"], answer["scores"], strict=True)
            ],
        }
        for answer in answers
    ]


def record_speed(model: ZeroShotPreTrainedModel, **kwargs: Any) -> SpeedRecord:
    """Measure texts per second on this machine.

    Args:
        model: The model.
        **kwargs: Passed to [`measure_speed`] (`label_counts`, `least_seconds`, `budget`).
    """
    return {
        "texts_per_second": measure_speed(model, **kwargs),
        "hardware": describe_hardware(),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "device": torch.device(model.device).type,
    }
