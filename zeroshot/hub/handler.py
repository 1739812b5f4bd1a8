"""Serves the model of this folder on Inference Endpoints, whose server calls an `EndpointHandler` for each request.

Request: `{"inputs": "text" or ["text", ...], "parameters": {"candidate_labels": ["a", "b"] or "a,b"}}`. Labels may also be
an object, `{"name": "description" or ["phrasing", ...] or {"label below": ...}}`. Further parameters are the options of a
call, `OPTIONS`, with the names, values and defaults that they have in the model's pipeline; null is the default.

Response: `[{"label": "a", "score": 0.98}, ...]` by falling score for one text; a list of these, in order, for a list. Where
an option adds something (a decision, an explanation, ...), the pipeline's own object instead of each of these lists:
`{"sequence": "text", "labels": ["a", ...], "scores": [0.98, ...], "decision": [...]}`.

A text that is longer than the model reads is read in windows, unless `overflow` says `error` or `truncate`.

Limits of a request: `MAX_TEXTS` texts, `MAX_LABELS` labels, `MAX_TEMPLATES` templates, `MAX_CHARACTERS` characters a string;
and for the work that they are, `MAX_PIECES` pieces of text and `MAX_PAIRS` pairs of a piece and a worded label. What is
beyond is refused and never cut. Raise them here, in the model's repository, for a machine that can take more.
"""

import json
import threading
from pathlib import Path
from typing import Any

from transformers import pipeline

MAX_TEXTS = 256
MAX_LABELS = 1_000
MAX_CHARACTERS = 100_000
MAX_TEMPLATES = 16
MAX_PIECES = 2_000
MAX_PAIRS = 20_000
CHARACTERS_OF_A_PIECE = 1_000  # about what a window of 256 tokens holds
CHARACTERS_OF_A_WORD = 4  # to explain a text the model reads it again without each of its words
BATCH_SIZE = 32
FLAGS = ("multi_label", "calibrated", "pairwise", "return_hierarchical", "return_embeddings")
OPTIONS = (
    *("hypothesis_template", "phrasing_reduction", "threshold", "label_offsets", "none_label", "top_k", "overflow"),
    *("overflow_pooling", "precision", "explain", *FLAGS),
)
PARAMETERS = ("candidate_labels", *OPTIONS)
REQUEST_FIELDS = ("inputs", "parameters", "options")  # `options` told the former Inference API to wait or to use a cache


def _name_type(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__}: {json.dumps(value, default=str)[:80]}"


def _check_fields(fields: dict[str, Any], known: tuple[str, ...], place: str) -> None:
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
        raise ValueError(f"Expected {place} among {', '.join(known)}, found {unknown!r}. Leave it out or mend its name.")


def _check_strings(strings: list[Any], kind: str, limit: int) -> list[str]:
    """Return a request's strings of one kind if they are text and within the limits."""
    if len(strings) > limit:
        raise ValueError(f"Expected at most {limit} {kind}s in a request, found {len(strings)}. Send several requests.")
    for position, string in enumerate(strings):
        if not isinstance(string, str):
            raise ValueError(
                f"Expected every {kind} to be a string, found {_name_type(string)} at position {position}. Send text."
            )
        if len(string) > MAX_CHARACTERS:
            raise ValueError(
                f"Expected {kind}s of at most {MAX_CHARACTERS} characters, found {len(string)} at position {position}. "
                "Send it in parts."
            )
        try:
            string.encode()
        except UnicodeEncodeError as error:  # JSON may hold half of an emoji, which no tokenizer takes
            raise ValueError(
                f"Expected every {kind} to be valid Unicode, found {string[error.start]!r} at position {position}. "
                "Write it anew or leave it out."
            ) from error
    return strings


def read_texts(data: dict[str, Any]) -> list[str]:
    """The texts of a request, one or many.

    Raises:
        ValueError: If they are missing, not strings, or beyond the limits.
    """
    inputs = data.get("inputs")
    if isinstance(inputs, str):
        inputs = [inputs]
    if not isinstance(inputs, list) or not inputs:
        raise ValueError(f"Expected inputs as a string or a list of strings, found {_name_type(inputs)}. Send a text.")
    return _check_strings(inputs, "text", MAX_TEXTS)


def _list_strings(value: Any) -> list[Any]:
    """What stands in a value of JSON, names of objects too, in its order."""
    if isinstance(value, dict):
        return [one for name, below in value.items() for one in (name, *_list_strings(below))]
    if isinstance(value, list):
        return [one for entry in value for one in _list_strings(entry)]
    return [] if value is None else [value]


def read_labels(parameters: dict[str, Any]) -> list[str] | dict[str, Any]:
    """The candidate labels of a request; a string is split at its commas, as the pipeline does.

    Raises:
        ValueError: If they are missing, not strings, or beyond the limits.
    """
    labels = parameters.get("candidate_labels")
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    if not isinstance(labels, list | dict) or not labels:
        raise ValueError(
            f"Expected candidate_labels as a list of names or one string with commas, found {_name_type(labels)}. "
            'Send "parameters": {"candidate_labels": ["sports", "politics"]}.'
        )
    _check_strings(_list_strings(labels) if isinstance(labels, dict) else labels, "candidate label", MAX_LABELS)
    return labels


