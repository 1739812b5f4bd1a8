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


def clear_negatives(logits: torch.Tensor, targets: torch.Tensor, margin: float) -> torch.Tensor:
    """Turn unjudged pairs into negatives where the model itself finds them clearly worse than what holds.

    Where rows are labelled freely, a label that another row of the batch brought may hold here too. A pair of -100 becomes
    0 if its logit is at least `margin` below that of the text's lowest positive; nearer ones stay out, as they may hold.

    Args:
        logits: (B, N), float.
        targets: (B, N): 1, 0 or -100.
        margin: In units of the logits.

    Returns:
        New targets, (B, N).

    References:
        Positive-aware mining of hard negatives, NV-Retriever, https://arxiv.org/abs/2407.15831; here on the batch itself.
    """
    lowest_positive = logits.detach().masked_fill(targets != 1, float("inf")).amin(dim=1, keepdim=True)  # (B, 1)
    clear = (targets == -100) & (logits.detach() <= lowest_positive - margin) & lowest_positive.isfinite()
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


LOSSES: dict[str, type[GridLoss]] = {"sigmoid": SigmoidLoss, "infonce": InfoNCELoss, "bce": MaskedBCELoss}
