"""The command line of training: strict settings of three dataclasses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..settings import COMMAND_LINE, SettingsParser
from .arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments
from .soups import check_soup, list_members

ARGUMENT_CLASSES = (ModelArguments, DataArguments, ZeroShotTrainingArguments)


def parse_arguments(
    arguments: Sequence[str], member: Mapping[str, Any] | None = None
) -> tuple[ModelArguments, DataArguments, ZeroShotTrainingArguments]:
    """Parse `[CONFIG.yaml] [--key value ...]`; the members of a soup are parsed too, before the first of them trains.

    Args:
        arguments: The words.
        member: What a member of the recipe's soup sets over them.

    Raises:
        FileNotFoundError: If the recipe is not there.
        ValueError: If a key is unknown (the nearest known one is named) or a value does not fit.
    """
    place = "a member of soup" if member else COMMAND_LINE
    parser = SettingsParser(ARGUMENT_CLASSES, "train.py", joined="_files")
    model, data, training = parser.parse(arguments, member, place)
    check_soup(data, training)
    for one in list_members(data, training):
        try:
            parse_arguments(arguments, one)
        except ValueError as error:
            raise ValueError(f"{Path(one['output_dir']).name}: {error}") from error
    return model, data, training
