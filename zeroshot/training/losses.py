"""Losses over a grid of texts and labels.

All take `logits` (B, N), float, and `targets` (B, N): 1 where the label holds, 0 where it does not, -100 where it is no
candidate of the text. They return a tensor of shape ().
"""

from typing import Protocol

import torch
from torch import nn

from ..models.modeling_zeroshot import masked_bce


class GridLoss(Protocol):
    """What the Trainer expects of a loss."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        ...


def clear_negatives(
    logits: torch.Tensor, targets: torch.Tensor, margin: float, scored: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn unjudged pairs into negatives where the model itself finds them clearly worse than what holds.

    Where rows are labelled freely, a label that another row of the batch brought may hold here too. A pair of -100 becomes
    0 if its logit is at least `margin` below that of the text's lowest positive; nearer ones stay out, as they may hold.

    Args:
        logits: (B, N), float.
        targets: (B, N): 1, 0 or -100.
        margin: In units of the logits.
        scored: (B, N) bool, true where the logit means something; pairs that were not scored become -100.

    Returns:
        New targets, (B, N).

    References:
        Positive-aware mining of hard negatives, NV-Retriever, https://arxiv.org/abs/2407.15831; here on the batch itself.
    """
    if scored is not None:
        targets = targets.masked_fill(~scored, -100)
    lowest_positive = logits.detach().masked_fill(targets != 1, float("inf")).amin(dim=1, keepdim=True)  # (B, 1)
    unjudged = targets == -100 if scored is None else (targets == -100) & scored
    clear = unjudged & (logits.detach() <= lowest_positive - margin) & lowest_positive.isfinite()
    return targets.masked_fill(clear, 0)


class SigmoidLoss:
    """Every pair is a yes-or-no question; summed over a text's candidates, averaged over texts.

    Requirements:
        A learned scale and bias; the bias starts low, since most pairs of a batch do not hold.

    References:
        SigLIP, https://arxiv.org/abs/2303.15343. Departure: a text may have several labels and a label several texts, and
        pairs that nobody judged are left out.
    """

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        real = targets != -100
        signs = torch.where(targets == 1, 1.0, -1.0)
        cells = -nn.functional.logsigmoid(signs * logits)  # (B, N)
        return cells.masked_fill(~real, 0.0).sum() / len(logits)


class InfoNCELoss:
    """Softmax over a text's candidates and over a label's texts; with several positives the mean of their terms.

    References:
        CLIP, https://arxiv.org/abs/2103.00020, for the two directions; Supervised contrastive learning,
        https://arxiv.org/abs/2004.11362 (its L_out), for several positives. Departure: pairs that nobody judged are left
        out of the softmax.
    """

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        return (self._one_direction(logits, targets) + self._one_direction(logits.T, targets.T)) / 2

    @staticmethod
    def _one_direction(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positive = targets == 1
        # A row with nothing to choose from (no positive, or no negative) teaches nothing.
        rows = positive.any(dim=1) & (targets == 0).any(dim=1)
        masked = logits.masked_fill(targets == -100, torch.finfo(logits.dtype).min)
        log_probabilities = masked.log_softmax(dim=1)
        terms = log_probabilities.masked_fill(~positive, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return -(terms * rows).sum() / rows.sum().clamp(min=1)


class MaskedBCELoss:
    """Mean binary cross-entropy over all judged pairs: the loss that `forward` returns, for any Trainer."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        return masked_bce(logits, targets)


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, scored: torch.Tensor | None = None) -> torch.Tensor:
    """Teach one set of logits to rank as another does: cross-entropy of the two softmaxes over a text's candidates.

    Args:
        student: (B, N), float, with gradient.
        teacher: (B, N), float; no gradient flows into it.
        scored: (B, N) bool, the candidates; all when left out.

    Returns:
        The mean over texts of KL(teacher || student), shape (); 0 where both agree.

    References:
        Distilling the knowledge in a neural network, https://arxiv.org/abs/1503.02531; a reranker that teaches its own
        retriever, https://arxiv.org/abs/2010.11386.
    """
    scored = torch.ones_like(student, dtype=torch.bool) if scored is None else scored
    lowest = torch.finfo(student.dtype).min
    log_student = student.masked_fill(~scored, lowest).log_softmax(dim=1)
    log_teacher = teacher.detach().masked_fill(~scored, lowest).log_softmax(dim=1)
    cells = log_teacher.exp() * (log_teacher - log_student)
    return cells.masked_fill(~scored, 0.0).sum() / len(student)


LOSSES: dict[str, type[GridLoss]] = {"sigmoid": SigmoidLoss, "infonce": InfoNCELoss, "bce": MaskedBCELoss}
