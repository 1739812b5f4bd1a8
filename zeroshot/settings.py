"""Settings of a command: dataclasses with checked ranges, a strict YAML file that fills them, a command line over it.

An unknown key is an error that names the nearest one.
"""

import argparse
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

COMMAND_LINE = "the command line"
REFUSED = re.compile(
    r"^invalid \w+ value: (.+)$|^Truthy value expected: got (.*) but expected|^invalid choice: (.+?) \(choose", re.DOTALL
)
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list of texts",
    list[float]: "a list of numbers",
    list[dict]: "a list of mappings",
    dict: "a mapping",
    NoneType: "null",
}


@dataclass(frozen=True)
class Range:
    """Where a number must lie, for `Annotated[float, Range(0, 1)]`: from `lowest` to below `below`, or up to `highest`."""

    lowest: float
    below: float = math.inf
    highest: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.lowest <= value <= self.highest and value < self.below

    def __str__(self) -> str:
        if self.highest < math.inf:
            return f"from {self.lowest} to {self.highest}"
        return f"from {self.lowest} " + ("upwards" if self.below == math.inf else f"to below {self.below}")


SHARE = Range(0, 1)
COUNT = Range(1)


def check_ranges(arguments: Any) -> None:
    """Compare every field of a dataclass with the [`Range`] in its annotation; None lies everywhere, nan nowhere.

    Raises:
        ValueError: If a value is out of its range.
    """
    for name, hint in get_type_hints(type(arguments), include_extras=True).items():
        for allowed in getattr(hint, "__metadata__", ()):
            value = getattr(arguments, name)
            if isinstance(allowed, Range) and value is not None and value not in allowed:
                raise ValueError(f"Expected {name} {allowed}, found {value}. Choose a value in this range.")


def describe_field(help_text: str, default: Any) -> Any:
    """A dataclass field with its help text."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help_text})
    return field(default=default, metadata={"help": help_text})


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
        near = ", ".join(sorted({str(p) for folder in (Path("configs"), path.parent) for p in folder.glob("*.y*ml")}))
        near = near or "none in ./configs or beside it"
        raise FileNotFoundError(f"Expected a recipe, found no file {str(path)!r}. Recipes here: {near}.")
    try:
        with path.open(encoding="utf-8") as file:  # a mistake is then told with the file's name
            settings = yaml.load(file, Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected YAML in {str(path)!r}, found a mistake: {error}. Mend that line.") from error
    if not isinstance(settings, dict):
        found = "nothing" if settings is None else type(settings).__name__
        raise ValueError(f"Expected 'key: value' lines in {str(path)!r}, found {found}. Write settings so.")
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
    known = [KINDS.get(option) or KINDS.get(get_origin(option)) for option in options]
    return " or ".join(choices + [kind for kind in known if kind])


def _takes_text(hint: Any) -> bool:
    options = _list_options(hint)
    return any(option is str or get_origin(option) is Literal or str in get_args(option) for option in options)


def _find_refused(message: str) -> str:
    """The value in what argparse and HfArgumentParser say of one that has the wrong type; else all that they say."""
    found = REFUSED.search(message)
    return message if found is None else next(repr(text.strip("'\"")) for text in found.groups() if text is not None)


class SettingsParser:
    """Both sources of settings behind one parser, so that values of a recipe and of the command line mean the same."""

    def __init__(
        self,
        argument_classes: Sequence[type],
        script: str,
        mends: Mapping[str, str] | None = None,
        *,
        joined: str | None = None,
    ):
        """Build the parser of a command.

        Args:
            argument_classes: Dataclasses whose fields are the keys.
            script: The file that is run, as it is named in messages.
            mends: What to do instead of giving a key that does not exist on purpose, by key.
            joined: End of the keys whose lists in a recipe are joined by commas.
        """
        self.script = script
        self.mends = dict(mends or {})
        self.joined = joined
        self.parser = HfArgumentParser(
            argument_classes, allow_abbrev=False, exit_on_error=False, usage=f"{script} [CONFIG.yaml] [--key value ...]"
        )
        self.namespace: argparse.Namespace | None = None
        hints = {name: hint for one in argument_classes for name, hint in get_type_hints(one).items()}
        self.hints = {action.dest: hints[action.dest] for action in self.parser._actions if action.dest in hints}

    def refuse_key(self, key: str, place: str) -> ValueError:
        """The error for an unknown key."""
        nearest = difflib.get_close_matches(key, self.hints, n=1)
        mend = f"Did you mean {nearest[0]!r}?" if nearest else f"python {self.script} --help lists all keys."
        mend = self.mends.get(key, mend)
        return ValueError(f"Expected a known setting in {place}, found {key!r}. {mend}")

    def parse_words(self, words: Sequence[str], place: str) -> None:
        """Take `--key value` words over what is known so far."""
        try:
            self.namespace, rest = self.parser.parse_known_args(words, self.namespace)
        except argparse.ArgumentError as error:
            key = str(error.argument_name).split("/")[-1].lstrip("-").replace("-", "_")  # of all its spellings the last
            hint = self.hints.get(key)
            kind = "without a value" if hint is None else _describe(hint)
            if get_origin(hint) is list and place == COMMAND_LINE:
                kind += " with spaces between them"
            raise ValueError(
                f"Expected {key} in {place} to be {kind}, found {_find_refused(error.message)}. "
                f"python {self.script} --help says what each key takes."
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
            if self.joined and key.endswith(self.joined) and _fits(value, list[str]):
                ready[key] = ",".join(value)
            elif isinstance(value, str):  # also '2e-5', which YAML takes for text
                words.append(f"--{key}={value}")
            elif not _fits(value, hint):
                quotes = (
                    "; text that YAML reads as something else (yes, no, null, 12:30) needs quotes"
                    if _takes_text(hint)
                    else ""
                )
                raise ValueError(f"Expected {key} in {place} to be {_describe(hint)}, found {value!r}. Write it so{quotes}.")
            elif isinstance(value, bool | int | float):
                words.append(f"--{key}={value}")
            else:  # not as words: an item of a list may begin with a dash, and nothing stands for null
                ready[key] = value
        self.parse_words(words, place)
        vars(self.namespace).update(ready)

    def parse(
        self, arguments: Sequence[str], overrides: Mapping[str, Any] | None = None, place: str = COMMAND_LINE
    ) -> tuple[Any, ...]:
        """Parse `[CONFIG.yaml] [--key value ...]` into one instance of each dataclass.

        Args:
            arguments: The words.
            overrides: Settings over these, as a recipe would have them.
            place: Where the overrides stand, for messages.

        Raises:
            FileNotFoundError: If the recipe is not there.
            ValueError: If a key is unknown (the nearest known one is named) or a value does not fit.
        """
        words = list(arguments)
        if words and not words[0].startswith("-"):
            path = Path(words.pop(0))
            self.take_settings(read_yaml(path), str(path))
        self.parse_words(words, COMMAND_LINE)
        self.take_settings(dict(overrides or {}), place)
        return self.parser.parse_dict(vars(self.namespace))
