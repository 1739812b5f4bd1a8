"""Model soups: several runs from one encoder, each with settings of its own, and the mean of their weights.

Averaging the weights of fine-tuned models is from https://arxiv.org/abs/2203.05482, of models tuned on different data from
https://arxiv.org/abs/2212.10445. The members are trained one after another, each in a folder of its own inside `output_dir`,
so an interrupted soup goes on where it was. The average costs what one model costs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers.utils import logging

from ..models import ZeroShotPreTrainedModel
from ..models.loading import load_model
from .arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments
from .lora import merge_adapters
from .preparation import split_names

logger = logging.get_logger(__name__)

# What is the average's own affair, and what its members have to share for the held-out labels to stay unseen.
OF_THE_SOUP = frozenset(
    """
    output_dir max_train_rows initial_weight_share zero_shot_files zero_shot_label_share validation_files validation_share
    resume resume_from_checkpoint example_texts example_labels teacher
    push_to_hub hub_model_id hub_strategy hub_private_repo hub_token
    """.split()  # noqa: SIM905 - one word a line would hide what they have in common
)


def name_member(output_dir: str, number: int) -> Path:
    """The folder of a member, counted from 1."""
    return Path(output_dir) / f"member-{number}"


def list_members(training: ZeroShotTrainingArguments) -> list[dict[str, Any]]:
    """What each member sets over the recipe, its folder among it; none without a soup."""
    return [
        {
            **member,
            "soup": None,
            "output_dir": str(name_member(training.output_dir, number)),
            "initial_weight_share": 0.0,
            "push_to_hub": False,
            "resume_from_checkpoint": None,
        }
        for number, member in enumerate(training.members, start=1)
    ]


def iterate_members(training: ZeroShotTrainingArguments) -> Iterator[dict[str, Any]]:
    """What [`list_members`] lists, each named in the log when its turn comes."""
    members = list_members(training)
    for number, member in enumerate(members, start=1):
        logger.info(f"Member {number} of {len(members)} of the soup: {member['output_dir']}.")
        yield member


def check_soup(model: ModelArguments, data: DataArguments, training: ZeroShotTrainingArguments) -> None:
    """Compare the members' settings with the recipe's.

    Raises:
        ValueError: If a member sets what all must share, trains on a file that the recipe does not name, or labels to hold
            out are drawn, which would be others in every member.
    """
    if not training.soup:
        return
    for name in ("zero_shot_label_share", "validation_share"):
        if getattr(data, name):
            raise ValueError(
                f"Expected files of held-out rows with soup, found {name}: members would hold out different ones. Set "
                f"{name.rsplit('_', 1)[0].removesuffix('_label')}_files, and {name} to 0."
            )
    if training.resume_from_checkpoint:
        raise ValueError(
            "Expected no resume_from_checkpoint with soup, whose members have checkpoints of their own, found one. Leave it "
            "out: the same command goes on by itself."
        )
    named = split_names(data.train_files)
    for number, member in enumerate(training.members, start=1):
        for name in member:
            if name == "soup" or name in OF_THE_SOUP or name in ModelArguments.__dataclass_fields__:
                raise ValueError(
                    f"Expected member {number} of soup without {name!r}, found it set. Set it once for all, outside of soup."
                )
        for file in split_names(member.get("train_files")):
            if file not in named:
                raise ValueError(
                    f"Expected train_files of member {number} of soup among the recipe's own, found {file!r}. Add it to the "
                    "recipe's train_files, which say what the soup was trained on."
                )


def average_members(model: ZeroShotPreTrainedModel, training: ZeroShotTrainingArguments) -> None:
    """Set every weight of a model to the mean of its members'.

    Args:
        model: The model of the recipe; its own weights do not count.
        training: What the recipe says about training; the members are finished.
    """
    PartialState().wait_for_everyone()  # the first process may still be writing the last member
    merge_adapters(model)
    weights = model.state_dict()
    with torch.no_grad():
        for number in range(1, len(training.members) + 1):
            member = load_model(str(name_member(training.output_dir, number))).state_dict()
            for name, tensor in weights.items():
                if tensor.is_floating_point():
                    tensor.lerp_(member[name].to(tensor), 1 / number)  # the mean of all so far
