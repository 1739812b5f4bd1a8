"""Poly-encoder: a text becomes M vectors, and each label mixes its own text vector from them.

    v_m(x)      = sum_s softmax_s(q_m . h_s) h_s          M views of the text, before any label is known
    w_m(x, c)   = softmax_m(u . v_m)                      u: the label's pooled token states, of length one
    logit(x, c) = exp(a) * cos(sum_m w_m v_m, u) + b

`h` are the text's token states; the codes `q` (M, D), `a` and `b` are learned. Neither softmax is divided by sqrt(D): codes
learn their own length, and `u` of length one has already lost a factor of that size.

The mixed vector of a pair (D numbers) is never built: with p_m = u . v_m its product with `u` is w . p, and its length is
the root of w' G w with G_mn = v_m . v_n. Cost for B texts of S tokens and N labels: B + N passes of the encoder, then
B * S * M * D multiplications for the views and B * N * M * (D + M) for the scores. Kept: M * D numbers a text, D a label, so
labels are encoded once. Memory while scoring: a few blocks of `MAX_PRODUCTS` numbers, or of B * M where that is more; with
gradients all parts are kept.

Choose it for texts that say several things, of which a label asks for one, at nearly the price of the bi-encoder. Untrained
it is nearly the mean-pooled bi-encoder, because small codes attend almost evenly; what the views tell apart is learned.

Source: Poly-encoders (https://arxiv.org/abs/1905.01969), the variant with learned codes. We depart from it in these: cosine
with scale and bias instead of the dot product; the label is pooled as in the bi-encoder and of length one, where the paper
takes the first token; both sides share the encoder unless labels have their own.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_polyencoder import PolyEncoderConfig
from .features_zeroshot import Features
from .modeling_biencoder import pool_tokens
from .modeling_zeroshot import ZeroShotPreTrainedModel

# Token states have a length of about sqrt(D) or less, so that this keeps q . h well below 1 and the attention nearly even.
# Longer codes each fall for a few tokens before anything is learned.
CODE_STD = 0.02
MAX_PRODUCTS = 2**22  # text views times labels in one part: 16 MiB of float32 a block


def compare_views(views: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Cosine of each label with the text vector that it mixes for itself.

    Args:
        views: (B, M, D), float.
        vectors: Of labels, (N, D), float, of length one.

    Returns:
        (B, N), between -1 and 1.
    """
    gram = views @ views.transpose(1, 2)  # (B, M, M)
    labels_per_part = max(1, MAX_PRODUCTS // views[..., 0].numel())
    cosines = []
    for part in vectors.split(labels_per_part):
        products = views @ part.T  # (B, M, n)
        weights = products.softmax(dim=1)
        squared_length = (weights * (gram @ weights)).sum(dim=1)  # (B, n)
        cosines.append((weights * products).sum(dim=1) / squared_length.clamp(min=1e-12).sqrt())
    return torch.cat(cosines, dim=1)


class PolyEncoderForZeroShotClassification(ZeroShotPreTrainedModel):
    """See the module's text. Features are `views` (B, M, D) of texts and unit `vectors` (N, D) of labels, float32."""

    config_class = PolyEncoderConfig
    takes_class_encoder = True
    reads_token_states = True

    def __init__(self, config: PolyEncoderConfig):
        super().__init__(config)
        self.codes = nn.Parameter(torch.empty(config.num_codes, config.text_config.hidden_size))  # (M, D)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self:
            init.normal_(self.codes, std=CODE_STD)

    def read_text(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        states = states.float()  # (B, S, D)
        with torch.autocast(states.device.type, enabled=False):
            attention = states @ self.codes.float().T  # (B, S, M)
            attention = attention.masked_fill(~mask.bool().unsqueeze(-1), float("-inf")).softmax(dim=1)
            return {"views": attention.transpose(1, 2) @ states}  # (B, M, D)

    def read_classes(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        vectors = pool_tokens(states.float(), mask, self.config.pooling)  # (N, D)
        return {"vectors": nn.functional.normalize(vectors, dim=-1)}

    def score(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        views, vectors = text_features["views"], class_features["vectors"]
        # Cosines lie close together: bfloat16's three digits would blur them.
        with torch.autocast(views.device.type, enabled=False):
            return self.scale_logits(compare_views(views, vectors))  # (B, N)
