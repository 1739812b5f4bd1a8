"""The pipeline against the stock one: same arguments, same shape of output, same kind of errors."""

from pathlib import Path

import pytest
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, Pipeline, pipeline, set_seed
from transformers.pipelines.pt_utils import KeyDataset

from zeroshot.models import ZeroShotPipeline, ZeroShotPreTrainedModel

from .conftest import LABELS, TEXTS, build_tokenizer


@pytest.fixture
def ours(model: ZeroShotPreTrainedModel) -> ZeroShotPipeline:
    return model.as_pipeline()


@pytest.fixture(scope="module")
def stock() -> Pipeline:
    tokenizer = build_tokenizer()
    set_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        label2id={"contradiction": 0, "neutral": 1, "entailment": 2},
        id2label={0: "contradiction", 1: "neutral", 2: "entailment"},
    )
    return pipeline("zero-shot-classification", model=BertForSequenceClassification(config), tokenizer=tokenizer)


CALLS = {
    "one string": ((TEXTS[0], LABELS), {}),
    "list": ((TEXTS, LABELS), {}),
    "list of one": (([TEXTS[0]], LABELS), {}),
    "comma string": ((TEXTS[0], "sports, cooking , music"), {}),
    "keyword": ((TEXTS,), {"candidate_labels": LABELS}),
    "single label": ((TEXTS[0], ["sports"]), {}),
    "single label as string": ((TEXTS[0], "sports"), {}),
    "multi label": ((TEXTS, LABELS), {"multi_label": True}),
    "template": ((TEXTS, LABELS), {"hypothesis_template": "This text is about {}."}),
    "batches": ((TEXTS, LABELS), {"batch_size": 2}),
    "unknown keyword": ((TEXTS[0], LABELS), {"some_future_argument": 1}),
}


def shape(result: object) -> object:
    """Types, keys and lengths, without the numbers."""
    if isinstance(result, list):
        return [shape(one) for one in result]
    assert isinstance(result, dict)
    assert result["scores"] == sorted(result["scores"], reverse=True)
    return {
        key: (type(value), sorted(value) if key == "labels" else len(value) if isinstance(value, list) else value)
        for key, value in result.items()
    }


@pytest.mark.parametrize("name", list(CALLS))
def test_output_has_the_stock_shape(ours: ZeroShotPipeline, stock: Pipeline, name: str) -> None:
    args, kwargs = CALLS[name]
    assert shape(ours(*args, **kwargs)) == shape(stock(*args, **kwargs))


@pytest.mark.parametrize(("multi_label", "total"), [(False, 1.0), (True, None)])
def test_scores_are_those_of_the_model(ours: ZeroShotPipeline, multi_label: bool, total: float | None) -> None:
    expected = ours.model.predict(TEXTS, LABELS, multi_label=multi_label)
    for result, other in zip(ours(TEXTS, LABELS, multi_label=multi_label), expected, strict=True):
        scores = dict(zip(result["labels"], result["scores"], strict=True))
        assert scores == pytest.approx(other["scores"], abs=1e-5)
        assert total is None or sum(scores.values()) == pytest.approx(total)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_batch_size_changes_nothing(ours: ZeroShotPipeline, batch_size: int) -> None:
    expected = [ours(text, LABELS) for text in TEXTS]
    for result, other in zip(ours(TEXTS, LABELS, batch_size=batch_size), expected, strict=True):
        assert result["labels"] == other["labels"]
        assert result["scores"] == pytest.approx(other["scores"], abs=1e-5)


def test_template_and_labels_are_not_mixed_up_between_calls(ours: ZeroShotPipeline) -> None:
    plain = ours(TEXTS[0], LABELS)
    worded = ours(TEXTS[0], LABELS, hypothesis_template="The topic is {}.")
    assert dict(zip(worded["labels"], worded["scores"], strict=True)) != dict(
        zip(plain["labels"], plain["scores"], strict=True)
    )
    assert ours(TEXTS[0], LABELS) == plain
    assert set(ours(TEXTS[0], ["a", "b"])["labels"]) == {"a", "b"}


def test_new_weights_give_new_scores(ours: ZeroShotPipeline) -> None:
    before = ours(TEXTS[0], LABELS)
    for parameter in ours.model.parameters():
        parameter.data.mul_(1.5)
    fresh = ours.model.as_pipeline()(TEXTS[0], LABELS)
    assert fresh != before
    assert ours(TEXTS[0], LABELS) == fresh


def test_tuples_columns_generators_and_datasets(ours: ZeroShotPipeline) -> None:
    expected = ours(TEXTS, LABELS)
    dataset = Dataset.from_dict({"text": TEXTS})
    assert ours(tuple(TEXTS), LABELS) == expected
    assert ours(dataset["text"], LABELS) == expected
    assert list(ours((text for text in TEXTS), LABELS)) == expected
    assert list(ours(KeyDataset(dataset, "text"), LABELS)) == expected
    assert ours([], LABELS) == []


def test_labels_may_be_given_to_the_constructor(biencoder: ZeroShotPreTrainedModel) -> None:
    fixed = biencoder.as_pipeline(candidate_labels=LABELS, multi_label=True)
    assert fixed(TEXTS[0]) == biencoder.as_pipeline()(TEXTS[0], LABELS, multi_label=True)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((TEXTS[0], []), {}, ValueError, "Expected at least one candidate label, found none"),
        ((TEXTS[0], ""), {}, ValueError, "Expected at least one candidate label, found none"),
        (("", LABELS), {}, ValueError, "Expected every text to hold words, found '' at position 0"),
        ((["a", " "], LABELS), {}, ValueError, "found ' ' at position 1"),
        ((TEXTS[0],), {}, TypeError, "Expected candidate_labels, found none"),
        ((TEXTS[0], LABELS), {"hypothesis_template": "no place"}, ValueError, "exactly one placeholder {}"),
        ((TEXTS[0], LABELS, "x {}"), {}, ValueError, "Name them: hypothesis_template=..."),
        ((TEXTS[0], ["x", "x"]), {}, ValueError, "Expected distinct candidate labels, found 'x' at positions 0 and 1"),
        (([1], LABELS), {}, TypeError, "found int at position 0: 1"),
    ],
)
def test_errors(ours: ZeroShotPipeline, args: tuple, kwargs: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        ours(*args, **kwargs)
    assert message in str(caught.value)


def test_config_can_be_saved_after_the_pipeline_was_built(model: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """`pipeline(...)` writes classes into the configuration it read; JSON must never see them."""
    model.save_pretrained(tmp_path / "first")
    built = pipeline("zero-shot-classification", model=str(tmp_path / "first"), trust_remote_code=True)
    assert type(built).__name__ == "ZeroShotPipeline"
    built.save_pretrained(tmp_path / "second")
    assert (tmp_path / "second" / "pipeline_zeroshot.py").is_file()
    again = pipeline("zero-shot-classification", model=str(tmp_path / "second"), trust_remote_code=True)
    assert again(TEXTS, LABELS) == built(TEXTS, LABELS)
