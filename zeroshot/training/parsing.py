"""The command line of training: strict settings of three dataclasses."""

from collections.abc import Sequence

from ..settings import SettingsParser
from .arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments

ARGUMENT_CLASSES = (ModelArguments, DataArguments, ZeroShotTrainingArguments)


def parse_arguments(
    arguments: Sequence[str],
) -> tuple[ModelArguments, DataArguments, ZeroShotTrainingArguments]:
    """Parse `[CONFIG.yaml] [--key value ...]`.

    Raises:
        FileNotFoundError: If the recipe is not there.
        ValueError: If a key is unknown (the nearest known one is named) or a value does not fit.
    """
    model, data, training = SettingsParser(ARGUMENT_CLASSES, "train.py", joined="_files").parse(arguments)
    return model, data, training
