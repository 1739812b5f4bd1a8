"""Late interaction: every token of the label looks for its best match among the tokens of the text (MaxSim).

    logit(x, c) = exp(a) * mean_l max_s cos(W e_l, W h_s) + b          (or the sum over l: `label_reduction`)

`e` and `h` are the token states of label and text, the projection `W` (P, D), `a` and `b` are learned; the maximum and the
mean see real tokens only. Special tokens count on both sides, as in a ColBERT query: the encoder writes what a whole label
means into them, and without them the untrained model is worse.

Cost for B texts of S tokens and N labels of L tokens: B + N passes of the encoder, then B * S * N * L * P multiplications;
the padding of labels costs none. Kept: S * P numbers a text, L * P a label, so labels are encoded once. Memory while
scoring: `MAX_SIMILARITIES` numbers, or S * L where one pair has more; with gradients all parts are kept. Choose it for long
texts that one vector would blur, and for labels of several words, up to some hundred labels: beyond, scoring costs more
than encoding.

Cosines alone would leave the sigmoid between .27 and .73, therefore scale and bias. `W` starts orthogonal: with P >= D
cosines stay as they are, below roughly so, and the untrained model works. Without it (`projection_size` None) the untrained
model is better, and everything kept and compared is D / P times as large.

Source: ColBERT (https://arxiv.org/abs/2004.12832), the label as its query. We depart from it in these: the mean over label
tokens, since labels differ in length (ColBERT fills all queries up to one length and sums); no such filling up with [MASK],
no marker tokens for the two sides, no punctuation left out; scale and bias; the start of `W`; both sides share the encoder
unless labels have their own.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_lateinteraction import LateInteractionConfig
from .features_zeroshot import Features, split_features
from .modeling_zeroshot import ZeroShotPreTrainedModel

MAX_SIMILARITIES = 2**22  # text tokens times label tokens in one part: 16 MiB of float32


def match_tokens(texts: Features, classes: Features, label_reduction: str) -> torch.Tensor:
    """MaxSim of all pairs.

    Args:
        texts: Unit `tokens` (B, S, P), float, and `mask` (B, S), bool.
        classes: The same of labels, (N, L, P) and (N, L).
        label_reduction: `mean` or `sum` over a label's real tokens.

    Returns:
        (B, N): between -1 and 1 for `mean`, times the label's tokens for `sum`.
    """
    real = classes["mask"]  # (N, L)
    # R real label tokens side by side: no work for padding, whatever the longest label.
    similarities = texts["tokens"] @ classes["tokens"][real].T  # (B, S, R)
    similarities.masked_fill_(~texts["mask"].unsqueeze(-1), float("-inf"))
    best = similarities.amax(dim=1)  # (B, R)
    grid = best.new_zeros(len(best), *real.shape).masked_scatter(real, best)  # (B, N, L)
    total = grid.sum(dim=-1)  # (B, N)
    return total / real.sum(dim=-1) if label_reduction == "mean" else total


class LateInteractionForZeroShotClassification(ZeroShotPreTrainedModel):
    """See the module's text. Features: unit `tokens` (B, S, P), (N, L, P), float32, and `mask` (B, S), (N, L), bool."""

    config_class = LateInteractionConfig
    takes_class_encoder = True
    reads_token_states = True

    def __init__(self, config: LateInteractionConfig):
        super().__init__(config)
        if config.projection_size is not None:
            self.projection = nn.Linear(config.text_config.hidden_size, config.projection_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self and self.config.projection_size is not None:
            init.orthogonal_(self.projection.weight)

    def read_text(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        with torch.autocast(states.device.type, enabled=False):
            if self.config.projection_size is not None:
                states = self.projection(states.to(self.projection.weight.dtype))  # (rows, tokens, P)
            return {"tokens": nn.functional.normalize(states.float(), dim=-1), "mask": mask.bool()}

    def read_classes(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        return self.read_text(states, mask)

    def score(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        (num_texts, text_tokens), label_tokens = text_features["mask"].shape, class_features["mask"].shape[1]
        texts_per_part = min(num_texts, max(1, MAX_SIMILARITIES // (text_tokens * label_tokens)))
        labels_per_part = max(1, MAX_SIMILARITIES // (texts_per_part * text_tokens * label_tokens))
        # Cosines lie close together: bfloat16's three digits would blur them.
        with torch.autocast(text_features["tokens"].device.type, enabled=False):
            class_parts = split_features(class_features, labels_per_part)
            rows = [
                torch.cat([match_tokens(texts, classes, self.config.label_reduction) for classes in class_parts], dim=1)
                for texts in split_features(text_features, texts_per_part)
            ]
            return self.scale_logits(torch.cat(rows))  # (B, N)

    def weigh_tokens(self, text_features: Features, class_features: Features) -> torch.Tensor:
        """What each text token adds to the logits, (B, S, N): scaled similarities of the label tokens that chose it."""
        real = class_features["mask"]  # (N, L)
        similarities = torch.einsum("bsp,nlp->bsnl", text_features["tokens"], class_features["tokens"])  # (B, S, N, L)
        similarities = similarities.masked_fill(~text_features["mask"][..., None, None], float("-inf"))
        best, where = similarities.max(dim=1, keepdim=True)  # (B, 1, N, L)
        chosen = torch.zeros_like(similarities).scatter(1, where, best.masked_fill(~real, 0.0))
        total = chosen.sum(dim=-1)  # (B, S, N)
        if self.config.label_reduction == "mean":
            total = total / real.sum(dim=-1)
        return self.logit_scale.float().exp() * total
