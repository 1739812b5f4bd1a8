"""A recipe and a server that answers well: what is asked, what is written, and what stays the same."""

import json
import os
import re
import sys
import threading
from datetime import datetime, timezone

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from zeroshot.data import load_source
from zeroshot.generation.languages import find_script_problem

from . import generation_helpers
from .generation_helpers import ANSWER_COST, EMOTIONS, INTENTS, KEY, NAMES, RECIPE, TOPICS, Generator, finish
from .openai_answers import (
    USAGE,
    Reply,
    Request,
    answer_in_words,
    answer_slowly,
    answer_well,
    answer_without_usage,
    fail,
    truncate,
)
from .openai_server import OpenAIServer

generator, server = generation_helpers.generator, generation_helpers.server


def test_a_run_ends_with_as_many_rows_as_asked(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=12, concurrency=4)
    assert len(generator.rows) == len({row["id"] for row in generator.rows}) == 12
    for row in generator.rows:
        assert list(row) == ["id", "text", "labels", "negatives", "language", "style"]
        assert 2 <= len(row["labels"]) == len(set(row["labels"])) <= 3
        assert len(row["negatives"]) == 3
        assert {*row["labels"], *row["negatives"]} <= set(NAMES) and not {*row["labels"]} & {*row["negatives"]}
        assert row["language"] == "English" and row["style"] in RECIPE["styles"]
    # Each text stands with what was asked for when it was written.
    asked = {request.write_row()["text"]: request.prompt for request in server.row_requests}
    assert all(words in asked[row["text"]] for row in generator.rows for words in (*row["labels"], row["style"]))


def test_our_own_reader_takes_every_row(generator: Generator) -> None:
    generator.run()
    source = load_source(str(generator.output / "train.jsonl"))
    assert not source.rejected
    assert source.rows["labels"][:] == [row["labels"] for row in generator.rows]
    assert source.rows["negatives"][:] == [row["negatives"] for row in generator.rows]


# -- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "path"), [("responses", "/v1/responses"), ("chat", "/v1/chat/completions"), ("json", "/v1/chat/completions")]
)
def test_each_way_of_asking_gets_its_rows(api: str, path: str, generator: Generator, server: OpenAIServer) -> None:
    generator.run(api=api)
    assert len(generator.rows) == 5
    assert {request.path for request in server.requests} == {path}
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    for request in server.requests:
        body = request.body
        wire = body.get("text", {}).get("format") or body.get("response_format", {}).get("json_schema")
        assert wire["strict"] is True if api != "json" else wire is None
        assert body["model"] == "tiny-model"
        assert len(request.offered) == RECIPE["num_candidates"]


def test_a_server_with_chat_only_is_asked_so_from_then_on(generator: Generator, server: OpenAIServer) -> None:
    """vLLM, llama.cpp and Ollama in their older versions."""
    server.missing = {"/v1/responses"}
    generator.run(num_samples=3)
    assert server.count("POST", "/v1/responses") == 1
    assert len(generator.rows) == 3 and not generator.rejected
    generator.run(num_samples=5)
    assert server.count("POST", "/v1/responses") == 1, "the manifest remembers what the server can do"
    assert len(generator.rows) == 5


@pytest.mark.parametrize("template", ["{}", "```json\n{}\n```", "Here is it: {}\nI hope that it helps {you}."])
def test_a_server_without_structured_output_answers_in_words(
    template: str, generator: Generator, server: OpenAIServer
) -> None:
    def answer(request: Request) -> Reply:
        refused = "response_format" in request.body
        return (fail(400, "unknown field: response_format") if refused else answer_in_words(template))(request)

    server.missing = {"/v1/responses"}
    server.default = answer
    generator.run(num_samples=3)
    assert len(generator.rows) == 3 and not generator.rejected
    assert len(server.requests) == 1 + 1 + 3


def test_as_many_requests_at_once_as_asked_and_no_more(generator: Generator, server: OpenAIServer) -> None:
    three_are_there = threading.Event()

    def answer(request: Request) -> Reply:
        reply = answer_slowly(request)
        reply.wait = three_are_there
        if server.in_flight == 3:
            three_are_there.set()
        return reply

    server.script = [answer_well]  # until one was answered, there is one at a time
    server.default = answer
    generator.run(num_samples=9, concurrency=3)
    assert server.most_in_flight == 3


