"""What a call may say about its labels: every form, in every architecture, and what is refused with which words."""

import doctest
import logging
from typing import Any

import pytest
import torch
from transformers.utils import logging as hf_logging

from zeroshot.models import ZeroShotPreTrainedModel, candidates_zeroshot, pairwise_zeroshot, windows_zeroshot
from zeroshot.models.candidates_zeroshot import read_candidates, read_candidates_per_text

from .conftest import LABELS, TEXTS

DESCRIBED = {"one": "sports team", "two": "cooking cake", "three": "law"}
PHRASED = {"one": ["sports", "team goal"], "two": "cooking", "three": ["law", "vote", "parliament"]}
TREE = {"sports": {"goal": {}, "match": {"team": None, "player": "player in a team"}}, "cooking": {}, "law": ["law", "vote"]}


def by_name(result: dict) -> dict[str, float]:
    return dict(zip(result["labels"], result["scores"], strict=True))


@pytest.mark.parametrize("module", [candidates_zeroshot, pairwise_zeroshot, windows_zeroshot])
def test_examples_in_the_docs_are_true(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


# -- forms ------------------------------------------------------------------------------------------------------------


def test_labels_per_text_are_single_calls(model: ZeroShotPreTrainedModel) -> None:
    """Also a single candidate, which is a question of yes or no, and labels with descriptions."""
    labels = [["sports", "music"], ["cooking"], ["music", "cooking", "law"], DESCRIBED, {"a": "music", "b": "law"}]
    classifier = model.as_pipeline()
    singles = [classifier(text, own) for text, own in zip(TEXTS, labels, strict=True)]
    for result, single in zip(classifier(TEXTS, labels, batch_size=3), singles, strict=True):
        assert result["sequence"] == single["sequence"]
        assert by_name(result) == pytest.approx(by_name(single), abs=1e-5)
    for result, single in zip(model.predict(TEXTS, labels), singles, strict=True):
        assert result["scores"] == pytest.approx(by_name(single), abs=1e-5)
    assert classifier(TEXTS[0], [["sports", "music"]]) == classifier([TEXTS[0]], [["sports", "music"]])[0]


def test_a_description_is_encoded_and_the_name_comes_back(model: ZeroShotPreTrainedModel) -> None:
    results = model.as_pipeline()(TEXTS, DESCRIBED)
    expected = model.predict(TEXTS, list(DESCRIBED.values()))
    plain = model.predict(TEXTS, list(DESCRIBED))
    for result, other, bare in zip(results, expected, plain, strict=True):
        renamed = dict(zip(DESCRIBED, other["scores"].values(), strict=True))
        assert by_name(result) == pytest.approx(renamed, abs=1e-5)
        assert by_name(result) != pytest.approx(bare["scores"], abs=1e-3)


@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_phrasings_become_one_logit(model: ZeroShotPreTrainedModel, reduction: str) -> None:
    texts = ["sports", "team goal", "cooking", "law", "vote", "parliament"]
    logits = model.predict_logits(TEXTS, texts, multi_label=True)
    parts = [logits[:, :2], logits[:, 2:3], logits[:, 3:]]
    reduced = [part.amax(dim=1) if reduction == "max" else part.mean(dim=1) for part in parts]
    expected = torch.stack(reduced, dim=1).sigmoid()
    found = model.predict(TEXTS, PHRASED, multi_label=True, phrasing_reduction=reduction)
    assert [list(one["scores"]) for one in found] == [list(PHRASED)] * len(TEXTS)
    torch.testing.assert_close(torch.tensor([list(one["scores"].values()) for one in found]), expected, atol=1e-5, rtol=0)


def test_templates_for_all_labels_and_for_each(model: ZeroShotPreTrainedModel) -> None:
    templates = ["{}", "this text is about {}."]
    classifier = model.as_pipeline()
    several = classifier(TEXTS[0], LABELS, hypothesis_template=templates)
    assert by_name(several) == model.predict(TEXTS[0], LABELS, class_templates=templates)[0]["scores"]
    own = {"sports": "the {} team", "cooking": "{}", "politics law": "{} vote", "music": "a song, {}"}
    each = classifier(TEXTS[0], LABELS, hypothesis_template=own)
    worded = {name: own[name].format(name) for name in LABELS}
    assert by_name(each) == pytest.approx(by_name(classifier(TEXTS[0], worded, hypothesis_template="{}")), abs=1e-6)
    assert by_name(each) != pytest.approx(by_name(several), abs=1e-3)


def test_the_checkpoints_own_templates_hold_where_none_is_said(biencoder: ZeroShotPreTrainedModel) -> None:
    biencoder.config.class_templates = ["{}", "this text is about {}."]
    expected = biencoder.predict(TEXTS, list(DESCRIBED.values()))
    found = biencoder.predict(TEXTS, DESCRIBED)
    for one, other in zip(found, expected, strict=True):
        assert list(one["scores"].values()) == list(other["scores"].values())
    assert found != biencoder.predict(TEXTS, DESCRIBED, hypothesis_template="{}")


# -- hierarchy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_come_down_the_hierarchy(model: ZeroShotPreTrainedModel, multi_label: bool) -> None:
    """P(child) = P(parent) * P(child | parent), by hand."""
    names = ["sports", "goal", "match", "team", "player in a team", "cooking", "law", "vote"]
    logits = model.predict_logits(TEXTS, names, multi_label=multi_label)
    results = model.as_pipeline()(TEXTS, TREE, multi_label=multi_label, return_hierarchical=True)
    for row, result in zip(logits, results, strict=True):
        sports, goal, match, team, player, cooking, law, vote = row
        normalise = torch.sigmoid if multi_label else (lambda logits: logits.softmax(dim=0))
        top = normalise(torch.stack([sports, cooking, torch.maximum(law, vote)]))
        second = top[0] * normalise(torch.stack([goal, match]))
        third = second[1] * normalise(torch.stack([team, player]))
        expected = {"goal": second[0], "team": third[0], "player": third[1], "cooking": top[1], "law": top[2]}
        assert by_name(result) == {name: pytest.approx(score.item(), abs=1e-5) for name, score in expected.items()}
        nested = result["hierarchy"]
        assert list(nested) == ["sports", "cooking", "law"] and list(nested["sports"]["children"]) == ["goal", "match"]
        below = nested["sports"]["children"]["match"]
        assert below["score"] == pytest.approx(second[1].item(), abs=1e-5)
        assert below["children"]["player"] == {"score": by_name(result)["player"], "children": {}}
        if not multi_label:
            assert sum(result["scores"]) == pytest.approx(1, abs=1e-5)
            assert below["score"] == pytest.approx(sum(child["score"] for child in below["children"].values()), abs=1e-5)


def test_a_flat_result_of_a_hierarchy_has_no_further_key(biencoder: ZeroShotPreTrainedModel) -> None:
    assert set(biencoder.as_pipeline()(TEXTS[0], TREE)) == {"sequence", "labels", "scores"}
    [one] = biencoder.predict(TEXTS[0], {"sports": {"goal": {}}})
    assert one["scores"] == {"goal": 1.0}, "what is below the only parent shares 1"


# -- many labels, bad labels ------------------------------------------------------------------------------------------


def test_five_hundred_labels_give_five_hundred_scores(model: ZeroShotPreTrainedModel) -> None:
    labels = [f"topic {number}" for number in range(500)]
    result = model.as_pipeline()(TEXTS[0], labels)
    assert sorted(result["labels"]) == sorted(labels) and len(result["scores"]) == 500
    assert sum(result["scores"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("labels", ["a,b", ["a", "b"], ("a", "b")])
def test_one_list_serves_all_texts(labels: Any) -> None:
    assert [one.names for one in read_candidates_per_text(labels, 3)] == [("a", "b")] * 3


@pytest.mark.parametrize(
    "labels", [[["a", "b"], ["c"]], (("a", "b"), ("c",)), [["a", "b"], ("c",)], [["a", "b"], {"c": "d"}]]
)
def test_every_text_can_have_its_own_labels(labels: Any) -> None:
    assert [one.names for one in read_candidates_per_text(labels, 2)] == [("a", "b"), ("c",)]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([["a"], ["b"], ["c"]], ValueError, "Expected one list of candidate labels per text, found 3 lists for 2 texts."),
        ([["a"]], ValueError, "Expected one list of candidate labels per text, found 1 lists for 2 texts."),
        (
            [["a"], "b"],
            TypeError,
            "Expected a list of labels for every text, found the string 'b' at position 1. Write ['b'].",
        ),
        ([["a"], []], ValueError, "Candidate labels of text 1: Expected at least one candidate label, found none."),
        ([["a"], ["b", "b"]], ValueError, "Candidate labels of text 1: Expected distinct candidate labels, found 'b'"),
        ([["a"], [3]], TypeError, "Candidate labels of text 1: Expected every candidate label to be a string, found int"),
        ([["a"], None], TypeError, "Candidate labels of text 1: Expected"),
        ([["a"], {"b": 3}], TypeError, "Candidate labels of text 1: Expected a description, a list of phrasings,"),
    ],
)
def test_invalid_labels_per_text_are_refused(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        read_candidates_per_text(labels, 2)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ({}, ValueError, "Expected at least one candidate label, found none. Pass label names like"),
        ({1: "x"}, TypeError, "Expected every candidate label to be a string, found int at position 0: 1."),
        ({"a": 3}, TypeError, "or a dictionary of labels below 'a', found int: 3. Write {'a': 'what the label means'}."),
        ({"a": " "}, ValueError, "Phrasings of the label 'a': Expected every candidate label to hold words, found ' '"),
        ({"a": []}, ValueError, "Phrasings of the label 'a': Expected at least one candidate label, found none."),
        ({"a": ["x", "x"]}, ValueError, "Phrasings of the label 'a': Expected distinct candidate labels, found 'x'"),
        (
            {"a": "same", "b": ["other", "same"]},
            ValueError,
            "Expected a description for each label alone, found 'same' for 'a' and 'b'. Describe one of them otherwise.",
        ),
        ({"a": "b", "b": None}, ValueError, "found 'b' for 'a' and 'b'"),
        (
            {"a": {"x": {}}, "b": {"x": {}}},
            ValueError,
            "Expected distinct names in a hierarchy, found 'x' at 'a > x' and 'b > x'. Rename one of them and describe it: "
            "{'another name': 'x'}.",
        ),
        ({"a": {"x": {" ": {}}}}, ValueError, "Labels below 'a > x': Expected every candidate label to hold words"),
        ({"a": {"x": 3}}, TypeError, "below 'x', found int: 3."),
    ],
)
def test_invalid_descriptions_and_hierarchies_are_refused(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        read_candidates(labels)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"hypothesis_template": {"sports": "{}"}},
            ValueError,
            "hypothesis_template for every label, found none for 'cooking'",
        ),
        ({"hypothesis_template": []}, TypeError, "a wording, a list of them, or one for each label, found []."),
        ({"hypothesis_template": 3}, TypeError, "a wording, a list of them, or one for each label, found 3."),
        ({"hypothesis_template": ["{}", "none"]}, ValueError, "exactly one placeholder {} for the label name, found 'none'"),
        ({"hypothesis_template": {"a": "none"}}, ValueError, "exactly one placeholder {} for the label name, found 'none'"),
        ({"phrasing_reduction": "sum"}, ValueError, "Expected phrasing_reduction to be one of max, mean, found 'sum'."),
        ({"return_hierarchical": True}, ValueError, "Expected a hierarchy of candidate labels with return_hier"),
    ],
)
def test_options_that_do_not_go_with_labels_are_refused(
    biencoder: ZeroShotPreTrainedModel, options: dict, error: type[Exception], message: str
) -> None:
    for call in (biencoder.as_pipeline(), biencoder.predict):
        with pytest.raises(error) as caught:
            call(TEXTS, LABELS, **options)
        assert message in str(caught.value)


