"""Published NLI classifiers: the stock pipeline's scores, saved and loaded again too."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    pipeline,
    set_seed,
)
from transformers.pipelines.zero_shot_classification import ZeroShotClassificationPipeline

from zeroshot.data import EvaluationSet
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, build_inputs
from zeroshot.models.configuration_crossencoder import resolve_entailment
from zeroshot.training.runs import fit_bias

from .conftest import LABELS, TEXTS
from .test_clean_process import run_clean
from .test_crossencoder import LONG, build_roberta_tokenizer, build_typed_tokenizer, build_typeless_tokenizer

CROSS = ARCHITECTURES["crossencoder"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES = {
    "bert": (build_typed_tokenizer, {"max_position_embeddings": 64}),
    "roberta": (build_roberta_tokenizer, {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1}),
    "deberta-v2": (
        build_typed_tokenizer,
        {"max_position_embeddings": 64, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    ),
    "modernbert": (
        build_typeless_tokenizer,
        {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    ),
}
MANY = [*TEXTS, LONG, "goal " * 58, "cake flour " * 200]
TEMPLATES = ["This example is {}.", "{}", "the topic of this text is {} : a a a a a a"]


def write_checkpoint(
    folder: Path, family: str = "bert", names: tuple[str, ...] = ("contradiction", "neutral", "entailment")
):
    """Save a small NLI classifier with random weights, as its author would have published it."""
    build, options = FAMILIES[family]
    tokenizer: PreTrainedTokenizerFast = build()
    set_seed(3)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
        **{**SMALL, "initializer_range": 0.3, **options},
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def classify(folder: str, multi_label: bool, template: str, **kwargs: object) -> list[dict]:
    """What the stock pipeline says."""
    stock = pipeline("zero-shot-classification", model=folder)
    assert type(stock) is ZeroShotClassificationPipeline
    return stock(MANY, LABELS, multi_label=multi_label, hypothesis_template=template, **kwargs)


def expect_stock_scores(model: ZeroShotPreTrainedModel, folder: str, template: str, multi_label: bool) -> None:
    expected = [dict(zip(one["labels"], one["scores"], strict=True)) for one in classify(folder, multi_label, template)]
    for batch_size in (1, 3):
        options = {"multi_label": multi_label, "batch_size": batch_size, "overflow": "truncate"}
        found = model.predict(MANY, LABELS, class_templates=[template], **options)
        for one, other in zip(found, expected, strict=True):
            assert one["scores"] == pytest.approx(other, abs=1e-5)
        ours = model.as_pipeline()(MANY, LABELS, hypothesis_template=template, **options)
        for one, other in zip(ours, expected, strict=True):
            assert dict(zip(one["labels"], one["scores"], strict=True)) == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_scores_are_those_of_the_stock_pipeline(family: str, multi_label: bool, tmp_path: Path) -> None:
    """Short texts, texts that only a label makes too long, and texts that are too long alone."""
    folder = write_checkpoint(tmp_path / "nli", family)
    model = CROSS.from_nli_checkpoint(folder)
    assert not model.training and model.config.class_templates == ["This example is {}."]
    for template in TEMPLATES:
        expect_stock_scores(model, folder, template, multi_label)


@pytest.mark.parametrize(
    "names",
    [
        ("ENTAILMENT", "neutral", "contradiction"),
        ("contradiction", "entailment", "neutral"),
        ("entailment", "not_entailment"),
        ("not_entailment", "Entailment"),
    ],
    ids=",".join,
)
def test_the_classes_may_stand_in_any_of_the_usual_orders(names: tuple[str, ...], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "nli", names=names)
    model = CROSS.from_nli_checkpoint(folder)
    for multi_label in (False, True):
        expect_stock_scores(model, folder, TEMPLATES[0], multi_label)


def test_one_label_is_judged_by_itself_as_in_the_stock_pipeline(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "nli")
    model = CROSS.from_nli_checkpoint(folder)
    [expected] = pipeline("zero-shot-classification", model=folder)(TEXTS[0], ["music"])["scores"]
    assert model.predict(TEXTS[0], ["music"])[0]["scores"]["music"] == pytest.approx(expected, abs=1e-5)
    assert model.as_pipeline()(TEXTS[0], ["music"])["scores"] == pytest.approx([expected], abs=1e-5)


def test_saved_and_loaded_it_still_gives_the_stock_scores(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "nli", names=("entailment", "neutral", "contradiction"))
    model = CROSS.from_nli_checkpoint(folder)
    model.save_pretrained(tmp_path / "saved")
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text(encoding="utf-8")
    loaded, report = AutoModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert (loaded.config.entailment_id, loaded.config.contradiction_id) == (0, 2)
    for multi_label in (False, True):
        expect_stock_scores(loaded, folder, TEMPLATES[0], multi_label)


@pytest.mark.slow
def test_without_the_package_it_gives_the_stock_scores(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "nli")
    CROSS.from_nli_checkpoint(folder).save_pretrained(tmp_path / "saved")
    (tmp_path / "home").mkdir()
    done = run_clean(tmp_path / "saved", tmp_path / "home")
    assert done["module"].startswith("transformers_modules.") and done["missing"] == 0
    expected = pipeline("zero-shot-classification", model=folder)(TEXTS, LABELS)
    for one, other in zip(done["results"], expected, strict=True):
        assert one["labels"] == other["labels"] and one["scores"] == pytest.approx(other["scores"], abs=1e-5)


def test_scores_of_several_templates_are_the_mean_of_their_logits(tmp_path: Path) -> None:
    model = CROSS.from_nli_checkpoint(write_checkpoint(tmp_path / "nli"), class_templates=TEMPLATES[:2])
    each = [model.predict_logits(TEXTS, LABELS, class_templates=[template]) for template in TEMPLATES[:2]]
    torch.testing.assert_close(model.predict_logits(TEXTS, LABELS), sum(each) / 2, atol=1e-5, rtol=0)


def test_forward_compares_entailment_with_contradiction(tmp_path: Path) -> None:
    """0 is an even chance: what a binary cross-entropy trains."""
    model = CROSS.from_nli_checkpoint(write_checkpoint(tmp_path / "nli"))
    tokens = model.tokenizer(TEXTS[0], LABELS[1], return_tensors="pt")
    with torch.no_grad():
        contradiction, _, entailment = model.encoder(**tokens).logits[0]
        logits = model(**build_inputs(model.tokenizer, TEXTS[:1], LABELS[1:2], 64)).logits
    assert logits.item() == pytest.approx((entailment - contradiction).item(), abs=1e-5)


def test_contradiction_is_found_by_name_where_the_stock_pipeline_takes_the_first(tmp_path: Path) -> None:
    """Our one departure: there `neutral` would be the counterpart of entailment."""
    folder = write_checkpoint(tmp_path / "nli", names=("neutral", "contradiction", "entailment"))
    model = CROSS.from_nli_checkpoint(folder)
    assert (model.config.entailment_id, model.config.contradiction_id) == (2, 1)
    expect_stock_scores(model, folder, TEMPLATES[0], False)
    expect_stock_scores(CROSS.from_nli_checkpoint(folder, contradiction_id=0), folder, TEMPLATES[0], True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("LABEL_0", "LABEL_1", "LABEL_2"),
            r"begins with 'entail', found 0 in the label2id .*LABEL_1.*Pass its number: ent",
        ),
        (("entailment", "entailed", "neutral"), r"begins with 'entail', found 2 in the label2id .*Pass its number: entail"),
        (("entailment", "contradiction", "contradictory"), r"'contradict', found 2 in .*Pass its number: contradiction_id"),
    ],
)
def test_classes_that_do_not_tell_are_an_error(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "nli", names=names)
    with pytest.raises(ValueError, match=message):
        CROSS.from_nli_checkpoint(folder)
    model = CROSS.from_nli_checkpoint(folder, entailment_id=1, contradiction_id=2)
    assert (model.config.entailment_id, model.config.contradiction_id) == (1, 2)
    weights = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.encoder.state_dict().items())


def test_numbers_of_the_classes_have_an_effect(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "nli")
    plain = CROSS.from_nli_checkpoint(folder).predict_logits(TEXTS, LABELS, multi_label=True)
    for options in ({"entailment_id": 1}, {"contradiction_id": 1}):
        other = CROSS.from_nli_checkpoint(folder, **options).predict_logits(TEXTS, LABELS, multi_label=True)
        assert (other - plain).abs().max() > 1e-3


def test_stock_rule_without_a_class_of_contradiction() -> None:
    assert resolve_entailment({"entailment": 0, "other": 1, "unknown": 2}, None, None) == (0, 2)
    assert resolve_entailment({"other": 0, "unknown": 1, "Entails": 2}, None, None) == (2, 0)


def test_a_checkpoint_without_a_head_is_refused(encoder_dir: str) -> None:
    """Its scores would be those of random weights."""
    with pytest.raises(
        ValueError, match=r"Expected an NLI classifier in .*, found no weights for 'classifier\.bias'\. Name"
    ):
        CROSS.from_nli_checkpoint(encoder_dir, entailment_id=0)


def test_the_bias_is_fitted_to_what_a_sigmoid_is_shown_of(encoder_dir: str) -> None:
    """Entailment alone is for the softmax; a bias fitted to it would put the sigmoid scores anywhere."""
    set_seed(1)
    model = CROSS.from_encoder(encoder_dir, head="nli")
    targets = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, -100], [0, 0, 0, 0], [0, 1, 0, 0]])
    fit_bias(model, [EvaluationSet(TEXTS, LABELS, targets)])
    scores = model.predict_logits(TEXTS, LABELS, multi_label=True).sigmoid()
    assert scores[torch.from_numpy(targets) >= 0].mean().item() == pytest.approx(3 / 19, abs=1e-4)


def test_an_encoder_without_classes_gets_those_of_nli(encoder_dir: str) -> None:
    config = CROSS.from_encoder(encoder_dir, head="nli").config
    assert config.text_config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    assert (config.entailment_id, config.contradiction_id) == (0, 2)
