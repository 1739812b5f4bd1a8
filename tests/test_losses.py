"""Losses against plain loops over the grid, and what pairs that nobody judged may change: nothing."""

import math

import pytest
import torch

from zeroshot.models import ZeroShotPreTrainedModel, build_inputs
from zeroshot.training import LOSSES
from zeroshot.training.losses import clear_negatives, distillation_loss

from .conftest import LABELS, TEXTS

Rows = list[list[float]]


def sigmoid_reference(logits: Rows, targets: Rows) -> float:
    total = 0.0
    for row, target_row in zip(logits, targets, strict=True):
        for logit, target in zip(row, target_row, strict=True):
            if target != -100:
                total += math.log1p(math.exp(-logit if target == 1 else logit))
    return total / len(logits)


def bce_reference(logits: Rows, targets: Rows) -> float:
    terms = []
    for row, target_row in zip(logits, targets, strict=True):
        for logit, target in zip(row, target_row, strict=True):
            if target != -100:
                probability = 1 / (1 + math.exp(-logit))
                terms.append(-math.log(probability if target == 1 else 1 - probability))
    return sum(terms) / len(terms) if terms else 0.0


def infonce_reference(logits: Rows, targets: Rows) -> float:
    def one_direction(rows: Rows, target_rows: Rows) -> float:
        terms = []
        for row, target_row in zip(rows, target_rows, strict=True):
            candidates = [logit for logit, target in zip(row, target_row, strict=True) if target != -100]
            positives = [logit for logit, target in zip(row, target_row, strict=True) if target == 1]
            if positives and len(positives) < len(candidates):
                normalizer = math.log(sum(math.exp(logit) for logit in candidates))
                terms.append(sum(normalizer - logit for logit in positives) / len(positives))
        return sum(terms) / len(terms) if terms else 0.0

    def turn(rows: Rows) -> Rows:
        return [list(column) for column in zip(*rows, strict=True)]

    return (one_direction(logits, targets) + one_direction(turn(logits), turn(targets))) / 2


REFERENCES = {"sigmoid": sigmoid_reference, "infonce": infonce_reference, "bce": bce_reference}
GRIDS = {
    "one label per text": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "several labels per text, several texts per label": [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]],
    "masked cells": [[1, 0, -100, -100], [-100, 1, 0, -100], [1, -100, 0, 1]],
    "a text without a label": [[1, 0, 0], [0, 0, 0]],
    "a text without a negative": [[1, -100, 1], [1, 0, 0]],
    "a masked text and a masked label": [[1, 0, -100], [-100, -100, -100], [0, 1, -100]],
    "one text": [[1, 0, 0, 1]],
    "one label": [[1], [0], [1]],
    "one cell": [[1]],
    "all masked": [[-100, -100], [-100, -100]],
}


@pytest.fixture(params=list(REFERENCES))
def loss_name(request: pytest.FixtureRequest) -> str:
    """Every registered loss that pulls at every pair; the triplet loss, which does not, has a file of its own."""
    return request.param


