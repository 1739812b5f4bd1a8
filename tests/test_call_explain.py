"""What a call can tell beside scores: words that speak for a label, vectors, close labels two at a time."""

import itertools
import re

import pytest
import torch

from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.models.explain_zeroshot import find_words
from zeroshot.models.inputs_zeroshot import build_inputs
from zeroshot.models.pairwise_zeroshot import MARGIN, MOST, find_rivals

from .conftest import LABELS, TEXTS

TEXT = "The team scored  a goal, sad!"
WORDS = ["The", "team", "scored", "a", "goal,", "sad!"]
LATE = "LateInteractionForZeroShotClassification"


def occlude(model: ZeroShotPreTrainedModel, position: int, *, multi_label: bool) -> list[float]:
    spots = [(0, 3), (4, 8), (9, 15), (17, 18), (19, 24), (25, 29)]
    assert [TEXT[start:end] for start, end in spots] == WORDS
    texts = [TEXT, *(TEXT[:start] + TEXT[end:] for start, end in spots)]
    logits = model.predict_logits(texts, LABELS, multi_label=multi_label)[:, position]
    return (logits[0] - logits[1:]).tolist()


def test_words_are_weighed_for_the_best_labels(model: ZeroShotPreTrainedModel) -> None:
    plain = model.as_pipeline()(TEXT, LABELS)
    result = model.as_pipeline()(TEXT, LABELS, explain=True)
    assert list(result["explanation"]) == plain["labels"][:1]
    assert {key: result[key] for key in plain} == plain
    [two] = model.predict([TEXT], LABELS, explain=2, multi_label=True)
    assert list(two["explanation"]) == model.as_pipeline()(TEXT, LABELS, multi_label=True)["labels"][:2]
    for name, weights in two["explanation"].items():
        assert [word for word, _ in weights] == WORDS
        if type(model).__name__ != LATE:
            expected = occlude(model, LABELS.index(name), multi_label=True)
            assert [weight for _, weight in weights] == pytest.approx(expected, abs=1e-4)


def test_in_late_interaction_all_weights_together_are_the_logit(model: ZeroShotPreTrainedModel) -> None:
    if type(model).__name__ != LATE:
        pytest.skip("no sum over text tokens")
    labels = ["sports", "politics law"]
    inputs = build_inputs(model.tokenizer, [TEXT, TEXTS[1]], labels, 64)
    with torch.no_grad():
        output = model(**inputs)
        heat = model.weigh_tokens(output.text_features, output.class_features)  # (B, S, N)
    torch.testing.assert_close(heat.sum(dim=1) + model.logit_bias, output.logits, atol=1e-4, rtol=0)
    assert heat[0][inputs["attention_mask"][0] == 0].abs().max() == 0, "padding has no part"
    result = model.as_pipeline()(TEXT, labels, explain=2, hypothesis_template="{}")
    tokens = model.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    for column, label in enumerate(labels):
        weights = dict(result["explanation"][label])
        for word, parts in {"team": ["team"], "goal,": ["goal", ","], "sad!": ["sad", "!"]}.items():
            expected = sum(heat[0, tokens.index(part), column].item() for part in parts)
            assert weights[word] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_phrasings_and_templates_are_explained_as_they_are_scored(model: ZeroShotPreTrainedModel, reduction: str) -> None:
    if type(model).__name__ != LATE:
        pytest.skip("occlusion uses the scores themselves")
    labels, templates = {"x": ["sports", "music"], "y": "law"}, ["{}", "it is {}."]
    [phrased] = model.predict(
        TEXT, labels, hypothesis_template=templates, phrasing_reduction=reduction, explain=2, multi_label=True
    )
    options = {"hypothesis_template": templates, "explain": 2, "multi_label": True}
    [each] = model.predict(TEXT, ["sports", "music"], **options)
    sports, music = (torch.tensor([weight for _, weight in each["explanation"][name]]) for name in ("sports", "music"))
    [logits] = model.predict_logits([TEXT], ["sports", "music"], class_templates=templates)
    best = sports if logits[0] > logits[1] else music
    expected = best if reduction == "max" else (sports + music) / 2
    assert [weight for _, weight in phrased["explanation"]["x"]] == pytest.approx(expected.tolist(), abs=1e-4)


def test_texts_without_blanks_are_weighed_by_the_character(biencoder: ZeroShotPreTrainedModel) -> None:
    result = biencoder.as_pipeline()("球賽 goal", LABELS, explain=True)
    [weights] = result["explanation"].values()
    assert [word for word, _ in weights] == ["球", "賽", "goal"]


