"""Model soups: several runs from one start, each with settings of its own, and the mean of their weights.

Averaging the weights of fine-tuned models is from https://arxiv.org/abs/2203.05482, of models tuned on different data from
https://arxiv.org/abs/2212.10445. The members are trained one after another, each in a folder of its own inside `output_dir`,
so an interrupted soup goes on where it was. The average costs what one model costs.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.utils import logging

from ..models import ZeroShotPreTrainedModel
from ..models.loading import load_model
from .arguments import FILE_SETTINGS, DataArguments, ModelArguments, ZeroShotTrainingArguments
from .averaging import average_with_model
from .lora import merge_adapters
from .preparation import split_names

logger = logging.get_logger(__name__)

# Settings of the recipe alone: of the model, whose weights are averaged; of the rows, for held-out labels to stay unseen by
# all members and records to be true; of what is done with the average. `train_files` are shared out among the members.
OF_THE_RECIPE = frozenset(
    {
        *ModelArguments.__dataclass_fields__,
        *(name for name in FILE_SETTINGS if name != "train_files"),
        *("zero_shot_label_share", "validation_share", "max_train_rows", "name_weights", "teacher"),
        *("soup", "output_dir", "initial_weight_share", "resume", "resume_from_checkpoint", "push_to_hub"),
        *("example_texts", "example_labels"),
    }
)


def list_members(data: DataArguments, training: ZeroShotTrainingArguments) -> list[dict[str, Any]]:
    """What each member sets over the recipe, its folder among it; none without a soup.

    A member with training files of its own gets their weights and files of names, where the recipe lists these by file.
    """
    listed: dict[str, list] = {"source_weights": data.source_weights, "names_files": split_names(data.names_files)}
    files = split_names(data.train_files)
    members = []
    for number, member in enumerate(training.members, start=1):
        places = [files.index(file) for file in split_names(member.get("train_files")) if file in files]
        by_file = {name: [values[at] for at in places] for name, values in listed.items() if len(values) == len(files) > 1}
        members.append(
            {
                **(by_file if places else {}),
                **member,
                "soup": None,
                "output_dir": str(Path(training.output_dir) / f"member-{number}"),
                "initial_weight_share": 0.0,
                "push_to_hub": False,
            }
        )
    return members


def iterate_members(data: DataArguments, training: ZeroShotTrainingArguments) -> Iterator[dict[str, Any]]:
    """What [`list_members`] lists, each named in the log when its turn comes."""
    members = list_members(data, training)
    for number, member in enumerate(members, start=1):
        logger.info(f"Member {number} of {len(members)} of the soup: {member['output_dir']}.")
        yield member


def check_soup(data: DataArguments, training: ZeroShotTrainingArguments) -> None:
    """Compare the members' settings with the recipe's.

    Raises:
        ValueError: If a member sets what is the recipe's alone, the members do not share out the recipe's training files, or
            labels to hold out are drawn, which would be others in every member.
    """
    if not training.members:
        return
    if shares := [name for name in ("zero_shot_label_share", "validation_share") if getattr(data, name)]:
        raise ValueError(
            f"Expected files of held-out rows with soup, found {' and '.join(shares)}: members would hold out different "
            f"ones. Set {' and '.join(shares)} to 0 and name files (zero_shot_files, validation_files) instead, or measure "
            "nothing while training (load_best_model_at_end: false, eval_strategy: 'no')."
        )
    if training.resume_from_checkpoint:
        raise ValueError(
            "Expected no resume_from_checkpoint with soup, whose members have checkpoints of their own, found one. Leave it "
            "out: the same command goes on by itself."
        )
    for number, member in enumerate(training.members, start=1):
        for name in member:
            if name in OF_THE_RECIPE or name.startswith("hub_"):
                raise ValueError(
                    f"Expected member {number} of soup without {name!r}, found it set. Set it once for all, outside of soup."
                )
    _check_files(split_names(data.train_files), training.members)
    for (first, one), (second, other) in itertools.combinations(enumerate(training.members, start=1), 2):
        if one == other:
            raise ValueError(
                f"Expected members of soup that differ, found {first} and {second} alike, which would end with the same "
                "weights. Give one of them another seed or other files, or leave it out."
            )


def _check_files(named: list[str], members: list[dict[str, Any]]) -> None:
    used: set[str] = set()
    for number, member in enumerate(members, start=1):
        files = member.get("train_files", named)
        if not isinstance(files, str) and not (isinstance(files, list) and all(isinstance(file, str) for file in files)):
            raise ValueError(
                f"Expected train_files of member {number} of soup to be text or a list of texts, found {files!r}. "
                "Write it so."
            )
        unknown = [file for file in split_names(files) if file not in named]
        if unknown or not split_names(files):
            raise ValueError(
                f"Expected train_files of member {number} of soup among the recipe's own, found "
                f"{repr(unknown[0]) if unknown else 'none'}. Those are {', '.join(map(repr, named))}."
            )
        used.update(split_names(files))
    if unused := [file for file in named if file not in used]:
        raise ValueError(
            f"Expected each of the recipe's train_files in some member of soup, found {unused[0]!r} in none. Give it to a "
            "member, or take it out of the recipe."
        )


def average_members(model: ZeroShotPreTrainedModel, data: DataArguments, training: ZeroShotTrainingArguments) -> None:
    """Set every weight of a model to the mean of its members'.

    Args:
        model: The model of the recipe; its own weights do not count.
        data: What the recipe says about data.
        training: What it says about training; the members are finished.
    """
    PartialState().wait_for_everyone()  # the first process may still be writing the last member
    merge_adapters(model)
    for number, member in enumerate(list_members(data, training), start=1):
        average_with_model(model, load_model(member["output_dir"]), 1 / number)  # the mean of all so far


def read_member_records(data: DataArguments, training: ZeroShotTrainingArguments, name: str) -> list[Mapping[str, Any]]:
    """The file of a name in each member's folder.

    Args:
        data: What the recipe says about data.
        training: What it says about training; the members are finished.
        name: Of a JSON file that every finished run leaves.
    """
    folders = [Path(member["output_dir"]) for member in list_members(data, training)]
    return [json.loads((folder / name).read_text(encoding="utf-8")) for folder in folders]
