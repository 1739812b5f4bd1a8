"""The Batch API: half the price, one upload for each round, and no upload twice."""

import json
import signal

import pytest

from . import generation_helpers
from .generation_helpers import ANSWER_COST, Generator, finish
from .openai_answers import Json, Reply, Request, answer_well, answer_without_usage, echo_key, fail, refuse, truncate, wrap
from .openai_server import OpenAIServer

generator, server = generation_helpers.generator, generation_helpers.server
BATCH = {"batch": True, "poll_seconds": 0.05}


def uploads(server: OpenAIServer) -> list[list[Json]]:
    """The lines of each uploaded file."""
    return [
        [json.loads(line) for line in content.splitlines()]
        for name, content in server.files.items()
        if name.startswith("file-")
    ]


def restore(generator: Generator, pending: Json, *, lines: int) -> None:
    """Take a finished run back to where it had a batch under way and so many answers in its journal."""
    manifest = {**generator.manifest, "pending_batch": pending, "finished": False}
    (generator.output / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    journal = generator.output / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    (generator.output / "train.jsonl").unlink()


def read_rows(generator: Generator) -> list[Json]:
    with (generator.output / "train.jsonl").open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def test_a_batch_makes_the_rows_at_half_the_price(generator: Generator, server: OpenAIServer) -> None:
    generator.run(**BATCH)
    [lines] = uploads(server)
    assert len(lines) == len({line["custom_id"] for line in lines}) == 5
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/responses")}
    [batch] = server.batches.values()
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/responses", "24h")
    assert not server.row_requests
    assert len(generator.rows) == 5
    assert generator.manifest["cost"] == pytest.approx(5 * ANSWER_COST / 2)


def test_a_batch_asks_for_the_same_rows_as_single_requests(generator: Generator, server: OpenAIServer) -> None:
    """Its lines come back in any order; each text must meet the labels for which it was written."""
    generator.run()
    single = generator.rows
    generator.run(**BATCH, output_dir=str(generator.folder / "batch"))
    generator.output = generator.folder / "batch"
    assert generator.rows == single
    [lines] = uploads(server)
    assert [line["body"] for line in lines] == [request.body for request in server.row_requests]


def test_bad_answers_go_into_the_next_batch_with_the_reason(generator: Generator, server: OpenAIServer) -> None:
    server.script = [answer_well, truncate, refuse, fail(400, "scripted fault"), answer_well, truncate]
    generator.run(**BATCH)
    assert len(generator.rows) == 5
    first, second, third = uploads(server)
    assert [len(first), len(second), len(third)] == [5, 3, 1]
    reasons = [entry["problem"] for entry in generator.journal if entry["problem"]]
    assert sum(reason in json.dumps(line, ensure_ascii=False) for line in second for reason in reasons[:2]) == 2
    [rejected] = generator.rejected
    assert "found one cut off" in rejected["problem"]


def test_a_killed_batch_run_goes_on_with_its_batch(generator: Generator, server: OpenAIServer) -> None:
    server.batch_fate = ["in_progress"]
    process = generator.start(**BATCH)
    server.wait_for(lambda: server.count("GET", "/v1/batches/batch_0") >= 2 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL, "it ended before it could be killed"
    assert generator.manifest["pending_batch"]["id"] == "batch_0"
    server.batch_fate = []
    generator.run(**BATCH)
    assert len(generator.rows) == 5
    assert (server.count("POST", "/v1/files"), server.count("POST", "/v1/batches")) == (1, 1)


def test_a_run_killed_while_it_read_the_answers_reads_the_rest(generator: Generator, server: OpenAIServer) -> None:
    generator.run(**BATCH)
    rows = generator.rows
    restore(generator, {"file": "file-0", "id": "batch_0", "api": "responses"}, lines=2)
    generator.run(**BATCH)
    assert generator.rows == rows and len(generator.journal) == 5
    assert server.count("POST", "/v1/files") == 1


def test_a_run_killed_before_it_knew_its_batch_finds_it(generator: Generator, server: OpenAIServer) -> None:
    """The server had made the batch, and the answer with its id got lost."""
    generator.run(**BATCH)
    restore(generator, {"file": "file-0", "id": None, "api": "responses"}, lines=0)
    generator.run(**BATCH)
    assert len(generator.rows) == 5
    assert (server.count("POST", "/v1/files"), server.count("POST", "/v1/batches")) == (1, 1)


def test_a_run_killed_after_the_upload_makes_the_batch(generator: Generator, server: OpenAIServer) -> None:
    generator.run(**BATCH)
    restore(generator, {"file": "file-0", "id": None, "api": "responses"}, lines=0)
    server.batches.clear()
    generator.run(**BATCH)
    assert len(generator.rows) == 5
    assert (server.count("POST", "/v1/files"), server.count("POST", "/v1/batches")) == (1, 2)


def test_a_batch_is_read_as_it_was_asked(generator: Generator, server: OpenAIServer) -> None:
    """Another way of asking on the command line must not throw away answers that are paid for."""
    generator.run(**BATCH)
    restore(generator, {"file": "file-0", "id": "batch_0", "api": "responses"}, lines=0)
    generator.run(**BATCH, api="chat")
    assert len(generator.rows) == 5 and len(uploads(server)) == 1


def test_a_batch_under_way_is_not_forgotten_without_batch(generator: Generator, server: OpenAIServer) -> None:
    generator.run(**BATCH)
    restore(generator, {"file": "file-0", "id": "batch_0", "api": "responses"}, lines=0)
    said = generator.fail()
    assert "Expected batch, as batch batch_0 of this run is under way" in said
    assert not server.row_requests


def test_an_expired_batch_keeps_what_was_answered(generator: Generator, server: OpenAIServer) -> None:
    server.batch_fate = ["expired"]
    generator.run(**BATCH, num_samples=6)
    first, second = uploads(server)
    assert (len(first), len(second)) == (6, 3)
    assert len(generator.rows) == 6 and not generator.rejected, "the provider's delay is no fault of the items"
    assert generator.manifest["cost"] == pytest.approx(6 * ANSWER_COST / 2)


def test_a_failed_batch_stops_with_the_provider_s_reason(generator: Generator, server: OpenAIServer) -> None:
    server.batch_fate = ["failed"]
    said = generator.fail(**BATCH)
    assert "Expected batch batch_0 to be taken, found it failed (scripted)." in said
    generator.run(**BATCH)
    assert len(generator.rows) == 5 and len(uploads(server)) == 2


def test_a_batch_that_brings_nothing_stops_the_run_and_is_forgotten(generator: Generator, server: OpenAIServer) -> None:
    """Sent again and again it could wait for days."""
    server.batch_fate = ["cancelled"]
    said = generator.fail(**BATCH)
    assert "found none (it is cancelled). Start the same command again" in said
    generator.run(**BATCH)
    assert len(generator.rows) == 5 and len(uploads(server)) == 2


def test_faults_while_it_waits_do_not_end_the_wait(generator: Generator, server: OpenAIServer) -> None:
    server.batch_script = [fail(500)] * 4
    generator.run(**BATCH, max_retries=0)
    assert len(generator.rows) == 5 and len(uploads(server)) == 1


def test_a_wrong_key_stops_it_and_is_not_repeated(generator: Generator, server: OpenAIServer) -> None:
    server.batch_script = [echo_key]
    said = generator.fail(**BATCH)
    assert "OPENAI_API_KEY" in said and len(server.requests) == 1
    generator.assert_key_is_nowhere(said)


def test_a_line_separator_inside_an_answer_does_not_split_its_line(generator: Generator, server: OpenAIServer) -> None:
    """To `str.splitlines` a text may hold several lines; then no later start of the run could read the batch either."""
    text = "We carried the quiet mirror over there\u2028and the old lantern stayed \u0085near the garden window."

    def answer(request: Request) -> Reply:
        return wrap(request, json.dumps(request.write_row() | {"text": text}, ensure_ascii=False))

    server.script = [answer]
    generator.run(**BATCH)
    assert text in [row["text"] for row in read_rows(generator)]


def test_a_batch_is_as_large_as_the_money_allows(generator: Generator, server: OpenAIServer) -> None:
    limit = 10.5 * ANSWER_COST / 2
    said = generator.fail(**BATCH, num_samples=30, max_cost=limit)
    assert "--max_cost" in said
    assert len(generator.rows) == sum(map(len, uploads(server))) == 10
    assert generator.manifest["cost"] <= limit


def test_a_batch_that_would_cost_too_much_is_not_uploaded(generator: Generator, server: OpenAIServer) -> None:
    said = generator.fail(**BATCH, num_samples=50, max_cost=0.001)
    assert "max_cost" in said
    assert not uploads(server)


def test_a_server_without_batches_is_named(generator: Generator, server: OpenAIServer) -> None:
    server.missing = {"/v1/files", "/v1/batches"}
    said = generator.fail(**BATCH)
    assert "Expected a server with the Batch API" in said and "Leave batch out." in said


@pytest.mark.parametrize("identifier", ["batch_0", None])
def test_a_batch_that_is_refused_for_good_does_not_lock_the_folder(
    identifier: str | None, generator: Generator, server: OpenAIServer
) -> None:
    """The provider has forgotten the batch, or does not take the file; only a new one can help."""
    generator.run(**BATCH)
    restore(generator, {"file": "file-0", "id": identifier, "api": "responses"}, lines=2)
    server.batches.clear()
    server.batch_script = [fail(404, "No such batch.")] if identifier else [fail(404), fail(400, "No such file.")]
    said = generator.fail(**BATCH)
    assert f"Batch {identifier or 'of file file-0'} is given up; a new start sends its requests anew." in said
    assert generator.manifest["pending_batch"] is None
    generator.run(**BATCH)
    assert len(generator.rows) == 5 and [len(lines) for lines in uploads(server)] == [5, 3]


def test_a_wrong_key_does_not_lose_the_batch_under_way(generator: Generator, server: OpenAIServer) -> None:
    generator.run(**BATCH)
    restore(generator, {"file": "file-0", "id": "batch_0", "api": "responses"}, lines=0)
    server.batch_script = [echo_key]
    generator.fail(**BATCH)
    assert generator.manifest["pending_batch"]["id"] == "batch_0"


def test_an_uploaded_file_without_a_batch_does_not_ask_for_batch(generator: Generator, server: OpenAIServer) -> None:
    generator.run(**BATCH)
    restore(generator, {"file": "file-0", "id": None, "api": "responses"}, lines=2)
    generator.run()
    assert len(generator.rows) == 5 and len(server.row_requests) == 3
    assert generator.manifest["pending_batch"] is None


def test_a_batch_whose_creation_got_no_answer_is_not_created_again(generator: Generator, server: OpenAIServer) -> None:
    """Each batch is paid, also the one of which nobody knows."""

    def create_and_lose(request: Request) -> Reply:
        server._answer_batch(request)
        return fail(500)(request)

    def pass_on(request: Request) -> Reply:
        return server._answer_batch(request)

    server.batch_script = [pass_on, fail(500), fail(429), pass_on, create_and_lose]
    generator.run(**BATCH, max_retries=0)
    assert len(generator.rows) == 5 and len(server.batches) == server.count("POST", "/v1/batches") == 1
    server.batch_script = [pass_on, pass_on, create_and_lose]
    generator.run(**BATCH, num_samples=7, max_retries=3)
    assert len(generator.rows) == 7 and len(server.batches) == server.count("POST", "/v1/batches") == 2


def test_a_run_whose_first_batch_was_cut_short_ends_well_when_money_is_left(
    generator: Generator, server: OpenAIServer
) -> None:
    """With a limit on its tokens a batch is sized for the worst, so the next one is paid by what was not used up."""
    generator.run(**BATCH, max_output_tokens=200, max_cost=1.0)
    assert len(uploads(server)) > 1
    assert len(generator.rows) == 5 and generator.manifest["finished"]


def test_the_longest_answers_count_for_the_size_of_a_batch(generator: Generator, server: OpenAIServer) -> None:
    """The mean of earlier answers bounds nothing."""

    def answer_at_length(request: Request) -> Reply:
        reply = answer_well(request)
        assert isinstance(reply.body, dict)
        return Reply({**reply.body, "usage": {"input_tokens": 100, "output_tokens": 400}})

    generator.run(num_samples=2)
    server.default = answer_at_length
    said = generator.fail(**BATCH, num_samples=30, max_output_tokens=400, max_cost=3.0)
    assert "--max_cost" in said and 0.4 < generator.manifest["cost"] <= 3.0


def test_a_batch_that_was_dearer_than_the_limit_says_so(
    generator: Generator, server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    def answer_at_length(request: Request) -> Reply:
        reply = answer_well(request)
        assert isinstance(reply.body, dict)
        return Reply({**reply.body, "usage": {"input_tokens": 100, "output_tokens": 5000}})

    server.default = answer_at_length
    generator.run(**BATCH, max_cost=9.0)
    assert "The batch was dearer than estimated: 25.250000 USD are spent, max_cost is 9.0 USD." in caplog.text


def fail_in_the_body(_request: Request) -> Reply:
    return Reply({"id": "resp_1", "status": "failed", "error": {"code": "server_error", "message": "We broke."}})


def test_a_batch_of_lost_requests_says_why_and_rejects_nothing(generator: Generator, server: OpenAIServer) -> None:
    """Its requests were refused one by one by the provider, which is no fault of the model's answers."""
    server.default = fail(429, "Slow down.")
    assert "found none (it is completed; status 429: " in generator.fail(**BATCH) and not generator.journal
    server.script, server.default = [answer_well], fail_in_the_body
    said = generator.fail(**BATCH)
    assert "We broke." in said and len(generator.rows) == 1 and not generator.rejected


def test_an_estimate_of_tokens_in_a_batch_counts_what_was_asked(generator: Generator, server: OpenAIServer) -> None:
    server.default = answer_without_usage
    generator.run(**BATCH, num_samples=1)
    [record] = generator.journal
    assert record["usage"]["estimated"] and record["usage"]["input_tokens"] > 100
