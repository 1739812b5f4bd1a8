"""Blocks of labels and the gradient cache change what a step holds in memory, not what it learns."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from zeroshot.data import TrainingDataset, load_source
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, build_inputs
from zeroshot.training import LOSSES, ZeroShotTrainer, ZeroShotTrainingArguments, objective
from zeroshot.training.losses import AdditiveLoss, clear_negatives, distillation_loss
from zeroshot.training.objective import BatchObjective

from .conftest import LABELS, TEXTS

TARGETS = torch.tensor([[1, 0, -100, 0], [-100, 1, 0, 1], [0, -100, 1, -100], [0, -100, -100, 1], [0, 0, 0, 0]])
SCORED = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 0, 1]]).bool()


def build_arguments(folder: Path, **settings: Any) -> ZeroShotTrainingArguments:
    return ZeroShotTrainingArguments(output_dir=str(folder), precision="fp32", use_cpu=True, **settings)


def compute_step(
    model: ZeroShotPreTrainedModel, args: ZeroShotTrainingArguments, scored: torch.Tensor | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch through the objective."""
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    model.zero_grad()
    model.objective = BatchObjective(args, LOSSES[args.loss]())
    loss = model(**inputs, labels=TARGETS, candidate_mask=scored).loss
    model.objective = None
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def compute_plain_step(
    model: ZeroShotPreTrainedModel, args: ZeroShotTrainingArguments, scored: torch.Tensor | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """The same, written out over the whole grid of `forward`."""
    model.zero_grad()
    everywhere = torch.ones_like(SCORED) if model.has_shortlist else None  # in training no shortlist leaves a label out
    mask = everywhere if scored is None else scored
    output = model(**build_inputs(model.tokenizer, TEXTS, LABELS, 64), candidate_mask=mask)
    targets = TARGETS if scored is None else TARGETS.masked_fill(~scored, -100)

    def judge(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if args.in_batch_margin is not None:
            targets = clear_negatives(logits, targets, args.in_batch_margin, mask)
        return LOSSES[args.loss]()(logits, targets)

    loss = judge(output.logits, targets, scored)
    if output.first_logits is not None:
        loss = loss + args.first_stage_weight * judge(output.first_logits, TARGETS, None)
        loss = loss + args.distillation_weight * distillation_loss(output.first_logits, output.logits, scored)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_step(
    one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]], tolerance: float
) -> None:
    assert one[0] == pytest.approx(other[0], rel=tolerance)
    assert one[1].keys() == other[1].keys()
    largest = max(gradient.abs().max() for gradient in other[1].values())
    assert largest > 1e-3
    for name, gradient in other[1].items():
        torch.testing.assert_close(one[1][name], gradient, rtol=0, atol=tolerance * max(1.0, largest), msg=name)


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("masked", [False, True], ids=["all pairs", "candidates"])
def test_the_objective_is_the_loss_over_the_grid(
    loss: str, masked: bool, model: ZeroShotPreTrainedModel, tmp_path: Path
) -> None:
    """The loss and its gradients are those of logits, written out; every architecture, both stages of the cascade."""
    args = build_arguments(tmp_path, loss=loss, in_batch_margin=0.3, distillation_weight=0.5, first_stage_weight=0.7)
    scored = SCORED if masked else None
    assert_same_step(compute_step(model, args, scored), compute_plain_step(model, args, scored), 1e-6)


