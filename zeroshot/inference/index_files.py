"""Folders of encoded rows: whole or not there, and known to belong to one model."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..json_text import name_json_type, parse_json, read_text
from ..models import ZeroShotPreTrainedModel
from ..models.fingerprints import Fingerprint, fingerprint_model, fingerprint_strings
from .exported import ExportedEncoder, load_checkpoint_or_export

FORMAT = 1
CHUNK = 2**20  # bytes that are read at a time


def _digest_export(encoder: ExportedEncoder) -> str:
    digest = hashlib.sha256(encoder.precision.encode())
    for path in encoder.files:
        digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def fingerprint_vectors(model: ZeroShotPreTrainedModel) -> Fingerprint:
    """What a vector depends on, of a checkpoint or of an export; see [`fingerprint_model`]."""
    return fingerprint_model(model, _digest_export(model.encoder) if isinstance(model.encoder, ExportedEncoder) else None)


def fingerprint_scores(model: ZeroShotPreTrainedModel) -> Fingerprint:
    """What a score depends on: what a vector does, and the calibration."""
    calibration = json.dumps(model.config.calibration, sort_keys=True)
    return {**fingerprint_vectors(model), "calibration": fingerprint_strings([calibration])}


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


def read_json(path: Path, kind: type, *, mend: str = "Build the index anew.") -> Any:
    """Read JSON.

    Args:
        path: The file.
        kind: What it holds: list or dict.
        mend: What is to be done where it holds something else.

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
        raise ValueError(f"Expected JSON in {str(path)!r}, found {error}. {mend}") from error
    if not isinstance(content, kind):
        raise ValueError(
            f"Expected JSON of the type {name_json_type(kind())} in {str(path)!r}, found {name_json_type(content)}. {mend}"
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
            "saved. Pass the model, on the command line as --model."
        )
    return load_checkpoint_or_export(settings["model"])