def test_each_text_of_a_batch_has_its_own_explanation(model: ZeroShotPreTrainedModel) -> None:
    """Labels per text too, and one label alone."""
    together = model.as_pipeline()(TEXTS[:3], [["sports", "law"], ["music"], LABELS], explain=True)
    for text, labels, result in zip(TEXTS, [["sports", "law"], ["music"], LABELS], together, strict=False):
        alone = model.as_pipeline()(text, labels, explain=True)
        [(name, weights)], [(other, expected)] = result["explanation"].items(), alone["explanation"].items()
        assert name == other and [word for word, _ in weights] == text.split()
        assert [weight for _, weight in weights] == pytest.approx([weight for _, weight in expected], abs=1e-4)


LONG = " ".join([*["rain team"] * 50, "goal,", *["bake  cake"] * 50])  # of 201 words and 202 tokens


def expect_span(model: ZeroShotPreTrainedModel, name: str, labels: list[str]) -> tuple[int, int]:
    """Of the window in which the logit of a label is highest, cut by hand at words; the one with two tokens stays whole."""
    words, room = [match.span() for match in re.finditer(r"\S+", LONG)], 62
    if "pair_layout" in model.config.to_dict():
        room = 61 - max(len(model.tokenizer.tokenize(label)) for label in labels)
    tokens = [word for word in words for _ in range(2 if LONG[slice(*word)] == "goal," else 1)]
    spans, start = [], 0
    while not spans or spans[-1][1] < len(LONG):
        spans.append((tokens[start][0], tokens[start : start + room][-1][1]))
        start += room - room // 4
    logits = model.predict_logits([LONG[slice(*span)] for span in spans], labels, multi_label=True)
    return spans[int(logits[:, labels.index(name)].argmax())]


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_a_long_text_is_explained_by_its_best_window(model: ZeroShotPreTrainedModel, pooling: str) -> None:
    """As that part of the text by itself; texts that are read whole beside it are as they were."""
    options = {"multi_label": True, "overflow_pooling": pooling}
    short, long = model.predict([TEXT, LONG], LABELS, explain=2, **options)
    assert "explained_spans" not in short and long["windows"] >= 4
    assert short["explanation"] == model.predict(TEXT, LABELS, explain=2, **options)[0]["explanation"]
    assert list(long["explanation"]) == list(long["explained_spans"])
    assert list(long["explanation"]) == model.as_pipeline()(LONG, LABELS, **options)["labels"][:2]
    for name, weights in long["explanation"].items():
        assert long["explained_spans"][name] == expect_span(model, name, LABELS)
        part = LONG[slice(*long["explained_spans"][name])]
        [alone] = model.predict(part, LABELS, explain=4, multi_label=True)
        assert [word for word, _ in weights] == [word for word, _ in alone["explanation"][name]] == part.split()
        assert [weight for _, weight in weights] == pytest.approx([w for _, w in alone["explanation"][name]], abs=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
def test_of_a_text_that_is_cut_the_part_that_was_read_is_explained(model: ZeroShotPreTrainedModel, side: str) -> None:
    model.tokenizer.truncation_side = side
    [result] = model.predict(LONG, LABELS, explain=True, overflow="truncate")
    read = 202 - result["truncated"]  # tokens that stand beside the longest label
    [weights], [span] = result["explanation"].values(), result["explained_spans"].values()
    words = LONG.split()
    expected = words[:read] if side == "right" else words[-62:][:read]  # the label takes its place from the end
    assert LONG[slice(*span)].split() == [word for word, _ in weights] == expected


def test_a_word_longer_than_a_window_is_explained_in_part(biencoder: ZeroShotPreTrainedModel) -> None:
    """Blanks are not all that parts tokens; without whole words there would be nothing to weigh."""
    [result] = biencoder.predict("goal," * 100, LABELS, explain=True)
    [weights], [(start, end)] = result["explanation"].values(), result["explained_spans"].values()
    assert [word for word, _ in weights] == [("goal," * 100)[start:end]] and 0 < end - start < 200
    assert find_words(biencoder.tokenizer, "goal," * 9, (1, 7), 4) == (0, 10), "words by themselves may be more tokens"


def test_a_tokenizer_without_places_explains_whole_texts_only(
    biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(biencoder.tokenizer), "is_fast", False)
    assert biencoder.predict(TEXT, LABELS, explain=True)[0]["explanation"]
    with pytest.raises(ValueError, match=r"tells where its tokens stand, .* found BertTok\w+\. Explain parts of the text"):
        biencoder.predict(LONG, LABELS, explain=True)


def test_explain_is_a_number_of_labels(biencoder: ZeroShotPreTrainedModel) -> None:
    for wrong in (-1, "yes"):
        with pytest.raises(ValueError, match="Expected explain to be the number of labels to explain, found"):
            biencoder.predict(TEXT, LABELS, explain=wrong)
    assert "explanation" not in biencoder.predict(TEXT, LABELS, explain=False)[0]


# -- vectors ----------------------------------------------------------------------------------------------------------


def test_vectors_come_back_where_there_is_one_a_text(model: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    with torch.no_grad():
        features = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
    if "vectors" not in features:
        with pytest.raises(
            ValueError, match="architecture with one vector a text for return_embeddings, found .*Encoder|Late"
        ):
            model.predict(TEXTS, LABELS, return_embeddings=True)
        return
    for results in (
        model.predict(TEXTS, LABELS, return_embeddings=True, batch_size=2),
        model.as_pipeline()(TEXTS, LABELS, return_embeddings=True, batch_size=2),
    ):
        found = torch.tensor([one["embedding"] for one in results])
        torch.testing.assert_close(found, features["vectors"], atol=1e-5, rtol=0)
    [long] = model.predict("goal team " * 100, LABELS, return_embeddings=True)
    assert torch.tensor(long["embedding"]).norm().item() == pytest.approx(1, abs=1e-5)


def test_some_architectures_have_vectors_and_some_have_none(biencoder: ZeroShotPreTrainedModel) -> None:
    """The test above would be content with none."""
    assert len(biencoder.predict(TEXT, LABELS, return_embeddings=True)[0]["embedding"]) == 32


# -- two at a time ----------------------------------------------------------------------------------------------------


def test_close_labels_are_compared_two_at_a_time(model: ZeroShotPreTrainedModel) -> None:
    labels = [*LABELS, "rain", "goal", "law", "song"]
    if model.independent_of_other_candidates:
        with pytest.raises(ValueError, match="which would give the same order two at a time. Leave pairwise out"):
            model.predict(TEXTS, labels, pairwise=True)
        return
    model.logit_scale.data.fill_(0.0)  # close labels in every text
    before = model.predict(TEXTS, labels)
    after = model.predict(TEXTS, labels, pairwise=True)
    for text, one, other in zip(TEXTS, before, after, strict=True):
        ranked = sorted(labels, key=lambda label: -one["scores"][label])
        top = one["scores"][ranked[0]]
        close = [label for label in ranked[:MOST] if one["scores"][label] >= top - MARGIN]
        assert len(close) > 2
        wins = dict.fromkeys(close, 0.0)
        for pair in itertools.combinations(close, 2):
            for label, score in model.predict(text, list(pair))[0]["scores"].items():
                wins[label] += score
        strongest = sorted(close, key=lambda label: -wins[label])
        dealt = {label: one["scores"][place] for label, place in zip(strongest, close, strict=True)}
        assert other["scores"] == pytest.approx({**one["scores"], **dealt}, abs=1e-6)


def test_the_company_of_labels_can_turn_the_order(model: ZeroShotPreTrainedModel) -> None:
    """The one option above would pass if pairs never changed anything."""
    if model.independent_of_other_candidates or "shortlist_size" in model.config.to_dict():
        pytest.skip("company changes little or nothing")
    model.logit_scale.data.fill_(0.0)
    labels = [*LABELS, "rain", "goal", "law", "song"]
    before, after = model.as_pipeline()(TEXTS, labels), model.as_pipeline()(TEXTS, labels, pairwise=True)
    assert [one["labels"] for one in before] != [one["labels"] for one in after]
    assert [one["scores"] for one in before] == [pytest.approx(one["scores"], abs=1e-7) for one in after]


def test_rivals_are_the_close_ones_and_not_too_many() -> None:
    assert find_rivals(torch.tensor([0.5, 0.3, 0.2])) == []
    assert find_rivals(torch.full((20,), 0.05)) == list(range(MOST))


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LABELS, {"multi_label": True}, "Expected pairwise without multi_label, found both."),
        ({"a": {"b": {}}}, {}, "Expected labels without a hierarchy with pairwise, found one."),
    ],
)
def test_pairwise_goes_with_alternatives_only(
    model: ZeroShotPreTrainedModel, labels: object, options: dict, message: str
) -> None:
    if model.independent_of_other_candidates:
        pytest.skip("refused for another reason")
    with pytest.raises(ValueError, match=re.escape(message)):
        model.predict(TEXTS, labels, pairwise=True, **options)  # type: ignore[arg-type]
