"""What is the cascade's own: a shortlist, a residual on it, and two stages that are trained together."""

from pathlib import Path

import pytest
import torch
from transformers import set_seed

from zeroshot.data import EvaluationSet, TrainingDataset, load_source
from zeroshot.evaluation import evaluate_model
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, build_inputs
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments

from .conftest import LABELS, TEXTS

MANY = [*LABELS, "rain", "goal", "oven", "joy"]


def build(encoder_dir: str, architecture: str = "cascade", **options: object) -> ZeroShotPreTrainedModel:
    set_seed(1)
    return ARCHITECTURES[architecture].from_encoder(encoder_dir, **options)


def train_residual(model: ZeroShotPreTrainedModel) -> None:
    """A second stage that says something."""
    with torch.no_grad():
        model.residual.weight.copy_(torch.linspace(-30, 30, model.residual.weight.numel()).view(1, -1))


def test_an_untrained_second_stage_changes_nothing(encoder_dir: str) -> None:
    expected = build(encoder_dir, "biencoder").predict_logits(TEXTS, MANY)
    for size in (1, 3, 100):
        logits = build(encoder_dir, shortlist_size=size).predict_logits(TEXTS, MANY)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_the_shortlist_is_rescored_and_the_others_keep_their_score(encoder_dir: str) -> None:
    first = build(encoder_dir, "biencoder").predict_logits(TEXTS, MANY)
    model = build(encoder_dir, shortlist_size=3)
    train_residual(model)
    logits = model.predict_logits(TEXTS, MANY)
    assert logits.shape == (len(TEXTS), len(MANY))
    shortlist = model.predict_shortlist(TEXTS, MANY)
    assert shortlist is not None and shortlist.sum(dim=1).tolist() == [3] * len(TEXTS)
    assert torch.equal(shortlist, torch.zeros_like(shortlist).scatter(1, first.topk(3, dim=1).indices, True))
    torch.testing.assert_close(logits[~shortlist], first[~shortlist], atol=1e-5, rtol=0)
    assert ((logits - first)[shortlist].abs() > 1e-3).all()
    longer = build(encoder_dir, shortlist_size=100)
    train_residual(longer)
    torch.testing.assert_close(logits[shortlist], longer.predict_logits(TEXTS, MANY)[shortlist], atol=1e-4, rtol=0)


def test_the_shortlist_is_drawn_from_all_wordings_and_the_first_is_rescored(encoder_dir: str) -> None:
    templates = ["{}", "This text is about {}."]
    model = build(encoder_dir, shortlist_size=2)
    first = build(encoder_dir, "biencoder").predict_logits(TEXTS, MANY, class_templates=templates)
    shortlist = model.predict_shortlist(TEXTS, MANY, class_templates=templates)
    assert torch.equal(shortlist, torch.zeros_like(shortlist).scatter(1, first.topk(2, dim=1).indices, True))
    train_residual(model)
    everything = build(encoder_dir, shortlist_size=100)
    train_residual(everything)
    residual = everything.predict_logits(TEXTS, MANY) - build(encoder_dir, "biencoder").predict_logits(TEXTS, MANY)
    expected = torch.where(shortlist, first + residual, first)
    torch.testing.assert_close(model.predict_logits(TEXTS, MANY, class_templates=templates), expected, atol=1e-4, rtol=0)


def test_recall_of_the_shortlist_is_reported(encoder_dir: str) -> None:
    model = build(encoder_dir, shortlist_size=2)
    shortlist = model.predict_shortlist(TEXTS, LABELS)
    assert shortlist is not None
    targets = torch.zeros(len(TEXTS), len(LABELS), dtype=torch.long)
    targets[:, 0] = targets[:, 1] = 1
    result = evaluate_model(model, {"one": EvaluationSet(TEXTS, LABELS, targets.numpy())})
    expected = shortlist[:, :2].float().mean().item()
    assert 0 < expected < 1
    assert result["sets"]["one"]["shortlist_recall"] == pytest.approx(expected)
    assert result["mean"]["shortlist_recall"] == pytest.approx(expected)
    single = evaluate_model(build(encoder_dir, "biencoder"), {"one": EvaluationSet(TEXTS, LABELS, targets.numpy())})
    assert "shortlist_recall" not in single["mean"]


def test_in_training_the_candidates_are_rescored_whatever_their_rank(encoder_dir: str) -> None:
    model = build(encoder_dir, shortlist_size=1)
    train_residual(model)
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    mask = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1]]).bool()
    with torch.no_grad():
        output = model(**inputs, candidate_mask=mask)
    assert output.first_logits is not None
    torch.testing.assert_close(output.logits[~mask], output.first_logits[~mask])
    assert ((output.logits - output.first_logits)[mask].abs() > 1e-3).all()


def test_both_stages_and_the_teaching_count_in_the_loss(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    model = build(encoder_dir)
    train_residual(model)
    losses = {}
    dataset = TrainingDataset([load_source(str(rows_file))])
    for name, settings in {
        "second": {"first_stage_weight": 0.0},
        "both": {"first_stage_weight": 1.0},
        "taught": {"first_stage_weight": 1.0, "distillation_weight": 2.0},
    }.items():
        arguments = ZeroShotTrainingArguments(
            output_dir=str(tmp_path), precision="fp32", candidates_per_text=2, loss="infonce", **settings
        )
        trainer = ZeroShotTrainer(model, arguments, train_dataset=dataset)
        batch = trainer.data_collator([dataset[row] for row in range(8)])
        assert batch["candidate_mask"].sum(dim=1).tolist() == [2] * 8
        losses[name] = trainer.compute_loss(model, batch).item()
    assert losses["both"] > losses["second"] + 1e-3
    assert losses["taught"] > losses["both"] + 1e-3


def test_a_shortlist_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected shortlist_size of at least 1 label, found 0. Raise it."):
        ARCHITECTURES["cascade"].config_class(shortlist_size=0)


def test_a_shortlist_is_drawn_from_a_texts_own_candidates(encoder_dir: str) -> None:
    """Labels that are no candidates must not take its places."""
    model = build(encoder_dir, shortlist_size=2)
    train_residual(model)
    mask = torch.zeros(len(TEXTS), len(MANY), dtype=torch.bool)
    mask[:, [1, 4, 6]] = True
    mask[0] = False
    mask[0, 3] = True
    shortlist = model.predict_shortlist(TEXTS, MANY, candidate_mask=mask)
    assert shortlist is not None and shortlist.sum(dim=1).tolist() == [1, 2, 2, 2, 2] and not (shortlist & ~mask).any()
    own = model.predict_logits(TEXTS[1:], [MANY[column] for column in (1, 4, 6)])
    logits = model.predict_logits(TEXTS, MANY, candidate_mask=mask)
    torch.testing.assert_close(logits[1:][:, [1, 4, 6]], own, atol=1e-5, rtol=0)
