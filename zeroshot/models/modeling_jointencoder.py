"""Joint encoder: the label is read in the light of the text, by label-isolated attention in every layer.

    t = pool(E(x)),   u = pool(E(c | x))
    logit(x, c) = exp(a) * cos(t, u) + b + w . (t * u)

`E(x)` sees the text alone. `E(c | x)` encodes the label, whose tokens see the text's tokens and each other, never those
of another label; its positions begin at the label. `w` starts at zero, and a learned gate at `text_gate_init_value` lets
little of the text in at first, so an untrained joint encoder ranks nearly like the bi-encoder on the same weights.
A label's score is the same in any order and company of labels, and labels may be split over passes.

Cost for B texts and N labels: B passes over S tokens, then B * N * L label tokens whose attention reaches S + L tokens.
The text's keys and values (layers * S * 2 D numbers a text) are computed once. Choose it for up to some tens of labels, or
behind a shortlist (the cascade).

With `label_isolation: false` text and labels are one sequence in which all tokens see each other, B passes over S + N * L
tokens, quadratic in N: the way of GLiClass (https://arxiv.org/abs/2508.07662), for comparison. We depart from it: no
special label tokens, and positions begin anew for every label, so that the order of labels changes nothing.

Sources: own design; reading several labels in one pass is GLiClass's and GLiNER's idea (https://arxiv.org/abs/2311.08526).
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import logging

from .attention_zeroshot import ISOLATED, encode_candidates, encode_texts, isolate_labels
from .configuration_jointencoder import JointEncoderConfig
from .encoder_zeroshot import find_first_position
from .features_zeroshot import Features, list_candidates, scatter_candidates
from .modeling_biencoder import pool_tokens
from .modeling_zeroshot import ZeroShotPreTrainedModel

logger = logging.get_logger(__name__)


class JointEncoderForZeroShotClassification(ZeroShotPreTrainedModel):
    """See the module's text. Features of texts: `vectors` (B, D), `mask` and, with isolation, `keys` and `values`, without
    it `ids`. Features of labels: `ids` and `mask` (N, L).
    """

    config_class = JointEncoderConfig
    needs_attention_interface = True
    pays_per_pair = True

    def __init__(self, config: JointEncoderConfig):
        super().__init__(config)
        if config.label_isolation:
            self.text_gates = isolate_labels(self.encoder)
        self.residual = nn.Linear(config.text_config.hidden_size, 1, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self and self.config.label_isolation:
            init.constant_(self.text_gates, self.config.text_gate_init_value)
        if module is self.residual:
            init.zeros_(self.residual.weight)

    @property
    def fixed_attention(self) -> str | None:
        """The attention implementation that the mathematics needs."""
        return ISOLATED if self.config.label_isolation else None

    @property
    def independent_of_other_candidates(self) -> bool:
        """Whether a label's score is the same in any company of other candidates."""
        return self.config.label_isolation

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Features:
        if not self.config.label_isolation:
            return {"ids": input_ids, "mask": attention_mask}
        states, features = encode_texts(self.encoder, input_ids, attention_mask)
        return {**features, "vectors": self._pool(states, attention_mask)}

    def encode_classes(self, class_input_ids: torch.Tensor, class_attention_mask: torch.Tensor) -> Features:
        return {"ids": class_input_ids, "mask": class_attention_mask}

    def score(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        texts, labels = len(text_features["mask"]), len(class_features["ids"])
        if candidate_mask is None:
            candidate_mask = torch.ones(texts, labels, dtype=torch.bool, device=class_features["ids"].device)
        columns, real = list_candidates(candidate_mask)  # (B, K)
        if self.config.label_isolation:
            given = encode_candidates(
                self.encoder, text_features, self.text_gates, class_features, columns, self._pool
            )  # (B, K, D)
            logits = self._compare(text_features["vectors"], given)
        else:
            logits = self._score_together(text_features, class_features, columns, real)
        return scatter_candidates(logits, columns, real, logits.new_zeros(texts, labels))  # (B, N)

    def _pool(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(pool_tokens(states.float(), mask, self.config.pooling), dim=-1)

    def _compare(self, texts: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of unit vectors (B, D) and (B, K, D)."""
        with torch.autocast(texts.device.type, enabled=False):
            products = texts.unsqueeze(1) * labels  # (B, K, D)
            residual = products @ self.residual.weight.float().squeeze(0)  # (B, K)
            return self.scale_logits(products.sum(dim=-1)) + residual

    def _score_together(
        self, text_features: Features, class_features: Features, columns: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        size, length = text_features["ids"].shape[1], class_features["ids"].shape[1]
        label_mask = class_features["mask"][columns] * real.unsqueeze(-1)  # (B, K, L)
        ids = torch.cat([text_features["ids"], class_features["ids"][columns].flatten(1)], dim=1)  # (B, S + K * L)
        mask = torch.cat([text_features["mask"], label_mask.flatten(1)], dim=1)
        positions = torch.arange(max(size, length), device=ids.device) + find_first_position(self.encoder)
        positions = torch.cat([positions[:size], positions[:length].repeat(columns.shape[1])])
        states = self.encoder(input_ids=ids, attention_mask=mask, position_ids=positions.expand_as(ids)).last_hidden_state
        own = class_features["mask"][columns].flatten(0, 1)  # (B * K, L)
        vectors = self._pool(states[:, size:].unflatten(1, (-1, length)).flatten(0, 1), own)
        return self._compare(self._pool(states[:, :size], text_features["mask"]), vectors.unflatten(0, columns.shape))
