"""Losses over a grid of texts and labels.

All take `logits` (B, N), float, and `targets` (B, N): 1 where the label holds, 0 where it does not, -100 where it is no
candidate of the text, and maybe `class_weights` (N,), float. They return a tensor of shape ().
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import nn

from ..models.modeling_zeroshot import masked_bce


class GridLoss(Protocol):
    """What the Trainer expects of a loss."""

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch, shape (). Losses that compare labels with each other leave the weights alone."""
        ...


class AdditiveLoss:
    """A loss that is a sum over pairs, divided by the number of texts or by that of judged pairs.

    Blocks of the grid can be worked through one after another, and each process can do its own rows.
    """

    averages_over: Literal["texts", "pairs"]

    def add_up(self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sum over the judged pairs of any block of the grid, shape ()."""
        raise NotImplementedError

    def divide(self, total: torch.Tensor, texts: int, pairs: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch from sums over all of it, `pairs` as [`count_pairs`] gives them."""
        return total / (texts if self.averages_over == "texts" else pairs.clamp(min=torch.finfo(pairs.dtype).tiny))

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        pairs = count_pairs(targets, class_weights)
        return self.divide(self.add_up(logits, targets, class_weights), len(logits), pairs)


def count_pairs(targets: torch.Tensor, class_weights: torch.Tensor | None = None) -> torch.Tensor:
    """How many pairs are judged, shape (), float32; each counts as much as its label weighs."""
    real = (targets != -100).float()
    return (real if class_weights is None else real * class_weights).sum()


def find_lowest_positive(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The logit of each text's least likely positive, (B, 1), without gradient; infinite where there is none."""
    return logits.detach().masked_fill(targets != 1, float("inf")).amin(dim=1, keepdim=True)


def clear_negatives(
    logits: torch.Tensor,
    targets: torch.Tensor,
    margin: float,
    scored: torch.Tensor | None = None,
    lowest_positive: torch.Tensor | None = None,
) -> torch.Tensor:
    """Turn unjudged pairs into negatives where the model itself finds them clearly worse than what holds.

    Where rows are labelled freely, a label that another row of the batch brought may hold here too. A pair of -100 becomes
    0 if its logit is at least `margin` below that of the text's lowest positive; nearer ones stay out, as they may hold.

    Args:
        logits: (B, N), float.
        targets: (B, N): 1, 0 or -100.
        margin: In units of the logits.
        scored: (B, N) bool, true where the logit means something; pairs that were not scored become -100.
        lowest_positive: (B, 1), see [`find_lowest_positive`]; for a grid that is only some columns of the whole.

    Returns:
        New targets, (B, N).

    References:
        Positive-aware mining of hard negatives, NV-Retriever, https://arxiv.org/abs/2407.15831; here on the batch itself.
    """
    if scored is not None:
        targets = targets.masked_fill(~scored, -100)
    if lowest_positive is None:
        lowest_positive = find_lowest_positive(logits, targets)
    unjudged = targets == -100 if scored is None else (targets == -100) & scored
    clear = unjudged & (logits.detach() <= lowest_positive - margin) & lowest_positive.isfinite()
    return targets.masked_fill(clear, 0)


class SigmoidLoss(AdditiveLoss):
    """Every pair is a yes-or-no question; summed over a text's candidates, averaged over texts.

    Inputs:
        Pairs of 1 and 0; weights of labels multiply their pairs.

    Requirements:
        A learned scale and bias; the bias starts low, since most pairs of a batch do not hold.

    References:
        SigLIP, https://arxiv.org/abs/2303.15343. Departure: a text may have several labels and a label several texts, and
        pairs that nobody judged are left out.
    """

    averages_over = "texts"

    def add_up(self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sum over the judged pairs of any block of the grid, shape ()."""
        real = targets != -100
        signs = torch.where(targets == 1, 1.0, -1.0)
        cells = -nn.functional.logsigmoid(signs * logits)  # (B, N)
        if class_weights is not None:
            cells = cells * class_weights
        return cells.masked_fill(~real, 0.0).sum()


class InfoNCELoss:
    """Softmax over a text's candidates and over a label's texts; with several positives the mean of their terms.

    Inputs:
        Texts, or labels, with a pair of 1 and one of 0; others teach nothing.

    Requirements:
        None; the bias gets no gradient, so that single scores mean nothing until it is fitted.

    References:
        CLIP, https://arxiv.org/abs/2103.00020, for the two directions; Supervised contrastive learning,
        https://arxiv.org/abs/2004.11362 (its L_out), for several positives. Departure: pairs that nobody judged are left
        out of the softmax.
    """

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
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


class MaskedBCELoss(AdditiveLoss):
    """Mean binary cross-entropy over all judged pairs: the loss that `forward` returns, for any Trainer.

    Inputs:
        Pairs of 1 and 0; with weights of labels the mean is a weighted one.

    Requirements:
        A learned bias.

    References:
        Binary relevance, https://arxiv.org/abs/1909.00161 for labels that are read. Departure: pairs that nobody judged
        are left out.
    """

    averages_over = "pairs"

    def add_up(self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sum over the judged pairs of any block of the grid, shape ()."""
        if class_weights is None:
            return masked_bce(logits, targets) * count_pairs(targets)
        weights = class_weights * (targets != -100)  # (B, N)
        signs = torch.where(targets == 1, 1.0, -1.0)
        cells = -nn.functional.logsigmoid(signs * logits.masked_fill(targets == -100, 0.0))
        return (cells * weights).sum()


class TripletLoss:
    """A label that holds must be nearer to the text than one that does not, by a margin of cosine distance.

    Of a text's positive p and negative n: max(0, margin - cos(p) + cos(n)), where the cosine is the logit divided by the
    learned scale (the bias cancels). For architectures that compare no vectors it is their logit before scale and bias.

    Inputs:
        Texts with a pair of 1 and one of 0; others teach nothing. `all`: every triplet that violates its margin, the mean
        over them. `hardest`: per text its lowest positive and its highest negative. `semi-hard`: per positive its highest
        negative among those below it, or, where none is, the lowest negative.

    Requirements:
        Negatives of a text within the batch. The Trainer keeps scale and bias as they are where this is the only loss:
        it does not depend on them.

    References:
        FaceNet, https://arxiv.org/abs/1503.03832, for semi-hard; https://arxiv.org/abs/1703.07737 for `all` as the mean
        over violated triplets and for `hardest`. Departure: the anchor is always a text, and only judged pairs count.
    """

    def __init__(
        self,
        margin: float = 0.2,
        negatives: Literal["all", "hardest", "semi-hard"] = "all",
        read_scale: Callable[[], torch.Tensor] | None = None,
    ):
        self.margin = margin
        self.negatives = negatives
        self.read_scale = read_scale

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        # Masked before anything is computed: infinity times zero would be no number in the gradient.
        cosines = logits.masked_fill(targets == -100, 0.0)  # (B, N)
        if self.read_scale is not None:
            cosines = cosines / self.read_scale()
        positive, negative = targets == 1, targets == 0
        positive = positive & negative.any(dim=1, keepdim=True)
        if self.negatives == "hardest":
            rows = positive.any(dim=1)
            lowest = cosines.masked_fill(~positive, torch.inf).amin(dim=1)[rows]
            highest = cosines.masked_fill(~negative, -torch.inf).amax(dim=1)[rows]
            return self._mean(self.margin - lowest + highest, logits)
        texts, _ = positive.nonzero(as_tuple=True)  # (K,)
        own, others, real = cosines[positive].unsqueeze(1), cosines[texts], negative[texts]  # (K, 1), (K, N), (K, N)
        if self.negatives == "semi-hard":
            below = real & (others < own)
            highest = others.masked_fill(~below, -torch.inf).amax(dim=1)
            lowest = others.masked_fill(~real, torch.inf).amin(dim=1)
            chosen = torch.where(below.any(dim=1), highest, lowest)  # (K,)
            return self._mean(self.margin - own.squeeze(1) + chosen, logits)
        terms = (self.margin - own + others)[real]
        return self._mean(terms[terms > 0], logits)

    @staticmethod
    def _mean(terms: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        # Without a term the zero still depends on the model: a process without gradients would halt the others.
        return terms.clamp(min=0).mean() if len(terms) else logits.masked_fill(torch.ones_like(logits).bool(), 0.0).sum()


class WeightedLosses:
    """Several losses of one grid, added up.

    Inputs:
        Those of each.

    Requirements:
        Those of each.

    References:
        None.
    """

    def __init__(self, parts: Sequence[tuple[GridLoss, float]]):
        self.parts = list(parts)

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch, shape ()."""
        terms = [weight * loss(logits, targets, class_weights) for loss, weight in self.parts]
        return torch.stack(terms).sum()


def weigh_labels(labels: Iterable[str], cap: float) -> dict[str, float]:
    """Weights of labels by inverse frequency: the mean frequency over a label's own, between 1 / `cap` and `cap`.

    Args:
        labels: Every label of every row, repeated as it is in the rows.
        cap: At least 1.

    Example:
        >>> weigh_labels(["rain", "rain", "rain", "joy"], cap=1.5)
        {'rain': 0.6666666666666666, 'joy': 1.5}
    """
    counts = Counter(labels)
    mean = sum(counts.values()) / max(len(counts), 1)
    return {name: min(max(mean / count, 1 / cap), cap) for name, count in counts.items()}


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


LOSSES: dict[str, type[GridLoss]] = {
    "sigmoid": SigmoidLoss,
    "infonce": InfoNCELoss,
    "bce": MaskedBCELoss,
    "triplet": TripletLoss,
}
JUDGES_PAIRS = frozenset({"sigmoid", "bce"})  # a pair by itself: they train the bias, and learn from rows without positives


def check_loss(loss: object) -> dict[str, float]:
    """The losses of a recipe with their weights; a name alone has the weight 1.

    Raises:
        ValueError: If one is unknown, or a weight is not above 0.
    """
    weights = {loss: 1.0} if isinstance(loss, str) else loss
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(f"Expected loss to be one of {', '.join(LOSSES)}, or weights by name, found {loss!r}. Choose one.")
    for name, weight in weights.items():
        if name not in LOSSES:
            raise ValueError(f"Expected loss to be one of {', '.join(LOSSES)}, found {name!r}. Choose one.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"Expected a weight above 0 of the loss {name!r}, found {weight!r}. Leave out what has none.")
    return {name: float(weight) for name, weight in weights.items()}


def build_loss(weights: Mapping[str, float], triplet: TripletLoss) -> GridLoss:
    """The losses that [`check_loss`] gave as one; `triplet` stands for that of the registry, with its settings."""
    parts = [(triplet if name == "triplet" else LOSSES[name](), weight) for name, weight in weights.items()]
    [(first, weight), *others] = parts
    return first if weight == 1 and not others else WeightedLosses(parts)
