"""The cross-encoder: pairs as the tokenizer writes them, computed only where they are wanted."""

import itertools
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed
from transformers.utils import logging

from zeroshot.models import ARCHITECTURES, CrossEncoderConfig, ZeroShotPreTrainedModel, build_inputs, modeling_crossencoder
from zeroshot.models.configuration_crossencoder import BERT_PAIRS
from zeroshot.models.inputs_zeroshot import pad, tokenize
from zeroshot.models.pairs_zeroshot import assemble_pairs, batch_by_length, describe_pairs, strip_special_tokens

from .conftest import LABELS, TEXTS, build_tokenizer

LONG = "the team scored a goal in the match and the player of the team is happy"


def build_roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pairs, two separators between text and label, no token types."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([*TEXTS, LONG], trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        cls_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
    )


def build_typeless_tokenizer() -> PreTrainedTokenizerFast:
    """As ModernBERT's: BERT's special tokens, no token types."""
    tokenizer = build_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def build_typed_tokenizer() -> PreTrainedTokenizerFast:
    """As BERT's and DeBERTa's: the label has token type 1."""
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def build_trailing_tokenizer() -> PreTrainedTokenizerFast:
    """As T5's: nothing in front."""
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", 3)]
    )
    return tokenizer


@pytest.fixture
def cross(encoder_dir: str) -> ZeroShotPreTrainedModel:
    """An untrained cross-encoder, in evaluation mode."""
    set_seed(1)
    return ARCHITECTURES["crossencoder"].from_encoder(encoder_dir)


class PassCounter:
    """Notes the shape of every pass of the encoder."""

    def __init__(self, model: ZeroShotPreTrainedModel) -> None:
        self.shapes: list[tuple[int, int]] = []
        model.encoder.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        self.shapes.append(tuple(kwargs["input_ids"].shape))


@pytest.mark.parametrize(
    "build", [build_typed_tokenizer, build_roberta_tokenizer, build_typeless_tokenizer, build_trailing_tokenizer]
)
@pytest.mark.parametrize("limit", [64, 24, 17])
def test_pairs_are_those_of_the_tokenizer(build, limit: int) -> None:
    """Another id, type, cut or padding would be another input than the one that a published model was trained on."""
    tokenizer = build()
    layout = describe_pairs(tokenizer)
    pairs = itertools.product([*TEXTS, LONG, "ﷺ 🙂"], [*LABELS, "a a a a a a"])
    texts, labels = map(list, zip(*pairs, strict=True))
    sides = []
    for side in (texts, labels):
        inputs = pad(tokenizer, tokenize(tokenizer, side, 64, overflow="error"))
        sides.append(strip_special_tokens(inputs["input_ids"], inputs["attention_mask"], layout))
    ids, mask, types = assemble_pairs(*sides, layout, limit)
    expected = tokenizer(texts, labels, truncation="only_first", max_length=limit, padding=True, return_tensors="pt")
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"])
    assert (types is None) == ("token_type_ids" not in expected)
    assert types is None or torch.equal(types, expected["token_type_ids"])


def test_layouts_of_the_families() -> None:
    assert describe_pairs(build_typed_tokenizer()) == {
        **BERT_PAIRS,
        "prefix": [2],
        "separator": [3],
        "suffix": [3],
    }
    roberta = describe_pairs(build_roberta_tokenizer())
    assert roberta["separator"] == [2, 2] and roberta["token_types"] is None and roberta["pad_token_id"] == 1
    assert describe_pairs(build_trailing_tokenizer())["single_special_tokens"] == [0, 1]


def test_tokenizers_that_do_not_fit_are_refused() -> None:
    swapped, mixed, endless, beheading = (build_tokenizer() for _ in range(4))
    swapped.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $B [SEP] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    mixed.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS]:1 [CLS]:0 $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    endless.pad_token = None
    beheading.truncation_side = "left"
    for tokenizer in (swapped, mixed, endless, beheading):
        with pytest.raises(ValueError, match=r"Expected a tokenizer that pads, cuts .*, found .*, which gives .* Choose an"):
            describe_pairs(tokenizer)


def test_batches_stay_within_their_tokens_and_hold_every_row_once() -> None:
    lengths = torch.tensor([3, 50, 7, 7, 2, 9])
    batches = [batch.tolist() for batch in batch_by_length(lengths, 20)]
    assert batches[0] == [1], "a row longer than the budget goes alone"
    assert sorted(row for batch in batches for row in batch) == list(range(6))
    assert all(len(batch) * max(int(lengths[row]) for row in batch) <= 20 for batch in batches[1:])
    assert list(batch_by_length(lengths[:0], 20)) == []


