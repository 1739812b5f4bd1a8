"""What `zeroshot predict` says beside texts: the options of a call, as words of the command line."""

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any, get_args

from ..json_text import name_json_type, parse_json, read_text
from ..models.candidates_zeroshot import CandidateLabels, read_candidates
from ..models.inputs_zeroshot import check_candidate_labels
from ..models.options_zeroshot import CALIBRATED, CHOICES, read_options
from ..models.precision_zeroshot import Precision

LABEL_SUFFIXES = (".txt", ".json")
FILE_ENDING = re.compile(r"\.[A-Za-z]\w{0,7}$")  # of `labels.csv`, not of `version 2.0`


def add_logit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that change logits, and their precision, which [`read_logit_options`] reads."""
    parser.add_argument("--multi_label", action="store_true", help="judge labels one by one")
    parser.add_argument(
        "--template",
        nargs="+",
        metavar="WORDING",
        help="wording of a label with one {}, or several that are averaged (default: the checkpoint's own)",
    )
    parser.add_argument(
        "--phrasing_reduction",
        choices=CHOICES["phrasing_reduction"],
        help="how the phrasings of a label become one score (default: max)",
    )
    parser.add_argument(
        "--overflow", choices=CHOICES["overflow"], help="what becomes of texts that are too long (default: split)"
    )
    parser.add_argument(
        "--overflow_pooling", choices=CHOICES["overflow_pooling"], help="how their parts become one score (default: max)"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="of matrix products; auto: bf16 where the hardware has it (default: fp32)",
    )


def add_call_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that [`read_call_options`] reads."""
    add_logit_options(parser)
    parser.add_argument(
        "--threshold", help=f"adds the decision: a score from 0 to 1, '{CALIBRATED}', or JSON with one for each label"
    )
    parser.add_argument("--calibrated", action="store_true", help="scores as zeroshot calibrate left them in the checkpoint")
    parser.add_argument("--none_label", help="decided for where no label reaches the threshold")
    parser.add_argument("--top_k", type=int, help="labels of each text (default: all)")
    parser.add_argument("--pairwise", action="store_true", help="compare labels close to the best two at a time")
    parser.add_argument(
        "--explain",
        nargs="?",
        const=1,
        type=int,
        metavar="COUNT",
        help="adds the explanation: which words speak for the best label, or for so many of the best",
    )
    parser.add_argument("--return_embeddings", action="store_true", help="adds the embedding: the text's unit vector")
    parser.add_argument(
        "--return_hierarchical", action="store_true", help="adds the hierarchy: scores in the shape of nested labels"
    )


def _read_threshold(word: str) -> Any:
    if word == CALIBRATED:
        return word
    try:
        return json.loads(word)
    except ValueError:
        return word  # the check of the options says what is expected


def _find_logit_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "multi_label": arguments.multi_label or None,
        "hypothesis_template": arguments.template,
        "phrasing_reduction": arguments.phrasing_reduction,
        "overflow": arguments.overflow,
        "overflow_pooling": arguments.overflow_pooling,
        "precision": arguments.precision,
    }


def _keep_given(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    read_options(given)
    return given


def read_logit_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of [`add_logit_options`] that were given.

    Raises:
        TypeError: If one is of another type.
        ValueError: If one has a value that it cannot have.
    """
    return _keep_given(_find_logit_options(arguments))


def read_call_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the call that were given, for `model.predict(texts, labels, **options)`; all are such as JSON can hold.

    Raises:
        TypeError: If one is of another type.
        ValueError: If one has a value that it cannot have.
    """
    options = {
        **_find_logit_options(arguments),
        "threshold": None if arguments.threshold is None else _read_threshold(arguments.threshold),
        "calibrated": arguments.calibrated or None,
        "none_label": arguments.none_label,
        "top_k": arguments.top_k,
        "pairwise": arguments.pairwise or None,
        "explain": arguments.explain,
        "return_embeddings": arguments.return_embeddings or None,
        "return_hierarchical": arguments.return_hierarchical or None,
    }
    return _keep_given(options)


def read_labels(words: str) -> CandidateLabels:
    """The labels that `--labels` names: those of a file, or names between commas.

    Raises:
        FileNotFoundError: If it names a file that is not there.
        TypeError: If the file holds something that is no label.
        ValueError: If the file has another ending or cannot be read, or its labels are not valid.
    """
    if Path(words).suffix.lower() in LABEL_SUFFIXES:
        return read_labels_file(Path(words))
    if "," not in words and (os.path.exists(words) or FILE_ENDING.search(words)):
        raise ValueError(
            f"Expected label names between commas or a file of them ({', '.join(LABEL_SUFFIXES)}), found {words!r}. Write "
            f"the file as .txt, one name a line; a label that is called so has a comma behind it: {words + ','!r}."
        )
    if not words.strip(" ,"):
        raise ValueError(
            f'Expected at least one candidate label, found none in {words!r}. Write names between commas: "sports,politics".'
        )
    return check_candidate_labels(words)


def _read_label_lines(path: Path) -> list[str]:
    return [line for line in read_text(path).replace("\r\n", "\n").split("\n") if line.strip()]


def _read_label_json(path: Path) -> CandidateLabels:
    content = read_text(path)
    try:
        labels = parse_json(content)
    except ValueError as error:
        raise ValueError(f"Expected JSON in {str(path)!r}, found {error}. Write a list of names.") from error
    if not isinstance(labels, list | dict):
        raise ValueError(
            f"Expected a list or an object of labels in {str(path)!r}, found {name_json_type(labels)}. Write a list of "
            'names, or {"name": "description"}.'
        )
    return labels


def read_labels_file(path: Path) -> CandidateLabels:
    """Labels from a file: `.txt`, one a line, blank lines aside; else JSON, a list or an object with what it says of them.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If it holds something that is no label.
        ValueError: If it cannot be read, or its labels are not valid.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of labels, found no file {str(path)!r}. Check the path.")
    one_a_line = path.suffix.lower() == ".txt"
    labels = _read_label_lines(path) if one_a_line else _read_label_json(path)
    if not labels:
        mend = "Write one a line." if one_a_line else "Write a list of names."
        raise ValueError(f"Expected labels in {str(path)!r}, found none. {mend}")
    try:
        read_candidates(labels)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Labels of {str(path)!r}: {error}") from error
    return labels
