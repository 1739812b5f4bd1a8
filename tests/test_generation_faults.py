"""What a model or a provider does wrong: every fault ends in a row, in a reject with its reason, or in a clear stop."""

import json

import pytest

from . import generation_helpers
from .generation_helpers import ANSWER_COST, NAMES, Generator, finish
from .openai_answers import (
    KEY,
    Behaviour,
    Reply,
    Request,
    answer_well,
    answer_with,
    cut_connection,
    echo_key,
    fail,
    hang,
    refuse,
    truncate,
    wrap,
    write_text,
)
from .openai_server import OpenAIServer

generator, server = generation_helpers.generator, generation_helpers.server


def labels_of(request: Request) -> list[str]:
    """The names that stand in the prompt and are not offered as negatives: the labels of the item."""
    return [name for name in NAMES if name in request.prompt and name not in request.offered]


def repeat_labels(request: Request) -> dict[str, str]:
    return {"text": "This text is " + " and ".join(labels_of(request) * 6) + "."}


def answer_with_a_web_page(_request: Request) -> Reply:
    return Reply("<html>Please log in</html>")


BAD_ANSWERS: dict[str, tuple[Behaviour, str]] = {
    "broken JSON": (
        lambda request: wrap(request, '{"text": "We carried a quiet'),
        'Expected a JSON object, found \'{"text": ',
    ),
    "no JSON": (lambda request: wrap(request, "Sure, here it is."), "Expected a JSON object, found 'Sure, here it is.'"),
    "nothing": (lambda request: wrap(request, ""), "Expected a JSON object, found "),
    "another field": (lambda request: wrap(request, '{"sentence": "It."}'), "Expected the field text, found none."),
    "another type": (answer_with(lambda _request: {"text": ["It."]}), "Expected text to fit the schema, found ['It.']"),
    "a name that was not offered": (
        answer_with(lambda request: {"negatives": [*request.offered[:2], "skateboarding"]}),
        "Expected negatives.2 to be one of the names offered, found 'skateboarding'. Choose from the list",
    ),
    "a label as negative": (
        answer_with(lambda request: {"negatives": [*request.offered[:2], labels_of(request)[0]]}),
        "Expected negatives.2 to be one of the names offered, found",
    ),
    "too few negatives": (
        answer_with(lambda request: {"negatives": request.offered[:2]}),
        "Expected 3 to 4 negatives, found 2. Choose so many from the names offered.",
    ),
    "too many negatives": (
        answer_with(lambda request: {"negatives": request.offered[:5]}),
        "Expected 3 to 4 negatives, found 5.",
    ),
    "a negative twice": (
        answer_with(lambda request: {"negatives": [*request.offered[:3], request.offered[0]]}),
        "Expected distinct negatives, found",
    ),
    "no text": (answer_with(lambda _request: {"text": " . "}), "Expected a text with words, found an empty one."),
    "too short": (
        answer_with(lambda request: {"text": write_text(request.prompt, "English", 5)}),
        "Expected a text of 12 to 30 words, found 5. Keep to the length.",
    ),
    "too long": (
        answer_with(lambda request: {"text": write_text(request.prompt, "English", 61)}),
        "Expected a text of 12 to 30 words, found 61.",
    ),
    "another language": (
        answer_with(lambda request: {"text": write_text(request.prompt, "German", 20)}),
        "Expected the text in English, found the language 'de'. Write the text in English.",
    ),
    "its labels": (answer_with(repeat_labels), "Expected a text that shows its labels"),
    "words of the request": (
        answer_with(lambda request: {"text": request.prompt[request.prompt.index("Style: ") :].split("\n\n")[0]}),
        "Expected a text of your own, found words of the request.",
    ),
    "words of the instructions": (
        answer_with(lambda request: {"text": " ".join(request.prompt.split()[:25])}),
        "Expected a text of your own, found words of the request.",
    ),
    "refusal": (refuse, "Expected an answer, found a refusal (I cannot help with that.)."),
    "cut off": (truncate, "Expected a whole answer, found one cut off ("),
}


@pytest.mark.parametrize("name", list(BAD_ANSWERS))
def test_a_bad_answer_is_asked_again_with_the_reason(name: str, generator: Generator, server: OpenAIServer) -> None:
    answer, reason = BAD_ANSWERS[name]
    server.script = [answer_well, answer]
    generator.run(num_samples=3)
    assert len(generator.rows) == 3 and not generator.rejected
    assert len(server.row_requests) == 4
    [refused] = [entry for entry in generator.journal if entry["problem"]]
    assert reason in refused["problem"]
    # The model cannot mend what it is not told.
    assert refused["problem"] in server.row_requests[2].prompt
    assert labels_of(server.row_requests[2]) == labels_of(server.row_requests[1])


