"""Interrupted and started again: nothing is paid for twice, nothing is lost, nothing is mixed."""

import json
import signal
import threading
from collections import Counter
from typing import Any

import pytest

import generate_data

from . import generation_helpers
from .generation_helpers import ANSWER_COST, EMOTIONS, INTENTS, RECIPE, TOPICS, Generator, finish
from .openai_answers import Request, answer_slowly, answer_well, answer_with, truncate
from .openai_server import OpenAIServer

generator, server = generation_helpers.generator, generation_helpers.server


def bodies(requests: list[Request]) -> list[str]:
    return [json.dumps(request.body, sort_keys=True) for request in requests]


def test_killed_and_started_again_it_asks_for_no_answer_twice(generator: Generator, server: OpenAIServer) -> None:
    server.script = [answer_well, truncate, answer_well, answer_well]
    server.default = server.hold
    process = generator.start(num_samples=7, concurrency=2)
    # A worker asks anew only when its last answer is safe: with two more requests, the first four answers are.
    server.wait_for(lambda: len(server.row_requests) == 6 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL, "it ended before it could be killed"
    answered, held = bodies(server.row_requests)[:4], bodies(server.row_requests)[4:]
    server.default = answer_well
    server.released.set()
    generator.run(num_samples=7, concurrency=2)
    again = bodies(server.row_requests)[6:]
    assert not set(again) & set(answered)
    assert set(held) <= set(again), "what was not answered is asked for again"
    assert max(Counter(again).values()) == 1
    # 3 rows from 4 answers; the retry of the one that was cut off and 3 more items make 7.
    assert len(again) == 4
    assert len({row["id"] for row in generator.rows}) == len({row["text"] for row in generator.rows}) == 7
    assert generator.manifest["cost"] == pytest.approx(8 * ANSWER_COST)


def test_interrupted_by_the_user_it_keeps_its_rows_and_says_how_to_go_on(generator: Generator, server: OpenAIServer) -> None:
    server.script = [answer_well, answer_well]
    server.default = server.hold
    process = generator.start()
    server.wait_for(lambda: len(server.row_requests) == 3 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert status == 1 and "Traceback" not in err
    assert "found Ctrl-C. 2 of 5 rows are in" in err and "start the same command again, it goes on." in err
    assert len(generator.rows) == 2
    generator.assert_key_is_nowhere(out, err)
    server.default = answer_well
    server.released.set()
    generator.run()
    assert len(generator.rows) == 5 and len(server.row_requests) == 6


def test_a_finished_run_started_again_asks_for_nothing(generator: Generator, server: OpenAIServer) -> None:
    generator.run()
    before = generator.rows
    generator.run()
    assert len(server.requests) == 5 and generator.rows == before


def test_the_same_seed_makes_the_same_requests(generator: Generator, server: OpenAIServer) -> None:
    generator.run()
    generator.run(output_dir=str(generator.folder / "again"))
    assert bodies(server.row_requests[:5]) == bodies(server.row_requests[5:])


def test_more_rows_can_be_asked_for_later(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=3)
    first = generator.rows
    generator.run(num_samples=6)
    assert len(server.requests) == 6
    assert generator.rows[:3] == first and len(generator.rows) == 6
    assert generator.manifest["cost"] == pytest.approx(6 * ANSWER_COST)


def test_a_copy_of_a_row_of_the_earlier_run_is_no_row(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=2)
    server.script = [answer_with(lambda _request: {"text": generator.rows[1]["text"]})]
    generator.run(num_samples=3)
    assert len(server.requests) == 4
    assert len({row["text"] for row in generator.rows}) == 3


def test_names_that_were_paid_for_are_not_asked_again(generator: Generator, server: OpenAIServer) -> None:
    """It died between the last answer about the pool and the pool's file."""
    kinds = {**RECIPE["label_kinds"], "topic": {"description": "", "names": TOPICS, "size": len(TOPICS) + 3}}
    generator.run(num_samples=1, label_kinds=kinds, descriptions=True)
    pool, asked = (generator.output / "pool.json").read_bytes(), len(server.requests)
    assert asked > 1 + 3
    (generator.output / "pool.json").unlink()
    generator.run(num_samples=1, label_kinds=kinds, descriptions=True)
    assert len(server.requests) == asked
    assert (generator.output / "pool.json").read_bytes() == pool


def test_a_pool_that_was_changed_is_refused(generator: Generator, server: OpenAIServer) -> None:
    """The rows of one folder share their names."""
    generator.run(num_samples=1)
    path = generator.output / "pool.json"
    path.write_text(path.read_text(encoding="utf-8").replace("chess", "draughts"), encoding="utf-8")
    assert "found pool.json changed" in generator.fail(num_samples=2)
    assert len(server.requests) == 1


def test_fewer_rows_than_before_are_no_reason_to_ask(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=4)
    generator.run(num_samples=2)
    assert len(server.requests) == 4 and len(generator.rows) == 2


def test_half_a_line_in_the_journal_is_cut_off(generator: Generator, server: OpenAIServer) -> None:
    """The power went while the last answer was written."""
    generator.run(num_samples=3)
    path = generator.output / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-25])
    generator.run(num_samples=4)
    assert len(generator.rows) == 4 and len(server.requests) == 3 + 2
    assert len(generator.journal) == 4
    assert path.read_bytes().startswith(b"".join(whole.splitlines(keepends=True)[:2]))


