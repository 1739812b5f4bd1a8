"""How a run stops when the server, the money or the items do not let it go on, and what it never stops for."""

import pytest

from zeroshot.generation import runner
from zeroshot.generation.schema import build_answer_type

from . import generation_helpers
from .generation_helpers import ANSWER_COST, EMOTIONS, INTENTS, Generator
from .openai_answers import Behaviour, Reply, Request, answer_slowly, answer_well, answer_with, echo_key, fail, truncate
from .openai_server import OpenAIServer

generator, server = generation_helpers.generator, generation_helpers.server


def test_answers_in_flight_are_kept_when_the_run_stops(generator: Generator, server: OpenAIServer) -> None:
    """They are paid for."""
    server.script = [answer_well, answer_slowly, answer_slowly, answer_slowly, echo_key]
    server.default = echo_key
    generator.fail(num_samples=9, concurrency=4, max_retries=0)
    assert len(generator.journal) == len(generator.rows) == 4


def test_the_last_item_may_be_in_work_when_no_further_one_is_left(generator: Generator, server: OpenAIServer) -> None:
    """One worker is out of items while the other still waits for the answer that makes a row."""

    def answer_last(request: Request) -> Reply:
        reply = answer_well(request)
        reply.delay = 1.0
        return reply

    server.script = [truncate, answer_last]
    server.default = truncate
    said = generator.fail(num_samples=2, concurrency=2, max_attempts=1)
    assert "Expected 2 rows from 6 items, found 1" in said and len(generator.rows) == 1


def test_a_wait_that_the_server_asks_for_is_no_loss(generator: Generator, server: OpenAIServer) -> None:
    """One limit of a rate meets all workers at once."""
    server.script = [answer_well, *[fail(429, retry_after="1")] * 8]
    generator.run(num_samples=9, concurrency=8, max_retries=0)
    assert len(generator.rows) == 9
    limited, later = server.row_requests[1:9], server.row_requests[9:]
    assert len(later) == 8 and min(one.time for one in later) - min(one.time for one in limited) >= 1


def test_waits_without_end_stop_the_run(generator: Generator, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONGEST_SILENCE", 1.5)
    server.default = fail(429, retry_after="1")
    said = generator.fail(max_retries=0)
    assert "seconds of waiting, found none (last: status 429" in said and len(server.requests) == 2


@pytest.mark.parametrize("code", ["content_filter", "invalid_prompt"])
def test_a_first_request_that_a_filter_refuses_is_one_request(code: str, generator: Generator, server: OpenAIServer) -> None:
    server.script = [fail(400, "The prompt was filtered.", code)] * 2
    generator.run(num_samples=1)
    assert {request.path for request in server.requests} == {"/v1/responses"}
    assert len(generator.rows) == len(generator.rejected) == 1


def test_a_way_that_is_known_is_not_given_up_for_one_refusal(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=1)
    server.script = [fail(400, "Something in it.")] * 2
    generator.run(num_samples=2)
    assert {request.path for request in server.requests} == {"/v1/responses"} and len(generator.rows) == 2


def fail_in_responses(_request: Request) -> Reply:
    return Reply({"id": "resp_1", "status": "failed", "output": [], "error": {"code": "server_error", "message": "Broke."}})


def fail_in_chat(_request: Request) -> Reply:
    return Reply({"error": {"message": "Broke.", "code": 502}})


@pytest.mark.parametrize(("api", "fault"), [("responses", fail_in_responses), ("chat", fail_in_chat)])
def test_an_error_with_status_200_is_no_answer_of_the_model(
    api: str, fault: Behaviour, generator: Generator, server: OpenAIServer
) -> None:
    server.script = [fault, answer_well, fault]
    generator.run(num_samples=2, api=api, max_attempts=1)
    assert len(generator.rows) == len(generator.journal) == 2 and not generator.rejected


def test_a_request_that_costs_nothing_does_not_make_the_next_look_cheap(generator: Generator, server: OpenAIServer) -> None:
    server.script = [answer_well, *[fail(400, "The prompt was filtered.")] * 6]
    generator.fail(num_samples=9, max_cost=3.5 * ANSWER_COST)
    assert generator.manifest["cost"] == pytest.approx(3 * ANSWER_COST)


def test_what_was_spent_stays_spent_when_prices_change(generator: Generator) -> None:
    generator.run(num_samples=2)
    generator.run(num_samples=3, input_price=0.0, output_price=0.0)
    assert generator.manifest["cost"] == pytest.approx(2 * ANSWER_COST)


def test_a_text_is_judged_whatever_stands_under_impossible(generator: Generator, server: OpenAIServer) -> None:
    """Models fill every field: No, n/a, none."""
    server.script = [answer_with(lambda _request: {"impossible": "No"})]
    generator.run(num_samples=1)
    assert len(generator.rows) == 1 and not generator.rejected


def test_a_dry_run_over_the_folder_of_another_recipe_names_what_differs(generator: Generator) -> None:
    generator.run(num_samples=1)
    kinds = {"mood": {"names": EMOTIONS}, "aim": {"names": INTENTS}}
    said = generator.fail("--dry_run", num_samples=1, label_kinds=kinds)
    assert "found label_kinds changed from" in said and "Choose another output_dir." in said


def test_an_answer_can_be_typed_where_no_name_is_left_to_offer() -> None:
    assert build_answer_type(()).model_validate({"text": "It.", "negatives": []}).model_dump()["negatives"] == []
