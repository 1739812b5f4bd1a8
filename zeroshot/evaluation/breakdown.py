"""Results by the values of a field of the rows: whom a text is about, which kind of test it is, where it comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import EvaluationSet
from ..data.reading import iterate_raw_rows
from ..json_text import parse_json, to_json
from .metrics import METRICS

# field -> value -> metrics, and `n` rows
Breakdown = dict[str, dict[str, dict[str, float]]]
ABSENT = "(none)"


def _name_value(value: Any) -> str:
    if value is None or value in ("", []):
        return ABSENT
    return value if isinstance(value, str) else to_json(value)


def read_groups(file: Path, numbers: Sequence[int], fields: Sequence[str]) -> dict[str, list[str]]:
    """Read fields of rows that validation does not keep.

    Args:
        file: The file of rows.
        numbers: Lines or positions of B rows that are valid.
        fields: Names of fields.

    Returns:
        B values by field, without the fields that no row has.
    """
    wanted = set(numbers)
    rows = {raw["row"]: parse_json(raw["content"]) for raw in iterate_raw_rows(file) if raw["row"] in wanted}
    present = [name for name in fields if any(name in row for row in rows.values())]
    return {name: [_name_value(rows[number].get(name)) for number in numbers] for name in present}


def check_fields(sets: Mapping[str, EvaluationSet], fields: Sequence[str]) -> None:
    """Refuse a field that no set has.

    Raises:
        ValueError: If there is such a one.
    """
    for name in fields:
        if not any(name in one.groups for one in sets.values()):
            raise ValueError(
                f"Expected --by to name a field of the rows, found {name!r}, which no row of {', '.join(sets)} has. "
                "Look at a line of test.jsonl for the names."
            )


def break_down(scores: np.ndarray, one: EvaluationSet) -> Breakdown:
    """All metrics over the rows of each value, values in the order of their names.

    Args:
        scores: (B, N), higher is more likely.
        one: The set, with `groups`.
    """
    result: Breakdown = {}
    for name, values in one.groups.items():
        column = np.array(values)
        result[name] = {}
        for value in sorted(set(values)):
            chosen = column == value
            figures = {key: metric(scores[chosen], one.targets[chosen]) for key, metric in METRICS.items()}
            result[name][value] = {**figures, "n": int(chosen.sum())}
    return result
