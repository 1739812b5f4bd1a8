"""What a request to an endpoint may say beside texts and names: as the pipeline, and no more than a machine can take."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from zeroshot.hub.handler import OPTIONS, EndpointHandler
from zeroshot.models import ARCHITECTURES
from zeroshot.models.options_zeroshot import OPTION_NAMES

from .conftest import LABELS, TEXTS
from .test_call_command import TREE

LONG = "the team scored a goal " * 20  # five windows of 32 tokens
DESCRIBED = {"sports": "the match of the team", "food": ["cake", "flour and sugar"]}


@pytest.fixture(scope="module")
def handler(encoder_dir: str, tmp_path_factory: pytest.TempPathFactory) -> EndpointHandler:
    """Over a bi-encoder that reads 32 tokens."""
    path = tmp_path_factory.mktemp("models") / "model"
    ARCHITECTURES["biencoder"].from_encoder(encoder_dir, max_tokens=32).save_pretrained(path)
    return EndpointHandler(path)


def ask(handler: EndpointHandler, inputs: Any, labels: Any = None, **parameters: Any) -> Any:
    """As the body of a request comes and an answer goes."""
    body = {"inputs": inputs, "parameters": {"candidate_labels": labels or LABELS, **parameters}}
    return json.loads(json.dumps(handler(json.loads(json.dumps(body)))))


def test_parameters_are_the_options_of_a_call() -> None:
    """An option that a model learns must not be refused here."""
    assert sorted(OPTIONS) == sorted(OPTION_NAMES)


@pytest.mark.parametrize(
    ("labels", "options", "added"),
    [
        (LABELS, {"threshold": 0.5, "none_label": "other", "top_k": 2}, {"decision", "none_score"}),
        (LABELS, {"threshold": {**dict.fromkeys(LABELS, 0.5), "music": 0.1}, "multi_label": True}, {"decision"}),
        (
            LABELS,
            {"label_offsets": {label: 0.3 * number for number, label in enumerate(LABELS)}, "threshold": 0.4},
            {"decision"},
        ),
        (DESCRIBED, {"explain": True, "phrasing_reduction": "mean"}, {"explanation"}),
        (DESCRIBED, {"return_embeddings": True, "hypothesis_template": {"sports": "about {}", "food": "{}"}}, {"embedding"}),
        (TREE, {"return_hierarchical": True, "hypothesis_template": ["{}", "of {}"], "precision": "fp32"}, {"hierarchy"}),
    ],
    ids=lambda value: ",".join(sorted(value)),
)
def test_options_say_what_they_say_in_the_pipeline(
    handler: EndpointHandler, labels: Any, options: dict[str, Any], added: set[str]
) -> None:
    expected = json.loads(json.dumps(handler.classifier(TEXTS, labels, batch_size=32, **options)))
    answers = ask(handler, TEXTS, labels, **options)
    assert [set(one) - {"sequence", "labels", "scores"} for one in answers] == [added] * len(TEXTS)
    for answer, other in zip(answers, expected, strict=True):
        assert answer["scores"] == pytest.approx(other.pop("scores"), abs=1e-6)
        assert answer["labels"] == other["labels"] and answer["sequence"] == other["sequence"]
        for name in added - {"embedding", "explanation", "hierarchy", "none_score"}:
            assert answer[name] == other[name]


def test_descriptions_alone_leave_the_answer_a_list(handler: EndpointHandler) -> None:
    """What the Hub's client reads; names come back, not what was encoded."""
    answer = ask(handler, TEXTS[0], DESCRIBED)
    expected = handler.classifier(TEXTS[0], DESCRIBED)
    assert [one["label"] for one in answer] == expected["labels"]
    assert [one["score"] for one in answer] == pytest.approx(expected["scores"], abs=1e-6)


@pytest.mark.parametrize("pooling", ["max", "mean", "noisy_or"])
def test_long_texts_are_read_in_windows(handler: EndpointHandler, pooling: str) -> None:
    """The answer is a list as that of a short text, so that clients need not know which texts are long."""
    short, long = ask(handler, [TEXTS[0], LONG], overflow_pooling=pooling)
    expected = handler.classifier(LONG, LABELS, overflow_pooling=pooling)
    assert expected["windows"] == 5 and len(short) == len(long) == len(LABELS)
    assert [one["label"] for one in long] == expected["labels"]
    assert [one["score"] for one in long] == pytest.approx(expected["scores"], abs=1e-6)