def read_options(parameters: dict[str, Any]) -> dict[str, Any]:
    """The options of the call; null stands for the default, as clients send it. What values they may have the model says.

    Raises:
        ValueError: If one that is yes or no is something else, or a string is beyond the limits.
    """
    options = {name: parameters[name] for name in OPTIONS if parameters.get(name) is not None}
    for name in FLAGS:
        if not isinstance(options.get(name, False), bool):
            raise ValueError(
                f"Expected {name} to be true or false, found {_name_type(options[name])}. Mend it or leave it out."
            )
    templates = options.get("hypothesis_template")  # one, several, or one for each label
    most = 2 * MAX_LABELS if isinstance(templates, dict) else MAX_TEMPLATES
    _check_strings(_list_strings(templates), "template", most)
    _check_strings(_list_strings(options.get("none_label")), "none_label", 1)
    return options


def check_work(texts: list[str], labels: list[str] | dict[str, Any], options: dict[str, Any]) -> None:
    """Refuse a request that is too much at once, however short its strings are.

    A text counts once for each `CHARACTERS_OF_A_PIECE`, with `explain` for each `CHARACTERS_OF_A_WORD`; a label once for
    each name or phrasing in each template.

    Raises:
        ValueError: If there are more than `MAX_PIECES` of the one or `MAX_PAIRS` of both.
    """
    size = CHARACTERS_OF_A_WORD if options.get("explain") else CHARACTERS_OF_A_PIECE
    pieces = sum(max(1, -(-len(text) // size)) for text in texts)
    if pieces > MAX_PIECES:
        raise ValueError(
            f"Expected at most {MAX_PIECES} pieces of {size} characters in a request, found {pieces}. Send several requests."
        )
    templates = options.get("hypothesis_template")
    worded = len(_list_strings(labels)) * (len(templates) if isinstance(templates, list) else 1)
    if pieces * worded > MAX_PAIRS:
        raise ValueError(
            f"Expected at most {MAX_PAIRS} pairs of a text and a label in a request, found {pieces} x {worded}. Send "
            "several requests."
        )


def build_answer(result: dict[str, Any]) -> list[Any] | dict[str, Any]:
    """The answer for one text, from what `predict` says of it."""
    ranked = sorted(result["scores"].items(), key=lambda pair: -pair[1])
    details = {name: value for name, value in result.items() if name not in ("text", "scores")}
    if details.keys() <= {"windows"}:
        return [{"label": label, "score": score} for label, score in ranked]
    names, scores = [label for label, _ in ranked], [score for _, score in ranked]
    return {"sequence": result["text"], "labels": names, "scores": scores, **details}


class EndpointHandler:
    """Holds the model of a folder and answers requests.

    Args:
        path: The folder of the model's repository; the one that this file is in when left out.

    Raises:
        ValueError: If the folder holds no model, or one whose code lies in another repository.
    """

    def __init__(self, path: str | Path = "") -> None:
        folder = Path(path) if str(path) else Path(__file__).resolve().parent
        file = folder / "config.json"
        if not file.is_file():
            raise ValueError(f"Expected the folder of a model, found no config.json in {str(folder)!r}. Name its folder.")
        config = json.loads(file.read_text(encoding="utf-8"))
        if "--" in json.dumps([config.get("auto_map"), config.get("custom_pipelines")]):  # "user/name--module.Class"
            raise ValueError(
                "Expected a model whose code lies in its own folder, found another repository in auto_map of "
                f"{str(file)!r}. Save the model anew with its code."
            )
        # Trusting remote code is trusting this folder and no other: it is a local path, and by the check above its
        # config names no module elsewhere. Whoever could change its modules could change this file, which runs anyway.
        self.classifier = pipeline("zero-shot-classification", model=str(folder), trust_remote_code=True)
        self._lock = threading.Lock()  # the server calls from several threads, a tokenizer serves one at a time

    def __call__(self, data: dict[str, Any]) -> list[Any] | dict[str, Any]:
        """Answer a request; both formats are described at the top of this file.

        Raises:
            ValueError: If something is missing, unknown, empty, repeated or beyond a limit. The server sends the message to
                the caller, with status 400.
            TypeError: If something is of a wrong type; likewise.
        """
        if not isinstance(data, dict):
            raise ValueError(f'Expected a JSON object, found {_name_type(data)}. Send {{"inputs": ..., "parameters": ...}}.')
        _check_fields(data, REQUEST_FIELDS, "fields")
        parameters = data.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise ValueError(
                f'Expected parameters as an object, found {_name_type(parameters)}. Send {{"candidate_labels": [...]}}.'
            )
        _check_fields(parameters, PARAMETERS, "parameters")
        texts, labels, options = read_texts(data), read_labels(parameters), read_options(parameters)
        check_work(texts, labels, options)
        with self._lock:
            # Not the pipeline, which works batch by batch: positions in messages are those in the request.
            results = self.classifier.model.predict(texts, labels, batch_size=BATCH_SIZE, **options)
        answers = [build_answer(result) for result in results]
        return answers[0] if isinstance(data["inputs"], str) else answers