def test_two_ways_to_say_templates_are_refused(biencoder: ZeroShotPreTrainedModel) -> None:
    with pytest.raises(ValueError, match="Expected class_templates or hypothesis_template, found both"):
        biencoder.predict(TEXTS, LABELS, class_templates=["{}"], hypothesis_template="{}")


def test_labels_per_text_need_a_list_of_texts(biencoder: ZeroShotPreTrainedModel) -> None:
    with pytest.raises(TypeError, match="Expected a list of sequences with a list of candidate labels for each, found gen"):
        biencoder.as_pipeline()((text for text in TEXTS), [["a"]] * len(TEXTS))


# -- names of arguments -----------------------------------------------------------------------------------------------


def test_the_pipeline_ignores_unknown_arguments_and_names_near_misses(
    biencoder: ZeroShotPreTrainedModel, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = biencoder.as_pipeline()
    expected = classifier(TEXTS[0], LABELS)
    hf_logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        assert classifier(TEXTS[0], LABELS, truncation=True, some_future_argument=1, num_workers=0) == expected
    assert not caplog.records
    assert classifier(TEXTS[0], LABELS, treshold=0.5) == expected
    assert "ignores the argument 'treshold', which it does not know. Did you mean 'threshold'?" in caplog.text


def test_predict_refuses_unknown_arguments(biencoder: ZeroShotPreTrainedModel) -> None:
    with pytest.raises(TypeError, match=r"found 'treshold'\. Did you mean 'threshold'\?"):
        biencoder.predict(TEXTS, LABELS, treshold=0.5)


def test_results_of_two_calls_may_be_asked_for_in_turns(biencoder: ZeroShotPreTrainedModel) -> None:
    """Results of a generator are computed when they are asked for, maybe after another call with other options."""
    classifier = biencoder.as_pipeline()
    plain, other = [classifier(TEXTS, labels, **more) for labels, more in ((LABELS, {}), (DESCRIBED, {"top_k": 1}))]
    first = iter(classifier((text for text in TEXTS), LABELS))
    second = iter(classifier((text for text in TEXTS), DESCRIBED, top_k=1))
    turns = [(next(first), next(second)) for _ in TEXTS]
    assert turns == list(zip(plain, other, strict=True))


def test_options_may_be_given_to_the_constructor_and_in_the_call(biencoder: ZeroShotPreTrainedModel) -> None:
    """`none_label` alone would be an error: options are checked together."""
    fixed = biencoder.as_pipeline(threshold=1.0, candidate_labels=DESCRIBED)
    assert fixed(TEXTS[0], none_label="none")["decision"] == ["none"]
    assert fixed(TEXTS[0], LABELS)["decision"] == []
    assert [one["decision"] for one in fixed(TEXTS[:2], [["a", "b"], ["c", "d"]])] == [[], []]
