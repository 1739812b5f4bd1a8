"""What a run measures, mines and rescores is what it trains."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import set_seed

from zeroshot.data import EvaluationSet, TrainingDataset, build_evaluation_set
from zeroshot.evaluation import compute_metrics
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, build_inputs
from zeroshot.training import LOSSES, ZeroShotTrainer, ZeroShotTrainingArguments
from zeroshot.training.mining import HardNegativeMiner
from zeroshot.training.objective import BatchObjective
from zeroshot.training.preparation import _name_set

from .conftest import LABELS, TEXTS
from .data_helpers import make_row, make_source

SOURCE = make_source([make_row(text, [label]) for text, label in zip(TEXTS, LABELS, strict=False)], LABELS)
MEASURED = build_evaluation_set(SOURCE)


@pytest.fixture
def nli(encoder_dir: str) -> ZeroShotPreTrainedModel:
    """A cross-encoder whose two ways to judge a label give other logits."""
    set_seed(1)
    return ARCHITECTURES["crossencoder"].from_encoder(encoder_dir, head="nli")


def build_arguments(folder: Path, **settings: object) -> ZeroShotTrainingArguments:
    return ZeroShotTrainingArguments(output_dir=str(folder), precision="fp32", use_cpu=True, **settings)


def test_a_set_may_be_named_like_the_beginning_of_another(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """Two files of one name in two folders get such names, and each enters the mean once."""
    sets: dict[str, EvaluationSet] = {}
    for folder, part in (("en", slice(4)), ("de", slice(2))):
        name = _name_set(SimpleNamespace(name=f"{folder}/data/validation.jsonl"), sets)  # type: ignore[arg-type]
        sets[name] = EvaluationSet(MEASURED.texts[part], LABELS, MEASURED.targets[part])
    assert list(sets) == ["data_validation", "data_validation_2"]
    trainer = ZeroShotTrainer(biencoder, build_arguments(tmp_path), None, sets, compute_metrics=compute_metrics)
    metrics = trainer.evaluate()
    for key in ("loss", "mrr"):
        values = [metrics[f"eval_{name}_{key}"] for name in sets]
        assert values[0] != values[1] and metrics[f"eval_mean_{key}"] == pytest.approx(sum(values) / 2)
    assert not [key for key in metrics if key.startswith("eval_mean_2")]


def test_an_nli_head_is_measured_by_the_logits_it_is_trained_by(nli: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """The loss is of entailment over contradiction; what `predict` ranks by, entailment alone, decides the measures."""
    seen = []

    def measure(prediction: object) -> dict[str, float]:
        seen.append(prediction.predictions)
        return {}

    trainer = ZeroShotTrainer(nli, build_arguments(tmp_path, loss="bce"), None, MEASURED, compute_metrics=measure)
    found = trainer.evaluate()["eval_loss"]
    inputs = build_inputs(nli.tokenizer, MEASURED.texts, LABELS, 64)
    with torch.no_grad():
        trained = nli(**inputs, labels=torch.from_numpy(MEASURED.targets)).loss.item()
    assert found == pytest.approx(trained, rel=1e-5)
    shared = nli.predict_logits(MEASURED.texts, LABELS).numpy()
    np.testing.assert_allclose(seen[0], shared, atol=1e-5)
    assert np.abs(shared - nli.predict_logits(MEASURED.texts, LABELS, multi_label=True).numpy()).max() > 0.1


def test_an_nli_head_mines_by_the_logits_it_is_trained_by(nli: ZeroShotPreTrainedModel) -> None:
    miner = HardNegativeMiner(TrainingDataset([SOURCE]), top_k=3, margin=0.0)
    mined = [[miner.names[number] for number in row] for row in miner.mine(nli).tolist()]

    def rank(logits: torch.Tensor) -> list[list[str]]:
        orders = [[LABELS[place] for place in row.argsort(descending=True).tolist()] for row in logits]
        return [[name for name in order if name != LABELS[place]] for place, order in enumerate(orders)]

    assert mined == rank(nli.predict_logits(MEASURED.texts, LABELS, multi_label=True))
    assert mined != rank(nli.predict_logits(MEASURED.texts, LABELS))


@pytest.mark.parametrize("size", [None, 2], ids=["at once", "gradient cache"])
def test_a_cascade_rescores_every_label_of_a_batch_in_training(size: int | None, encoder_dir: str, tmp_path: Path) -> None:
    """A shortlist would leave out what the first stage has yet to learn."""
    set_seed(1)
    model = ARCHITECTURES["cascade"].from_encoder(encoder_dir, shortlist_size=1).train()
    rescored: list[torch.Tensor] = []
    rescore = model._rescore

    def record(texts: dict, classes: dict, first: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        rescored.append(chosen)
        return rescore(texts, classes, first, chosen)

    model._rescore = record
    model.objective = BatchObjective(build_arguments(tmp_path, gradient_cache_size=size), LOSSES["bce"]())
    inputs = build_inputs(model.tokenizer, MEASURED.texts, LABELS, 64)
    model(**inputs, labels=torch.from_numpy(MEASURED.targets))
    assert torch.cat(rescored).shape == (len(LABELS), len(LABELS)) and torch.cat(rescored).all()
