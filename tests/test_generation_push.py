"""Rows on the Hub: private unless said otherwise, four files, and never into an open place by accident."""

import json
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from . import generation_helpers
from .generation_helpers import ANSWER_COST, KEY, Generator, finish
from .hub_server import TOKEN, HubServer, Repository
from .openai_server import OpenAIServer

generator, server = generation_helpers.generator, generation_helpers.server
PUSHED = {"train.jsonl", "README.md", "manifest.json", "pool.json"}
NAME = "alice/rows"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub, to which this process is logged in."""
    with HubServer() as running:
        running.patch(monkeypatch)
        yield running


def test_rows_and_card_are_pushed_to_a_private_place(generator: Generator, hub: HubServer, server: OpenAIServer) -> None:
    """As a user does it: a run, and the same command with a push, in a process of its own."""
    generator.run()
    environment = {**hub.environment, "OPENAI_API_KEY": KEY}
    status, out, err = finish(generator.start("--push_to_hub", NAME, environment=environment))
    assert status == 0, err
    repository = hub.datasets[NAME]
    assert repository.private and len(repository.commits) == 1
    assert set(repository.files) == PUSHED
    assert repository.files["train.jsonl"] == (generator.output / "train.jsonl").read_bytes()
    assert f"{hub.url}/datasets/{NAME}" in out
    assert len(server.requests) == 5, "the push of a finished run asks the model for nothing"
    generator.assert_key_is_nowhere(out, err)
    assert TOKEN not in out + err


@pytest.mark.parametrize("secret", [KEY, TOKEN, "{folder}"])
def test_nothing_of_this_machine_is_pushed(secret: str, generator: Generator, hub: HubServer) -> None:
    """Neither key nor token, nor where the rows lie."""
    generator.run(push_to_hub=NAME)
    secret = secret.format(folder=generator.folder)
    files = hub.datasets[NAME].files
    assert set(files) == PUSHED
    assert not [path for path, content in files.items() if secret.encode() in content]


def test_no_path_of_a_model_is_pushed(generator: Generator, hub: HubServer) -> None:
    """llama.cpp's server calls a model by its path."""
    generator.run(push_to_hub=NAME, model="/opt/private/llama.gguf", num_samples=1)
    generator.run(push_to_hub=NAME, model="/opt/private/llama.gguf", num_samples=2)  # the same run goes on
    files = hub.datasets[NAME].files
    assert not [path for path, content in files.items() if b"/opt/private" in content]
    assert b"| model | `llama.gguf` at http://" in files["README.md"]


def test_the_token_may_stand_in_the_file_of_the_key(
    generator: Generator, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (generator.folder / ".env").write_text(f"HF_TOKEN={TOKEN}\n", encoding="utf-8")
    generator.run(push_to_hub=NAME, num_samples=1)
    assert set(hub.datasets[NAME].files) == PUSHED


def test_public_only_where_asked(generator: Generator, hub: HubServer) -> None:
    generator.run("--push_to_hub", NAME, "--public")
    assert not hub.datasets[NAME].private
    assert set(hub.datasets[NAME].files) == PUSHED


def test_a_second_push_replaces_the_first(generator: Generator, hub: HubServer) -> None:
    generator.run(push_to_hub=NAME, num_samples=1)
    generator.run(push_to_hub=NAME, num_samples=2)
    repository = hub.datasets[NAME]
    assert repository.private and len(repository.commits) == 2
    assert len(repository.files["train.jsonl"].splitlines()) == 2
    assert json.loads(repository.files["manifest.json"])["counts"]["rows"] == 2


def test_a_public_place_is_not_written_without_public(generator: Generator, hub: HubServer) -> None:
    hub.datasets[NAME] = Repository(private=False)
    said = generator.fail(push_to_hub=NAME)
    assert "found a public one. Add --public" in said and NAME in said
    assert not hub.datasets[NAME].files
    assert len(generator.rows) == 5


def test_a_private_place_stays_private_with_public(
    generator: Generator, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    hub.datasets[NAME] = Repository(private=True)
    generator.run(push_to_hub=NAME, public=True)
    assert hub.datasets[NAME].private
    assert "stays private" in caplog.text


def test_a_run_that_stopped_early_is_not_pushed(generator: Generator, hub: HubServer) -> None:
    generator.fail(push_to_hub=NAME, max_cost=2.1 * ANSWER_COST)
    assert not hub.datasets


def test_a_push_that_the_hub_refuses_keeps_the_rows(generator: Generator, hub: HubServer) -> None:
    said = generator.fail(push_to_hub="bob/rows")
    assert "Expected the Hub to take 'bob/rows'" in said and "403" in said
    assert len(generator.rows) == 5


def test_a_wrong_token_is_not_repeated(
    generator: Generator, hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_WrongWrongWrongWrong")
    said = generator.fail(push_to_hub=NAME)
    assert "Check HF_TOKEN" in said and "hf_Wrong" not in said + caplog.text
    assert not hub.datasets


def test_a_hub_out_of_reach_is_no_traceback(generator: Generator, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    said = generator.fail(push_to_hub=NAME)
    assert "Expected" in said and NAME in said
    assert len(generator.rows) == 5
