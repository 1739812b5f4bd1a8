"""A folder of rows as a data set: splits by the names of their files, declared in the card with types of their fields."""

import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard
from transformers.utils import logging

from ..json_text import parse_json
from .staging import CARD, list_files

logger = logging.get_logger(__name__)

SPLITS = ("train", "validation", "test")
SPLIT_FILES = tuple(f"{place}{split}.jsonl" for place in ("", "*/") for split in SPLITS)
BESIDE = (CARD, "labels.json", "*/labels.json", "manifest.json", "pool.json", "LICENSE")
DTYPES = {str: "string", bool: "bool", int: "int64", float: "float64"}


def declare_splits(names: list[str]) -> list[dict[str, Any]]:
    """The front matter's `configs`: one of the files beside the card, one for each folder.

    Example:
        >>> declare_splits(["test.jsonl", "train.jsonl"])[0]["data_files"][0]
        {'split': 'train', 'path': 'train.jsonl'}
    """
    folders: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda one: SPLITS.index(Path(one).stem)):
        folders.setdefault(Path(name).parent.as_posix(), []).append(name)
    return [
        {
            "config_name": "default" if folder == "." else folder,
            "data_files": [{"split": Path(file).stem, "path": file} for file in files],
        }
        for folder, files in sorted(folders.items())
    ]


def _name_type(value: Any) -> Any:
    if isinstance(value, list):
        kinds = {_name_type(item) for item in value if not isinstance(item, list | dict)} or {"string"}
        return ("list", kinds.pop()) if len(kinds) == 1 and not any(isinstance(i, list | dict) for i in value) else None
    return DTYPES.get(type(value))


def read_features(files: list[Path]) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """The types of the fields over all files.

    Returns:
        The front matter's `features`, or None where a field is neither text, number nor a list of one of these; and problems
        with rows.
    """
    types: dict[str, Any] = {}
    empty: dict[str, Any] = {}  # fields that hold nothing in some row, maybe in all
    problems = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = parse_json(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                problems.append(
                    f"Expected a JSON object in line {number} of {file.name}, found {line[:40]!r}. Mend the line."
                )
                break
            for field, value in row.items():
                if value is None or value == []:
                    empty[field] = ("list", "string") if value == [] else empty.get(field)
                    continue
                found = _name_type(value)
                known = types.setdefault(field, found)
                if known != found and {known, found} == {"int64", "float64"}:
                    types[field] = "float64"
                elif known != found:
                    problems.append(
                        f"Expected one type of {field!r} in every row, found {found} in line {number} of {file.name} and "
                        f"{known} before it. Mend the line."
                    )
                    break
    types = {**empty, **types}
    if not types or None in types.values():
        return None, problems
    features = [
        {"name": name, **({"list": kind[1]} if isinstance(kind, tuple) else {"dtype": kind})} for name, kind in types.items()
    ]
    return features, problems


def stage_rows(folder: Path, staged: Path) -> list[str]:
    """Put the files of a data set into an empty folder, with what its card lacks of splits and types.

    Returns:
        Problems with the rows.

    Raises:
        FileNotFoundError: If the folder holds no split.
        ValueError: If the card cannot be read.
    """
    splits = list_files(folder, SPLIT_FILES)
    if not splits:
        raise FileNotFoundError(
            f"Expected {', '.join(f'{split}.jsonl' for split in SPLITS)} in {str(folder)!r}, found none of them. Name the "
            "folder of the rows, and name the files after their splits."
        )
    for name in (*splits, *list_files(folder, BESIDE)):
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, staged / name)
    left = [name for name in list_files(folder, ("*.jsonl", "*/*.jsonl")) if name not in splits]
    if left:
        logger.info(f"Not published, as no split has such a name: {', '.join(left)}.")
    features, problems = read_features([folder / name for name in splits])
    text = (staged / CARD).read_text(encoding="utf-8") if (staged / CARD).is_file() else f"# {folder.resolve().name}\n"
    try:
        card = DatasetCard(text)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(
            f"Expected YAML between two lines --- at the top of {CARD}, found {str(error).strip()!r}. Mend that line."
        ) from error
    data = card.data.to_dict()
    if not data.get("license"):
        card.data["license"] = "unknown"
        logger.warning(f"The licence of the rows is not stated: write license: NAME into the front matter of {CARD}.")
    if not data.get("configs"):
        card.data["configs"] = declare_splits(splits)
    if not data.get("dataset_info") and features is not None:
        names = [one["config_name"] for one in card.data["configs"]]
        infos = [{"config_name": name, "features": features} for name in names]
        card.data["dataset_info"] = infos if len(infos) > 1 else {"features": features}
    (staged / CARD).write_text(str(card), encoding="utf-8")
    return problems