def test_a_broken_line_amid_the_journal_is_named(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=3)
    path = generator.output / "journal.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], "{broken\n", *lines[2:]]), encoding="utf-8")
    said = generator.fail(num_samples=3)
    assert "Expected a record in line 2 of" in said and "found b'{broken'" in said
    assert len(server.requests) == 3


KINDS: dict[str, Any] = {
    "topic": {"description": "what it is about", "names": TOPICS},
    "intent": {"description": "what the writer wants", "names": INTENTS},
    "emotion": {"description": "what the writer feels", "names": [*EMOTIONS[:-1], "regret"]},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 4),
        ("label_kinds", KINDS),
        ("max_labels", 2),
        ("max_negatives", 5),
        ("num_candidates", 7),
        ("styles", ["a poem"]),
        ("languages", ["German"]),
    ],
)
def test_another_plan_in_the_same_folder_is_refused(
    name: str, value: object, generator: Generator, server: OpenAIServer
) -> None:
    generator.run(num_samples=2)
    before = {path.name: path.read_bytes() for path in generator.output.iterdir() if path.is_file()}
    said = generator.fail(num_samples=2, **{name: value})
    assert f"found {name} changed from " in said and "Choose another output_dir." in said
    assert len(server.requests) == 2
    assert {path.name: path.read_bytes() for path in generator.output.iterdir() if path.is_file()} == before


def test_settings_that_do_not_shape_the_plan_may_change(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=2)
    generator.run(num_samples=3, concurrency=2, timeout=9, max_retries=0, input_price=1.0, output_price=1.0, max_cost=9.0)
    assert len(generator.rows) == 3


def test_two_runs_in_one_folder_are_refused(generator: Generator, server: OpenAIServer) -> None:
    server.default = server.hold
    first = threading.Thread(target=generate_data.main, args=([str(generator.write_recipe(num_samples=1))],))
    first.start()
    server.wait_for(lambda: len(server.row_requests) == 1)
    said = generator.fail(num_samples=1)
    server.released.set()
    first.join()
    assert f"Expected no other run in {str(generator.output)!r}" in said
    assert len(server.requests) == 1 and len(generator.rows) == 1


# -- money ------------------------------------------------------------------------------------------------------------


def test_a_run_stops_before_it_costs_more_and_goes_on_with_more(generator: Generator, server: OpenAIServer) -> None:
    said = generator.fail(num_samples=9, max_cost=4.1 * ANSWER_COST)
    assert len(server.requests) == 4
    assert len(generator.rows) == 4
    assert "found 0.800000 USD spent" in said and "4 of 9 rows are in" in said and "--max_cost" in said
    assert generator.manifest["cost"] == pytest.approx(4 * ANSWER_COST)
    generator.run(num_samples=9, max_cost=20.0)
    assert len(server.requests) == 9 and len(generator.rows) == 9


def test_requests_in_flight_count_for_the_limit(generator: Generator, server: OpenAIServer) -> None:
    """Eight workers that each see that there is money for one more would spend eight times as much."""
    server.default = answer_slowly
    generator.fail(num_samples=30, concurrency=8, max_cost=5.1 * ANSWER_COST)
    assert len(server.requests) == 5
    assert generator.manifest["cost"] == pytest.approx(5 * ANSWER_COST)


def test_refused_answers_count_for_the_limit_too(generator: Generator, server: OpenAIServer) -> None:
    server.default = answer_with(lambda _request: {"text": ""})
    generator.fail(num_samples=9, max_cost=3.1 * ANSWER_COST)
    assert len(server.requests) == 3


def test_a_limit_needs_prices(generator: Generator, server: OpenAIServer) -> None:
    said = generator.fail(max_cost=1.0, input_price=None, output_price=None)
    assert "max_cost" in said and "input_price" in said
    assert not server.requests
