"""What is the poly-encoder's own: codes, views, and the vector that each label mixes."""

import re

import pytest
import torch
from transformers import set_seed

from zeroshot.models import ARCHITECTURES, PolyEncoderConfig, ZeroShotPreTrainedModel, build_inputs, modeling_polyencoder
from zeroshot.models.modeling_polyencoder import compare_views

from .conftest import LABELS, TEXTS


def build(encoder_dir: str, **options: object) -> ZeroShotPreTrainedModel:
    set_seed(1)
    return ARCHITECTURES["polyencoder"].from_encoder(encoder_dir, **options)


def attend(query: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Mean of the rows, weighted by the softmax of their products with the query; one pair at a time."""
    products = [sum(float(q) * float(r) for q, r in zip(query, row, strict=True)) for row in rows]
    weights = torch.tensor(products, dtype=torch.float64).exp()
    return sum(weight * row.double() for weight, row in zip(weights / weights.sum(), rows, strict=True))


def test_logits_follow_the_formula(encoder_dir: str) -> None:
    """A hand-written reference that loops over texts, codes and labels, and never sees a padded token."""
    model = build(encoder_dir, num_codes=3)
    torch.nn.init.normal_(model.codes, std=0.5)  # codes that tell tokens apart
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, 64)
    with torch.no_grad():
        logits = model(**inputs).logits
        states = model.encode_tokens(inputs["input_ids"], inputs["attention_mask"])
        labels = model.encode_class_tokens(inputs["class_input_ids"], inputs["class_attention_mask"])
        for row, mask in enumerate(inputs["attention_mask"]):
            tokens = states[row, : mask.sum()]
            views = torch.stack([attend(code, tokens) for code in model.codes])
            for column, class_mask in enumerate(inputs["class_attention_mask"]):
                pooled = labels[column, : class_mask.sum()].double().mean(dim=0)
                label = pooled / pooled.norm()
                mixed = attend(label, views)
                expected = 20.0855 * (mixed @ label) / mixed.norm() - 9
                assert logits[row, column].item() == pytest.approx(expected.item(), abs=1e-3)


def test_cosines_need_no_vector_per_pair() -> None:
    """The length of the mixed vector comes from the products of views; the reference builds the vector itself."""
    set_seed(0)
    views, vectors = torch.randn(3, 4, 8), torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
    cosines = compare_views(views, vectors)
    for row in range(3):
        for column in range(5):
            mixed = attend(vectors[column], views[row]).float()
            expected = torch.nn.functional.cosine_similarity(mixed, vectors[column], dim=0)
            torch.testing.assert_close(cosines[row, column], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("products", [1, 60, 100, 10_000])
def test_parts_of_the_labels_change_nothing(products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 texts of 4 views: 1, 5, 8 and all 11 labels at a time, gradients too."""
    set_seed(0)
    views, vectors = torch.randn(3, 4, 8, requires_grad=True), torch.nn.functional.normalize(torch.randn(11, 8), dim=-1)
    expected = compare_views(views, vectors)
    [gradient] = torch.autograd.grad(expected.square().sum(), views)
    monkeypatch.setattr(modeling_polyencoder, "MAX_PRODUCTS", products)
    sizes: list[int] = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda self, dim: sizes.append(self.numel()) or softmax(self, dim))
    parted = compare_views(views, vectors)
    assert max(sizes) <= max(products, 3 * 4), "a part is larger than the limit"
    torch.testing.assert_close(parted, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(parted.square().sum(), views)[0], gradient, atol=1e-5, rtol=0)


def test_untrained_it_is_nearly_the_mean_pooled_biencoder(
    encoder_dir: str, biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why an untrained one works already, and why codes begin small."""

    def furthest_cosine() -> float:
        difference = build(encoder_dir).predict_logits(TEXTS, LABELS) - biencoder.predict_logits(TEXTS, LABELS)
        return difference.abs().max().item() / 20.0855

    assert furthest_cosine() < 0.02
    monkeypatch.setattr(modeling_polyencoder, "CODE_STD", 1.0)
    assert furthest_cosine() > 0.05


def test_every_option_has_an_effect(encoder_dir: str) -> None:
    plain = build(encoder_dir).predict_logits(TEXTS, LABELS)
    for options in ({"num_codes": 2}, {"pooling": "max"}, {"pooling": "cls"}):
        assert (build(encoder_dir, **options).predict_logits(TEXTS, LABELS) - plain).abs().max() > 1e-4, options
    assert build(encoder_dir, num_codes=2).codes.shape == (2, 32)


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
    assert torch.equal(texts["views"], output.text_features["views"])
    assert torch.equal(logits, output.logits)


@pytest.mark.parametrize("value", [0, -1, 2.5, "16", True])
def test_a_bad_number_of_codes_is_refused(value: object) -> None:
    words = f"Expected num_codes to be an integer of at least 1, found {value!r}. Write one like 16."
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        PolyEncoderConfig(num_codes=value)


def test_unknown_pooling_is_refused() -> None:
    with pytest.raises(
        ValueError, match="Expected pooling to be one of mean, max, cls, found 'median'. Choose one of them."
    ):
        PolyEncoderConfig(pooling="median")
