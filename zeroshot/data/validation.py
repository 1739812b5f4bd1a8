"""From raw rows to rows that can be trained on or measured with; what is refused is listed with its reason."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from datasets import Dataset, Features, List, Value
from transformers.utils import logging

from ..json_text import name_json_type, parse_json, read_text
from .nli import holds_pairs, merge_premises, read_pair
from .reading import read_raw_rows, resolve_path

logger = logging.get_logger(__name__)

ROW_FEATURES = Features(
    {
        "text": Value("string"),
        "labels": List(Value("string")),
        "negatives": List(Value("string")),
    }
)


class Row(TypedDict):
    """A valid row."""

    text: str
    labels: list[str]  # every label that holds
    negatives: list[str]  # labels known not to hold; may be empty


class RejectedRow(TypedDict):
    """A refused row, as it goes into the file of rejected rows."""

    source: str
    row: int
    problem: str
    content: str


@dataclass
class Source:
    """The valid rows of one file or Hub data set.

    Args:
        name: What the user called it.
        rows: Columns of [`Row`].
        candidate_labels: The closed set from which every row was labelled in full, so that a label a row does not have
            does not hold; None where rows were labelled freely.
        rejected: The refused rows with reasons.
        labels_are_sentences: Whether the labels are hypotheses, around which no template is put.
        numbers: Line or position of each row where it was read, of joined rows that of the first; empty where the rows were
            made in memory or are a selection.
    """

    name: str
    rows: Dataset
    candidate_labels: list[str] | None = None
    rejected: list[RejectedRow] = field(default_factory=list)
    labels_are_sentences: bool = False
    numbers: list[int] = field(default_factory=list)


def show_value(value: Any) -> str:
    """A value as it is quoted in a message: type and content of other things than strings, never more than a line."""
    if value is None:
        return "null"
    shown = repr(value) if isinstance(value, str) else f"{name_json_type(value)} {value!r}"
    return shown if len(shown) <= 120 else f"{shown[:120]}..."


def show_fields(content: dict) -> str:
    """The names of the first fields of a row."""
    names = ", ".join(list(content)[:10]) or "no field"
    return names[:200] + (f" and {len(content) - 10} more" if len(content) > 10 else "")


def check_label_list(value: Any, name: str) -> list[str]:
    """Return `value` if it is a list of distinct names; `name` says in a message where it stands."""
    if isinstance(value, str):
        mend = f"[{json.dumps(value, ensure_ascii=False)}]" if len(value) <= 60 else '["name", ...]'
        raise ValueError(f"Expected {name!r} to be a list of names, found the string {show_value(value)}. Write {mend}.")
    if not isinstance(value, list):
        found = name_json_type(value)
        raise ValueError(f'Expected {name!r} to be a list of names, found {found}. Write ["name", ...].')
    for label in value:
        if not isinstance(label, str):
            found = show_value(label)
            raise ValueError(f"Expected names in {name!r}, found {found}. Write label names.")
        if not label.strip():
            raise ValueError(f"Expected names in {name!r}, found the empty name {label!r}. Leave it out.")
    repeated = [label for label, count in Counter(value).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Expected distinct names in {name!r}, found {show_value(repeated[0])} more than once. Keep one of them."
        )
    return value


def _check_text(content: dict) -> str:
    if "text" not in content:
        raise ValueError(f"Expected a field 'text', found {show_fields(content)}. Name the field of the text 'text'.")
    text = content["text"]
    if not isinstance(text, str):
        raise ValueError(f"Expected 'text' to be a string, found {show_value(text)}. Put it in quotes.")
    if not text.strip():
        raise ValueError(f"Expected 'text' to hold words, found {show_value(text)}. Leave the row out.")
    return text


def check_unicode(*texts: str) -> None:
    """Refuse what UTF-8 cannot say."""
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Expected valid Unicode, found half a surrogate pair ({error.reason}). Write the row anew."
        ) from error


def validate_row(content: Any, *, keep_unlabelled: bool = False) -> Row:
    """Check one row.

    Args:
        content: `{"text", "labels"}` and maybe `negatives`; or GLiClass's `{"text", "all_labels", "true_labels"}`.
        keep_unlabelled: Whether a row without labels (out of scope) is valid.

    Raises:
        ValueError: In three parts: what was expected, what was found, how to mend it.
    """
    if not isinstance(content, dict):
        raise ValueError(
            f'Expected an object with "text" and "labels", found {name_json_type(content)}. Write {{"text": ...}}.'
        )
    text = _check_text(content)
    if content.get("true_labels") and content.get("labels"):
        raise ValueError("Expected 'labels' or 'true_labels', found both. Keep the one that holds.")
    if content.get("true_labels") is not None and not content.get("labels"):
        labels = check_label_list(content["true_labels"], "true_labels")
        candidates = check_label_list([] if content.get("all_labels") is None else content["all_labels"], "all_labels")
        negatives = [label for label in candidates if label not in labels]
    else:
        if "labels" not in content:
            raise ValueError(f'Expected a field \'labels\', found {show_fields(content)}. Add "labels": ["name", ...].')
        labels = check_label_list(content["labels"], "labels")
        negatives = check_label_list([] if content.get("negatives") is None else content["negatives"], "negatives")
    if not labels and not keep_unlabelled:
        raise ValueError("Expected at least one label, found none. Label the row or leave it out.")
    both = [label for label in labels if label in negatives]
    if both:
        raise ValueError(
            f"Expected labels and negatives to differ, found {show_value(both[0])} in both. Remove it from one."
        )
    check_unicode(text, *labels, *negatives)
    return {"text": text, "labels": labels, "negatives": negatives}


def _read_row(content: str, keep_unlabelled: bool, known: frozenset[str] | None, pairs: bool) -> Row:
    """Parse and check the JSON text of a row.

    Args:
        content: The text.
        keep_unlabelled: See [`validate_row`].
        known: The closed set that its labels must be from, if there is one.
        pairs: Whether it is a pair of NLI.
    """
    try:
        parsed = parse_json(content)
    except ValueError as error:
        raise ValueError(f"Expected JSON, found {error}. Write the line anew; it may be half written.") from error
    row = (
        validate_row(read_pair(parsed), keep_unlabelled=True)
        if pairs
        else validate_row(parsed, keep_unlabelled=keep_unlabelled)
    )
    unknown = [label for label in row["labels"] + row["negatives"] if known is not None and label not in known]
    if unknown:
        raise ValueError(
            f"Expected one of the {len(known or ())} names in labels.json, found {show_value(unknown[0])}. "
            "Add it or mend the row."
        )
    return row


def _validate_batch(batch: dict, keep_unlabelled: bool, candidate_labels: list[str] | None, pairs: bool) -> dict:
    """The `map` over raw rows: valid rows get their columns, refused ones their `problem`."""
    known = None if candidate_labels is None else frozenset(candidate_labels)
    output: dict[str, list] = {"text": [], "labels": [], "negatives": [], "problem": []}
    for content, read_problem in zip(batch["content"], batch["problem"], strict=True):
        row: Row = {"text": "", "labels": [], "negatives": []}
        problem = read_problem
        if problem is None:
            try:
                row = _read_row(content, keep_unlabelled, known, pairs)
            except ValueError as error:
                problem = str(error).encode("utf-8", "backslashreplace").decode("utf-8")
        for name, value in row.items():
            output[name].append(value)
        output["problem"].append(problem)
    return output


def read_label_file(file: Path) -> list[str]:
    """Read a JSON list of label names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a list of distinct names.
    """
    if not file.is_file():
        raise FileNotFoundError(f"Expected a file with a JSON list of names, found none at {str(file)!r}. Check the path.")
    try:
        names = parse_json(read_text(file))
    except ValueError as error:
        raise ValueError(
            f"Expected a JSON list of names in {str(file)!r}, found {error}. Write it anew, in UTF-8."
        ) from error
    try:
        names = check_label_list(names, file.name)
        check_unicode(*names)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if not names:
        raise ValueError(f"Expected names in {str(file)!r}, found none. Write the names, or remove the file.")
    return names


def read_label_set(source: str) -> list[str] | None:
    """Read `labels.json` beside a file: the closed set of labels from which all its rows were labelled in full.

    Returns:
        The names, or None where there is no such file.

    Raises:
        ValueError: If it is not a list of distinct names.
    """
    path = resolve_path(source)
    if path is None or not (path.parent / "labels.json").is_file():
        return None
    return read_label_file(path.parent / "labels.json")


def _list_rejected(source: str, table: Dataset, problems: list[str | None]) -> list[RejectedRow]:
    """The refused rows of a table, with the most frequent reasons in the log.

    Raises:
        ValueError: If all were refused.
    """
    bad = [position for position, problem in enumerate(problems) if problem is not None]
    rejected: list[RejectedRow] = [
        {"source": source, "row": row["row"], "problem": str(problems[position]), "content": row["content"]}
        for position, row in zip(bad, table.select(bad), strict=True)
    ]
    if rejected:
        reasons = "; ".join(
            f"{count} x {reason}" for reason, count in Counter(r["problem"] for r in rejected).most_common(3)
        )
        first = f"row {rejected[0]['row']}"
        if len(rejected) == len(problems):
            raise ValueError(f"Expected valid rows in {source!r}, found none in {len(rejected)} (first {first}): {reasons}")
        logger.warning(f"{source}: {len(rejected)} of {len(problems)} rows refused (first {first}): {reasons}")
    return rejected


def load_source(source: str, *, keep_unlabelled: bool = False) -> Source:
    """Read and validate a source; good rows are never lost to bad ones.

    Args:
        source: See [`read_raw_rows`]. Rows of NLI (`premise`, `hypothesis`, `label`) become rows of their premises, with
            the hypotheses that are entailed as labels and the others as negatives; those without a label are kept, and
            `labels.json`, which names the three classes, does not count.
        keep_unlabelled: Whether rows without labels (out of scope) are valid.

    Returns:
        The valid rows, the closed label set if `labels.json` lies beside the file, and the refused rows.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If no row is valid; the message shows the most frequent reasons.
    """
    raw = read_raw_rows(source)
    pairs = holds_pairs(raw["content"])
    candidate_labels = None if pairs else read_label_set(source)
    table = raw.map(
        _validate_batch,
        batched=True,
        fn_kwargs={"keep_unlabelled": keep_unlabelled, "candidate_labels": candidate_labels, "pairs": pairs},
        features=Features({"row": Value("int64"), "content": Value("string"), "problem": Value("string"), **ROW_FEATURES}),
        desc=f"Validating {source}",
    )
    problems = table["problem"][:]
    good = [position for position, problem in enumerate(problems) if problem is None]
    rows = table.select(good).remove_columns(["row", "content", "problem"])
    numbers: list[int] = table.select(good)["row"][:]
    if pairs:
        firsts: dict[str, int] = {}
        for text, number in zip(rows["text"], numbers, strict=True):
            firsts.setdefault(text, number)
        numbers = list(firsts.values())
        columns, refused = merge_premises(rows)
        rows = Dataset.from_dict(columns, features=ROW_FEATURES)
        for position, problem in refused.items():
            problems[good[position]] = problem
    rejected = _list_rejected(source, table, problems)
    return Source(source, rows, candidate_labels, rejected, labels_are_sentences=pairs, numbers=numbers)


def write_rejected_rows(sources: list[Source], path: Path) -> int:
    """Write all refused rows as JSON Lines, replacing the file of an earlier run; no file where there are none.

    Returns:
        How many there are.
    """
    rejected = [row for source in sources for row in source.rejected]
    if rejected:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rejected), encoding="utf-8")
        logger.warning(f"{len(rejected)} refused rows are listed with their reasons in {path}")
    else:
        path.unlink(missing_ok=True)
    return len(rejected)
