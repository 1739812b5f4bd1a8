"""Cascade: a bi-encoder shortlists labels, label-isolated attention on the same backbone rescores them.

    t = pool(E(x)),  v = pool(E(c)),  u = pool(E(c | x))
    first(x, c) = exp(a) * cos(t, v) + b
    logit(x, c) = first(x, c) + w . [t * u, v * u, t * (u - v)]     for the k labels with the highest first(x, .)
    logit(x, c) = first(x, c)                                       for all others

`E(c | x)` is the joint encoder's pass: the label's tokens see the text's keys and values and themselves, and the text is
encoded once for both stages. `w` starts at zero, so that an untrained second stage changes nothing. Every label comes
back; what the shortlist lost is reported as `shortlist_recall`. In training the pairs of `candidate_mask` are rescored
instead of a shortlist, since a shortlist would leave out what the first stage has yet to learn.

Cost for B texts and N labels: the bi-encoder's, and B * k * L label tokens whose attention reaches S + L tokens. Labels are
encoded once and kept. Choose it where a bi-encoder is fast enough and not good enough.

Sources: own design. Shortlist and rescoring as in retrieve-and-rerank (https://arxiv.org/abs/1901.04085), with one backbone
and a residual instead of two models.
"""

import torch
from torch import nn
from transformers import initialization as init

from .attention_zeroshot import ISOLATED, encode_candidates, encode_texts, isolate_labels
from .configuration_cascade import CascadeConfig
from .features_zeroshot import Features, list_candidates, scatter_candidates
from .modeling_biencoder import pool_tokens
from .modeling_zeroshot import ZeroShotPreTrainedModel


class CascadeForZeroShotClassification(ZeroShotPreTrainedModel):
    """See the module's text. Features of texts: `vectors` (B, D), `keys`, `values` and `mask`; of labels: `vectors` (N, D),
    `ids` and `mask` (N, L).
    """

    config_class = CascadeConfig
    needs_attention_interface = True
    pays_per_pair = True
    has_shortlist = True
    compared_vectors = "vectors"

    def __init__(self, config: CascadeConfig):
        super().__init__(config)
        self.text_gates = isolate_labels(self.encoder)
        self.residual = nn.Linear(3 * config.text_config.hidden_size, 1, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self:
            init.constant_(self.text_gates, self.config.text_gate_init_value)
        if module is self.residual:
            init.zeros_(self.residual.weight)

    @property
    def fixed_attention(self) -> str | None:
        """The attention implementation that the mathematics needs."""
        return ISOLATED

    @property
    def independent_of_other_candidates(self) -> bool:
        """False: whether a label is rescored depends on how many others the first stage ranks above it."""
        return False

    def _pool(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(pool_tokens(states.float(), mask, self.config.pooling), dim=-1)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Features:
        states, features = encode_texts(self.encoder, input_ids, attention_mask)
        return {**features, "vectors": self._pool(states, attention_mask)}

    def encode_classes(self, class_input_ids: torch.Tensor, class_attention_mask: torch.Tensor) -> Features:
        states = self.encode_tokens(class_input_ids, class_attention_mask)  # (N, L, D)
        vectors = self._pool(states, class_attention_mask)
        return {"vectors": vectors, "ids": class_input_ids, "mask": class_attention_mask}

    def score_first_stage(self, text_features: Features, class_features: Features) -> torch.Tensor:
        """The bi-encoder's logits (B, N)."""
        texts, classes = text_features["vectors"], class_features["vectors"]
        with torch.autocast(texts.device.type, enabled=False):
            return self.scale_logits(texts @ classes.T)

    def choose_shortlist(self, first: torch.Tensor, candidate_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The labels that are rescored, (B, N) bool: the candidates with the highest logits (B, N) of the first stage."""
        if candidate_mask is not None:
            shortlist = self.choose_shortlist(first.masked_fill(~candidate_mask, float("-inf")))
            return shortlist & candidate_mask  # a text with fewer candidates has a shorter list
        columns = first.topk(min(self.config.shortlist_size, first.shape[1]), dim=1).indices  # (B, k)
        return torch.zeros_like(first, dtype=torch.bool).scatter(1, columns, True)

    def _average_wordings(self, text_features: Features, class_features: Features, num_labels: int) -> torch.Tensor:
        return self.score_first_stage(text_features, class_features).unflatten(1, (num_labels, -1)).mean(dim=2)  # (B, N)

    def choose_classes(
        self, text_features: Features, class_features: Features, num_labels: int, candidate_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """The shortlist (B, N) of labels that were encoded in several wordings."""
        return self.choose_shortlist(self._average_wordings(text_features, class_features, num_labels), candidate_mask)

    def _rescore(self, text_features: Features, class_features: Features, first: torch.Tensor, chosen: torch.Tensor):
        columns, real = list_candidates(chosen)  # (B, K)
        given = encode_candidates(self.encoder, text_features, self.text_gates, class_features, columns, self._pool)
        alone, texts = class_features["vectors"][columns], text_features["vectors"].unsqueeze(1)
        with torch.autocast(first.device.type, enabled=False):
            products = torch.cat([texts * given, alone * given, texts * (given - alone)], dim=-1)  # (B, K, 3 D)
            residual = products @ self.residual.weight.float().squeeze(0)  # (B, K)
        return scatter_candidates(first.gather(1, columns) + residual, columns, real, first)  # (B, N)

    def score(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        first = self.score_first_stage(text_features, class_features)
        chosen = self.choose_shortlist(first) if candidate_mask is None else candidate_mask
        return self._rescore(text_features, class_features, first, chosen)

    def score_classes(
        self,
        text_features: Features,
        class_features: Features,
        num_labels: int,
        *,
        multi_label: bool = False,
        candidate_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As in the base model; the shortlist is drawn from the mean over the wordings, the first wording is rescored."""
        first = self._average_wordings(text_features, class_features, num_labels)
        wordings = len(class_features["ids"]) // num_labels
        worded = {name: tensor[::wordings] for name, tensor in class_features.items()}
        return self._rescore(text_features, worded, first, self.choose_shortlist(first, candidate_mask))
