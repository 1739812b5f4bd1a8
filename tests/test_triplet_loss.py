"""The triplet loss against plain loops; losses with weights, of labels and of each other."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from zeroshot.data import TrainingDataset, load_source
from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.training import LOSSES, TripletLoss, ZeroShotTrainingArguments
from zeroshot.training.hooks import choose_loss
from zeroshot.training.losses import build_loss, check_loss, weigh_labels

from .data_helpers import THREE_PARTS, make_row, make_source
from .test_losses import GRIDS, Rows, build_grid
from .test_training import build_trainer

MODES = ["all", "hardest", "semi-hard"]


def triplet_reference(cosines: Rows, targets: Rows, margin: float, mode: str) -> float:
    terms = []
    for row, target_row in zip(cosines, targets, strict=True):
        positives = [cosine for cosine, target in zip(row, target_row, strict=True) if target == 1]
        negatives = [cosine for cosine, target in zip(row, target_row, strict=True) if target == 0]
        if not positives or not negatives:
            continue
        if mode == "hardest":
            terms.append(max(0.0, margin - min(positives) + max(negatives)))
            continue
        for positive in positives:
            if mode == "semi-hard":
                below = [negative for negative in negatives if negative < positive]
                chosen = max(below) if below else min(negatives)
                terms.append(max(0.0, margin - positive + chosen))
            else:
                terms += [margin - positive + n for n in negatives if margin - positive + n > 0]
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("grid", list(GRIDS))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("margin", [0.2, 4.0])
def test_loss_equals_plain_loops(mode: Any, margin: float, grid: str) -> None:
    logits, targets = build_grid(GRIDS[grid])
    scale = torch.tensor(2.5, dtype=torch.float64)
    loss = TripletLoss(margin, mode, lambda: scale)(logits, targets)
    assert loss.shape == ()
    expected = triplet_reference((logits / 2.5).tolist(), targets.tolist(), margin, mode)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [1e4, float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("mode", MODES)
def test_masked_cells_have_no_influence_and_no_gradient(mode: Any, value: float) -> None:
    logits, targets = build_grid(GRIDS["masked cells"])
    leaf = logits.masked_fill(targets == -100, value).requires_grad_()
    loss = TripletLoss(4.0, mode)(leaf, targets)
    assert loss.item() == pytest.approx(TripletLoss(4.0, mode)(logits, targets).item(), abs=1e-12)
    loss.backward()
    assert leaf.grad is not None and leaf.grad[targets == -100].abs().max() == 0
    assert leaf.grad[targets == 1].min() < 0 < leaf.grad[targets == 0].max()


@pytest.mark.parametrize("grid", ["all masked", "one cell"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_to_compare_is_zero_with_a_gradient(mode: Any, grid: str) -> None:
    """On several processes one without any gradient would wait for ever."""
    logits, targets = build_grid(GRIDS[grid])
    leaf = logits.requires_grad_()
    loss = TripletLoss(0.2, mode)(leaf, targets)
    loss.backward()
    assert loss.item() == 0 and leaf.grad is not None and leaf.grad.abs().max() == 0


def test_the_margin_is_one_of_cosines(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """Whatever the scale: it is kept, and so is the bias."""
    arguments = {"output_dir": str(tmp_path), "loss": "triplet", "triplet_margin": 0.5, "triplet_negatives": "hardest"}
    loss = choose_loss(biencoder, ZeroShotTrainingArguments(**arguments))
    targets = torch.tensor([[1, 0]])
    for scale in (1.0, 3.0):
        with torch.no_grad():
            biencoder.logit_scale.fill_(scale)
        logits = biencoder.scale_logits(torch.tensor([[0.6, 0.4]]))
        assert loss(logits, targets).item() == pytest.approx(0.3, abs=1e-5)
    assert not biencoder.logit_scale.requires_grad and not biencoder.logit_bias.requires_grad


def test_scale_and_bias_still_learn_beside_another_loss(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    choose_loss(biencoder, ZeroShotTrainingArguments(output_dir=str(tmp_path), loss={"triplet": 1, "bce": 0.5}))
    assert biencoder.logit_scale.requires_grad and biencoder.logit_bias.requires_grad


def test_several_losses_are_added_up() -> None:
    logits, targets = build_grid(GRIDS["masked cells"])
    loss = build_loss({"infonce": 1.0, "bce": 0.2, "triplet": 2.0}, TripletLoss(0.3))
    expected = LOSSES["infonce"]()(logits, targets) + 0.2 * LOSSES["bce"]()(logits, targets)
    expected += 2 * TripletLoss(0.3)(logits, targets)
    assert loss(logits, targets).item() == pytest.approx(expected.item(), abs=1e-12)


def test_a_name_alone_is_the_loss_itself() -> None:
    assert type(build_loss(check_loss("infonce"), TripletLoss())) is LOSSES["infonce"]
    assert build_loss({"bce": 2.0}, TripletLoss())(*build_grid([[1, 0]])).item() == pytest.approx(
        2 * LOSSES["bce"]()(*build_grid([[1, 0]])).item()
    )


@pytest.mark.parametrize("loss", ["hinge", {"hinge": 1}, {"bce": 0}, {"bce": -1}, {"bce": True}, {"bce": "1"}, {}, None, 3])
def test_a_loss_that_is_none_is_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match=THREE_PARTS):
        check_loss(loss)


def test_several_losses_are_read_from_the_command_line(tmp_path: Path) -> None:
    arguments = ZeroShotTrainingArguments(output_dir=str(tmp_path), loss='{"infonce": 1, "bce": 0.2}')
    assert arguments.loss_weights == {"infonce": 1.0, "bce": 0.2} and arguments.loss_judges_pairs
    assert not ZeroShotTrainingArguments(output_dir=str(tmp_path), loss="triplet").loss_judges_pairs
    with pytest.raises(ValueError, match="Expected a JSON object for loss, found '{infonce: 1}'"):
        ZeroShotTrainingArguments(output_dir=str(tmp_path), loss="{infonce: 1}")


@pytest.mark.parametrize("name", ["bce", "sigmoid"])
def test_rare_labels_weigh_more(name: str) -> None:
    logits, targets = build_grid(GRIDS["masked cells"])
    weights = [0.5, 1.0, 3.0, 2.0]
    terms, total = 0.0, 0.0
    for row, target_row in zip(logits.tolist(), targets.tolist(), strict=True):
        for logit, target, weight in zip(row, target_row, weights, strict=True):
            if target != -100:
                terms += weight * math.log1p(math.exp(-logit if target == 1 else logit))
                total += weight
    expected = terms / (len(logits) if name == "sigmoid" else total)
    loss = LOSSES[name]()
    leaf = logits.masked_fill(targets == -100, float("inf")).requires_grad_()
    found = loss(leaf, targets, torch.tensor(weights, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, abs=1e-12)
    found.backward()
    assert leaf.grad is not None and leaf.grad[targets == -100].tolist() == [0.0] * int((targets == -100).sum())
    ones = torch.ones(4, dtype=torch.float64)
    assert loss(logits, targets, ones).item() == pytest.approx(loss(logits, targets).item(), abs=1e-12)


def test_weights_of_labels_are_capped_both_ways() -> None:
    weights = weigh_labels(["a"] * 90 + ["b"] * 9 + ["c"], cap=4.0)  # the mean frequency is 100 / 3
    assert weights == {"a": pytest.approx(100 / 3 / 90), "b": pytest.approx(100 / 3 / 9), "c": 4.0}
    assert weigh_labels(["a"] * 90 + ["b"] * 9 + ["c"], cap=2.0)["a"] == 0.5
    assert weigh_labels([], cap=2.0) == {}


def test_weights_of_labels_reach_the_loss(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    rows = [make_row("goal", ["sports"])] * 7 + [make_row("rain", ["weather"])]
    dataset = TrainingDataset([make_source(rows, ["sports", "weather"])], num_negatives=1)
    trainer = build_trainer(biencoder, dataset, tmp_path, loss="bce", class_weight_cap=2.0)
    batch = trainer.data_collator([dataset[0], dataset[7]])
    assert batch["class_weights"].tolist() == pytest.approx([4 / 7, 2.0])
    plain = build_trainer(biencoder, dataset, tmp_path, loss="bce")
    del trainer.data_collator.extras[:]
    unweighted = trainer.data_collator([dataset[0], dataset[7]])
    biencoder.eval()
    assert trainer.compute_loss(biencoder, batch).item() != plain.compute_loss(biencoder, unweighted).item()


def test_weights_of_labels_need_a_loss_that_takes_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected bce or sigmoid among the losses with class_weight_cap, found infonce."):
        ZeroShotTrainingArguments(output_dir=str(tmp_path), loss="infonce", class_weight_cap=2.0)


def test_batches_without_positives_are_counted(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    rows = [make_row(f"rain {n}", [], ["sports"]) for n in range(8)] + [make_row(f"goal {n}", ["sports"]) for n in range(4)]
    sources = [make_source(rows[:8]), make_source(rows[8:])]
    trainer = build_trainer(biencoder, TrainingDataset(sources), tmp_path, loss="bce", max_steps=3, logging_steps=3)
    trainer.train()
    [entry] = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert entry["batches_without_positives"] == 2


def test_batches_with_positives_are_not_logged(biencoder: ZeroShotPreTrainedModel, rows_file: Path, tmp_path: Path) -> None:
    trainer = build_trainer(
        biencoder, TrainingDataset([load_source(str(rows_file))]), tmp_path, max_steps=2, logging_steps=1
    )
    trainer.train()
    assert "batches_without_positives" not in json.dumps(trainer.state.log_history)
