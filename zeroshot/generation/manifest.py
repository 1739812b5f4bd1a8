"""`manifest.json`: what the rows came from, and what an interrupted run needs to go on."""

import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from ..files import write_json
from ..version import __version__
from .arguments import WITHOUT_EFFECT, ApiName, GenerationArguments
from .prompts import hash_prompts
from .secrets import hide_user

FILE = "manifest.json"


class BatchEntry(TypedDict):
    """A batch that was begun and not yet read."""

    file: str  # id of the uploaded file
    id: str | None  # id of the batch; None between upload and creation
    api: ApiName


class Manifest(TypedDict):
    """All that is known of a run; no part of it is secret."""

    zeroshot_version: str
    created: str  # UTC
    updated: str
    finished: bool
    model: str
    base_url: str | None  # None: OpenAI's
    api: ApiName | None  # the way of asking that the server took
    prompt_sha256: str
    pool_sha256: str | None
    settings: dict[str, Any]  # on which the rows depend
    parameters: dict[str, Any]  # the others
    counts: dict[str, int]
    tokens: dict[str, int]
    cost: float | None  # USD; None without prices
    pending_batch: BatchEntry | None


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def hash_pool(pool: Any) -> str:
    """SHA-256 of a pool."""
    return hashlib.sha256(json.dumps(pool, sort_keys=True).encode()).hexdigest()


def name_model(model: str) -> str:
    """A model as it is published: of a path on this machine, as llama.cpp's server calls its models, the last part.

    Example:
        >>> name_model("/opt/models/llama.gguf"), name_model("meta-llama/Llama-3.1-8B")
        ('llama.gguf', 'meta-llama/Llama-3.1-8B')
    """
    is_path = model.startswith(("/", "~", ".", "file:")) or "\\" in model
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1] if is_path else model


def _split_settings(arguments: GenerationArguments) -> tuple[dict[str, Any], dict[str, Any]]:
    values = {**dataclasses.asdict(arguments), "model": name_model(arguments.model)}
    if arguments.base_url:
        values["base_url"] = hide_user(arguments.base_url)
    for name in ("output_dir", "dry_run"):  # a path of this machine, and what a written manifest says by being there
        values.pop(name)
    fixed = {name: value for name, value in values.items() if name not in WITHOUT_EFFECT}
    return fixed, {name: value for name, value in values.items() if name in WITHOUT_EFFECT}


def open_manifest(folder: Path, arguments: GenerationArguments) -> Manifest:
    """The manifest of a new run, or of the run in this folder if it has the same settings.

    Raises:
        ValueError: If the folder holds a run with other settings.
    """
    settings, parameters = _split_settings(arguments)
    path = folder / FILE
    if not path.is_file():
        if (folder / "journal.jsonl").is_file():
            raise ValueError(
                f"Expected {FILE} beside the journal in {str(folder)!r}, found none. "
                "Restore it, or choose another output_dir."
            )
        return {
            "zeroshot_version": __version__,
            "created": _now(),
            "updated": _now(),
            "finished": False,
            "model": settings["model"],
            "base_url": parameters["base_url"],
            "api": None,
            "prompt_sha256": hash_prompts(),
            "pool_sha256": None,
            "settings": settings,
            "parameters": parameters,
            "counts": {},
            "tokens": {},
            "cost": None,
            "pending_batch": None,
        }
    manifest = _read_manifest(path)
    _compare(manifest["settings"], settings, folder)
    if manifest["prompt_sha256"] != hash_prompts():
        raise ValueError(
            f"Expected the prompts of the run that {str(folder)!r} holds, found those of another version of this package. "
            f"Choose another output_dir, or install zeroshot {manifest['zeroshot_version']}."
        )
    manifest["parameters"], manifest["base_url"] = parameters, parameters["base_url"]
    return manifest


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not Manifest.__annotations__.keys() <= manifest.keys():
        raise ValueError(
            f"Expected the manifest of a run in {str(path)!r}, found something else. "
            "Restore it, or choose another output_dir."
        )
    return manifest  # type: ignore[return-value]


def _compare(earlier: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    changed = [name for name in settings if settings[name] != earlier.get(name)]
    if changed:
        name = changed[0]
        raise ValueError(
            f"Expected the settings of the run that {str(folder)!r} holds, found {name} changed from "
            f"{_show(earlier.get(name))} to {_show(settings[name])}"
            + (f" (and {len(changed) - 1} more)" if len(changed) > 1 else "")
            + ". Choose another output_dir."
        )


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 120 else f"{shown[:120]}..."


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the file in one step."""
    manifest["updated"] = _now()
    write_json(folder / FILE, manifest)
