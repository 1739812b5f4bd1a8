"""The label names that all rows share: those of the recipe, and those that the model adds once.

A name is checked for what a machine can say of it: one to five words, distinct from all others but for case; a name that
the model writes also for the script of its language. Whether it is a good name of its kind is for a reader of `pool.json`.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypedDict

from pydantic import BaseModel
from transformers.utils import logging

from ..data.duplicates import split_words
from ..files import write_json
from .arguments import GenerationArguments
from .client import AnswerClient, RequestLostError
from .costs import compute_cost
from .journal import Journal, Record, read_cost
from .languages import find_script_problem
from .manifest import hash_pool
from .prompts import build_names_prompt, build_notes_prompt, build_pool_instructions
from .runner import LostRequestCounter
from .schema import Answer, LabelNote, NamesAnswer, NotesAnswer, parse_answer
from .ways import Question

logger = logging.get_logger(__name__)

FILE = "pool.json"
MOST_WORDS = 5
NAMES_PER_REQUEST = 40
NOTES_PER_REQUEST = 20


class PoolLabel(TypedDict):
    """A label name and what is said of it."""

    name: str
    description: str | None
    paraphrases: list[str]


Pool = dict[str, list[PoolLabel]]  # by kind


def find_name_problem(name: str, known: Iterable[str]) -> str | None:
    """Say what is wrong with a label name.

    Args:
        name: The name.
        known: The names that it must differ from.
    """
    words = len(split_words(name))
    if not 1 <= words <= MOST_WORDS:
        return f"Expected label names of 1 to {MOST_WORDS} words, found {name!r} with {words}. Write a shorter name."
    if name.casefold() in {one.casefold() for one in known}:
        return f"Expected distinct label names, found {name!r} twice. Write each once."
    return None


def get_names(pool: Pool) -> dict[str, list[str]]:
    """The names by kind."""
    return {kind: [label["name"] for label in labels] for kind, labels in pool.items()}


def get_descriptions(pool: Pool) -> dict[str, str]:
    """The descriptions by name, as far as there are any."""
    return {one["name"]: one["description"] for labels in pool.values() for one in labels if one["description"]}


def fill_names(pool: Pool, arguments: GenerationArguments) -> dict[str, list[str]]:
    """The names by kind, with stand-ins for those that the model is still to write."""
    names = get_names(pool)
    return {
        kind: names[kind] + [f"({kind}, name {n} of {one['size']})" for n in range(len(names[kind]) + 1, one["size"] + 1)]
        for kind, one in arguments.kinds.items()
    }


def start_pool(arguments: GenerationArguments) -> Pool:
    """The names of the recipe.

    Raises:
        ValueError: If one of them is no label name.
    """
    pool: Pool = {}
    for kind, content in arguments.kinds.items():
        pool[kind] = []
        for name in content["names"]:
            known = [one for names in get_names(pool).values() for one in names]
            if problem := find_name_problem(name, known):
                raise ValueError(f"label_kinds, {kind}: {problem}")
            pool[kind].append({"name": name, "description": None, "paraphrases": []})
    return pool


def read_record(record: Record, answer_type: type[Answer]) -> Answer:
    """Read an answered request about the pool.

    Raises:
        ValueError: If it was refused, cut off, or does not fit, in words that the model can be sent.
    """
    if record["problem"]:
        raise ValueError(record["problem"])
    return parse_answer(record["answer"], answer_type)


class PoolBuilder:
    """Asks for what the recipe's names lack; answers that the journal holds are not asked for again."""

    def __init__(self, arguments: GenerationArguments, journal: Journal, connect: Callable[[], AnswerClient]):
        self._arguments = arguments
        self._journal = journal
        self._connect = connect
        self._answers = {record["item"]: record for record in journal.records if record["outcome"] == "pool"}
        self.pool = start_pool(arguments)

    async def build(self) -> Pool:
        """The whole pool.

        Raises:
            ValueError: If the model cannot write as many names as the recipe wants.
        """
        for kind, content in self._arguments.kinds.items():
            await self._add_names(kind, content["description"], content["size"])
        if self._arguments.descriptions or self._arguments.paraphrases:
            for kind, content in self._arguments.kinds.items():
                for start in range(0, len(self.pool[kind]), NOTES_PER_REQUEST):
                    await self._add_notes(kind, content["description"], start)
        return self.pool

    async def _ask(self, key: str, prompt: str, answer_type: type[BaseModel]) -> Record:
        """The answer to one request about the pool, from the journal where it is there."""
        if key not in self._answers:
            question = Question(build_pool_instructions(self._arguments), prompt, answer_type)
            lost_requests = LostRequestCounter()
            while key not in self._answers:
                self._check_money()
                try:
                    reply = await self._connect().ask(question)
                except RequestLostError as error:
                    await lost_requests.count(error)
                    continue
                self._journal.append(
                    {
                        "item": key,
                        "attempt": 1,
                        "outcome": "pool",
                        "answer": reply.text,
                        "problem": reply.problem,
                        "usage": reply.usage,
                        "cost": compute_cost(reply.usage, self._arguments),
                        "batch": False,
                    }
                )
                self._answers[key] = self._journal.records[-1]
        return self._answers[key]

    def _check_money(self) -> None:
        costs = [read_cost(record, self._arguments) for record in self._journal.records]
        if self._arguments.max_cost is not None and sum(costs) >= self._arguments.max_cost:
            raise ValueError(
                f"Expected label names within max_cost {self._arguments.max_cost} USD, found {sum(costs):.4f} USD "
                "spent on them. Start the same command again with a higher --max_cost, it goes on."
            )

    async def _add_names(self, kind: str, description: str, size: int) -> None:
        labels = self.pool[kind]
        problem: str | None = None
        requests = fruitless = 0
        while len(labels) < size:
            known = [name for names in get_names(self.pool).values() for name in names]
            number = min(size - len(labels), NAMES_PER_REQUEST)
            # Only names of its own kind are shown: all of them would cost more than the few clashes that they prevent.
            prompt = build_names_prompt(kind, description, number, get_names(self.pool)[kind], problem)
            before = len(labels)
            requests += 1
            record = await self._ask(f"names of {kind}, request {requests}", prompt, NamesAnswer)
            try:
                problem = self._take_names(labels, read_record(record, NamesAnswer).names[:number], known)
            except ValueError as error:
                problem = str(error)
            fruitless = 0 if len(labels) > before else fruitless + 1
            if fruitless >= self._arguments.max_attempts:
                raise ValueError(
                    f"Expected {size} label names of kind {kind!r}, found {len(labels)}: {problem} "
                    "Lower its size, write more names into the recipe, or choose another model."
                )

    def _take_names(self, labels: list[PoolLabel], names: list[str], known: list[str]) -> str | None:
        problems = []
        for name in (" ".join(name.split()) for name in names):
            if problem := find_name_problem(name, known) or find_script_problem(name, self._arguments.label_language):
                problems.append(problem)
                continue
            labels.append({"name": name, "description": None, "paraphrases": []})
            known.append(name)
        return " ".join(problems[:3]) or None

    async def _add_notes(self, kind: str, description: str, start: int) -> None:
        missing = {label["name"]: label for label in self.pool[kind][start : start + NOTES_PER_REQUEST]}
        problem: str | None = None
        for attempt in range(1, self._arguments.max_attempts + 1):
            prompt = build_notes_prompt(kind, description, list(missing), self._arguments.paraphrases, problem)
            record = await self._ask(f"notes on {kind} from {start}, request {attempt}", prompt, NotesAnswer)
            try:
                problem = self._take_notes(missing, read_record(record, NotesAnswer).labels)
            except ValueError as error:
                problem = str(error)
            if not missing:
                return
        logger.warning(f"{len(missing)} names of kind {kind!r} stay without notes ({problem}): {', '.join(missing)}")

    def _take_notes(self, missing: dict[str, PoolLabel], notes: list[LabelNote]) -> str | None:
        """Note what holds for a name and take the name out of the missing ones."""
        taken = {name.casefold() for names in get_names(self.pool).values() for name in names}
        problem = "Expected an entry for each name, found some missing. Answer for all names."
        for note in notes:
            wordings = list(dict.fromkeys(" ".join(one.split()) for one in note.paraphrases if one.strip()))
            wordings = [one for one in wordings if one.casefold() not in taken][: self._arguments.paraphrases]
            line = " ".join(note.description.split())
            if note.name not in missing:
                continue
            if not line or len(wordings) < self._arguments.paraphrases:
                problem = (
                    f"Expected a description and {self._arguments.paraphrases} new wordings of {note.name!r}, "
                    f"found {len(wordings)}. Wordings differ from all label names."
                )
                continue
            label = missing.pop(note.name)
            label["description"] = line if self._arguments.descriptions else None
            label["paraphrases"] = wordings
        return problem if missing else None


def read_pool(folder: Path, expected_hash: str | None) -> Pool | None:
    """The pool of the run in a folder, or None where there is none yet.

    Raises:
        ValueError: If it is not the one that the rows were written with.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        pool: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        pool = None
    if pool is None or (expected_hash is not None and hash_pool(pool) != expected_hash):
        raise ValueError(
            f"Expected the pool of the run that {str(folder)!r} holds, found {FILE} changed. "
            "Restore it, or put its names into a recipe with another output_dir."
        )
    return pool


def write_pool(folder: Path, pool: Pool) -> None:
    """Write the pool in one step."""
    write_json(folder / FILE, pool)
