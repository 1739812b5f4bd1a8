"""Other names of labels, so that training sees a class under many names and at several levels, not one string by heart.

A file of names is JSON with two parts, either of which may be left out:

    {"same": {"freeze account": ["card lock", "put my account on hold"]},
     "broader": {"personal banking": {"holds": ["freeze account", "pay bill"], "unsure": ["transfer money"]}}}

`same` lists names with the meaning and extent of a label. A `broader` name holds for all texts of the labels in `holds`, for
some texts of those in `unsure`, and for no text of any other label. Of a text with several labels it is true where it holds
for each of them ("no ill will" of a text of gratitude and anger is not), false where it holds and may hold for none.

Related: Knowledgeable prompt-tuning, https://arxiv.org/abs/2108.02035, which widens the words that stand for a class; it
scores all of them at prediction, where training draws one here.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..json_text import parse_json, read_text
from .reading import expand_path
from .splitting import normalize_text
from .validation import check_label_list, check_unicode, show_value

NAME_KINDS = ("own", "same", "broader")
NAME_WEIGHTS = {"own": 1.0, "same": 1.0, "broader": 0.0}  # broader ones cost more than they brought where it was measured


@dataclass(frozen=True)
class LabelNames:
    """The other names of some labels.

    Args:
        same: Names of the same meaning, by label.
        broader: Names of larger classes that hold for all its texts, by label.
        unsure: Names of larger classes that hold for some of its texts, by label.
    """

    same: Mapping[str, Sequence[str]]
    broader: Mapping[str, Sequence[str]]
    unsure: Mapping[str, Sequence[str]]

    @property
    def labels(self) -> set[str]:
        """Every label that the file speaks of."""
        return {label for names in (self.same, self.broader, self.unsure) for label in names}

    def list_names(self, labels: Iterable[str]) -> list[str]:
        """The distinct other names that hold for all texts of one of the labels."""
        names = (name for label in labels for name in (*self.same.get(label, ()), *self.broader.get(label, ())))
        return list(dict.fromkeys(names))

    def list_broader(self) -> list[str]:
        """The distinct names of larger classes."""
        return list(dict.fromkeys(name for part in (self.broader, self.unsure) for names in part.values() for name in names))

    def list_true(self, labels: Sequence[str]) -> list[str]:
        """The distinct other names that hold for a text with all of these labels."""
        shared = [set(self.broader.get(label, ())) for label in labels]
        common = set.intersection(*shared) if shared else set()
        names = (name for label in labels for name in (*self.same.get(label, ()), *self.broader.get(label, ())))
        same = {name for label in labels for name in self.same.get(label, ())}
        return list(dict.fromkeys(name for name in names if name in same or name in common))

    def list_open(self, labels: Iterable[str]) -> list[str]:
        """The distinct other names that hold, or may hold, for a text with these labels."""
        labels = list(labels)
        unsure = (name for label in labels for name in self.unsure.get(label, ()))
        return list(dict.fromkeys((*self.list_names(labels), *unsure)))

    def draw(
        self, label: str, weights: Mapping[str, float], generator: random.Random, excluded: Collection[str] = ()
    ) -> str:
        """One name of a label.

        Args:
            label: The label.
            weights: How often its own name is drawn, one of the same meaning, a broader one; a kind without a name leaves
                its share to the others, and the own name stands where there is no other.
            generator: Decides the draw.
            excluded: Names not to draw.
        """
        kinds = {"own": [label], "same": self.same.get(label, ()), "broader": self.broader.get(label, ())}
        left = {kind: [name for name in names if name not in excluded] for kind, names in kinds.items() if weights.get(kind)}
        filled = [kind for kind, names in left.items() if names]
        if not filled:
            return label
        [kind] = generator.choices(filled, [weights[kind] for kind in filled])
        return generator.choice(left[kind])

    def drop(self, names: Collection[str]) -> tuple["LabelNames", int]:
        """Leave names out, in any case; returns the rest and how many names went."""
        unwanted = {normalize_text(name) for name in names}
        parts = {"same": self.same, "broader": self.broader, "unsure": self.unsure}
        gone = {name for part in parts.values() for own in part.values() for name in own if normalize_text(name) in unwanted}
        kept = {
            part: {label: [name for name in own if name not in gone] for label, own in labels.items()}
            for part, labels in parts.items()
        }
        return replace(self, **kept), len(gone)


def read_label_names(source: str) -> LabelNames:
    """Read a file of names, `packaged:` ones too.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not as described above, a label has a name twice, or a name of the same meaning is that of two
            labels or of a larger class.
    """
    path = expand_path(source)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a JSON file of names, found none at {source!r}. Check the path.")
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"Expected a JSON file of names in {source!r}, found {error}. Write it anew, in UTF-8.") from error
    try:
        return _build_names(content)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _build_names(content: Any) -> LabelNames:
    shape = 'Write {"same": {label: [names]}, "broader": {name: {"holds": [labels], "unsure": [labels]}}}.'
    if not isinstance(content, dict) or not content or not set(content) <= {"same", "broader"}:
        found = f"the keys {', '.join(content) or 'of none'}" if isinstance(content, dict) else show_value(content)
        raise ValueError(f"Expected 'same' and 'broader', found {found}. {shape}")
    for part, entries in content.items():
        if not isinstance(entries, dict):
            raise ValueError(f"Expected {part!r} to be an object, found {show_value(entries)}. {shape}")
    same = {label: check_label_list(names, f"same: {label}") for label, names in content.get("same", {}).items()}
    broader: dict[str, list[str]] = {}
    unsure: dict[str, list[str]] = {}
    for name, scope in content.get("broader", {}).items():
        if not isinstance(scope, dict) or "holds" not in scope or not set(scope) <= {"holds", "unsure"}:
            raise ValueError(f"Expected 'holds' and maybe 'unsure' for {name!r}, found {show_value(scope)}. {shape}")
        holds, doubtful = (check_label_list(scope.get(key, []), f"broader: {name}: {key}") for key in ("holds", "unsure"))
        if both := set(holds) & set(doubtful):
            raise ValueError(f"Expected {name!r} to hold for {min(both)!r} or to be unsure, found both. Keep one.")
        for label in holds:
            broader.setdefault(label, []).append(name)
        for label in doubtful:
            unsure.setdefault(label, []).append(name)
    classes = check_label_list(list(content.get("broader", {})), "broader")
    check_unicode(*classes, *same, *(name for names in same.values() for name in names), *broader, *unsure)
    _check_meanings(same, classes)
    return LabelNames(same, broader, unsure)


def _check_meanings(same: Mapping[str, Sequence[str]], broader: Sequence[str]) -> None:
    """A name says one thing: one label, or one larger class."""
    meanings = Counter(normalize_text(name) for label, names in same.items() for name in (label, *names))
    meanings.update(normalize_text(name) for name in broader)
    places = [(name, f" of {label!r}") for label, names in same.items() for name in names]
    for name, place in (*places, *((name, " under 'broader'") for name in broader)):
        if meanings[normalize_text(name)] > 1:
            raise ValueError(
                f"Expected names that mean one thing, found {name!r}{place} more than once, in some case. Keep one of them."
            )


def list_unnamed(names: LabelNames, labels: Collection[str], source: str, file: Path | str) -> list[str]:
    """The labels of a training file that have no other name.

    Raises:
        ValueError: If none of its labels has one: the names are those of other data.
    """
    without = sorted(label for label in set(labels) if not names.list_names([label]))
    if len(without) == len(set(labels)):
        raise ValueError(
            f"Expected other names of the labels of {source!r} in {str(file)!r}, found those of "
            f"{', '.join(repr(label) for label in sorted(names.labels)[:3]) or 'none'}. "
            "Name the files in the order of train_files, 'none' where there is none."
        )
    return without