def test_the_language_of_the_item_is_asked_for_and_kept(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=4, languages=["German", "English"])
    found = {row["language"]: row["text"] for row in generator.rows}
    assert set(found) == {"German", "English"}
    assert re.search(r"\b(?:und|nicht)\b", found["German"]) and not generator.rejected


def test_the_command_line_overrides_the_recipe(generator: Generator, server: OpenAIServer) -> None:
    generator.run("--num_samples", "2", "--model", "other", "--base_url", server.url, base_url="http://127.0.0.1:9/v1")
    assert len(generator.rows) == 2
    assert {request.body["model"] for request in server.requests} == {"other"}


def test_temperature_and_token_limit_reach_the_server(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=1, temperature=0.25, max_output_tokens=321)
    [request] = server.requests
    assert (request.body["temperature"], request.body["max_output_tokens"]) == (0.25, 321)
    generator.run(num_samples=1, output_dir=str(generator.folder / "other"))
    assert "temperature" not in server.requests[1].body, "some models refuse any value"


# -- the pool ---------------------------------------------------------------------------------------------------------


def test_the_model_adds_names_to_a_kind_once(generator: Generator, server: OpenAIServer) -> None:
    kinds = json.loads(json.dumps(RECIPE["label_kinds"]))
    kinds["topic"]["size"] = len(TOPICS) + 3
    generator.run(label_kinds=kinds, num_samples=4)
    pool = json.loads((generator.output / "pool.json").read_text(encoding="utf-8"))
    asked = len(server.requests) - 4
    assert asked >= 1
    generator.run(label_kinds=kinds, num_samples=6)
    assert len(server.requests) == asked + 6
    assert json.loads((generator.output / "pool.json").read_text(encoding="utf-8")) == pool
    found = json.dumps(pool)
    assert all(name in found for name in [*TOPICS, *INTENTS, *EMOTIONS])


def test_names_of_the_recipe_may_mix_scripts(generator: Generator, server: OpenAIServer) -> None:
    """The user knows what a label is called; only what the model writes is checked for its letters."""
    kinds = json.loads(json.dumps(RECIPE["label_kinds"]))
    kinds["topic"]["names"][:2] = ["IT-безопасность", "DevOps"]
    generator.run(label_kinds=kinds, label_language="Russian", num_samples=1)
    assert len(generator.rows) == 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("IT-безопасность", None),
        ("IT", "Expected label names in Russian, found none of its letters in 'IT'. Write the name in Russian."),
        ("24/7", "Expected label names in Russian, found no letter in '24/7'. Write the name in Russian."),
    ],
)
def test_a_name_of_the_model_has_a_letter_of_its_script(name: str, problem: str | None) -> None:
    assert find_script_problem(name, "Russian") == problem


def test_descriptions_and_paraphrases_are_written_for_every_name(generator: Generator, server: OpenAIServer) -> None:
    generator.run(descriptions=True, paraphrases=2, num_samples=2)
    pool = (generator.output / "pool.json").read_text(encoding="utf-8")
    assert pool.count("It shows ") >= len(NAMES)
    asked = len(server.requests)
    generator.run(descriptions=True, paraphrases=2, num_samples=3)
    assert len(server.requests) == asked + 1


# -- what is written --------------------------------------------------------------------------------------------------


def test_the_manifest_counts_what_the_server_counted(generator: Generator, server: OpenAIServer) -> None:
    server.script = [answer_well, fail(500, retry_after_ms="10")]
    generator.run(num_samples=4)
    manifest = generator.manifest
    answers = len(server.requests) - 1
    assert manifest["cost"] == pytest.approx(answers * ANSWER_COST)
    assert manifest["tokens"] == {"input": answers * USAGE[0], "output": answers * USAGE[1]}
    counts = {"rows": 4, "rejected": 0, "requests": answers, "requests_with_estimated_tokens": 0}
    assert manifest["counts"] == counts
    assert (manifest["model"], manifest["api"], manifest["finished"]) == ("tiny-model", "responses", True)
    assert manifest["created"].startswith(datetime.now(timezone.utc).date().isoformat()[:4])
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["prompt_sha256"])


def test_the_journal_holds_every_answer_and_its_price(generator: Generator, server: OpenAIServer) -> None:
    server.script = [truncate]
    generator.run(num_samples=2)
    assert [(one["item"], one["attempt"], one["outcome"]) for one in generator.journal] == [
        (0, 1, "truncated"),
        (0, 2, "row"),
        (1, 1, "row"),
    ]
    for entry, request in zip(generator.journal[1:], server.row_requests[1:], strict=True):
        assert json.loads(entry["answer"]) == request.write_row()
        assert entry["usage"] == {"input_tokens": USAGE[0], "output_tokens": USAGE[1], "estimated": False}


