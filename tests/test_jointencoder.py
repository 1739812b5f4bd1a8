"""What is the joint encoder's own: labels that see the text and themselves, and nothing else."""

import pytest
import torch
from transformers import set_seed

from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, build_inputs
from zeroshot.models import attention_zeroshot as attention
from zeroshot.models.attention_zeroshot import encode_labels_in_texts, encode_texts
from zeroshot.models.features_zeroshot import select_features

from .conftest import LABELS, TEXTS


def build(encoder_dir: str, architecture: str = "jointencoder", **options: object) -> ZeroShotPreTrainedModel:
    set_seed(1)
    return ARCHITECTURES[architecture].from_encoder(encoder_dir, **options)


def test_two_passes_equal_one_pass_under_an_isolating_mask(encoder_dir: str) -> None:
    """The reference: text and labels side by side, positions that begin anew, a mask that lets no label see another."""
    model = build(encoder_dir)
    inputs = build_inputs(model.tokenizer, TEXTS[:1], LABELS, 64)
    ids, size = inputs["input_ids"], inputs["input_ids"].shape[1]
    labels, mask = inputs["class_input_ids"], inputs["class_attention_mask"]
    count, length = labels.shape
    side_by_side = torch.cat([ids, labels.view(1, -1)], dim=1)
    positions = torch.cat([torch.arange(size), torch.arange(length).repeat(count)]).unsqueeze(0)
    allowed = torch.zeros(side_by_side.shape[1], side_by_side.shape[1], dtype=torch.bool)
    allowed[:, :size] = True  # everyone sees the text
    for label in range(count):
        own = slice(size + label * length, size + (label + 1) * length)
        allowed[own, own] = mask[label].bool()
    plain = build(encoder_dir, "biencoder").encoder
    plain.set_attn_implementation("eager")
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        expected = plain(input_ids=side_by_side, attention_mask=additive, position_ids=positions).last_hidden_state[0]
        states, features = encode_texts(model.encoder, ids, inputs["attention_mask"])
        gates = torch.zeros_like(model.text_gates)
        given = encode_labels_in_texts(model.encoder, features, gates, labels.unsqueeze(0), mask.unsqueeze(0))
    torch.testing.assert_close(states[0], expected[:size], atol=1e-5, rtol=0)
    real = mask.bool()
    torch.testing.assert_close(given[0][real], expected[size:].view(count, length, -1)[real], atol=1e-5, rtol=0)


def test_labels_may_be_split_over_passes(encoder_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(encoder_dir, text_gate_init_value=0.0)
    labels = [f"{first} {second}" for first in LABELS for second in ("music", "rain", "goal")]
    expected = model.predict_logits(TEXTS, labels)
    passes = []

    def count(*arguments: torch.Tensor) -> torch.Tensor:
        passes.append(arguments[-1].shape)
        return encode_labels_in_texts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(attention, "encode_labels_in_texts", count)
    monkeypatch.setattr(attention, "TOKENS_PER_PASS", 40)
    torch.testing.assert_close(model.predict_logits(TEXTS, labels), expected, atol=1e-5, rtol=0)
    assert len(passes) > 3 and all(shape.numel() <= 40 for shape in passes)


def test_labels_of_like_lengths_share_a_pass(encoder_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label's padding costs as much as its words; its score does not change with the pass it is in."""
    model = build(encoder_dir, text_gate_init_value=0.0)
    labels = ["music", "rain and music and a goal in the rain", "goal", "cooking", "music and a goal and politics"]
    expected = model.predict_logits(TEXTS, labels)
    alone = torch.cat([model.predict_logits(TEXTS, [label]) for label in labels], dim=1)
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)
    shapes = []

    def watch(*arguments: torch.Tensor) -> torch.Tensor:
        shapes.append(arguments[-1].shape)
        assert arguments[-1][..., -1].any(), "a pass of nothing but padding at its end"
        return encode_labels_in_texts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(attention, "encode_labels_in_texts", watch)
    monkeypatch.setattr(attention, "LEAST_TOKENS", 1)
    torch.testing.assert_close(model.predict_logits(TEXTS, labels), expected, atol=1e-5, rtol=0)
    widths = [shape[-1] for shape in shapes]
    assert len(widths) > 1 and widths == sorted(widths, reverse=True)


def test_a_text_is_encoded_once_for_any_labels(encoder_dir: str) -> None:
    model = build(encoder_dir, text_gate_init_value=0.0)
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    with torch.no_grad():
        texts = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        classes = model.encode_classes(inputs["class_input_ids"], inputs["class_attention_mask"])
        expected = model(**inputs).logits
        first, rest = (select_features(classes, torch.tensor(rows)) for rows in ([0], [1, 2, 3]))
        torch.testing.assert_close(model.score(texts, first), expected[:, :1], atol=1e-5, rtol=0)
        torch.testing.assert_close(model.score(texts, rest), expected[:, 1:], atol=1e-5, rtol=0)


def test_behind_a_closed_gate_it_is_the_bi_encoder(encoder_dir: str) -> None:
    """The residual starts at zero, so training begins with what the bi-encoder knows."""
    closed = build(encoder_dir, text_gate_init_value=-1e4).predict_logits(TEXTS, LABELS)
    torch.testing.assert_close(closed, build(encoder_dir, "biencoder").predict_logits(TEXTS, LABELS), atol=1e-4, rtol=0)
    assert (build(encoder_dir, text_gate_init_value=0.0).predict_logits(TEXTS, LABELS) - closed).abs().max() > 1e-2


def test_only_the_pairs_asked_for_are_scored(encoder_dir: str) -> None:
    model = build(encoder_dir, text_gate_init_value=0.0)
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    mask = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1]]).bool()
    with torch.no_grad():
        torch.testing.assert_close(
            model(**inputs, candidate_mask=mask).logits[mask], model(**inputs).logits[mask], atol=1e-5, rtol=0
        )


def test_without_isolation_a_score_depends_on_the_company(encoder_dir: str) -> None:
    model = build(encoder_dir, label_isolation=False)
    assert not model.independent_of_other_candidates
    together = model.predict_logits(TEXTS, LABELS)
    assert (model.predict_logits(TEXTS, LABELS[:1]) - together[:, :1]).abs().max() > 1e-3
    torch.testing.assert_close(model.predict_logits(TEXTS, LABELS[::-1]).flip(1), together, atol=1e-5, rtol=0)


def test_attention_stays_isolating_whatever_is_asked_for(encoder_dir: str) -> None:
    """The Trainer chooses attention by the device; another implementation would let labels forget the text."""
    model = build(encoder_dir, text_gate_init_value=0.0)
    expected = model.predict_logits(TEXTS, LABELS)
    for name in ("sdpa", "eager"):
        model.set_attn_implementation(name)
        torch.testing.assert_close(model.predict_logits(TEXTS, LABELS), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["jointencoder", "cascade"])
def test_unknown_pooling_is_refused(architecture: str) -> None:
    with pytest.raises(ValueError, match="Expected pooling to be one of mean, max, cls, found 'sum'"):
        ARCHITECTURES[architecture].config_class(pooling="sum")
