"""What must hold before files are uploaded. Each check returns problems in three parts, so that all are told at once."""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from .leaks import PERSONAL, SECRETS, find_leaks, list_known_secrets
from .staging import CARD, CONFIG, LOCAL_PATH, TOKENIZER

CARD_KEYS = ("library_name", "pipeline_tag", "license")
VOCABULARIES = tuple(name for name in TOKENIZER if name not in ("tokenizer_config.json", "special_tokens_map.json"))
PNG = b"\x89PNG\r\n\x1a\n"
ZIP = b"PK\x03\x04"


def list_staged(staged: Path) -> dict[str, Path]:
    """Every file below a folder, by its path in the repository."""
    return {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}


def raise_problems(problems: Sequence[str], what: str) -> None:
    """End with all problems at once, if there are any.

    Raises:
        ValueError: Whose text lists them.
    """
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ValueError(f"Expected {what} fit to be published, found {count}; nothing was sent. Mend each:\n{listed}")


def _read_safetensors_header(file: Path) -> str | None:
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if not 2 <= size <= min(file.stat().st_size - 8, 100_000_000):
            return None
        header = stream.read(size)
    try:
        return header.decode() if isinstance(json.loads(header), dict) else None
    except ValueError:
        return None


def _find_pickle(start: bytes) -> str:
    if start[:4] == ZIP:
        return "a zip file, as torch.save writes"
    return "a pickle" if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" else "something else"


def read_text(name: str, file: Path) -> tuple[str, str | None]:
    """The text of a file, and what is wrong with its kind.

    A name says nothing of the content: pickles run code when they are loaded, whatever they are called. So each kind of file
    that may be published is recognised by what it must be, and what is not recognised is refused.
    """
    with file.open("rb") as stream:
        start = stream.read(8)
    if name.endswith(".safetensors"):
        header = _read_safetensors_header(file)
        return header or "", None if header is not None else "safetensors"
    if name.endswith(".png"):
        return file.read_bytes().decode("latin-1"), None if start == PNG else "a PNG picture"
    if name.endswith(".model"):  # SentencePiece: a protocol buffer that begins with its list of pieces
        return file.read_bytes().decode("latin-1"), None if start[:1] == b"\n" else "a SentencePiece model"
    try:
        text = file.read_text(encoding="utf-8")
        if "\0" in text:
            return "", "text"
        if name.endswith((".json", ".ipynb")):
            json.loads(text)
        elif name.endswith(".py"):
            ast.parse(text)
    except (ValueError, SyntaxError):
        kind = {".json": "JSON", ".py": "Python"}.get(file.suffix, "text")
        return "", kind
    return text, None


def check_files(staged: Path, token: str | None, *, rows: bool = False) -> list[str]:
    """Problems with the files of a folder: pickles under any name, keys, addresses, home directories.

    Args:
        staged: Exactly what will be uploaded.
        token: The token in use, which may stand in no file.
        rows: Whether `.jsonl` files are somebody's texts, in which an address may be meant; see [`find_personal_rows`].
    """
    problems = []
    known = list_known_secrets(token)
    for name, file in list_staged(staged).items():
        text, wanted = read_text(name, file)
        if wanted is not None:
            with file.open("rb") as stream:
                found = _find_pickle(stream.read(8))
            problems.append(f"Expected {wanted} in {name}, found {found}. Only such files are published; save it anew.")
            continue
        written = name.endswith((".png", ".model")) or Path(name).name in VOCABULARIES or (rows and name.endswith(".jsonl"))
        patterns = [SECRETS] if written else [SECRETS, PERSONAL]
        for leak in find_leaks(text, known, patterns):
            problems.append(f"Expected nothing private in {name}, found {leak}. Remove it.")
    return problems


def find_personal_rows(staged: Path) -> list[str]:
    """Files of rows that hold e-mail addresses or home directories, in words."""
    found = []
    for name, file in list_staged(staged).items():
        if name.endswith(".jsonl"):
            found += [f"{leak} in {name}" for leak in find_leaks(file.read_text(encoding="utf-8"), {}, [PERSONAL])]
    return found


def _list_paths(content: Any, place: str) -> Iterable[tuple[str, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _list_paths(value, f"{place}.{key}" if place else str(key))
    elif isinstance(content, str) and (LOCAL_PATH.fullmatch(content) or (place.endswith("_name_or_path") and content)):
        yield place, content


def check_config(staged: Path) -> list[str]:
    """Problems with configurations: paths of this machine, also in that of the encoder within."""
    problems = []
    for name in (CONFIG, "tokenizer_config.json"):
        if not (staged / name).is_file():
            continue
        try:
            content = json.loads((staged / name).read_text(encoding="utf-8"))
        except ValueError:
            continue  # told by `check_files`
        problems += [
            f'Expected no path of this machine in {name}, found {place} {path!r}. Set it to "" there.'
            for place, path in _list_paths(content, "")
        ]
    return problems


def check_tokenizer(staged: Path) -> list[str]:
    """Problems with the tokenizer: none is there."""
    if any((staged / name).is_file() for name in TOKENIZER if name != "tokenizer_config.json"):
        return []
    return ["Expected a tokenizer beside the weights, found none. Copy tokenizer.json there, or save the model anew."]


def check_card(text: str, staged: Path, required: Sequence[str] = CARD_KEYS) -> list[str]:
    """Problems with a card: front matter that cannot be read or lacks a key, pictures that are not published.

    Args:
        text: The content of README.md.
        staged: What will be uploaded beside it.
        required: Keys that the front matter must have.
    """
    try:
        data: Mapping[str, Any] = ModelCard(text, ignore_metadata_errors=False).data.to_dict()
    except (ValueError, TypeError, yaml.YAMLError) as error:
        return [f"Expected YAML between two lines --- at the top of {CARD}, found {str(error).strip()!r}. Mend that line."]
    problems = [
        f"Expected {key} in the front matter of {CARD}, found none. Write it between the two lines ---."
        for key in required
        if not data.get(key)
    ]
    for picture in re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text):
        if "://" not in picture and not (staged / picture).is_file():
            problems.append(
                f"Expected the pictures of {CARD} among the published files, found none called {picture}. "
                "Remove the picture, or put it under evaluation/."
            )
    return problems
