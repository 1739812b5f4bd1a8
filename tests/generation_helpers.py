"""What tests of the generator share: a small recipe, and the command as a user gives it, here or in its own process."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import generate_data
from zeroshot.console import run_command

from .command_helpers import Records, read_lines
from .openai_answers import KEY, KEY_PARTS, Json
from .openai_server import OpenAIServer

ROOT = Path(__file__).resolve().parents[1]
TOPICS = ["beekeeping", "glassblowing", "falconry", "astronomy", "plumbing", "chess", "karate", "ballet"]
INTENTS = ["complaint", "apology", "invitation", "warning", "farewell", "proposal", "excuse", "boast"]
EMOTIONS = ["gratitude", "envy", "relief", "boredom", "panic", "pride", "shame", "nostalgia"]
NAMES = [*TOPICS, *INTENTS, *EMOTIONS]
RECIPE: Json = {
    "num_samples": 5,
    "model": "tiny-model",
    "seed": 3,
    "label_kinds": {
        "topic": {"description": "what it is about", "names": TOPICS},
        "intent": {"description": "what the writer wants", "names": INTENTS},
        "emotion": {"description": "what the writer feels", "names": EMOTIONS},
    },
    "min_labels": 2,
    "max_labels": 3,
    "min_negatives": 3,
    "max_negatives": 4,
    "num_candidates": 6,
    "styles": ["a letter", "a review"],
    "lengths": ["12 to 30 words"],
    "registers": ["plain", "formal"],
    "languages": ["English"],
    "label_language": "English",
    "concurrency": 1,
    "max_attempts": 2,
    "max_retries": 1,
    "timeout": 60,
    "input_price": 1000.0,
    "output_price": 2000.0,
}
ANSWER_COST = 0.2  # USD, of one answer of `openai_answers.USAGE` tokens at these prices


class Generator:
    """`generate_data.py` over one recipe, one server and one output folder."""

    def __init__(self, folder: Path, server: OpenAIServer) -> None:
        self.folder = folder
        self.server = server
        self.output = folder / "data"

    def write_recipe(self, **settings: Any) -> Path:
        recipe = {**copy.deepcopy(RECIPE), "base_url": self.server.url, "output_dir": str(self.output), **settings}
        path = self.folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return path

    def run(self, *words: str, **settings: Any) -> None:
        """Run it in this process."""
        run_command(generate_data.main, [str(self.write_recipe(**settings)), *words])

    def fail(self, *words: str, **settings: Any) -> str:
        """Run it in this process; it must end with an error, which is returned."""
        with pytest.raises(SystemExit) as caught:
            self.run(*words, **settings)
        assert isinstance(caught.value.code, str)
        return caught.value.code

    def start(self, *words: str, environment: dict[str, str] | None = None, **settings: Any) -> "subprocess.Popen[str]":
        """Start it in a process of its own, in the folder of the recipe; it knows the key unless told otherwise."""
        command = [sys.executable, str(ROOT / "generate_data.py"), str(self.write_recipe(**settings)), *words]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        given = {"OPENAI_API_KEY": KEY} if environment is None else environment
        # What a shell starts in the background ignores Ctrl-C and passes that on; a handler is not passed on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            command,
            env={**inherited, "PYTHONPATH": str(ROOT), **given},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # -- what it wrote ------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> Records:
        return read_lines(self.output / "train.jsonl")

    @property
    def rejected(self) -> Records:
        path = self.output / "rejected_rows.jsonl"
        return read_lines(path) if path.exists() else []

    @property
    def journal(self) -> Records:
        return read_lines(self.output / "journal.jsonl")

    @property
    def manifest(self) -> Json:
        return json.loads((self.output / "manifest.json").read_text(encoding="utf-8"))

    def assert_key_is_nowhere(self, *texts: str) -> None:
        """Neither the key nor what a provider shows of it stands in these texts or in a file of the output."""
        written = {str(path): path.read_text(encoding="utf-8") for path in self.output.rglob("*") if path.is_file()}
        for place, text in {**written, **{f"text {number}": text for number, text in enumerate(texts)}}.items():
            assert not [part for part in (KEY, *KEY_PARTS) if part in text], f"{place}: {text[-2000:]}"


def finish(process: "subprocess.Popen[str]", seconds: float = 240) -> tuple[int, str, str]:
    """Wait for a command: its exit status, standard output and standard error."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """A server that answers well until the test scripts it."""
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def generator(tmp_path: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> Generator:
    """The command, with a key in the environment and no `.env` in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return Generator(tmp_path, server)
