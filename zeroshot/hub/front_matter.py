"""The front matter of a model card: what the Hub indexes, filters by and shows in its widget."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..models import ARCHITECTURES, ZeroShotPreTrainedModel
from ..training.records import NameRecord, name_source
from .measurements import WidgetExample
from .run_files import RunFiles

TASK = "zero-shot-classification"
# Our metrics by the names of the Hub; each with what it is called in the card.
METRIC_NAMES = {
    "accuracy": ("accuracy", "Accuracy"),
    "accuracy_at_k": ("accuracy_at_k", "Accuracy@k"),
    "macro_f1": ("f1", "Macro F1"),
    "mrr": ("mrr", "Mean reciprocal rank"),
    "shortlist_recall": ("recall", "Recall of the shortlist"),
}


def find_architecture(model: ZeroShotPreTrainedModel) -> str:
    """The key under which a model's class is registered."""
    return next(key for key, model_class in ARCHITECTURES.items() if model_class is type(model))


def list_encoders(files: RunFiles) -> list[NameRecord]:
    """The encoders that a run started from; none where that is not recorded."""
    if files.record is not None:
        return list(files.record.get("encoders", []))
    names = [(files.settings or {}).get(key) for key in ("encoder", "class_encoder")]
    return [name_source(name) for name in names if name]


def build_eval_results(evaluations: Mapping[str, Mapping[str, Any]]) -> list[EvalResult]:
    """Every metric of every evaluated set, four digits; the file's name tells measurements of one set apart."""
    results = []
    for report, content in evaluations.items():
        for name, figures in content["sets"].items():
            size = {"rows": figures["n"], "candidate_labels": figures["labels"]}
            for key, (metric, pretty) in METRIC_NAMES.items():
                if key in figures:
                    results.append(
                        EvalResult(
                            task_type=TASK,
                            task_name="Zero-Shot Classification",
                            dataset_type=name,
                            dataset_name=name,
                            dataset_config=report,
                            dataset_split="test",
                            dataset_args=size,
                            metric_type=metric,
                            metric_name=pretty,
                            metric_value=round(figures[key], 4),
                        )
                    )
    return results


def describe_emissions(files: RunFiles) -> dict[str, Any] | None:
    """CodeCarbon's sums over all runs in the folder, in grams of CO2 equivalent; None where nothing was tracked."""
    if not files.emissions:
        return None
    first = files.emissions[0]
    used = ", ".join(filter(None, (first.get(name) for name in ("cpu_model", "gpu_model"))))
    return {
        "emissions": round(1000 * sum(float(row["emissions"]) for row in files.emissions), 4),
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "hardware_used": used or "not named",
        "hours_used": round(sum(float(row["duration"]) for row in files.emissions) / 3600, 3),
    }


def build_card_data(
    model: ZeroShotPreTrainedModel, files: RunFiles, repo_id: str, widget: list[WidgetExample], licence: str
) -> ModelCardData:
    """All fields of the front matter; what is not known is left out."""
    sources = (files.data or {}).get("sources", [])
    hub_sets = dict.fromkeys(one["name"].partition(":")[0] for one in sources if one["kind"] == "hub")
    results = build_eval_results(files.evaluations)
    emissions = describe_emissions(files)
    data = ModelCardData(
        language=sorted({code for one in sources for code in one["language"]}) or None,
        license=licence,
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=[one["name"] for one in list_encoders(files) if one["kind"] == "hub"] or None,
        datasets=list(hub_sets) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=["zero-shot", "text-classification", "custom_code", find_architecture(model)],
        model_name=repo_id.rsplit("/", maxsplit=1)[-1] if results else None,
        eval_results=results or None,
        widget=widget,
    )
    if emissions:
        data["co2_eq_emissions"] = emissions
    return data
