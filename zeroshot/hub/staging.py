"""What of a checkpoint's folder is published: a list of what may go, never one of what may not.

Training leaves much beside a model that is nobody's business: optimiser and generator states (pickles), settings with paths,
logs, whatever a user put there. So files are taken by name, and code by following the imports of the files that config.json
names.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

CONFIG, CARD, INDEX = "config.json", "README.md", "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", INDEX)
TOKENIZER = tuple(
    """
    tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt vocab.json merges.txt
    spiece.model sentencepiece.bpe.model tokenizer.model
    """.split()  # noqa: SIM905 - one word a line would hide what they have in common
)
MEASUREMENTS = (
    *("calibration.json", "training_curve.png", "training_log.csv"),
    *("evaluation/*.json", "evaluation/*.png", "evaluation/*.csv"),
)
# Of an earlier push, these would contradict the new model where it has no file of the name.
REPLACED = (*WEIGHTS, *TOKENIZER, *MEASUREMENTS)
READ_BY_CARD = ("*.json", "*.csv", "*.png", "*.md", "*.py", "*.txt", "*.model", "evaluation/*")
LOCAL_PATH = re.compile(r"(?:~?/|(?:\.\./)+|[A-Za-z]:\\)\w\S*")


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path in a repository, with `/`, fits one of the patterns; `*` stays within a folder."""
    return any(path.count("/") == one.count("/") and fnmatchcase(path, one) for one in patterns)


def list_files(folder: Path, patterns: Iterable[str]) -> list[str]:
    """The files of a folder that fit a pattern, as paths in a repository; none through a link out of the folder."""
    root = folder.resolve()
    paths = sorted(path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.resolve().is_relative_to(root))
    names = [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return [name for name in names if matches(name, patterns)]


def check_checkpoint(folder: Path) -> dict[str, Any]:
    """The configuration of one of our checkpoints.

    Raises:
        FileNotFoundError: If the folder is none.
        ValueError: If its configuration cannot be read.
    """
    if not folder.is_dir() or not (folder / CONFIG).is_file():
        inside = sorted(folder.glob("checkpoint-*"))
        hint = f" Inside is {inside[-1].name}; the run did not end." if inside else ""
        found = f"no {CONFIG} in {str(folder)!r}" if folder.is_dir() else f"no folder {str(folder)!r}"
        raise FileNotFoundError(
            f"Expected the folder of a checkpoint, found {found}.{hint} Name the output_dir of a finished run."
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {str(folder / CONFIG)!r}, found {error}. Copy the checkpoint anew.") from error
    if not isinstance(config, dict) or not str(config.get("model_type")).startswith("zeroshot-"):
        kind = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        raise ValueError(
            f"Expected a zero-shot checkpoint, found a model of type {kind!r} in {str(folder)!r}. "
            "This command publishes what train.py made."
        )
    if not list_files(folder, WEIGHTS):
        raise FileNotFoundError(
            f"Expected weights (model.safetensors) in {str(folder)!r}, found none. Name the output_dir of a finished run."
        )
    return config


def list_code(folder: Path, config: dict[str, Any]) -> list[str]:
    """The code files that a checkpoint needs: those that its configuration names, and what they import of their kind.

    Raises:
        FileNotFoundError: If one is not there.
    """
    references = [*config.get("auto_map", {}).values()]
    references += [one["impl"] for one in config.get("custom_pipelines", {}).values()]
    files: set[Path] = set()
    for reference in references:
        entry = folder / f"{reference.split('.')[0]}.py"
        missing = [entry] if not entry.is_file() else []
        try:
            found = [] if missing else [entry, *map(Path, get_relative_import_files(entry))]
        except FileNotFoundError as error:
            missing, found = [Path(str(error.filename))], []
        except UnicodeDecodeError:
            found = [entry]  # no code at all; the check of the staged files says so
        missing += [one for one in found if not one.is_file()]
        if missing:
            raise FileNotFoundError(
                f"Expected the model's code beside its weights, found no {missing[0].name} in {str(folder)!r}. "
                "Load the model with this package and save it anew."
            )
        files.update(found)
    return sorted(path.name for path in files)


def link_file(source: Path, target: Path) -> None:
    """Give a large file a second name, or copy it where that cannot be: the first name may go while it is uploaded."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def copy_view(folder: Path, view: Path) -> None:
    """Copy what a card is written from, so that whatever its writer leaves there, the checkpoint stays as it is."""
    for name in list_files(folder, READ_BY_CARD):
        (view / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, view / name)
    for name in list_files(folder, ("*.safetensors",)):
        link_file(folder / name, view / name)


def _hide_paths(content: Any, key: str = "") -> Any:
    if isinstance(content, dict):
        return {name: _hide_paths(value, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_hide_paths(value, key) for value in content]
    if not isinstance(content, str):
        return content
    if key == "command":
        return shlex.join(_hide_paths(word) for word in shlex.split(content))
    return re.split(r"[/\\]", content.rstrip("/\\"))[-1] if LOCAL_PATH.fullmatch(content) else content


def hide_paths(text: str) -> str:
    """JSON of a measurement without local paths: of each, and of those in the `command`, the last part.

    Example:
        >>> hide_paths('{"command": "zeroshot evaluate /data/me/model --suite ../sets"}')
        '{\\n  "command": "zeroshot evaluate model --suite sets"\\n}\\n'
    """
    return json.dumps(_hide_paths(json.loads(text)), indent=2, ensure_ascii=False) + "\n"


def stage_model(folder: Path, staged: Path) -> None:
    """Put into an empty folder exactly what will be uploaded, but for the card.

    Measurements lose their local paths; everything else is there byte by byte.

    Raises:
        FileNotFoundError: If a part of the checkpoint is not there.
        ValueError: If its configuration cannot be read.
    """
    config = check_checkpoint(folder)
    for name in list_files(folder, WEIGHTS):
        link_file(folder / name, staged / name)
    for name in (CONFIG, *list_code(folder, config), *list_files(folder, (*TOKENIZER, *MEASUREMENTS))):
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        if not matches(name, ("evaluation/*.json", "calibration.json")):
            shutil.copyfile(folder / name, staged / name)
            continue
        try:
            (staged / name).write_text(hide_paths((folder / name).read_text(encoding="utf-8")), encoding="utf-8")
        except ValueError:  # no JSON; the check of the staged files says so
            shutil.copyfile(folder / name, staged / name)
