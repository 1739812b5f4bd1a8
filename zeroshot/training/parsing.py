"""Strict parsing: a YAML file gives the settings, the command line overrides them, an unknown key is an error."""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

from .arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments

ARGUMENT_CLASSES = (ModelArguments, DataArguments, ZeroShotTrainingArguments)
COMMAND_LINE = "the command line"
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list of texts",
    dict: "a mapping",
    NoneType: "null",
}


class _StrictLoader(yaml.SafeLoader):
    """YAML in which no key stands twice (YAML keeps the last in silence) and a date is text, as no setting is a date."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: node.value)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a recipe.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a YAML mapping, or a key stands there twice.
    """
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none in ./configs"
        raise FileNotFoundError(f"Expected a recipe, found no file {str(path)!r}. Recipes here: {near}.")
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected YAML in {str(path)!r}, found a mistake: {error}. Mend that line.") from error
    if not isinstance(settings, dict):
        raise ValueError(
            f"Expected 'key: value' lines in {str(path)!r}, found {type(settings).__name__}. Write settings so."
        )
    return settings


def _list_options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has exactly one of the types of an annotation; a whole number is a number too."""
    for option in _list_options(hint):
        kind = get_origin(option) or option
        if kind is list and isinstance(value, list):
            return all(_fits(item, get_args(option)[0]) for item in value)
        if type(value) is kind or (kind is float and type(value) is int):
            return True
    return False


def _describe(hint: Any) -> str:
    options = _list_options(hint)
    choices = [f"one of {', '.join(map(str, get_args(option)))}" for option in options if get_origin(option) is Literal]
    return " or ".join(choices + [KINDS[kind] for kind in (get_origin(o) or o for o in options) if kind in KINDS])


class SettingsParser:
    """Both sources of settings behind one parser, so that values of a recipe and of the command line mean the same."""

    def __init__(self):
        self.parser = HfArgumentParser(
            ARGUMENT_CLASSES, allow_abbrev=False, exit_on_error=False, usage="train.py [CONFIG.yaml] [--key value ...]"
        )
        self.namespace: argparse.Namespace | None = None
        hints = {name: hint for one in ARGUMENT_CLASSES for name, hint in get_type_hints(one).items()}
        self.hints = {action.dest: hints[action.dest] for action in self.parser._actions if action.dest in hints}

    def refuse_key(self, key: str, place: str) -> ValueError:
        """The error for an unknown key."""
        nearest = difflib.get_close_matches(key, self.hints, n=1)
        mend = f"Did you mean {nearest[0]!r}?" if nearest else "python train.py --help lists all keys."
        return ValueError(f"Expected a known setting in {place}, found {key!r}. {mend}")

    def parse_words(self, words: Sequence[str], place: str) -> None:
        """Take `--key value` words over what is known so far."""
        try:
            self.namespace, rest = self.parser.parse_known_args(words, self.namespace)
        except argparse.ArgumentError as error:
            key = str(error.argument_name).split("/")[-1].lstrip("-").replace("-", "_")  # of all its spellings the last
            kind = _describe(self.hints[key]) if key in self.hints else "without a value"
            raise ValueError(
                f"Expected {key} in {place} to be {kind}, found {error.message}. "
                "python train.py --help says what each key takes."
            ) from error
        if rest and not rest[0].startswith("-"):
            raise ValueError(
                f"Expected '--key value' in {place}, found {rest[0]!r}. Begin keys with --; one recipe may stand first."
            )
        if rest:
            raise self.refuse_key(rest[0].lstrip("-").split("=")[0].replace("-", "_"), place)

    def take_settings(self, settings: dict[str, Any], place: str) -> None:
        """Take the settings of a recipe."""
        words, ready = [], {}
        for key, value in settings.items():
            if key not in self.hints:
                raise self.refuse_key(str(key), place)
            hint = self.hints[key]
            if key.endswith("_files") and _fits(value, list[str]):
                ready[key] = ",".join(value)
            elif isinstance(value, str):  # also '2e-5', which YAML takes for text
                words.append(f"--{key}={value}")
            elif not _fits(value, hint):
                raise ValueError(
                    f"Expected {key} in {place} to be {_describe(hint)}, found {value!r}. "
                    "Write it so; text that YAML reads as something else (yes, no, null, 12:30) needs quotes."
                )
            elif isinstance(value, bool | int | float):
                words.append(f"--{key}={value}")
            else:  # not as words: an item of a list may begin with a dash, and nothing stands for null
                ready[key] = value
        self.parse_words(words, place)
        vars(self.namespace).update(ready)


def parse_arguments(
    arguments: Sequence[str],
) -> tuple[ModelArguments, DataArguments, ZeroShotTrainingArguments]:
    """Parse `[CONFIG.yaml] [--key value ...]`.

    Raises:
        FileNotFoundError: If the recipe is not there.
        ValueError: If a key is unknown (the nearest known one is named) or a value does not fit.
    """
    parser = SettingsParser()
    words = list(arguments)
    if words and not words[0].startswith("-"):
        path = Path(words.pop(0))
        parser.take_settings(read_yaml(path), str(path))
    parser.parse_words(words, COMMAND_LINE)
    model, data, training = parser.parser.parse_dict(vars(parser.namespace))
    return model, data, training