def build_grid(targets: Rows, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    target_grid = torch.tensor(targets)
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(target_grid.shape, generator=generator, dtype=torch.float64), target_grid


def compute_gradient(loss_name: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    LOSSES[loss_name]()(leaf, targets).backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("grid", list(GRIDS))
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_equals_plain_loops(loss_name: str, grid: str, seed: int) -> None:
    logits, targets = build_grid(GRIDS[grid], seed)
    loss = LOSSES[loss_name]()(logits, targets)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(REFERENCES[loss_name](logits.tolist(), targets.tolist()), abs=1e-12)


@pytest.mark.parametrize("value", [1e4, -1e4, float("inf"), float("-inf")])
def test_masked_cells_have_no_influence_and_no_gradient(loss_name: str, value: float) -> None:
    logits, targets = build_grid(GRIDS["masked cells"])
    masked = targets == -100
    changed = logits.masked_fill(masked, value)
    loss = LOSSES[loss_name]()
    assert loss(changed, targets).item() == pytest.approx(loss(logits, targets).item(), abs=1e-12)
    gradient = compute_gradient(loss_name, changed, targets)
    assert gradient[masked].tolist() == [0.0] * int(masked.sum())
    assert gradient[~masked].abs().min() > 0


def test_a_grid_without_judged_cells_teaches_nothing(loss_name: str) -> None:
    logits, targets = build_grid(GRIDS["all masked"])
    assert LOSSES[loss_name]()(logits, targets).item() == 0
    assert compute_gradient(loss_name, logits, targets).abs().max() == 0


def test_a_masked_text_keeps_the_gradient_of_the_others_finite(loss_name: str) -> None:
    logits, targets = build_grid(GRIDS["a masked text and a masked label"])
    gradient = compute_gradient(loss_name, logits, targets)
    assert gradient.isfinite().all()
    assert gradient[0, 0] != 0


def test_positives_are_pulled_up_and_negatives_pushed_down(loss_name: str) -> None:
    logits, targets = build_grid(GRIDS["one label per text"])
    gradient = compute_gradient(loss_name, logits, targets)
    assert (gradient[targets == 1] < 0).all()
    assert (gradient[targets == 0] > 0).all()


@pytest.mark.parametrize("scale", [1e4, -1e4])
@pytest.mark.parametrize("grid", list(GRIDS))
def test_huge_logits_stay_finite(loss_name: str, scale: float, grid: str) -> None:
    targets = torch.tensor(GRIDS[grid])
    logits = scale * torch.where(targets == 1, 1.0, -1.0)
    assert LOSSES[loss_name]()(logits, targets).isfinite()
    assert compute_gradient(loss_name, logits, targets).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_the_reference(loss_name: str, dtype: torch.dtype) -> None:
    logits, targets = build_grid(GRIDS["masked cells"])
    loss = LOSSES[loss_name]()(logits.to(dtype), targets)
    assert loss.item() == pytest.approx(REFERENCES[loss_name](logits.tolist(), targets.tolist()), rel=0.03)


def test_bce_is_the_loss_that_forward_returns(biencoder: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(biencoder.tokenizer, TEXTS, LABELS, biencoder.config.max_tokens)
    targets = torch.tensor([[1, 0, 0, -100], [0, 1, -100, 0], [0, 0, 1, 0], [-100] * 4, [0, 0, 0, 1]])
    outputs = biencoder(**inputs, labels=targets)
    assert LOSSES["bce"]()(outputs.logits, targets).item() == pytest.approx(outputs.loss.item())


@pytest.mark.parametrize(
    ("logits", "targets", "margin", "expected"),
    [
        ([2.0, 1.0, 1.5, -3.0], [1, -100, -100, -100], 1.0, [1, 0, -100, 0]),
        ([4.0, 2.0, 1.5, 0.5], [1, 1, -100, -100], 1.0, [1, 1, -100, 0]),
        ([2.0, 5.0, -5.0], [1, -100, -100], 0.0, [1, -100, 0]),
        ([2.0, 9.0, -9.0], [1, 0, 0], 1.0, [1, 0, 0]),
        ([2.0, -9.0, 3.0], [0, -100, -100], 1.0, [0, -100, -100]),
        ([2.0, -9.0], [-100, -100], 1.0, [-100, -100]),
    ],
    ids=[
        "far enough, the margin itself included",
        "the lowest positive decides",
        "higher than the positive stays open",
        "judged pairs stay",
        "no positive, nothing to compare with",
        "all masked",
    ],
)
def test_clear_negatives(logits: list[float], targets: list[int], margin: float, expected: list[int]) -> None:
    assert clear_negatives(torch.tensor([logits]), torch.tensor([targets]), margin).tolist() == [expected]


def test_clear_negatives_judges_each_text_by_its_own_positive() -> None:
    logits = torch.tensor([[9.0, 5.0], [0.0, 5.0]])
    targets = torch.tensor([[1, -100], [1, -100]])
    assert clear_negatives(logits, targets, 1.0).tolist() == [[1, 0], [1, -100]]


def test_clear_negatives_leaves_its_inputs_alone() -> None:
    logits = torch.tensor([[2.0, -3.0]], requires_grad=True)
    targets = torch.tensor([[1, -100]])
    cleared = clear_negatives(logits, targets, 1.0)
    assert targets.tolist() == [[1, -100]]
    assert cleared.dtype == targets.dtype
    assert not cleared.requires_grad


def test_margin_adds_the_gradient_of_cleared_pairs_only() -> None:
    logits, targets = torch.tensor([[2.0, 1.9, -3.0]]), torch.tensor([[1, -100, -100]])
    gradient = compute_gradient("sigmoid", logits, clear_negatives(logits, targets, 1.0))
    assert (gradient != 0).tolist() == [[True, False, True]]


def test_distillation_is_the_divergence_of_two_rankings() -> None:
    student, teacher = torch.tensor([[1.0, 0.0, 5.0]], requires_grad=True), torch.tensor([[2.0, 0.0, -3.0]])
    scored = torch.tensor([[True, True, False]])
    p = torch.tensor([2.0, 0.0]).softmax(0)
    q = torch.tensor([1.0, 0.0]).softmax(0)
    loss = distillation_loss(student, teacher, scored)
    assert loss.item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    loss.backward()
    assert student.grad is not None and student.grad[0, 2] == 0 and student.grad[0, 0] < 0
    assert distillation_loss(teacher, teacher + 7.0).item() == pytest.approx(0, abs=1e-6)


def test_pairs_that_were_not_scored_stay_out() -> None:
    """Their logits mean nothing: they can neither be cleared nor count."""
    logits, targets = torch.tensor([[5.0, -9.0, -9.0]]), torch.tensor([[1, -100, 0]])
    scored = torch.tensor([[True, False, False]])
    assert clear_negatives(logits, targets, 1.0, scored).tolist() == [[1, -100, -100]]
    assert clear_negatives(logits, targets, 1.0).tolist() == [[1, 0, 0]]
