"""Bi-encoder: one vector per text, one per label, compared by their cosine.

    logit(x, c) = exp(a) * cos(pool(E(x)), pool(E(c))) + b

`E` is the encoder (one for both sides, or one each: `class_config`), `pool` reads token states where the mask is 1, `a`
and `b` are learned. Cost for B texts and N labels: B + N passes of the encoder, then B * N * D multiplications. Labels are
encoded once and kept, so the price of a text hardly grows with N: choose it for many labels or many texts.

Sources: Sentence-BERT (https://arxiv.org/abs/1908.10084) for the two towers and the pooling; SigLIP
(https://arxiv.org/abs/2303.15343) for scale and bias. We depart from SigLIP in one thing: both sides share the encoder.
"""

import torch
from torch import nn

from .configuration_biencoder import BiEncoderConfig
from .features_zeroshot import Features
from .modeling_zeroshot import ZeroShotPreTrainedModel


def pool_tokens(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce token states (rows, tokens, D) to vectors (rows, D); only positions with mask 1 count."""
    if pooling == "cls":
        return states[:, 0]  # (rows, D)
    real = mask.bool().unsqueeze(-1)  # (rows, tokens, 1)
    if pooling == "max":
        return states.masked_fill(~real, float("-inf")).amax(dim=1)  # (rows, D)
    return states.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1)  # (rows, D)


class BiEncoderForZeroShotClassification(ZeroShotPreTrainedModel):
    """See the module's text. Features are unit `vectors`, (B, D) and (N, D), float32."""

    config_class = BiEncoderConfig
    takes_class_encoder = True
    compared_vectors = "vectors"
    reads_token_states = True

    def __init__(self, config: BiEncoderConfig):
        super().__init__(config)
        self.post_init()

    def read_text(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        vectors = pool_tokens(states.float(), mask, self.config.pooling)  # (rows, D)
        return {"vectors": nn.functional.normalize(vectors, dim=-1)}

    def read_classes(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        return self.read_text(states, mask)

    def score(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        texts, classes = text_features["vectors"], class_features["vectors"]
        # Cosines lie close together: bfloat16's three digits would blur them.
        with torch.autocast(texts.device.type, enabled=False):
            return self.scale_logits(texts @ classes.T)  # (B, N)
