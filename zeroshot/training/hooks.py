"""What the Trainer is given where a recipe asks for more: a mixed loss, mined negatives, a teacher, weighted sources."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.utils import logging

from ..data import TrainingDataset, TrainingExample
from ..data.collation import BatchExtra
from ..models import ZeroShotPreTrainedModel
from .arguments import ZeroShotTrainingArguments
from .losses import GridLoss, TripletLoss, build_loss, weigh_labels
from .mining import HardNegativeMiner, MiningCallback
from .sampling import GroupedSampler
from .sources import EpochSampler, MiningSampler, WeightedSampler, share_examples
from .teachers import Teacher, TeacherCallback, load_teacher

if TYPE_CHECKING:
    from .trainer import ZeroShotTrainer

logger = logging.get_logger(__name__)


def choose_loss(model: ZeroShotPreTrainedModel, args: ZeroShotTrainingArguments) -> GridLoss:
    """The loss of a recipe. The triplet loss alone does not depend on scale and bias, so they are kept as they are."""
    triplet = TripletLoss(
        args.triplet_margin, args.triplet_negatives, read_scale=lambda: model.logit_scale.detach().float().exp()
    )
    if set(args.loss_weights) == {"triplet"} and args.teacher is None:
        model.logit_scale.requires_grad_(False)
        model.logit_bias.requires_grad_(False)
    return build_loss(args.loss_weights, triplet)


def weigh_classes(dataset: TrainingDataset, cap: float | None) -> list[BatchExtra]:
    """What adds `class_weights` (N,) to a batch; nothing where all labels weigh the same."""
    if cap is None:
        return []
    weights = weigh_labels((name for names in dataset.rows["positives"] for name in names), cap)
    for names in dataset.other_names:  # under another name of the same meaning a label is as rare
        same = {} if names is None else names.same
        weights = {**{name: weights[label] for label in same if label in weights for name in same[label]}, **weights}

    def build(examples: Sequence[TrainingExample], classes: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"class_weights": torch.tensor([weights.get(name, 1.0) for name in classes])}

    return [build]


def mark_asked(examples: Sequence[TrainingExample], classes: Sequence[str]) -> dict[str, torch.Tensor]:
    """Which pairs of a batch may be judged, `asked` (B, N) bool, where some may not: a denial is asked of its own text only.

    Whether another text's label is no instance of 'not spam' nobody said, and most texts are instances of all denials.
    """
    denials = {name for example in examples for name in example["denials"]}
    if not denials:
        return {}
    asked = torch.tensor([name not in denials for name in classes]).repeat(len(examples), 1)
    column = {name: position for position, name in enumerate(classes)}
    for row, example in enumerate(examples):
        asked[row, [column[name] for name in example["denials"]]] = True
    return {"asked": asked}


def order_examples(dataset: TrainingDataset, lengths: Sequence[int], args: ZeroShotTrainingArguments) -> EpochSampler:
    """The order in which a run sees its examples."""
    batch_size = args.train_batch_size * args.world_size
    sources = dataset.rows["source"][:]
    order: EpochSampler
    if dataset.source_weights or dataset.source_temperature != 1:
        sizes = Counter(sources)
        counts = share_examples(
            [sizes[source] for source in range(len(dataset.pools))], dataset.source_weights, dataset.source_temperature
        )
        logger.info(f"Examples of each training file per epoch: {', '.join(map(str, counts))}.")
        order = WeightedSampler(
            lengths, sources, counts, batch_size=batch_size, seed=args.seed, grouped=args.batch_by_source
        )
    else:
        order = GroupedSampler(lengths, sources if args.batch_by_source else None, batch_size, args.seed)
    if dataset.mined is not None and args.mining_strategy == "steps":
        check_prefetching(args)
        order = MiningSampler(order, batch_size, args.gradient_accumulation_steps, args.mining_steps)
    return order


def check_prefetching(args: ZeroShotTrainingArguments) -> None:
    """Negatives are used one interval after they were mined; a loader that is further ahead would not find them.

    Raises:
        ValueError: If it may be.
    """
    interval = args.mining_steps * args.gradient_accumulation_steps
    if args.batches_ahead > interval:
        least = -(-args.batches_ahead // args.gradient_accumulation_steps)
        raise ValueError(
            f"Expected mining_steps of at least {least}, because the data loader fetches {args.batches_ahead} batches "
            f"ahead, found {args.mining_steps}. Raise it, or lower dataloader_num_workers."
        )


def add_mining(trainer: "ZeroShotTrainer") -> None:
    """Have negatives mined, where the data set asks for them."""
    dataset, args = trainer.train_dataset, trainer.args
    if not dataset.hard_negatives:
        return
    miner = HardNegativeMiner(
        dataset,
        top_k=max(args.mining_top_k, dataset.hard_negatives),
        margin=args.mining_margin,
        max_candidates=args.mining_candidates,
        seed=args.seed,
    )
    pairs = sum(
        len(texts) * min(len(names), args.mining_candidates or len(names))
        for texts, names in zip(miner.texts, miner.candidates, strict=True)
    )
    if trainer.model.pays_per_pair:
        logger.warning(f"Each mining scores {pairs} pairs, and each pair costs (--mining_candidates, --mining_strategy).")
    dataset.mined = miner.build_table()
    trainer.add_callback(MiningCallback(miner, dataset.mined, lambda: trainer.accelerator.unwrap_model(trainer.model), args))


def add_teacher(trainer: "ZeroShotTrainer") -> None:
    """Have examples scored by a teacher, where the recipe names one; after mining, whose negatives it scores too.

    Raises:
        ValueError: If negatives are mined amid an epoch, before which the teacher is asked.
    """
    dataset, args = trainer.train_dataset, trainer.args
    if args.teacher is None:
        return
    if dataset.hard_negatives and args.mining_strategy == "steps":
        raise ValueError(
            "Expected mining_strategy 'epoch' with a teacher, who is asked before each epoch, found 'steps'. Change one."
        )
    model = load_teacher(args.teacher).to(args.device)
    teacher = Teacher(model, Path(args.teacher_cache), args.teacher, dataset.sentence_sources)
    trainer.data_collator.extras.append(teacher.build_grid)
    trainer.add_callback(TeacherCallback(teacher, dataset, lambda: trainer.order or ()))
