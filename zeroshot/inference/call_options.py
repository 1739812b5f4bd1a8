"""What `zeroshot predict` says beside texts: the options of a call, as words of the command line."""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from ..data.reading import parse_json, read_text
from ..models.candidates_zeroshot import CandidateLabels, read_candidates
from ..models.options_zeroshot import CALIBRATED, CHOICES, read_options
from ..models.precision_zeroshot import Precision


def add_call_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that [`read_call_options`] reads."""
    parser.add_argument("--multi_label", action="store_true", help="judge labels one by one")
    parser.add_argument(
        "--template",
        nargs="+",
        metavar="WORDING",
        help="wording of a label with one {}, or several that are averaged (default: the checkpoint's own)",
    )
    parser.add_argument(
        "--threshold", help=f"adds the decision: a score from 0 to 1, '{CALIBRATED}', or JSON with one for each label"
    )
    parser.add_argument("--calibrated", action="store_true", help="scores as zeroshot calibrate left them in the checkpoint")
    parser.add_argument("--none_label", help="decided for where no label reaches the threshold")
    parser.add_argument("--top_k", type=int, help="labels of each text (default: all)")
    parser.add_argument(
        "--overflow", choices=CHOICES["overflow"], help="what becomes of texts that are too long (default: split)"
    )
    parser.add_argument(
        "--overflow_pooling", choices=CHOICES["overflow_pooling"], help="how their parts become one score (default: max)"
    )
    parser.add_argument(
        "--phrasing_reduction",
        choices=CHOICES["phrasing_reduction"],
        help="how the phrasings of a label become one score (default: max)",
    )
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
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="of matrix products; auto: bf16 where the hardware has it (default: fp32)",
    )


def _read_threshold(word: str) -> Any:
    if word == CALIBRATED:
        return word
    try:
        return json.loads(word)
    except ValueError:
        return word  # the check of the options says what is expected


def read_call_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the call that were given, for `model.predict(texts, labels, **options)`; all are such as JSON can hold.

    Raises:
        TypeError: If one is of another type.
        ValueError: If one has a value that it cannot have.
    """
    options = {
        "multi_label": arguments.multi_label or None,
        "hypothesis_template": arguments.template,
        "phrasing_reduction": arguments.phrasing_reduction,
        "threshold": None if arguments.threshold is None else _read_threshold(arguments.threshold),
        "calibrated": arguments.calibrated or None,
        "none_label": arguments.none_label,
        "top_k": arguments.top_k,
        "overflow": arguments.overflow,
        "overflow_pooling": arguments.overflow_pooling,
        "pairwise": arguments.pairwise or None,
        "explain": arguments.explain,
        "return_embeddings": arguments.return_embeddings or None,
        "return_hierarchical": arguments.return_hierarchical or None,
        "precision": arguments.precision,
    }
    given = {name: value for name, value in options.items() if value is not None}
    read_options(given)
    return given


def read_labels_file(path: Path) -> CandidateLabels:
    """Labels from a JSON file: a list of names, or an object with descriptions, phrasings or a hierarchy.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If it holds something that is no label.
        ValueError: If it is not JSON, or its labels are not valid.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of labels, found no file {str(path)!r}. Check the path.")
    try:
        labels = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {str(path)!r}, found {error}. Write a list of names.") from error
    if not isinstance(labels, list | dict):
        raise ValueError(
            f"Expected a list or an object of labels in {str(path)!r}, found {type(labels).__name__}. Write a list of "
            'names, or {"name": "description"}.'
        )
    try:
        read_candidates(labels)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Labels of {str(path)!r}: {error}") from error
    return labels
