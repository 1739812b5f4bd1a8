"""From the inputs of a batch to its loss: over all processes, in passes that fit into memory, in blocks of labels.

    texts, labels of this process -> features -> all processes' labels -> rows of logits (b, N) -> loss of the batch

Each process encodes its share of the texts and of the distinct labels, takes in the other processes' label features, and
scores its own texts against all labels. What happens then depends on the loss:

- One that adds up over pairs (sigmoid, bce) is summed by each process over its own rows, for architectures whose scores
  are cheap in blocks of at most `MAX_CELLS` cells that are computed again for the gradient, so that memory does not grow
  with N. Only sums are exchanged. Source: SigLIP (https://arxiv.org/abs/2303.15343), section 3.1, whose blocks are the
  processes' own labels, passed around; here labels are gathered first, since their features are small beside activations.
- Any other needs whole columns: the rows of logits are exchanged, and every process computes the loss of the whole grid.

With `gradient_cache_size`, texts and labels pass the encoder a few at a time, and each pass is made again when its
gradient is asked for. Source: GradCache (https://arxiv.org/abs/2101.06983). Its first pass without gradients, the loss on
what it left, and the second pass are here one graph with recomputation: the same work, memory and gradients, dropout
included, and it keeps to one forward and one backward, which is what data parallelism and accumulation are built on. We cut
at the rows of logits instead of at text features, so that every architecture is served alike: the joint encoder's features
of a text are larger than its activations.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from ..data.collation import list_share
from ..models import ZeroShotPreTrainedModel
from ..models.features_zeroshot import Features, concatenate_features, split_features
from ..models.packing_zeroshot import Grid
from .arguments import ZeroShotTrainingArguments
from .losses import AdditiveLoss, GridLoss, clear_negatives, count_pairs, distillation_loss, find_lowest_positive
from .processes import gather_features, gather_rows, sum_over_processes
from .teachers import teach

MAX_CELLS = 2**20  # texts times labels in one block: 4 MiB of float32


class TextRows(NamedTuple):
    """Some of a process's texts, b of them."""

    grid: Grid  # (b, S)
    features: Features | None  # where they are encoded already
    targets: torch.Tensor  # (b, N), -100 in the rows of repeated texts
    scored: torch.Tensor | None  # (b, N) bool, as the objective got it


