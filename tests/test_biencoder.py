"""What is the bi-encoder's own: pooling and cosine."""

import pytest
import torch

from zeroshot.models import BiEncoderConfig, BiEncoderForZeroShotClassification
from zeroshot.models.modeling_biencoder import pool_tokens

from .conftest import LABELS, TEXTS

STATES = torch.tensor([[[1.0, -5.0], [3.0, -1.0], [100.0, 100.0]]])
MASK = torch.tensor([[1, 1, 0]])


@pytest.mark.parametrize(("pooling", "expected"), [("mean", [2.0, -3.0]), ("max", [3.0, -1.0]), ("cls", [1.0, -5.0])])
def test_pooling_sees_only_real_tokens(pooling: str, expected: list[float]) -> None:
    assert pool_tokens(STATES, MASK, pooling).tolist() == [expected]


def test_pooling_has_an_effect_and_logits_follow_the_formula(encoder_dir: str) -> None:
    logits = {}
    for pooling in ("mean", "max", "cls"):
        model = BiEncoderForZeroShotClassification.from_encoder(encoder_dir, pooling=pooling)
        logits[pooling] = model.predict_logits(TEXTS, LABELS)
        cosine = (logits[pooling] - model.logit_bias.detach()) / model.logit_scale.detach().exp()
        assert cosine.abs().max() <= 1 + 1e-6
    assert (logits["mean"] - logits["max"]).abs().max() > 1e-3
    assert (logits["mean"] - logits["cls"]).abs().max() > 1e-3


def test_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected pooling to be one of mean, max, cls, found 'median'"):
        BiEncoderConfig(pooling="median")


def test_encoder_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected an encoder, found the encoder-decoder 't5'"):
        BiEncoderConfig({"model_type": "t5"})
