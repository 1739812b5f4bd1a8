"""What is late interaction's own: projected unit tokens and MaxSim."""

import re

import pytest
import torch
from transformers import AutoModel, set_seed

from zeroshot.models import (
    ARCHITECTURES,
    LateInteractionConfig,
    ZeroShotPreTrainedModel,
    build_inputs,
    modeling_lateinteraction,
)
from zeroshot.models.features_zeroshot import Features
from zeroshot.models.modeling_lateinteraction import match_tokens

from .conftest import LABELS, TEXTS


def build(encoder_dir: str, **options: object) -> ZeroShotPreTrainedModel:
    set_seed(1)
    return ARCHITECTURES["lateinteraction"].from_encoder(encoder_dir, **options)


def draw_features(lengths: list[int], seed: int) -> Features:
    """Unit tokens of size 6 in rows of these lengths; behind them stand tokens that would match best."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    tokens = torch.randn(*mask.shape, 6, generator=torch.Generator().manual_seed(seed))
    tokens = torch.nn.functional.normalize(tokens, dim=-1)
    return {"tokens": torch.where(mask.unsqueeze(-1), tokens, torch.full((6,), 9.0)), "mask": mask}


def match_by_loops(text: torch.Tensor, label: torch.Tensor) -> list[float]:
    """For each label token the best cosine with a text token."""
    return [max(float(torch.cosine_similarity(one, other, dim=0)) for other in text) for one in label]


@pytest.mark.parametrize("label_reduction", ["mean", "sum"])
def test_maxsim_sees_only_real_tokens(label_reduction: str) -> None:
    texts, classes = draw_features([5, 1, 3], seed=0), draw_features([2, 4, 1, 3], seed=1)
    similarity = match_tokens(texts, classes, label_reduction)
    for row, text_length in enumerate([5, 1, 3]):
        for column, label_length in enumerate([2, 4, 1, 3]):
            best = match_by_loops(texts["tokens"][row, :text_length], classes["tokens"][column, :label_length])
            expected = sum(best) / (len(best) if label_reduction == "mean" else 1)
            assert similarity[row, column].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("projection_size", [None, 8])
def test_logits_follow_the_formula(encoder_dir: str, projection_size: int | None) -> None:
    """A hand-written reference over pairs, special tokens included."""
    model = build(encoder_dir, projection_size=projection_size)
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    with torch.no_grad():
        logits = model(**inputs).logits
        states = model.encode_tokens(inputs["input_ids"], inputs["attention_mask"])
        labels = model.encode_class_tokens(inputs["class_input_ids"], inputs["class_attention_mask"])
        if projection_size is not None:
            states, labels = states @ model.projection.weight.T, labels @ model.projection.weight.T
        for row, mask in enumerate(inputs["attention_mask"]):
            for column, class_mask in enumerate(inputs["class_attention_mask"]):
                best = match_by_loops(states[row, : mask.sum()], labels[column, : class_mask.sum()])
                assert logits[row, column].item() == pytest.approx(20.0855 * sum(best) / len(best) - 9, abs=1e-3)


@pytest.mark.parametrize("similarities", [1, 20, 50, 150, 100_000])
def test_parts_change_nothing(encoder_dir: str, similarities: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 texts of 5 tokens, 4 labels of 4: pair by pair, some texts, some labels, all at once; gradients too."""
    model, classes = build(encoder_dir), draw_features([2, 4, 1, 3], seed=1)
    texts = draw_features([5, 1, 3], seed=0)
    texts["tokens"].requires_grad_()
    expected = model.score(texts, classes)
    [gradient] = torch.autograd.grad(expected.square().sum(), texts["tokens"])
    monkeypatch.setattr(modeling_lateinteraction, "MAX_SIMILARITIES", similarities)
    sizes: list[int] = []

    def note(texts: Features, classes: Features, label_reduction: str) -> torch.Tensor:
        sizes.append(texts["mask"].numel() * classes["mask"].numel())
        return match_tokens(texts, classes, label_reduction)

    monkeypatch.setattr(modeling_lateinteraction, "match_tokens", note)
    parted = model.score(texts, classes)
    assert max(sizes) <= max(similarities, 5 * 4), "a part is larger than the limit"
    torch.testing.assert_close(parted, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        torch.autograd.grad(parted.square().sum(), texts["tokens"])[0], gradient, rtol=1e-5, atol=1e-4
    )


