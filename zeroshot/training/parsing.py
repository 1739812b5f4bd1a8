"""Strict parsing: a YAML file gives the settings, the command line overrides them, an unknown key is an error."""

import dataclasses
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from .arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments

ARGUMENT_CLASSES = (ModelArguments, DataArguments, ZeroShotTrainingArguments)


def _unknown_key(key: str, where: str, known: Sequence[str]) -> ValueError:
    nearest = difflib.get_close_matches(key, known, n=1)
    mend = f"Did you mean {nearest[0]!r}?" if nearest else "python train.py --help lists all keys."
    return ValueError(f"Expected a known setting in {where}, found {key!r}. {mend}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a recipe.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a YAML mapping.
    """
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none in ./configs"
        raise FileNotFoundError(f"Expected a recipe, found no file {str(path)!r}. Recipes here: {near}.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected YAML in {str(path)!r}, found a mistake: {error}. Mend that line.") from error
    if not isinstance(settings, dict):
        raise ValueError(
            f"Expected 'key: value' lines in {str(path)!r}, found {type(settings).__name__}. Write settings so."
        )
    return settings


def _to_command_line(settings: dict[str, Any], list_fields: set[str]) -> list[str]:
    """Settings as arguments, so that one parser checks the types of both."""
    arguments: list[str] = []
    for key, value in settings.items():
        if value is None:
            continue
        if isinstance(value, list) and key in list_fields:
            if value:
                arguments += [f"--{key}", *map(str, value)]
        elif isinstance(value, list):
            arguments.append(f"--{key}={','.join(map(str, value))}")
        elif isinstance(value, dict):
            arguments.append(f"--{key}={json.dumps(value)}")
        else:
            arguments.append(f"--{key}={value}")
    return arguments


def parse_arguments(
    arguments: Sequence[str],
) -> tuple[ModelArguments, DataArguments, ZeroShotTrainingArguments]:
    """Parse `[CONFIG.yaml] [--key value ...]`.

    Raises:
        FileNotFoundError: If the recipe is not there.
        ValueError: If a key is unknown (the nearest known one is named) or a value does not fit.
    """
    parser = HfArgumentParser(ARGUMENT_CLASSES, allow_abbrev=False, usage="train.py [CONFIG.yaml] [--key value ...]")
    fields = {f.name: f for argument_class in ARGUMENT_CLASSES for f in dataclasses.fields(argument_class) if f.init}
    list_fields = {action.dest for action in parser._actions if action.nargs == "+"}
    command_line = list(arguments)
    if command_line and not command_line[0].startswith("-"):
        path = Path(command_line.pop(0))
        settings = read_yaml(path)
        for key in settings:
            if key not in fields:
                raise _unknown_key(str(key), str(path), list(fields))
        command_line = _to_command_line(settings, list_fields) + command_line
    *parsed, rest = parser.parse_args_into_dataclasses(command_line, return_remaining_strings=True, look_for_args_file=False)
    if rest:
        key = rest[0].lstrip("-").split("=")[0].replace("-", "_")
        raise _unknown_key(key, "the command line", list(fields))
    model_arguments, data_arguments, training_arguments = parsed
    if isinstance(model_arguments.architecture_options, str):
        model_arguments.architecture_options = json.loads(model_arguments.architecture_options)
    return model_arguments, data_arguments, training_arguments
