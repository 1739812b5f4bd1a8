"""Folders of encoded rows: whole or not there, and known to belong to one model."""

import copy
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..data.reading import parse_json, read_text
from ..models import ZeroShotPreTrainedModel
from .exported import ExportedEncoder, load_checkpoint_or_export

FORMAT = 1
CHUNK = 2**20  # bytes that are read at a time
# What tells where a configuration was loaded from or which version wrote it, and changes no vector.
PASSING_FIELDS = {"_name_or_path", "architectures", "auto_map", "dtype", "transformers_version", "class_templates"}

Fingerprint = dict[str, str]  # by part


def _digest_configuration(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {name: _digest_configuration(value) for name, value in content.items() if name not in PASSING_FIELDS}


def _describe_tokenizer(tokenizer) -> str:
    if not tokenizer.is_fast:
        return json.dumps([tokenizer.get_vocab(), tokenizer.init_kwargs], sort_keys=True, default=str)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_padding()  # both are left over from earlier calls, ours set them anew each time
    backend.no_truncation()
    return backend.to_str()


def fingerprint_strings(strings: Iterable[str]) -> str:
    """SHA-256 of strings in their order."""
    digest = hashlib.sha256()
    for string in strings:
        digest.update(json.dumps(string).encode() + b"\n")
    return digest.hexdigest()


def _digest_weights(model: ZeroShotPreTrainedModel) -> str:
    digest = hashlib.sha256()
    if isinstance(model.encoder, ExportedEncoder):
        digest.update(model.encoder.precision.encode())
        for path in model.encoder.files:
            digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint_model(model: ZeroShotPreTrainedModel) -> Fingerprint:
    """What a vector depends on, as SHA-256 by part: weights (files of an export), tokenizer, templates, configuration."""
    # A calibration changes no vector: the configuration counts as if there were none.
    content = {**model.config.to_dict(), "calibration": None}
    configuration = json.dumps(_digest_configuration(content), sort_keys=True, default=str)
    return {
        "weights": _digest_weights(model),
        "tokenizer": fingerprint_strings([_describe_tokenizer(model._require_tokenizer())]),
        "templates": fingerprint_strings(model.config.class_templates),
        "configuration": fingerprint_strings([configuration]),
    }


def fingerprint_scores(model: ZeroShotPreTrainedModel) -> Fingerprint:
    """What a score depends on: what a vector does, and the calibration."""
    calibration = json.dumps(model.config.calibration, sort_keys=True)
    return {**fingerprint_model(model), "calibration": fingerprint_strings([calibration])}


def check_fingerprint(stored: Fingerprint, found: Fingerprint) -> None:
    """Refuse what was encoded in another way.

    Raises:
        ValueError: With the parts that have changed.
    """
    changed = [part for part in found if stored.get(part) != found[part]]
    if changed:
        raise ValueError(
            f"Expected the model and the rows that the index was built from, found that its {' and '.join(changed)} changed "
            "since. Build the index anew, or bring back what it was built from."
        )


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give the name of a file that takes the place of `path` if all goes well; who has the old one mapped keeps it."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one step."""
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path, kind: type) -> Any:
    """Read JSON.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds something else than a `kind`.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the folder of an index, found no file {str(path)!r}. Check the path; where saving was interrupted, "
            "build the index anew."
        )
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {str(path)!r}, found {error}. Build the index anew.") from error
    if not isinstance(content, kind):
        raise ValueError(
            f"Expected a {kind.__name__} in {str(path)!r}, found a {type(content).__name__}. Build the index anew."
        )
    return content


def read_settings(path: Path) -> dict[str, Any]:
    """Read the file that is written last.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or of another version.
    """
    settings = read_json(path, dict)
    if settings.get("format") != FORMAT:
        raise ValueError(
            f"Expected format {FORMAT} in {str(path)!r}, found {settings.get('format')!r}. Build the index anew with this "
            "version of zeroshot, or use the version that wrote it."
        )
    missing = [key for key in ("fingerprint", "exact_limit", "trained_on") if key not in settings]
    if missing:
        raise ValueError(f"Expected {missing[0]!r} in {str(path)!r}, found nothing under that name. Build the index anew.")
    return settings


def describe_source(model: ZeroShotPreTrainedModel, folder: Path) -> dict[str, str]:
    """Where a model was loaded from: a folder as seen from `folder`, so that both can move together, or its Hub id."""
    source = model.name_or_path
    if not source:
        return {}
    return {"model_folder": os.path.relpath(source, folder)} if Path(source).is_dir() else {"model": source}


def load_source_model(settings: dict[str, Any], folder: Path) -> ZeroShotPreTrainedModel:
    """Load the model that [`describe_source`] described.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If nothing is known of it.
    """
    if "model_folder" in settings:
        return load_checkpoint_or_export(str((folder / settings["model_folder"]).resolve()))
    if "model" not in settings:
        raise ValueError(
            f"Expected the name of a model in the index {str(folder)!r}, found none: it was built with one that was never "
            "saved. Pass the model."
        )
    return load_checkpoint_or_export(settings["model"])
