"""Serves the model of this folder on Inference Endpoints, whose server calls an `EndpointHandler` for each request.

Request: `{"inputs": "text" or ["text", ...], "parameters": {"candidate_labels": ["a", "b"] or "a,b"}}`. Further parameters:
`multi_label` (bool, default false: the scores of a text share 1), `hypothesis_template` (a wording with one `{}`; the
model's own when left out).

Response: `[{"label": "a", "score": 0.98}, ...]` by falling score for one text; a list of these, in order, for a list.

Limits of a request: `MAX_TEXTS` texts, `MAX_LABELS` labels, `MAX_PAIRS` pairs of them, `MAX_CHARACTERS` characters a string,
and the model's own limit of tokens. What is beyond is refused and never cut. Raise them here, in the model's repository,
for a machine that can take more.
"""

import json
import threading
from pathlib import Path
from typing import Any

from transformers import pipeline

MAX_TEXTS = 256
MAX_LABELS = 1_000
MAX_CHARACTERS = 100_000
MAX_PAIRS = 20_000
BATCH_SIZE = 32
PARAMETERS = ("candidate_labels", "multi_label", "hypothesis_template")
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


def read_labels(parameters: dict[str, Any]) -> list[str]:
    """The candidate labels of a request; a string is split at its commas, as the pipeline does.

    Raises:
        ValueError: If they are missing, not strings, or beyond the limits.
    """
    labels = parameters.get("candidate_labels")
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    if not isinstance(labels, list) or not labels:
        raise ValueError(
            f"Expected candidate_labels as a list of names or one string with commas, found {_name_type(labels)}. "
            'Send "parameters": {"candidate_labels": ["sports", "politics"]}.'
        )
    return _check_strings(labels, "candidate label", MAX_LABELS)


def read_options(parameters: dict[str, Any]) -> dict[str, Any]:
    """What else the pipeline takes; null stands for the default, as clients send it.

    Raises:
        ValueError: If one is of another type.
    """
    options: dict[str, Any] = {}
    for name, kind, word in (("multi_label", bool, "true or false"), ("hypothesis_template", str, "a string")):
        value = parameters.get(name)
        if value is None:
            continue
        if not isinstance(value, kind):
            raise ValueError(f"Expected {name} to be {word}, found {_name_type(value)}. Mend it or leave it out.")
        options[name] = value
    _check_strings([options["hypothesis_template"]] if "hypothesis_template" in options else [], "template", 1)
    return options


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
        self._lock = threading.Lock()  # the server calls from several threads, the pipeline remembers one set of labels

    def __call__(self, data: dict[str, Any]) -> list[Any]:
        """Answer a request; both formats are described at the top of this file.

        Raises:
            ValueError: If something is missing, unknown, of a wrong type, empty, repeated or beyond a limit. The server
                sends the message to the caller, with status 400.
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
        if len(texts) * len(labels) > MAX_PAIRS:
            raise ValueError(
                f"Expected at most {MAX_PAIRS} pairs of a text and a label in a request, found {len(texts)} x "
                f"{len(labels)}. Send several requests."
            )
        self._check_lengths(texts, labels, options.get("hypothesis_template"))
        with self._lock:
            results = self.classifier(texts, candidate_labels=labels, batch_size=BATCH_SIZE, **options)
        answers = [
            [{"label": label, "score": score} for label, score in zip(result["labels"], result["scores"], strict=True)]
            for result in results
        ]
        return answers[0] if isinstance(data["inputs"], str) else answers

    def _check_lengths(self, texts: list[str], labels: list[str], template: str | None) -> None:
        """Refuse texts that the pipeline would cut with a warning, which the sender of a request would not see."""
        config, tokenizer = self.classifier.model.config, self.classifier.tokenizer
        room, beside = config.max_tokens, ""
        if "pair_layout" in config.to_dict():  # text and label are one sequence there
            templates = config.class_templates if template is None else [template.replace("{0}", "{}")]
            worded = [template.replace("{}", label) for label in labels for template in templates]
            room -= max(len(ids) for ids in tokenizer(worded, add_special_tokens=False, verbose=False)["input_ids"])
            room -= tokenizer.num_special_tokens_to_add(pair=True) - tokenizer.num_special_tokens_to_add(pair=False)
            beside = " beside the longest label"
        for position, ids in enumerate(tokenizer(texts, verbose=False)["input_ids"]):
            if len(ids) > room:
                raise ValueError(
                    f"Expected texts of at most {room} tokens{beside}, found {len(ids)} at position {position}. Shorten it, "
                    "or send its parts as several inputs."
                )
