"""What all architectures share: the two phases, the forward contract, loading and saving.

A subclass writes `encode_text`, `encode_classes` and `score`; everything else is here and in `prediction_zeroshot`, once.
Dimension letters: B texts, N candidate labels, S text tokens, L label tokens, D hidden size.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, logging

from .configuration_zeroshot import ZeroShotConfig
from .encoder_zeroshot import build_encoder, check_same_tokenizer, copy_weights, count_positions, load_encoder_config
from .features_zeroshot import Features
from .packing_zeroshot import PACKED, Grid, encode_packed
from .prediction_zeroshot import ZeroShotPrediction

logger = logging.get_logger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


@dataclass
class ZeroShotOutput(ModelOutput):
    """Output of `forward`.

    Args:
        loss: Mean binary cross-entropy over the cells that are candidates, shape (); only when `labels` were given.
        logits: Raw scores, (B, N), float32: higher is more likely, 0 is an even chance.
        first_logits: Those of the first stage alone, (B, N), where there are two.
        text_features: What `encode_text` returned: named tensors, one row a text.
        class_features: What `encode_classes` returned: named tensors, one row a label.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    first_logits: torch.Tensor | None = None
    text_features: Features | None = None
    class_features: Features | None = None


def masked_bce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over the cells of (B, N) whose label is 0 or 1; cells of -100 do not count."""
    real = labels != -100
    cells = nn.functional.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")
    return cells.masked_fill(~real, 0.0).sum() / real.sum().clamp(min=1)


class ZeroShotPreTrainedModel(ZeroShotPrediction, PreTrainedModel):
    """Base of all architectures; see the module's text for what a subclass adds."""

    config_class = ZeroShotConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # Our losses are means over a batch: without this the Trainer would not divide by accumulation steps.
    accepts_loss_kwargs = False
    # Whether labels may have an encoder of their own; without cross-attention the two sides need not share one.
    takes_class_encoder = False
    # Whether the work of `score` grows with the number of pairs, so that training scores a choice of them.
    pays_per_pair = False
    # Whether only the labels of a shortlist are scored by all that the model has.
    has_shortlist = False
    # Whether both sides are `read_text` and `read_classes` of one encoder's states, so that one packed pass serves both.
    reads_token_states = False
    # The features, one vector a text and one a label, whose product `scale_logits` turns into the logit (of the first stage,
    # where there are two): then labels can be searched by vector. None where a score is more than such a product.
    compared_vectors: str | None = None
    objective: Callable[..., torch.Tensor] | None = None  # set in a training step: inputs to loss, over all processes
    # Whether attention itself is replaced, which some encoders (MPNet, DeBERTa) do not allow.
    needs_attention_interface = False

    def __init__(self, config: ZeroShotConfig):
        super().__init__(config)
        self.encoder = self.build_backbone(config.text_config)
        if config.class_config is not None:
            self._check_class_encoder(config)
            self.class_encoder = build_encoder(config.class_config)
            self.class_encoder.requires_grad_(not config.freeze_class_encoder)
        # One-dimensional, because FSDP2 refuses to shard scalars.
        self.logit_scale = nn.Parameter(torch.empty(1))
        self.logit_bias = nn.Parameter(torch.empty(1))
        self.tokenizer = None

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self:
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
            init.constant_(self.logit_bias, self.config.logit_bias_init_value)

    # -- the contract ------------------------------------------------------------------------------------------------

    @property
    def independent_of_other_candidates(self) -> bool:
        """Whether a label's score is the same in any company of other candidates."""
        return True

    @property
    def tells_alternatives_apart(self) -> bool:
        """Whether labels that share 1 are scored in another way than labels that are judged one by one."""
        return False

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Features:
        """Encode texts, (B, S) int64 twice, to whatever `score` needs of them: named tensors of B rows."""
        return self.read_text(self.encode_tokens(input_ids, attention_mask), attention_mask)

    def encode_classes(self, class_input_ids: torch.Tensor, class_attention_mask: torch.Tensor) -> Features:
        """Encode labels, (N, L) int64 twice, to whatever `score` needs of them: named tensors of N rows."""
        return self.read_classes(self.encode_class_tokens(class_input_ids, class_attention_mask), class_attention_mask)

    def read_text(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        """What `encode_text` returns, from token states (B, S, D) and their mask; where that is all it needs."""
        raise NotImplementedError

    def read_classes(self, states: torch.Tensor, mask: torch.Tensor) -> Features:
        """What `encode_classes` returns, from token states (N, L, D) and their mask; where that is all it needs."""
        raise NotImplementedError

    def score(
        self, text_features: Features, class_features: Features, candidate_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compare what the two phases returned.

        Args:
            text_features: Of B texts.
            class_features: Of N labels.
            candidate_mask: (B, N) bool, true where a score is wanted; all when left out. Architectures whose work grows
                with the number of pairs compute no others, and then hold any finite value there.

        Returns:
            Raw logits (B, N), float32.
        """
        raise NotImplementedError

    def choose_classes(
        self, text_features: Features, class_features: Features, num_labels: int, candidate_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """The shortlist (B, N) bool, with arguments as in `score_classes`; for architectures that have one."""
        raise NotImplementedError

    def score_first_stage(self, text_features: Features, class_features: Features) -> torch.Tensor | None:
        """The logits (B, N) from which a shortlist is drawn; None where all pairs are scored in one way."""
        return None

    def count_room_beside(self, class_tokens: int) -> int:
        """The most tokens of a text that are read whole beside a label of so many; both with special tokens.

        Raises:
            ValueError: If such a label leaves no room.
        """
        return self.config.max_tokens

    @property
    def backbones(self) -> list[nn.Module]:
        """The pretrained parts: what has the encoder's learning rate and is averaged with its initial weights."""
        return [self.encoder] if self.config.class_config is None else [self.encoder, self.class_encoder]

    @property
    def fixed_attention(self) -> str | None:
        """The attention implementation that the mathematics needs; None where any gives the same."""
        return None

    def set_attn_implementation(self, attn_implementation, *args, **kwargs):
        """Choose how attention is computed, where it may be chosen; see `PreTrainedModel.set_attn_implementation`."""
        if self.fixed_attention is None:
            super().set_attn_implementation(attn_implementation, *args, **kwargs)

    @classmethod
    def build_backbone(cls, text_config) -> PreTrainedModel:
        """Build `encoder` from its configuration, without weights."""
        return build_encoder(text_config)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        class_input_ids: torch.Tensor | None = None,
        class_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        candidate_mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> ZeroShotOutput | tuple:
        """Score every text against every label of the batch.

        Args:
            input_ids: Token ids of the texts, (B, S).
            attention_mask: 1 where a text token is real, (B, S); all real when left out.
            class_input_ids: Token ids of the distinct labels, (N, L).
            class_attention_mask: 1 where a label token is real, (N, L); all real when left out.
            labels: 1 where the label holds, 0 where it does not, -100 where it is no candidate of the text, (B, N).
            candidate_mask: True where a pair is to be scored, (B, N) bool; all are when left out. The logits of the
                others mean nothing, and the loss leaves them out.
            return_dict: Whether to return a [`ZeroShotOutput`] or its values as a tuple.

        Raises:
            ValueError: If `class_input_ids` is missing, or `labels` is not (B, N).
        """
        if class_input_ids is None:
            raise ValueError(
                "Expected class_input_ids, the token ids of the candidate labels, found None. "
                "Build all inputs with build_inputs(tokenizer, texts, labels, max_tokens), or call predict(...)."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if class_attention_mask is None:
            class_attention_mask = torch.ones_like(class_input_ids)
        sides = (input_ids, attention_mask), (class_input_ids, class_attention_mask)
        if self.objective is not None:
            return ZeroShotOutput(loss=self.objective(self, *sides, labels, candidate_mask))
        texts, classes = self.encode_sides(*sides)
        logits = self.score(texts, classes, candidate_mask)  # (B, N)
        loss = None
        if labels is not None:
            if labels.shape != logits.shape:
                raise ValueError(
                    f"Expected labels of shape (texts, candidate labels) {tuple(logits.shape)}, "
                    f"found {tuple(labels.shape)}. Give 1, 0 or -100 for every pair."
                )
            if candidate_mask is not None:
                labels = labels.masked_fill(~candidate_mask, -100)
            loss = masked_bce(logits, labels)
        output = ZeroShotOutput(loss, logits, self.score_first_stage(texts, classes), texts, classes)
        return output if return_dict else output.to_tuple()

    def encode_sides(self, texts: Grid, classes: Grid) -> tuple[Features, Features]:
        """Encode texts and labels; while training with packed batches in one pass of the encoder."""
        if not (self.training and self.encoder.config._attn_implementation == PACKED):
            return self.encode_text(*texts), self.encode_classes(*classes)
        text_states, class_states = encode_packed(self.encoder, [texts, classes])
        return self.read_text(text_states, texts[1]), self.read_classes(class_states, classes[1])

    def encode_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Run the encoder: token states (rows, tokens, D)."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def encode_class_tokens(self, class_input_ids: torch.Tensor, class_attention_mask: torch.Tensor) -> torch.Tensor:
        """Run the labels' encoder, their own or the texts': token states (N, L, D)."""
        if self.config.class_config is None:
            return self.encode_tokens(class_input_ids, class_attention_mask)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_class_encoder):
            return self.class_encoder(input_ids=class_input_ids, attention_mask=class_attention_mask).last_hidden_state

    def scale_logits(self, similarity: torch.Tensor) -> torch.Tensor:
        """Apply the learned scale and bias, in float32."""
        return self.logit_scale.float().exp() * similarity.float() + self.logit_bias.float()

    # -- loading and saving ------------------------------------------------------------------------------------------

    @classmethod
    def from_encoder(
        cls,
        name: str,
        *,
        class_encoder: str | None = None,
        encoder_kwargs: dict | None = None,
        dropout: float | None = None,
        **config_kwargs,
    ):
        """Build an untrained classifier on a pretrained encoder.

        Args:
            name: A folder or Hub id that `AutoModel` can load.
            class_encoder: Another one for the labels, with the same tokenizer and hidden size; they share `name` when left
                out.
            encoder_kwargs: Passed to `AutoConfig`, `AutoModel` and `AutoTokenizer` (`revision`, `token`, ...); `dtype` of
                the weights is float32 unless given.
            dropout: Replaces every dropout rate of the encoder's configuration, between 0 and 1.
            **config_kwargs: Fields of this architecture's configuration.

        Returns:
            The model in evaluation mode, with `tokenizer` set.

        Raises:
            ValueError: If `max_tokens` is more than the encoder can take, or the labels' encoder does not fit.
        """
        # Training in float32 under autocast: a bias in bfloat16 would not move by steps of 1e-3.
        kwargs = {"dtype": torch.float32, **(encoder_kwargs or {})}
        located = {key: value for key, value in kwargs.items() if key != "dtype"}
        text_config = load_encoder_config(name, dropout, **located)
        tokenizer = AutoTokenizer.from_pretrained(name, **located)
        limit = count_positions(text_config, tokenizer)
        if class_encoder is not None:
            class_config = load_encoder_config(class_encoder, dropout, **located)
            check_same_tokenizer(tokenizer, AutoTokenizer.from_pretrained(class_encoder, **located), class_encoder)
            limit = min(limit, count_positions(class_config, tokenizer))
            config_kwargs["class_config"] = class_config
        if config_kwargs.setdefault("max_tokens", limit) > limit:
            raise ValueError(
                f"Expected max_tokens of at most {limit}, the limit of {name!r}, "
                f"found {config_kwargs['max_tokens']}. Lower it."
            )
        config = cls.config_class(text_config, **config_kwargs, **cls.describe_tokenizer(tokenizer))
        model = cls(config)
        for part, source in zip(model.backbones, [name] if class_encoder is None else [name, class_encoder], strict=True):
            copy_weights(part, source, **kwargs)
        model.to(model.backbones[0].dtype)
        model.tokenizer = tokenizer
        return model.eval()

    @classmethod
    def describe_tokenizer(cls, tokenizer) -> dict:
        """Fields of the configuration that follow from the tokenizer."""
        return {}

    def _check_class_encoder(self, config: ZeroShotConfig) -> None:
        if not self.takes_class_encoder:
            raise ValueError(
                f"Expected one encoder for {type(self).__name__}, whose labels attend to the text, found a class_encoder. "
                "Leave it out, or choose an architecture that compares two sides."
            )
        sizes = (config.text_config.hidden_size, config.class_config.hidden_size)
        if len(set(sizes)) > 1:
            raise ValueError(
                f"Expected encoders of one hidden size, found {sizes[0]} for texts and {sizes[1]} for labels. Choose "
                "another class_encoder."
            )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a checkpoint with its tokenizer; arguments as in `PreTrainedModel.from_pretrained`."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
            return loaded  # transformers would make up a tokenizer in which every word is unknown
        names = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
        try:
            model.tokenizer = AutoTokenizer.from_pretrained(
                pretrained_model_name_or_path,
                config=model.config.text_config,  # without it the tokenizer would ask to trust our code again
                **{name: kwargs[name] for name in names if name in kwargs},
            )
        except (OSError, ValueError) as error:
            logger.info(f"No tokenizer beside the weights of {pretrained_model_name_or_path}: {error}")
        return loaded

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Save weights, configuration, code and, where it is known, the tokenizer."""
        if self.tokenizer is not None and kwargs.get("is_main_process", True):
            tokenizer = copy.deepcopy(self.tokenizer)
            if tokenizer.is_fast:  # padding and cutting set by earlier calls would be written to tokenizer.json
                tokenizer.backend_tokenizer.no_padding()
                tokenizer.backend_tokenizer.no_truncation()
            tokenizer.save_pretrained(save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)  # last: with push_to_hub it sends the whole folder
        for weights in Path(save_directory).glob("*.safetensors"):  # written readable for their owner alone
            weights.chmod((Path(save_directory) / "config.json").stat().st_mode)

    def as_pipeline(self, tokenizer=None, **kwargs):
        """Return this model as a drop-in of `pipeline("zero-shot-classification")`."""
        # This import makes `save_pretrained` copy the pipeline's file beside the weights.
        from .pipeline_zeroshot import ZeroShotPipeline

        tokenizer = tokenizer if tokenizer is not None else self._require_tokenizer()
        return ZeroShotPipeline(model=self, tokenizer=tokenizer, task="zero-shot-classification", **kwargs)

    def _require_tokenizer(self):
        if self.tokenizer is None:
            raise ValueError(
                "Expected a model with its tokenizer, found none. Load the model with from_pretrained from a folder that "
                "holds tokenizer.json, build it with from_encoder, or set model.tokenizer."
            )
        return self.tokenizer