def test_logit_is_the_scaled_output_of_the_head(cross: ZeroShotPreTrainedModel) -> None:
    tokens = cross.tokenizer(TEXTS[1], LABELS[2], return_tensors="pt")
    with torch.no_grad():
        expected = cross.encoder(**tokens).logits.item()
        torch.testing.assert_close(cross.predict_logits([TEXTS[1]], [LABELS[2]]).item(), expected, atol=1e-5, rtol=0)
        cross.logit_scale.fill_(0.5)
        cross.logit_bias.fill_(-2.0)
    scaled = cross.predict_logits([TEXTS[1]], [LABELS[2]]).item()
    assert scaled == pytest.approx(torch.tensor(0.5).exp().item() * expected - 2, abs=1e-5)


def test_only_candidates_are_computed_and_the_others_are_finite(cross: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(cross.tokenizer, TEXTS, LABELS, 64)
    mask = torch.zeros(len(TEXTS), len(LABELS), dtype=torch.bool)
    mask[0, 1] = mask[0, 3] = mask[4, 2] = True
    with torch.no_grad():
        whole = cross(**inputs).logits
        counter = PassCounter(cross)
        some = cross(**inputs, candidate_mask=mask).logits
        none = cross(**inputs, candidate_mask=torch.zeros_like(mask)).logits
    assert sum(rows for rows, _ in counter.shapes) == 3
    torch.testing.assert_close(some[mask], whole[mask], atol=1e-5, rtol=0)
    assert some.isfinite().all() and none.isfinite().all() and none.shape == whole.shape


def test_evaluation_runs_in_passes_of_bounded_size_and_training_in_passes_of_like_lengths(
    cross: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cross.predict_logits([*TEXTS, LONG], LABELS)
    monkeypatch.setattr(modeling_crossencoder, "TOKENS_PER_PASS", 64)
    counter = PassCounter(cross)
    torch.testing.assert_close(cross.predict_logits([*TEXTS, LONG], LABELS), expected, atol=1e-5, rtol=0)
    assert len(counter.shapes) > 5 and all(rows * tokens <= 64 for rows, tokens in counter.shapes)
    counter.shapes.clear()
    monkeypatch.undo()
    cross.train()(**build_inputs(cross.tokenizer, [*TEXTS, LONG], LABELS, 64))
    assert sum(rows for rows, _ in counter.shapes) == (len(TEXTS) + 1) * len(LABELS)
    longest = [tokens for _, tokens in counter.shapes]
    assert len(longest) > 1 and longest == sorted(longest, reverse=True) and longest[1] < 0.75 * longest[0]


def test_padding_may_stand_anywhere(cross: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(cross.tokenizer, TEXTS, LABELS, 64)
    with torch.no_grad():
        expected = cross(**inputs).logits
        for name in ("input_ids", "attention_mask"):
            inputs[name] = torch.nn.functional.pad(inputs[name], (3, 0))
        torch.testing.assert_close(cross(**inputs).logits, expected, atol=1e-5, rtol=0)


def test_a_text_is_cut_for_its_own_label_alone_and_the_cut_is_reported_once(
    encoder_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    set_seed(1)
    model = ARCHITECTURES["crossencoder"].from_encoder(encoder_dir, max_tokens=19)
    labels = ["sports", "sports cooking politics music"]
    tokens = model.tokenizer([LONG] * 2, labels, truncation="only_first", max_length=19, padding=True, return_tensors="pt")
    assert tokens["attention_mask"].sum(dim=1).tolist() == [19, 19]
    with torch.no_grad():
        expected = model.encoder(**tokens).logits.T  # (1, 2)
    logging.enable_propagation()
    torch.testing.assert_close(model.predict_logits([*TEXTS, LONG], labels, batch_size=2)[-1:], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.predict_logits([LONG], labels[:1]), expected[:, :1], atol=1e-5, rtol=0)
    reports = [record.getMessage() for record in caplog.records if "together with" in record.getMessage()]
    assert reports == [
        "2 of 6 texts are longer than the model's 19 tokens together with the longest label and were cut for it (the first, "
        "at position 1, has 22 with it).",
        "1 of 1 texts are longer than the model's 19 tokens together with the longest label and were cut for it (the first, "
        "at position 0, has 21 with it).",
    ]
    caplog.clear()
    model.as_pipeline()(LONG, labels, overflow="truncate")
    assert "together with the longest label" in caplog.text


def test_a_label_that_leaves_no_room_is_refused(encoder_dir: str) -> None:
    model = ARCHITECTURES["crossencoder"].from_encoder(encoder_dir, max_tokens=8)
    assert model.predict_logits(["goal"], ["a a a a"]).isfinite().all()
    with pytest.raises(
        ValueError, match=r"leave room for the text among 8 tokens, found one that takes 8 of them\. Shorten"
    ):
        model.predict(["goal"], ["a a a a a"])


def test_the_head_is_no_part_of_the_backbone(cross: ZeroShotPreTrainedModel, encoder_dir: str) -> None:
    """It learns at the head's rate, and averaging with initial weights would pull it back to chance."""
    [backbone] = cross.backbones
    inside = {id(parameter) for parameter in backbone.parameters()}
    outside = {name for name, parameter in cross.named_parameters() if id(parameter) not in inside}
    assert outside == {"encoder.classifier.weight", "encoder.classifier.bias", "logit_scale", "logit_bias"}
    pretrained = BertModel.from_pretrained(encoder_dir).state_dict()
    assert all(torch.equal(tensor, pretrained[name]) for name, tensor in backbone.state_dict().items()), "pooler too"


def test_token_types_are_given_only_to_encoders_that_know_them(tmp_path: Path) -> None:
    tokenizer = build_typed_tokenizer()
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    scores = []
    for kinds in (1, 2):
        set_seed(0)
        config = BertConfig(vocab_size=len(tokenizer), type_vocab_size=kinds, initializer_range=0.3, **small)
        BertModel(config).save_pretrained(tmp_path / str(kinds))
        tokenizer.save_pretrained(tmp_path / str(kinds))
        set_seed(0)
        model = ARCHITECTURES["crossencoder"].from_encoder(str(tmp_path / str(kinds)))
        assert model.takes_token_types == (kinds == 2)
        tokens = tokenizer(TEXTS[0], LABELS[0], return_tensors="pt")
        if kinds == 1:
            tokens.pop("token_type_ids")
        with torch.no_grad():
            expected = model.encoder(**tokens).logits.item()
        assert model.predict_logits(TEXTS[:1], LABELS[:1]).item() == pytest.approx(expected, abs=1e-5)
        scores.append(expected)
    assert abs(scores[0] - scores[1]) > 1e-4


def test_the_layout_of_pairs_has_an_effect(cross: ZeroShotPreTrainedModel) -> None:
    expected = cross.predict_logits(TEXTS, LABELS)
    for name, value in {"separator": [3, 3], "prefix": [], "suffix": [], "single_special_tokens": [2, 1]}.items():
        kept = cross.config.pair_layout
        cross.config.pair_layout = {**kept, name: value}
        assert (cross.predict_logits(TEXTS, LABELS) - expected).abs().max() > 1e-4, name
        cross.config.pair_layout = kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "ternary"}, "Expected head to be one of binary, nli, found 'ternary'. Choose one of them."),
        ({"entailment_id": 0}, "Expected no entailment_id and contradiction_id with a binary head, found 0 and None. Leave"),
        ({"pair_layout": {"prefix": [1]}}, "Expected a pair_layout like .*, found {'prefix': .*}. Leave it out"),
        ({"pair_layout": {**BERT_PAIRS, "token_types": [0, 1]}}, "Expected a pair_layout like .*, found .*. Leave it out"),
        ({"pair_layout": {**BERT_PAIRS, "single_special_tokens": [1]}}, "Expected a pair_layout like .* Leave it out"),
        ({"head": "nli", "entailment_id": 3}, r"Expected entailment_id from 0 to 1, found 3\. Choose one of"),
        ({"head": "nli", "entailment_id": 1, "contradiction_id": 1}, "Expected two different classes .*, found 1 for both"),
    ],
)
def test_bad_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEncoderConfig(**options)


def test_a_configuration_leaves_the_one_it_was_given_as_it_was() -> None:
    own = BertConfig(num_labels=4)
    assert CrossEncoderConfig(own).text_config.num_labels == 1
    assert own.num_labels == 4
    assert CrossEncoderConfig().pair_layout == BERT_PAIRS


def test_one_template_for_one_label_is_a_yes_or_no_question_in_any_company(encoder_dir: str) -> None:
    """With an NLI head, entailment alone is no probability: a text with one candidate needs contradiction too."""
    set_seed(1)
    model = ARCHITECTURES["crossencoder"].from_encoder(encoder_dir, head="nli")
    mixed = model.predict(TEXTS[:3], [LABELS, ["music"], LABELS[:2]])
    assert mixed[0]["scores"] == pytest.approx(model.predict(TEXTS[0], LABELS)[0]["scores"], abs=1e-5)
    assert mixed[1]["scores"] == pytest.approx(model.predict(TEXTS[1], ["music"])[0]["scores"], abs=1e-5)
    assert mixed[1]["scores"] == pytest.approx(model.predict(TEXTS[1], ["music"], multi_label=True)[0]["scores"], abs=1e-5)
    assert [result["text"] for result in mixed] == TEXTS[:3]
