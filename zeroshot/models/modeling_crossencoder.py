"""Cross-encoder: a text and a label in one sequence, judged by a sequence-classification head.

    h(x, c) = head(E([CLS] x [SEP] c [SEP]))
    binary:  logit = exp(a) * h + b
    nli:     logit = exp(a) * (h_entailment - h_contradiction) + b    for each label by itself (sigmoid)
             logit = exp(a) * h_entailment + b                        for labels that share 1 (softmax)

Text and label see each other in every layer. `E` and `head` are any `AutoModelForSequenceClassification`; `a` and `b` are
learned and begin at 0. A label may be put into a template and so become the hypothesis for which the text is the premise:
`from_nli_checkpoint` wraps a published NLI model, and its scores are those of the stock pipeline.

Cost for B texts and N labels: B * N passes of S + L tokens; nothing of a label can be computed in advance. Choose it for
few labels, or to rescore the few pairs that a cheaper model kept; only pairs that are candidates are computed.

Source: Yin et al. 2019 (https://arxiv.org/abs/1909.00161) for the NLI head. We depart from it where labels are judged one
by one: contradiction is the counterpart of entailment there, as in the stock pipeline, and neutral counts for neither. We
depart from the stock pipeline in one thing: contradiction is found by its name where it has one, not by its place.
"""

import copy
import inspect
from collections.abc import Sequence

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from .configuration_crossencoder import CrossEncoderConfig, resolve_entailment
from .encoder_zeroshot import load_encoder_config
from .features_zeroshot import Features, count_rows, select_features
from .modeling_zeroshot import ZeroShotPreTrainedModel
from .pairs_zeroshot import assemble_pairs, batch_by_length, count_special_tokens, describe_pairs, strip_special_tokens

logger = logging.get_logger(__name__)

# The most padded tokens of one pass in evaluation: 512 pairs of 32 tokens, 32 of 512. It bounds memory, whatever B and N.
TOKENS_PER_PASS = 16_384
# In training a pair shorter than this share of the longest of its pass goes into another: one long text among a batch would
# otherwise pad every pair to its length.
LEAST_SHARE = 0.75


