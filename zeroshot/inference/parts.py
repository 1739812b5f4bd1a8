"""The parts of a long prediction: a folder that a run which was killed finds again, and that several processes share.

Beside `scores.jsonl` lies `scores.jsonl.parts`: `manifest.json` says what the parts belong to, and each
`part-00000012.jsonl` holds the results of the rows 12 * N to 13 * N - 1 and is there as a whole or not at all. A part
depends on nothing but its rows, so it does not matter which process writes it, or in which run.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from transformers.utils import logging

from ..files import replace_file
from ..json_text import parse_json, read_text
from .result_files import Kind, Record

logger = logging.get_logger(__name__)

POLL = 0.1  # seconds
REMIND = 60.0  # seconds between lines that say what is waited for


class Basis(TypedDict):
    """What a score depends on, beside its text."""

    model: dict[str, str]  # digests
    labels: Any
    options: dict[str, Any]


class Manifest(Basis):
    """What the results of a part depend on."""

    fields: Sequence[str] | None  # that are kept
    input: str  # digest
    part_rows: int


class Part(NamedTuple):
    """The results of some rows."""

    results: list[Record]  # of each row: labels and scores, or an empty object where it has no text
    extras: dict[str, Kind]  # fields of the results beside labels and scores
    fields: dict[str, Kind]  # fields of the rows that are kept, where their types are not known from the file


@dataclass(frozen=True)
class Processes:
    """Which one of how many processes this is."""

    rank: int
    count: int


def find_processes() -> Processes:
    """As accelerate, torchrun and others say it in the environment; one process where nothing is said."""
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def _explain_difference(manifest: Manifest, found: Any, folder: Path) -> str:
    words = {
        "labels": "other labels",
        "options": "other options",
        "model": "another model",
        "input": "another input file",
        "part_rows": "another size of parts",
        "fields": "other fields to keep",
    }
    stored = found if isinstance(found, dict) else {}
    changed = [name for name, value in manifest.items() if stored.get(name) != value]
    if isinstance(before := stored.get("options"), dict):
        now = manifest["options"]
        names = [name for name in dict.fromkeys([*now, *before]) if now.get(name) != before.get(name)]
        words["options"] += f" ({', '.join(names)})"
    return (
        f"Expected the prediction that {str(folder)!r} was begun with, found "
        f"{', '.join(words.get(name, name) for name in changed)}. Give the first command again, or remove that "
        "folder to begin anew."
    )


class PartFolder:
    """The folder of the parts of one result.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path):
        self.path = path

    def _write(self, name: str, content: str) -> None:
        with replace_file(self.path / name) as temporary:
            temporary.write_text(content, encoding="utf-8")

    def _read_json(self, name: str) -> Any:
        return parse_json(read_text(self.path / name))

    def check_or_begin(self, manifest: Manifest, *, may_begin: bool) -> None:
        """See that the parts belong to this; where nothing says what they belong to, say so if this process may.

        Raises:
            ValueError: If the folder belongs to another model, input, labels or options.
        """
        manifest = json.loads(json.dumps(manifest))  # as it is read back: tuples become lists, keys texts
        if not (self.path / "manifest.json").is_file():
            if may_begin:
                self._write("manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
            return
        try:
            found = self._read_json("manifest.json")
        except ValueError:
            found = None
        if found != manifest:
            raise ValueError(_explain_difference(manifest, found, self.path))

    def locate(self, index: int) -> Path:
        """The file of a part."""
        return self.path / f"part-{index:08d}.jsonl"

    def write(self, index: int, part: Part) -> None:
        """Write a part in one step."""
        head = {"rows": len(part.results), "extras": part.extras, "fields": part.fields}
        self._write(self.locate(index).name, "".join(json.dumps(line) + "\n" for line in (head, *part.results)))

    def _refuse(self, index: int, found: object) -> ValueError:
        return ValueError(
            f"Expected results in {str(self.locate(index))!r}, found {found}. Remove that file; its rows are then "
            "classified again."
        )

    def read_head(self, index: int) -> Part:
        """A part without its results.

        Raises:
            ValueError: If it was changed by another hand.
        """
        with self.locate(index).open("rb") as file:
            line = file.readline()
        try:
            head = json.loads(line)
            return Part([], head["extras"], head["fields"])
        except (ValueError, TypeError, KeyError) as error:
            raise self._refuse(index, repr(line[:80])) from error

    def read(self, index: int) -> Part:
        """Read a part.

        Raises:
            ValueError: If it was changed by another hand.
        """
        try:
            head, *results = [parse_json(line) for line in read_text(self.locate(index)).splitlines()]
        except ValueError as error:
            raise self._refuse(index, error) from error
        if len(results) != head["rows"]:
            raise self._refuse(index, f"{len(results)} of {head['rows']}")
        return Part(results, head["extras"], head["fields"])

    def list_missing(self, parts: int) -> list[int]:
        """The parts of so many that are not there."""
        return [index for index in range(parts) if not self.locate(index).is_file()]

    def remove(self) -> None:
        """Remove the folder; the others see by that that the result is there."""
        (self.path / "session").unlink(missing_ok=True)
        shutil.rmtree(self.path)


def _wait(condition: Callable[[], bool], words: str) -> None:
    reminded = time.monotonic()
    while not condition():
        time.sleep(POLL)
        if time.monotonic() - reminded > REMIND:
            logger.warning(words)
            reminded = time.monotonic()


class Session:
    """One run of several processes over a folder; needs nothing but the folder they share.

    The first process begins a session and ends it when all others have said in it that they have nothing left to do; so a
    process that comes late finds neither a folder of yesterday nor none.
    """

    def __init__(self, folder: PartFolder, processes: Processes):
        self._folder, self._processes = folder, processes
        self._place = folder.path / "session"

    def begin(self) -> None:
        """Begin a session, or wait for it."""
        if self._processes.rank == 0:
            with replace_file(self._place) as temporary:
                temporary.write_text(uuid.uuid4().hex, encoding="utf-8")
        else:
            _wait(self._place.is_file, f"Waiting for the first process to begin {self._folder.path}.")

    def _read(self, place: Path) -> str | None:
        try:
            return place.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def wait_for_others(self) -> None:
        """In the first process: until all others are done."""
        session = self._read(self._place)
        done: Sequence[Path] = [self._folder.path / f"done-{rank}" for rank in range(1, self._processes.count)]
        _wait(lambda: all(self._read(place) == session for place in done), "Waiting for the other processes.")

    def wait_for_result(self) -> None:
        """In the others: say that this one is done, in whichever session it may be, until the first ends it."""
        said: str | None = None

        def ended() -> bool:
            nonlocal said
            session = self._read(self._place)
            if session is not None and session != said:
                with replace_file(self._folder.path / f"done-{self._processes.rank}") as temporary:
                    temporary.write_text(session, encoding="utf-8")
                said = session
            return session is None

        _wait(ended, "Waiting for the first process to join the parts.")