def test_a_cut_is_told(handler: EndpointHandler) -> None:
    answers = ask(handler, [TEXTS[0], LONG], overflow="truncate")
    assert [one["truncated"] for one in answers] == [0, 70]


def test_long_texts_may_be_refused_by_their_position_in_the_request(handler: EndpointHandler) -> None:
    """Not by that in a batch of 32."""
    message = (
        "Expected texts of at most 32 tokens beside their labels, found 33 at position 40. Shorten it, or pass "
        "overflow='split' or 'truncate'."
    )
    texts = [*["rain " * 30] * 40, "rain " * 31]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ask(handler, texts, overflow="error")
    assert len(ask(handler, texts[:40], overflow="error")) == 40


def test_a_cross_encoder_reads_windows_beside_its_longest_label(encoder_dir: str, tmp_path: Path) -> None:
    """Text and label share its tokens."""
    model = ARCHITECTURES["crossencoder"].from_encoder(encoder_dir, max_tokens=12, class_templates=["{}", "is about {}"])
    model.save_pretrained(tmp_path)
    handler, labels = EndpointHandler(tmp_path), ["sports", "rain sun"]
    answer, expected = ask(handler, "rain goal " * 6, labels), model.as_pipeline()("rain goal " * 6, labels)
    assert [one["score"] for one in answer] == pytest.approx(expected["scores"], abs=1e-6)
    with pytest.raises(ValueError, match="at most 7 tokens beside their labels, found 8 at position 0"):
        ask(handler, "rain " * 6, labels, overflow="error")


@pytest.mark.parametrize(
    ("inputs", "parameters", "message"),
    [
        ("rain", {"overflow": "cut"}, "Expected overflow to be one of split, error, truncate, found 'cut'. Choose one"),
        ("rain", {"explain": "yes"}, "Expected explain to be the number of labels to explain, found 'yes'."),
        ("rain", {"pairwise": 1}, "Expected pairwise to be true or false, found int: 1. Mend it or leave it out."),
        ("rain", {"none_label": "other"}, "Expected a threshold with none_label"),
        ("rain", {"none_label": "\ud83d"}, "Expected every none_label to be valid Unicode"),
        ("rain", {"batch_size": 1}, "Expected parameters among .*, found 'batch_size'"),
        ("rain", {"hypothesis_template": []}, "Expected hypothesis_template to be a wording, a list of them"),
        ("rain", {"hypothesis_template": ["{}", 5]}, "every template to be a string, found int: 5 at position 1"),
        ("rain", {"hypothesis_template": ["{}"] * 17}, "at most 16 templates in a request, found 17. Send several"),
        ("rain", {"hypothesis_template": "{:>999999999}"}, "a template with exactly one placeholder {}"),
        ("rain", {"labels": {"a": 3}}, "every candidate label to be a string, found int: 3 at position 1"),
        ("rain", {"labels": {"a": "b\ud83d"}}, "every candidate label to be valid Unicode"),
        ("rain", {"labels": {"a": [str(one) for one in range(1000)]}}, "at most 1000 candidate labels .*, found 1001"),
        ("rain", {"labels": {"a": "b", "c": "b"}}, "Expected a description for each label alone"),
        (
            ["rain"] * 100,
            {"labels": [str(one) for one in range(101)], "hypothesis_template": ["{}", "of {}"]},
            r"Expected at most 20000 pairs of a text and a label in a request, found 100 x 202\. Send several requests\.",
        ),
        (
            ["a" * 99_001] * 21,
            {},
            r"Expected at most 2000 pieces of 1000 characters in a request, found 2100\. Send several requests\.",
        ),
        ("rain " * 1601, {"explain": 1}, r"Expected at most 2000 pieces of 4 characters in a request, found 2002\."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_options_are_refused_with_the_mend(
    handler: EndpointHandler, inputs: Any, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ask(handler, inputs, **parameters)