class CrossEncoderForZeroShotClassification(ZeroShotPreTrainedModel):
    """See the module's text. Features are token `ids` and `mask`, true at content, both (B, S) or (N, L)."""

    config_class = CrossEncoderConfig
    pays_per_pair = True

    def __init__(self, config: CrossEncoderConfig):
        super().__init__(config)
        types = config.pair_layout["token_types"]
        known = getattr(config.text_config, "type_vocab_size", None)
        accepts = "token_type_ids" in inspect.signature(type(self.encoder).forward).parameters
        self.takes_token_types = accepts and types is not None and (known is None or max(types) < known)
        self.post_init()

    @classmethod
    def build_backbone(cls, text_config) -> PreTrainedModel:
        """The encoder with its classification head."""
        return AutoModelForSequenceClassification.from_config(text_config)

    @property
    def backbones(self) -> list[torch.nn.Module]:
        """The encoder without the head, which learns at the head's rate and has no initial weights to keep."""
        return [self.encoder.base_model]

    @property
    def tells_alternatives_apart(self) -> bool:
        """An NLI head does: by entailment alone, or by entailment over contradiction."""
        return self.config.head == "nli"

    @classmethod
    def describe_tokenizer(cls, tokenizer) -> dict:
        """How it puts pairs together."""
        return {"pair_layout": describe_pairs(tokenizer)}

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Features:
        return strip_special_tokens(input_ids, attention_mask, self.config.pair_layout)

    def encode_classes(self, class_input_ids: torch.Tensor, class_attention_mask: torch.Tensor) -> Features:
        features = strip_special_tokens(class_input_ids, class_attention_mask, self.config.pair_layout)
        self.count_room_beside(int(features["mask"].sum(dim=1).max()) + self._count_single_special_tokens())
        return features

    def score(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        outputs = self._judge_pairs(text_features, class_features, candidate_mask)  # (B, N, outputs of the head)
        if self.config.head == "binary":
            return self.scale_logits(outputs[..., 0])  # (B, N)
        return self.scale_logits(outputs[..., self.config.entailment_id] - outputs[..., self.config.contradiction_id])

    def score_alternatives(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """An NLI head judges labels that share 1 by entailment alone."""
        if self.config.head == "binary":
            return self.score(text_features, class_features, candidate_mask)
        outputs = self._judge_pairs(text_features, class_features, candidate_mask)
        return self.scale_logits(outputs[..., self.config.entailment_id])  # (B, N)

    def _judge_pairs(self, texts: Features, classes: Features, candidate_mask: torch.Tensor | None) -> torch.Tensor:
        """The head's outputs (B, N, outputs), float32; zeros for pairs that are no candidates."""
        size = (count_rows(texts), count_rows(classes))
        wanted = torch.ones(size, dtype=torch.bool, device=texts["ids"].device) if candidate_mask is None else candidate_mask
        rows, columns = wanted.nonzero(as_tuple=True)  # (pairs,) each
        lengths = texts["mask"].sum(dim=1)[rows] + classes["mask"].sum(dim=1)[columns]
        lengths = (lengths + count_special_tokens(self.config.pair_layout)).clamp(max=self.config.max_tokens)
        grid = texts["ids"].new_zeros((*size, self.encoder.config.num_labels), dtype=torch.float32)
        if not len(rows):
            return grid
        # In training every activation is kept for the gradient, so padding costs memory too.
        batches = list(batch_by_length(lengths, TOKENS_PER_PASS, LEAST_SHARE if self.training else 0.0))
        judged = torch.cat([self._judge(texts, classes, rows[batch], columns[batch]) for batch in batches])
        order = torch.cat(batches)
        return grid.index_put((rows[order], columns[order]), judged)

    def _judge(self, texts: Features, classes: Features, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """One pass over the pairs (text `rows[i]`, label `columns[i]`): the head's outputs (pairs, outputs), float32."""
        pairs = assemble_pairs(
            select_features(texts, rows), select_features(classes, columns), self.config.pair_layout, self.config.max_tokens
        )
        input_ids, attention_mask, token_type_ids = pairs
        types = {"token_type_ids": token_type_ids} if self.takes_token_types else {}
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).logits.float()

    def _count_single_special_tokens(self) -> int:
        """How many special tokens stand around a text or label alone."""
        return sum(self.config.pair_layout["single_special_tokens"])

    def count_room(self, class_features: Features) -> torch.Tensor:
        more = count_special_tokens(self.config.pair_layout) - self._count_single_special_tokens()
        return self.config.max_tokens - more - class_features["mask"].sum(dim=1).cpu()  # (N * T,)

    def count_room_beside(self, class_tokens: int) -> int:
        alone = self._count_single_special_tokens()
        taken = class_tokens - alone + count_special_tokens(self.config.pair_layout)
        if taken >= self.config.max_tokens:
            raise ValueError(
                f"Expected labels that leave room for the text among {self.config.max_tokens} tokens, found one that takes "
                f"{taken} of them. Shorten it; a label is never cut."
            )
        return self.config.max_tokens - taken + alone

    def warn_of_cut_texts(self, lengths: Sequence[int], class_features: Features) -> None:
        limit = self.config.max_tokens
        more = limit - int(self.count_room(class_features).min())
        cut = [position for position, length in enumerate(lengths) if length + more > limit]
        if cut:
            logger.warning(
                f"{len(cut)} of {len(lengths)} texts are longer than the model's {limit} tokens together with the longest "
                f"label and were cut for it (the first, at position {cut[0]}, has {lengths[cut[0]] + more} with it)."
            )

    @classmethod
    def from_nli_checkpoint(
        cls,
        name: str,
        *,
        class_templates: tuple[str, ...] | list[str] = ("This example is {}.",),
        entailment_id: int | None = None,
        contradiction_id: int | None = None,
        encoder_kwargs: dict | None = None,
        **kwargs,
    ):
        """Wrap a published NLI classifier; its scores are those of the stock zero-shot pipeline.

        With `overflow="truncate"` texts are cut as there, at the tokenizer's limit; where it names none, at the encoder's
        positions (`max_tokens`). Without it they are read in windows.

        Args:
            name: A folder or Hub id that `AutoModelForSequenceClassification` can load.
            class_templates: Wordings that make a hypothesis of a label; the default is the stock pipeline's.
            entailment_id: Which class is entailment; found by the names of the classes when left out.
            contradiction_id: Which class is contradiction; found likewise.
            encoder_kwargs: See [`from_encoder`].
            **kwargs: See [`from_encoder`].

        Returns:
            The model in evaluation mode, with `tokenizer` set.

        Raises:
            ValueError: If the classes do not tell which is entailment, or the checkpoint has no head.
        """
        loading = {"dtype": torch.float32, **(encoder_kwargs or {})}
        located = {key: value for key, value in loading.items() if key != "dtype"}
        label2id = load_encoder_config(name, **located).label2id
        entailment_id, contradiction_id = resolve_entailment(label2id, entailment_id, contradiction_id)
        model = cls.from_encoder(
            name,
            encoder_kwargs=encoder_kwargs,
            head="nli",
            class_templates=class_templates,
            entailment_id=entailment_id,
            contradiction_id=contradiction_id,
            **kwargs,
        )
        config = copy.deepcopy(model.config.text_config)
        weights, report = AutoModelForSequenceClassification.from_pretrained(
            name, config=config, output_loading_info=True, **loading
        )
        if report["missing_keys"]:
            raise ValueError(
                f"Expected an NLI classifier in {name!r}, found no weights for {sorted(report['missing_keys'])[0]!r}. "
                "Name a checkpoint with its classification head, or train one from from_encoder(..., head='nli')."
            )
        model.encoder.load_state_dict(weights.state_dict())
        return model