@pytest.mark.parametrize("name", list(BAD_ANSWERS))
def test_an_item_without_a_good_answer_is_listed_and_replaced(name: str, generator: Generator, server: OpenAIServer) -> None:
    answer, reason = BAD_ANSWERS[name]
    server.script = [answer_well, answer, answer]
    generator.run(num_samples=3)
    assert len(generator.rows) == 3
    [rejected] = generator.rejected
    assert reason in rejected["problem"]
    assert len(server.row_requests) == 5
    # Answers that are no rows are paid for all the same.
    assert generator.manifest["cost"] == pytest.approx(5 * ANSWER_COST)
    assert rejected["id"] not in [row["id"] for row in generator.rows]


def test_rows_and_rejected_rows_share_one_kind_of_id(generator: Generator, server: OpenAIServer) -> None:
    server.script = [truncate, truncate]
    generator.run(num_samples=2)
    assert [row["id"] for row in (*generator.rejected, *generator.rows)] == ["000000", "000001", "000002"]


@pytest.mark.parametrize("api", ["chat", "json"])
@pytest.mark.parametrize("name", ["broken JSON", "another field", "a name that was not offered", "refusal", "cut off"])
def test_the_other_endpoints_answer_as_badly(name: str, api: str, generator: Generator, server: OpenAIServer) -> None:
    """Each way of asking has its own errors for the same fault."""
    answer, reason = BAD_ANSWERS[name]
    server.script = [answer, answer]
    generator.run(num_samples=2, api=api)
    assert len(generator.rows) == 2
    assert [reason in one["problem"] for one in generator.rejected] == [True]
    assert generator.manifest["cost"] == pytest.approx(4 * ANSWER_COST)


def test_a_near_copy_of_an_accepted_text_is_no_row(generator: Generator, server: OpenAIServer) -> None:
    def copy_first(_request: Request) -> dict[str, str]:
        words = server.row_requests[0].write_row()["text"].split()
        return {"text": " ".join([*words[:-1], "yesterday."])}

    server.script = [answer_well, answer_with(copy_first), answer_with(copy_first)]
    generator.run(num_samples=3)
    [rejected] = generator.rejected
    assert rejected["problem"].startswith(f"Expected a new text, found a near copy of row {generator.rows[0]['id']}.")
    assert len({row["text"] for row in generator.rows}) == 3


def test_labels_that_cannot_live_in_one_text_are_given_up_at_once(generator: Generator, server: OpenAIServer) -> None:
    server.script = [answer_with(lambda _request: {"impossible": "Nobody can boast and apologise.", "text": ""})]
    generator.run(num_samples=2)
    [rejected] = generator.rejected
    assert "Nobody can boast and apologise." in rejected["problem"]
    assert len(generator.rows) == 2 and len(server.row_requests) == 3


def test_a_model_that_never_answers_well_does_not_run_for_ever(generator: Generator, server: OpenAIServer) -> None:
    server.default = truncate
    said = generator.fail(num_samples=2)
    assert len(server.row_requests) == 3 * 2 * 2  # three items for each wanted row, two attempts each
    assert "Expected 2 rows from 6 items, found 0" in said and "6 x Expected a whole answer" in said
    assert len(generator.rejected) == 6


# -- the wire ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_retries", [0, 1])
def test_the_server_says_how_long_to_wait(max_retries: int, generator: Generator, server: OpenAIServer) -> None:
    """Within the client's retries, and when they are used up."""
    server.script = [fail(429, retry_after="1")]
    generator.run(num_samples=2, max_retries=max_retries)
    first, second, _ = server.row_requests
    assert second.time - first.time >= 1
    assert second.body == first.body
    assert len(generator.rows) == 2 and not generator.rejected


@pytest.mark.parametrize(
    "fault",
    [fail(500, retry_after_ms="10"), fail(503, retry_after_ms="10"), cut_connection, answer_with_a_web_page],
    ids=["500", "503", "half an answer", "a page of a proxy"],
)
def test_a_fault_of_the_moment_costs_no_attempt(fault: Behaviour, generator: Generator, server: OpenAIServer) -> None:
    server.script = [fault]
    generator.run(num_samples=2, max_attempts=1)
    assert len(generator.rows) == 2 and not generator.rejected
    assert len(server.row_requests) == 3


def test_a_server_that_hangs_is_given_up_after_the_set_time(generator: Generator, server: OpenAIServer) -> None:
    """The client's own limit is ten minutes."""
    server.script = [hang]
    generator.run(num_samples=2, timeout=2, max_attempts=1)
    assert len(generator.rows) == 2 and not generator.rejected
    first, second, *_ = server.row_requests
    assert 2 <= second.time - first.time < 60


@pytest.mark.parametrize("max_retries", [0, 2])
def test_faults_in_a_row_stop_the_run_and_the_same_command_goes_on(
    max_retries: int, generator: Generator, server: OpenAIServer
) -> None:
    server.script = [answer_well]
    server.default = fail(500, retry_after_ms="10")
    said = generator.fail(max_retries=max_retries)
    asked = len(server.row_requests)
    assert asked == 1 + 5 * (1 + max_retries)
    assert "found 5 requests without one in a row (last: status 500" in said
    assert "Start the same command again when it is back, it goes on." in said
    assert len(generator.rows) == 1
    server.default = answer_well
    generator.run(max_retries=max_retries)
    assert len(generator.rows) == 5 and len(server.row_requests) == asked + 4