class BatchObjective:
    """What `forward` returns as its loss in a training step.

    Args:
        args: Weights and margins of the losses, sizes, which process this is.
        loss: Over a grid.
    """

    def __init__(self, args: ZeroShotTrainingArguments, loss: GridLoss):
        self.args = args
        self.loss = loss
        self.share = (args.process_index, args.world_size)

    def __call__(
        self,
        model: ZeroShotPreTrainedModel,
        texts: Grid,
        classes: Grid,
        targets: torch.Tensor,
        scored: torch.Tensor | None,
        *,
        class_weights: torch.Tensor | None = None,
        teacher_logits: torch.Tensor | None = None,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of the whole batch, shape (), the same in every process.

        Args:
            model: The model.
            texts: Token ids and mask (b, S) of this process's share of the texts.
            classes: The same (n, L) of its share of the distinct labels.
            targets: (B, N) of the whole batch.
            scored: (B, N) bool of the whole batch, true where a pair is scored; all are when None.
            class_weights: (N,) of the whole batch; all labels weigh the same when None.
            teacher_logits: (B, N) of the whole batch, not a number where the teacher was not asked; None without one.
            asked: (B, N) bool of the whole batch, false where nothing may be learnt from a pair; all are asked when None.

        Raises:
            ValueError: If the inputs are not this process's share of the batch.
        """
        self._check_share(len(texts[0]), len(classes[0]), targets)
        if asked is not None:
            scored = asked if scored is None else scored & asked
        if self.args.gradient_cache_size is None:
            encoded, own_labels = model.encode_sides(texts, classes)
        else:
            encoded, own_labels = None, self._encode_classes(model, classes)
        labels = gather_features(own_labels, targets.shape[1])
        parts = self._split_texts(texts, encoded, targets, scored)
        if isinstance(self.loss, AdditiveLoss) and not model.pays_per_pair and teacher_logits is None:
            return self._add_up(self.loss, model, parts, labels, len(targets), class_weights)
        grids = [self._run(score_texts, model, part, labels) for part in parts]
        grid = gather_rows(torch.cat(grids), len(targets))  # (B, stages, N)
        with torch.autocast(grid.device.type, enabled=False):
            logits, *first = grid.unbind(1)
            loss = self._judge(logits, targets, scored, class_weights)
            if teacher_logits is not None:
                taught = teach(self.args.teacher_loss, logits, teacher_logits, targets, scored)
                loss = loss + self.args.teacher_weight * taught
            for stage in first:
                loss = loss + self.args.first_stage_weight * self._judge(stage, targets, asked, class_weights)
                loss = loss + self.args.distillation_weight * distillation_loss(stage, logits, scored)
            return loss

    def _check_share(self, texts: int, labels: int, targets: torch.Tensor) -> None:
        expected = [len(list_share(size, *self.share)) for size in targets.shape]
        if [texts, labels] != expected:
            raise ValueError(
                f"Expected {expected[0]} texts and {expected[1]} labels, the share of process {self.share[0]} of "
                f"{self.share[1]} in a batch of {len(targets)} texts and {targets.shape[1]} labels, found {texts} and "
                f"{labels}. Let data_collator be a ZeroShotCollator(..., share={self.share})."
            )

    def _run(self, function: Callable, *inputs: Any) -> Any:
        """Call it; with a gradient cache nothing of what it computes is kept, and it is called again for the gradient."""
        if self.args.gradient_cache_size is None:
            return function(*inputs)
        return checkpoint(function, *inputs, use_reentrant=False)

    def _encode_classes(self, model: ZeroShotPreTrainedModel, classes: Grid) -> Features:
        """The features of this process's labels, a few at a time."""
        parts = zip(*(tensor.split(self.args.gradient_cache_size) for tensor in classes), strict=True)
        return concatenate_features([self._run(model.encode_classes, *part) for part in parts])

    def _split_texts(
        self, texts: Grid, encoded: Features | None, targets: torch.Tensor, scored: torch.Tensor | None
    ) -> Iterator[TextRows]:
        """This process's texts, in passes."""
        rows = torch.tensor(list_share(len(targets), *self.share), device=targets.device)  # (b,)
        places = torch.arange(len(rows), device=rows.device) + self.share[0] * len(rows)
        own = targets[rows].masked_fill((places >= len(targets)).unsqueeze(1), -100)  # (b, N)
        size = self.args.gradient_cache_size or len(rows)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            candidates = None if scored is None else scored[rows[part]]
            yield TextRows((texts[0][part], texts[1][part]), encoded, own[part], candidates)

    def _judge(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        scored: torch.Tensor | None,
        class_weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """The loss over a grid (B, N) whose cells were scored where `scored` is true, or everywhere."""
        return self.loss(logits, self._settle_targets(logits, targets, scored), class_weights)

    def _settle_targets(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        scored: torch.Tensor | None,
        lowest_positive: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if self.args.in_batch_margin is not None:
            return clear_negatives(logits, targets, self.args.in_batch_margin, scored, lowest_positive)
        return targets if scored is None else targets.masked_fill(~scored, -100)

    # -- losses that add up ------------------------------------------------------------------------------------------

    def _add_up(
        self,
        loss: AdditiveLoss,
        model: ZeroShotPreTrainedModel,
        parts: Iterator[TextRows],
        classes: Features,
        texts: int,
        class_weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """The loss of the batch, of B texts, from this process's texts and the other processes' sums."""
        sums = [self._run(self._add_up_texts, loss, model, part, classes, class_weights) for part in parts]
        totals, counts = zip(*sums, strict=True)
        pairs = sum_over_processes(torch.stack(counts).sum())
        return loss.divide(sum_over_processes(torch.stack(totals).sum()), texts, pairs)

    def _add_up_texts(
        self,
        loss: AdditiveLoss,
        model: ZeroShotPreTrainedModel,
        rows: TextRows,
        classes: Features,
        class_weights: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum over some texts' judged pairs, and how many pairs these are."""
        texts = encode_rows(model, rows)
        size = max(1, MAX_CELLS // len(rows.targets))
        features = split_features(classes, size)
        masks = [None] * len(features) if rows.scored is None else rows.scored.split(size, dim=1)
        weights = [None] * len(features) if class_weights is None else class_weights.split(size)
        blocks = list(zip(features, rows.targets.split(size, dim=1), masks, strict=True))
        lowest = None
        if self.args.in_batch_margin is not None and len(blocks) > 1:
            lowest = find_lowest_of_all(model, texts, blocks)

        def add_up_block(
            block: Features, targets: torch.Tensor, scored: torch.Tensor | None, weight: torch.Tensor | None
        ) -> tuple[torch.Tensor, torch.Tensor]:
            logits = model.score(texts, block).float()
            with torch.autocast(logits.device.type, enabled=False):
                settled = self._settle_targets(logits, targets, scored, lowest)
                return loss.add_up(logits, settled, weight), count_pairs(settled, weight)

        inputs = [(*block, weight) for block, weight in zip(blocks, weights, strict=True)]
        if len(inputs) == 1:
            return add_up_block(*inputs[0])
        totals, counts = zip(*(checkpoint(add_up_block, *block, use_reentrant=False) for block in inputs), strict=True)
        return torch.stack(totals).sum(), torch.stack(counts).sum()


@torch.no_grad()
def find_lowest_of_all(
    model: ZeroShotPreTrainedModel,
    texts: Features,
    blocks: list[tuple[Features, torch.Tensor, torch.Tensor | None]],
) -> torch.Tensor:
    """[`find_lowest_positive`] over all blocks of labels, each with its targets and candidates: (b, 1)."""
    lowest = []
    for block, targets, scored in blocks:
        known = targets if scored is None else targets.masked_fill(~scored, -100)
        lowest.append(find_lowest_positive(model.score(texts, block).float(), known))
    return torch.cat(lowest, dim=1).amin(dim=1, keepdim=True)


def encode_rows(model: ZeroShotPreTrainedModel, rows: TextRows) -> Features:
    """The features of some texts; encoded now where a gradient cache put that off."""
    return model.encode_text(*rows.grid) if rows.features is None else rows.features


def score_texts(model: ZeroShotPreTrainedModel, rows: TextRows, classes: Features) -> torch.Tensor:
    """Logits of texts against all labels, (b, stages, N), float32: those of the model, then of its first stage."""
    texts = encode_rows(model, rows)
    scored = rows.scored
    if scored is None and model.has_shortlist:  # left to itself it would rescore a shortlist only
        scored = torch.ones_like(rows.targets, dtype=torch.bool)
    stages = [model.score(texts, classes, scored)]
    first = model.score_first_stage(texts, classes)
    if first is not None:
        stages.append(first)
    return torch.stack([logits.float() for logits in stages], dim=1)