@pytest.mark.parametrize("loss", [name for name, kind in LOSSES.items() if issubclass(kind, AdditiveLoss)])
@pytest.mark.parametrize("architecture", ["biencoder", "polyencoder", "lateinteraction"])
@pytest.mark.parametrize("margin", [None, 0.3])
def test_blocks_of_labels_change_nothing(
    loss: str,
    architecture: str,
    margin: float | None,
    encoder_dir: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A margin asks for a text's lowest positive, which may be in another block."""
    set_seed(1)
    model = ARCHITECTURES[architecture].from_encoder(encoder_dir)
    args = build_arguments(tmp_path, loss=loss, in_batch_margin=margin)
    whole = compute_step(model, args)
    monkeypatch.setattr(objective, "MAX_CELLS", len(TEXTS))  # one label a block
    widths = count_scored_labels(model, monkeypatch)
    assert_same_step(compute_step(model, args), whole, 1e-6)
    assert set(widths) == {1} and len(widths) >= len(LABELS)


def count_scored_labels(model: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many labels each call of `score` gets from now on."""
    widths: list[int] = []
    score = model.score

    def counting(texts: dict, classes: dict, *rest: Any) -> torch.Tensor:
        widths.append(len(next(iter(classes.values()))))
        return score(texts, classes, *rest)

    monkeypatch.setattr(model, "score", counting)
    return widths


@pytest.mark.parametrize("loss", ["sigmoid", "infonce"])
@pytest.mark.parametrize("size", [1, 2])
def test_the_cache_changes_no_gradient(
    loss: str, size: int, model: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no pass of the encoder gets more texts, or labels, than asked for."""
    settings = {"loss": loss, "in_batch_margin": 0.3, "distillation_weight": 0.5}
    whole = compute_step(model, build_arguments(tmp_path, **settings), SCORED)
    rows: list[int] = []
    for name in ("encode_text", "encode_classes"):
        encode = getattr(model, name)

        def counting(ids: torch.Tensor, mask: torch.Tensor, encode: Any = encode) -> Any:
            rows.append(len(ids))
            return encode(ids, mask)

        monkeypatch.setattr(model, name, counting)
    cached = compute_step(model, build_arguments(tmp_path, **settings, gradient_cache_size=size), SCORED)
    assert_same_step(cached, whole, 1e-5)
    passes = math.ceil(len(TEXTS) / size) + math.ceil(len(LABELS) / size)
    assert max(rows) == size and passes < len(rows) <= 2 * passes


def test_a_pass_is_made_again_with_the_same_dropout(
    encoder_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same passes with everything kept: other dropped units in the second pass would give other gradients."""
    set_seed(1)
    model = ARCHITECTURES["cascade"].from_encoder(encoder_dir, dropout=0.3).train()
    args = build_arguments(tmp_path, loss="infonce", gradient_cache_size=2)
    set_seed(5)
    cached = compute_step(model, args)
    monkeypatch.setattr(objective, "checkpoint", lambda function, *inputs, use_reentrant: function(*inputs))
    set_seed(5)
    kept = compute_step(model, args)
    assert_same_step(cached, kept, 1e-6)
    set_seed(6)
    assert compute_step(model, args)[0] != kept[0]


def test_the_cache_works_with_gradient_checkpointing(encoder_dir: str, tmp_path: Path) -> None:
    """Recomputation within recomputation."""
    set_seed(1)
    model = ARCHITECTURES["jointencoder"].from_encoder(encoder_dir, dropout=0.0)
    args = build_arguments(tmp_path, loss="infonce", gradient_cache_size=2)
    whole = compute_step(model, args)
    model.train()
    model.activation_checkpointing_enable()
    assert_same_step(compute_step(model, args), whole, 1e-6)


def test_a_batch_of_another_share_is_refused(biencoder: ZeroShotPreTrainedModel, rows_file: Path, tmp_path: Path) -> None:
    """A collator of one process on many would train on the wrong rows; and nothing stays in the model."""
    args = build_arguments(tmp_path)
    trainer = ZeroShotTrainer(biencoder, args, train_dataset=TrainingDataset([load_source(str(rows_file))]))
    trainer.data_collator.share = (1, 2)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in (0, 4, 8, 9)])
    with pytest.raises(ValueError, match="Expected 4 texts and 3 labels, the share of process 0 of 1 in a batch of 4 texts"):
        trainer.compute_loss(biencoder, batch)
    assert biencoder.objective is None


@pytest.mark.parametrize("setting", ["split_batches", "dispatch_batches"])
def test_batches_that_accelerate_takes_apart_are_refused(
    setting: str, biencoder: ZeroShotPreTrainedModel, tmp_path: Path
) -> None:
    args = build_arguments(tmp_path, accelerator_config={setting: True})
    with pytest.raises(ValueError, match=f"Expected accelerator_config without {setting}, found it on. Leave it out"):
        ZeroShotTrainer(biencoder, args)