def test_a_request_that_the_provider_refuses_is_no_row_and_costs_nothing(generator: Generator, server: OpenAIServer) -> None:
    """Filters answer with 400; after an answer it is about the request, not about the way of asking."""
    server.script = [answer_well, *[fail(400, "The prompt was filtered.")] * 2]
    generator.run(num_samples=2)
    [rejected] = generator.rejected
    assert "found the request refused (status 400: The prompt was filtered.)" in rejected["problem"]
    assert {request.path for request in server.requests} == {"/v1/responses"}
    assert generator.manifest["cost"] == pytest.approx(2 * ANSWER_COST)


def test_faults_with_successes_between_do_not_stop_it(generator: Generator, server: OpenAIServer) -> None:
    server.script = ([fail(500)] * 4 + [answer_well]) * 2
    generator.run(num_samples=2, max_retries=0)
    assert len(generator.rows) == 2 and len(server.row_requests) == 10


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (echo_key, "OPENAI_API_KEY"),
        (fail(403, "Your region is not supported."), "403"),
        (fail(404, "The model `tiny-model` does not exist.", "model_not_found"), "tiny-model"),
        (fail(429, "You exceeded your current quota.", "insufficient_quota", retry_after_ms="10"), "quota"),
    ],
    ids=["wrong key", "forbidden", "unknown model", "no money"],
)
def test_faults_that_waiting_does_not_mend_stop_it_at_once(
    fault: Behaviour, words: str, generator: Generator, server: OpenAIServer
) -> None:
    server.script = [answer_well]
    server.default = fault
    said = generator.fail(max_retries=0)
    assert len(server.row_requests) == 2
    assert "Expected" in said and "found" in said and words in said
    assert len(generator.rows) == 1
    generator.assert_key_is_nowhere(said)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"/v1/responses"}, "found 'tiny-model'"),
        ({"/v1/responses", "/v1/chat/completions"}, "Expected the server to answer by api 'json', found: status 404"),
    ],
    ids=["wrong model", "wrong address"],
)
def test_what_404_means_is_told_apart(missing: set[str], words: str, generator: Generator, server: OpenAIServer) -> None:
    """An unknown endpoint, an unknown model and a wrong address all look the same to a client."""
    server.missing = missing
    server.default = fail(404, "The model `tiny-model` does not exist.", "model_not_found")
    said = generator.fail()
    assert words in said and "base_url" in said


def test_the_key_reaches_the_provider_and_nothing_else(generator: Generator, server: OpenAIServer) -> None:
    """Neither logs, nor files, nor the words of an error that quotes it."""
    server.script = [answer_well, answer_with(lambda _request: {"text": f"the key {KEY} stood in my garden"}), truncate]
    server.default = echo_key
    status, out, err = finish(generator.start())
    assert status == 1 and "OPENAI_API_KEY" in err
    assert {request.headers["authorization"] for request in server.row_requests} == {f"Bearer {KEY}"}
    generator.assert_key_is_nowhere(out, err)


def test_without_a_key_it_says_where_to_put_one(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    said = generator.fail()
    assert "OPENAI_API_KEY" in said and ".env" in said and "any value" in said


def test_a_key_in_the_recipe_is_refused_and_not_repeated(generator: Generator, server: OpenAIServer) -> None:
    said = generator.fail(api_key=KEY)
    assert "OPENAI_API_KEY" in said and KEY not in said
    assert not server.requests


def test_a_row_can_be_read_back_whatever_its_letters(generator: Generator, server: OpenAIServer) -> None:
    """A line separator of Unicode inside a text must not end the line of a file."""
    text = "We carried the quiet mirror over there\u2028and the old lantern 🎉 \u0085 stayed near the garden window."
    server.script = [answer_with(lambda _request: {"text": text})]
    generator.run(num_samples=2)
    assert text in [json.loads(line)["text"] for line in (generator.output / "train.jsonl").open(encoding="utf-8")]


def test_half_an_emoji_is_a_bad_answer_and_no_crash(generator: Generator, server: OpenAIServer) -> None:
    """Models cut between the two halves of a character; JSON can carry the half, UTF-8 cannot."""

    def answer(request: Request) -> Reply:
        reply = answer_with(lambda _request: {"text": "We carried a quiet mirror over there \ud83d"})(request)
        return Reply(json.dumps(reply.body).replace("\\\\ud83d", "\\ud83d"))

    server.script = [answer, answer]
    generator.run(num_samples=2)
    assert len(generator.rows) == 2 and len(generator.rejected) == 1


def test_a_password_in_the_address_is_written_nowhere(generator: Generator, server: OpenAIServer) -> None:
    generator.run(num_samples=1, base_url=server.url.replace("http://", "http://bob:pa55word@"))
    assert not [path for path in generator.output.iterdir() if "pa55word" in path.read_text(encoding="utf-8")]