def test_progress_with_tokens_and_cost_is_in_the_log(generator: Generator, caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal there is no bar."""
    generator.run(num_samples=2)
    assert "1 of 2 rows, 150 tokens, $0.2000" in caplog.messages
    assert "2 of 2 rows, 300 tokens, $0.4000" in caplog.messages


def test_usage_that_a_server_does_not_give_is_estimated_and_marked(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=2)
    assert generator.manifest["counts"]["requests_with_estimated_tokens"] == 0
    server.default = answer_without_usage
    generator.run(num_samples=3)
    assert generator.manifest["counts"]["requests_with_estimated_tokens"] == 1
    assert generator.manifest["cost"] > 2 * ANSWER_COST


def test_the_card_can_be_read_and_names_what_made_the_rows(generator: Generator) -> None:
    generator.run(languages=["English", "German"], num_samples=6)
    card = DatasetCard.load(generator.output / "README.md")
    assert set(card.data.language) == {"en", "de"}
    assert card.data.configs[0]["data_files"][0] == {"split": "train", "path": "train.jsonl"}
    for words in ("tiny-model", generator.manifest["prompt_sha256"], "6 texts", "Weaknesses"):
        assert words in card.text
    assert str(generator.output) not in card.content


def test_the_hub_library_loads_the_folder(generator: Generator) -> None:
    """The card must point to the rows only: the journal and the rejected rows lie beside them."""
    generator.run(num_samples=3)
    rows = load_dataset(str(generator.output), split="train", cache_dir=str(generator.folder / "cache"))
    assert rows["id"][:] == [row["id"] for row in generator.rows]


# -- without a server -------------------------------------------------------------------------------------------------


def test_dry_run_shows_prompts_and_cost_without_key_and_without_a_request(
    generator: Generator, server: OpenAIServer
) -> None:
    status, out, err = finish(generator.start("--dry_run", num_samples=1000, environment={}))
    assert status == 0, err
    assert not server.requests
    assert not generator.output.exists()
    assert sum(name in out for name in NAMES) >= 6
    assert "Estimate: 1000 requests" in out and "$" in out
    generator.run("--num_samples", "3")
    # What it shows is what will be sent.
    for request in server.row_requests:
        assert request.body["input"] in out or request.body["input"][0]["content"] in out


@pytest.mark.parametrize(("given", "used"), [(None, "from-the-file"), ("from-the-environment", "from-the-environment")])
def test_the_key_may_stand_in_a_file_which_the_environment_overrides(
    given: str | None, used: str, generator: Generator, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (generator.folder / ".env").write_text("OPENAI_API_KEY=from-the-file\n", encoding="utf-8")
    monkeypatch.delenv("OPENAI_API_KEY")
    if given is not None:
        monkeypatch.setenv("OPENAI_API_KEY", given)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    generator.run(num_samples=1, base_url=None)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {used}"}
    assert not [path for path in generator.output.iterdir() if used in path.read_text(encoding="utf-8")]


def test_of_the_file_of_the_key_nothing_else_is_taken(
    generator: Generator, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `.env` serves other programs too; key and address are read from it, the environment stays as it is."""
    (generator.folder / ".env").write_text(f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={server.url}\nDEBUG=1\n")
    monkeypatch.delenv("OPENAI_API_KEY")
    generator.run(num_samples=1, base_url=None)
    assert len(server.requests) == 1
    assert not {"OPENAI_API_KEY", "OPENAI_BASE_URL", "DEBUG"} & set(os.environ)


def test_the_server_is_recorded_without_what_may_be_secret(
    generator: Generator, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "?api-key=s3cret#part")
    generator.fail(num_samples=1, base_url=None, max_retries=0)
    assert generator.manifest["base_url"] == server.url
    assert not [path for path in generator.output.iterdir() if "s3cret" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("package", ["openai", "pydantic", "dotenv", "py3langid", "datasketch"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    package: str, generator: Generator, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training needs none of these packages, so they are not installed with it."""
    monkeypatch.setitem(sys.modules, package, None)
    said = generator.fail()
    assert f"found no {package}." in said and 'pip install "zeroshot[data]"' in said
    assert not server.requests
