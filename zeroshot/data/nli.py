"""Rows of natural language inference as training rows: the premise is the text, a hypothesis is a label of it.

A hypothesis that is entailed holds; one that is neutral or contradicted does not. A hypothesis is a whole sentence, so that
no template is put around it.
"""

from collections.abc import Iterable
from typing import Any

from ..json_text import parse_json

VERDICTS = {"entailment": True, "neutral": False, "contradiction": False, "not_entailment": False}


def holds_pairs(contents: Iterable[str]) -> bool:
    """Whether rows are pairs of NLI; the first JSON object of a file speaks for all: a premise, and no text."""
    for content in contents:
        try:
            row = parse_json(content)
        except ValueError:
            continue
        if isinstance(row, dict):
            return "premise" in row and "text" not in row
    return False


def _check_sentence(content: dict, name: str) -> str:
    if name not in content:
        found = ", ".join(list(content)[:10]) or "no field"
        raise ValueError(f"Expected a field {name!r}, found {found[:200]}. Add it: every row of this file is a pair of NLI.")
    sentence = content[name]
    if not isinstance(sentence, str):
        found = "null" if sentence is None else f"{type(sentence).__name__} {sentence!r}"[:120]
        raise ValueError(f"Expected {name!r} to be a string, found {found}. Put it in quotes.")
    if not sentence.strip():
        raise ValueError(f"Expected {name!r} to hold words, found {sentence!r}. Leave the row out.")
    return sentence


def read_pair(content: Any) -> dict:
    """Turn one row of NLI into what [`validate_row`] takes.

    Args:
        content: `{"premise", "hypothesis", "label"}`, the label by its name; a data set of the Hub has it in `labels`.

    Returns:
        `{"text", "labels", "negatives"}` with the hypothesis in one of the two lists.

    Raises:
        ValueError: In three parts: what was expected, what was found, how to mend it.

    Example:
        >>> read_pair({"premise": "It rains.", "hypothesis": "It is dry.", "label": "contradiction"})
        {'text': 'It rains.', 'labels': [], 'negatives': ['It is dry.']}
    """
    if not isinstance(content, dict):
        raise ValueError(
            f"Expected an object with premise, hypothesis and label, found {type(content).__name__}. "
            'Write {"premise": ...}.'
        )
    premise, hypothesis = _check_sentence(content, "premise"), _check_sentence(content, "hypothesis")
    label = content.get("label")
    if label is None and isinstance(content.get("labels"), list) and len(content["labels"]) == 1:
        [label] = content["labels"]
    holds = VERDICTS.get(label.lower()) if isinstance(label, str) else None
    if holds is None:
        found = "null" if label is None else repr(label)[:120]
        raise ValueError(f"Expected 'label' to be one of {', '.join(VERDICTS)}, found {found}. Write the name of the class.")
    return {"text": premise, "labels": [hypothesis] if holds else [], "negatives": [] if holds else [hypothesis]}


def merge_premises(rows: Iterable[dict]) -> tuple[dict[str, list], dict[int, str]]:
    """Join the rows of a premise into one, in the order of their first ones.

    Args:
        rows: What [`read_pair`] gave.

    Returns:
        Columns of rows whose texts are distinct; and by position the rows that say the opposite of an earlier one, with
        the reason why they are left out.
    """
    verdicts: dict[str, dict[str, bool]] = {}
    refused: dict[int, str] = {}
    for position, row in enumerate(rows):
        own = verdicts.setdefault(row["text"], {})
        for hypothesis in row["labels"] + row["negatives"]:
            if own.setdefault(hypothesis, bool(row["labels"])) != bool(row["labels"]):
                refused[position] = (
                    f"Expected one judgement of a pair, found {hypothesis[:120]!r} both entailed and not by its premise. "
                    "Remove one of the rows."
                )
    columns: dict[str, list] = {"text": [], "labels": [], "negatives": []}
    for text, own in verdicts.items():
        columns["text"].append(text)
        columns["labels"].append([hypothesis for hypothesis, holds in own.items() if holds])
        columns["negatives"].append([hypothesis for hypothesis, holds in own.items() if not holds])
    return columns, refused