def test_projection_starts_as_a_rotation_that_keeps_cosines(encoder_dir: str) -> None:
    """Why an untrained one works already: with P >= D nothing changes, below only little."""
    bare = build(encoder_dir, projection_size=None)
    wide, narrow = build(encoder_dir), build(encoder_dir, projection_size=8)
    assert not any("projection" in name for name in bare.state_dict())
    torch.testing.assert_close(wide.projection.weight.T @ wide.projection.weight, torch.eye(32), atol=1e-5, rtol=0)
    torch.testing.assert_close(narrow.projection.weight @ narrow.projection.weight.T, torch.eye(8), atol=1e-5, rtol=0)
    expected = bare.predict_logits(TEXTS, LABELS)
    torch.testing.assert_close(wide.predict_logits(TEXTS, LABELS), expected, atol=1e-4, rtol=0)
    assert (narrow.predict_logits(TEXTS, LABELS) - expected).abs().max() > 1e-2


def test_half_precision_can_be_initialised() -> None:
    """The decomposition behind an orthogonal start knows no bfloat16."""
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 99}
    set_seed(0)
    config = LateInteractionConfig({"model_type": "bert", **small}, projection_size=8)
    weight = AutoModel.from_config(config, dtype=torch.bfloat16).projection.weight
    assert weight.dtype == torch.bfloat16
    torch.testing.assert_close(weight.float() @ weight.float().T, torch.eye(8), atol=0.02, rtol=0)


def test_a_sum_favours_labels_of_many_tokens(encoder_dir: str) -> None:
    """The same label said three times is worth about three times as much, less its special tokens."""
    labels = ["music", "music music music"]
    summed = build(encoder_dir, label_reduction="sum").predict_logits(TEXTS, labels)
    mean = build(encoder_dir).predict_logits(TEXTS, labels)
    assert (summed[:, 1] - summed[:, 0] > 5 * (mean[:, 1] - mean[:, 0]).abs()).all()
    torch.testing.assert_close(summed[:, 0] + 9, 3 * (mean[:, 0] + 9), atol=1e-4, rtol=0)  # [CLS] music [SEP]


def test_what_follows_the_encoder_stays_precise_under_autocast(encoder_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the same token states, autocast to bfloat16 changes no digit."""
    model = build(encoder_dir)
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    with torch.no_grad():
        output = model(**inputs)
        states = model.encode_tokens(inputs["input_ids"], inputs["attention_mask"])
        monkeypatch.setattr(model, "encode_tokens", lambda *_: states)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            texts = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
            logits = model.score(output.text_features, output.class_features)
    assert torch.equal(texts["tokens"], output.text_features["tokens"])
    assert torch.equal(logits, output.logits)


@pytest.mark.parametrize("value", [0, -8, 1.5, "128", False])
def test_a_bad_projection_size_is_refused(value: object) -> None:
    words = f"Expected projection_size to be an integer of at least 1 or None, found {value!r}. Write one like 128, or None"
    with pytest.raises(ValueError, match=f"^{re.escape(words)} for no projection.$"):
        LateInteractionConfig(projection_size=value)


def test_an_unknown_reduction_is_refused() -> None:
    words = "Expected label_reduction to be one of mean, sum, found 'max'. Choose one of them."
    with pytest.raises(ValueError, match=f"^{words}$"):
        LateInteractionConfig(label_reduction="max")
