"""What a user calls a label, and what of it is encoded: names, descriptions, several phrasings, a hierarchy.

Whatever the form, the name comes back and the phrasings are what the model reads, put into the templates.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .inputs_zeroshot import check_candidate_labels

# A list of names or one string with commas; {name: description}, {name: [phrasing, ...]}, {name: {name: ...}}.
CandidateLabels = str | Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Candidates:
    """The labels of one text.

    Args:
        names: Distinct names, (n,).
        phrasings: What is encoded in place of each name: the name itself, its description, or several phrasings.
        parents: In a hierarchy, the position of each name's parent, -1 at the top; a parent stands before its children.
    """

    names: tuple[str, ...]
    phrasings: tuple[tuple[str, ...], ...]
    parents: tuple[int, ...] | None = None

    @property
    def leaves(self) -> list[int]:
        """Positions of the names without children: what comes back as labels."""
        inner = set(self.parents or ())
        return [position for position in range(len(self.names)) if position not in inner]

    @property
    def siblings(self) -> list[tuple[int, list[int]]]:
        """(parent, its children) in the order in which scores come down from the top; parent -1 there."""
        groups: dict[int, list[int]] = {}
        for position, parent in enumerate(self.parents or (-1,) * len(self.names)):
            groups.setdefault(parent, []).append(position)
        return sorted(groups.items())

    def choose(self, positions: Sequence[int]) -> "Candidates":
        """Some of the labels as labels of their own, without the hierarchy."""
        return Candidates(
            tuple(self.names[position] for position in positions), tuple(self.phrasings[position] for position in positions)
        )


def _read_phrasings(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return (name,)
    if not isinstance(value, str) and (isinstance(value, Mapping) or not isinstance(value, Iterable)):
        raise TypeError(
            f"Expected a description, a list of phrasings, or a dictionary of labels below {name!r}, found "
            f"{type(value).__name__}: {value!r}. Write {{{name!r}: 'what the label means'}}."
        )
    try:
        return tuple(check_candidate_labels([value] if isinstance(value, str) else list(value)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"Phrasings of the label {name!r}: {error}") from error


def _check_rivals(candidates: Candidates) -> Candidates:
    """No two labels that share a parent may be described alike: nothing could tell them apart."""
    for _, positions in candidates.siblings:
        owner: dict[str, str] = {}
        for position in positions:
            name = candidates.names[position]
            for phrasing in candidates.phrasings[position]:
                if phrasing in owner:
                    raise ValueError(
                        f"Expected a description for each label alone, found {phrasing!r} for {owner[phrasing]!r} and "
                        f"{name!r}. Describe one of them otherwise."
                    )
                owner[phrasing] = name
    return candidates


def _read_hierarchy(labels: Mapping[str, Any]) -> Candidates:
    names: list[str] = []
    phrasings: list[tuple[str, ...]] = []
    parents: list[int] = []
    paths: dict[str, str] = {}

    def descend(level: Mapping[str, Any], parent: int, path: str) -> None:
        try:
            check_candidate_labels(list(level))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Labels below {path!r}: {error}" if path else str(error)) from error
        for name, value in level.items():
            here = f"{path} > {name}" if path else name
            if name in paths:
                raise ValueError(
                    f"Expected distinct names in a hierarchy, found {name!r} at {paths[name]!r} and {here!r}. Rename one "
                    f"of them and describe it: {{'another name': {name!r}}}."
                )
            paths[name] = here
            below = isinstance(value, Mapping)
            names.append(name)
            parents.append(parent)
            phrasings.append((name,) if below else _read_phrasings(name, value))
            if below and value:
                descend(value, len(names) - 1, here)

    descend(labels, -1, "")
    return _check_rivals(Candidates(tuple(names), tuple(phrasings), tuple(parents)))


def read_candidates(candidate_labels: CandidateLabels) -> Candidates:
    """Read labels in any of their forms.

    Args:
        candidate_labels: Names as a list or one string with commas; `{name: description}`; `{name: [phrasings]}`; or
            dictionaries within dictionaries, a hierarchy, in which a label without others below it has a description,
            phrasings, None or {}. A list is always one of phrasings, never of labels below.

    Raises:
        TypeError: If it has none of these forms.
        ValueError: If there is no label, or one is empty, stands there twice or is described like another.

    Example:
        >>> read_candidates({"sports": "games and athletes", "politics": ["elections", "laws"]}).phrasings
        (('games and athletes',), ('elections', 'laws'))
        >>> read_candidates({"sports": {"football": {}, "tennis": {}}, "politics": {}}).parents
        (-1, 0, 0, -1)
    """
    if not isinstance(candidate_labels, Mapping):
        names = tuple(check_candidate_labels(candidate_labels))
        return Candidates(names, tuple((name,) for name in names))
    if any(isinstance(value, Mapping) for value in candidate_labels.values()):
        return _read_hierarchy(candidate_labels)
    names = tuple(check_candidate_labels(list(candidate_labels)))
    return _check_rivals(Candidates(names, tuple(_read_phrasings(name, candidate_labels[name]) for name in names)))


def are_per_text(candidate_labels: Any) -> bool:
    """Whether these are labels for each text, not for all texts: a list whose entries are not all names."""
    return (
        isinstance(candidate_labels, Sequence)
        and not isinstance(candidate_labels, str)
        and any(isinstance(entry, Sequence | Mapping) and not isinstance(entry, str) for entry in candidate_labels)
    )


def read_candidates_per_text(
    candidate_labels: CandidateLabels | Sequence[CandidateLabels], num_texts: int
) -> list[Candidates]:
    """Read the labels of every text, from labels for all texts or from one list or dictionary for each.

    Raises:
        TypeError: If they have no form that [`read_candidates`] knows.
        ValueError: If there are labels per text but not for as many texts, or those of a text are not valid.
    """
    if not are_per_text(candidate_labels):
        return [read_candidates(candidate_labels)] * num_texts  # type: ignore[arg-type]
    if len(candidate_labels) != num_texts:
        raise ValueError(
            f"Expected one list of candidate labels per text, found {len(candidate_labels)} lists for {num_texts} texts. "
            "Pass one list per text, or one flat list for all texts."
        )
    read = []
    for position, labels in enumerate(candidate_labels):
        if isinstance(labels, str):
            raise TypeError(
                f"Expected a list of labels for every text, found the string {labels!r} at position {position}. "
                f"Write [{labels!r}]."
            )
        try:
            read.append(read_candidates(labels))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Candidate labels of text {position}: {error}") from error
    return read


def word_phrasings(
    candidates: Candidates,
    hypothesis_template: str | Sequence[str] | Mapping[str, str] | None,
    class_templates: Sequence[str],
) -> list[list[tuple[str, ...]]]:
    """Put every phrasing into its templates.

    Args:
        candidates: n labels.
        hypothesis_template: One wording, several, one for each label's name; `class_templates` when left out.
        class_templates: The checkpoint's own.

    Returns:
        For each label, for each of its phrasings, the T worded strings that are encoded.

    Raises:
        ValueError: If there are wordings by name, but none for one of the names.
    """
    worded = []
    for name, phrasings in zip(candidates.names, candidates.phrasings, strict=True):
        templates = class_templates if hypothesis_template is None else hypothesis_template
        if isinstance(templates, Mapping):
            if name not in templates:
                raise ValueError(
                    f"Expected a hypothesis_template for every label, found none for {name!r} among {list(templates)}. "
                    "Add it, or pass one wording for all labels."
                )
            templates = templates[name]
        templates = [templates] if isinstance(templates, str) else templates
        worded.append([tuple(template.format(phrasing) for template in templates) for phrasing in phrasings])
    return worded
