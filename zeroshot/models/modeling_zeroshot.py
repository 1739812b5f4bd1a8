"""What all architectures share: the two phases, the forward contract, loading, prediction.

A subclass writes `encode_text`, `encode_classes` and `score`; everything else is here, once.
Dimension letters: B texts, N candidate labels, S text tokens, L label tokens, D hidden size.
"""

import copy
import inspect
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers import initialization as init
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.utils import ModelOutput, logging

from .configuration_zeroshot import ZeroShotConfig, check_class_template
from .inputs_zeroshot import check_batch_size, check_candidate_labels, check_labels_per_text, check_texts, pad, tokenize

logger = logging.get_logger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


@dataclass
class ZeroShotOutput(ModelOutput):
    """Output of `forward`.

    Args:
        loss: Mean binary cross-entropy over the cells that are candidates, shape (); only when `labels` were given.
        logits: Raw scores, (B, N), float32: higher is more likely, 0 is an even chance.
        text_features: What `encode_text` returned.
        class_features: What `encode_classes` returned.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    text_features: torch.Tensor | None = None
    class_features: torch.Tensor | None = None


def masked_bce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over the cells of (B, N) whose label is 0 or 1; cells of -100 do not count."""
    real = labels != -100
    cells = nn.functional.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")
    return cells.masked_fill(~real, 0.0).sum() / real.sum().clamp(min=1)


def build_encoder(text_config) -> PreTrainedModel:
    """Build the encoder without its pooler, whose weights no architecture uses and DDP would miss."""
    encoder_class = MODEL_MAPPING.get(type(text_config), None)
    takes_pooler = isinstance(encoder_class, type) and "add_pooling_layer" in inspect.signature(encoder_class).parameters
    return AutoModel.from_config(text_config, **({"add_pooling_layer": False} if takes_pooler else {}))


def count_positions(text_config, tokenizer) -> int:
    """The most tokens that the tokenizer and the encoder's position table allow; 512 where neither sets a limit."""
    limit = tokenizer.model_max_length
    if (positions := getattr(text_config, "max_position_embeddings", None)) is not None:
        limit = min(limit, positions)
    with torch.device("meta"):
        encoder = build_encoder(text_config)
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            # RoBERTa and its kin count positions from behind the padding index.
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return limit if limit < VERY_LARGE_INTEGER else 512


class ZeroShotPreTrainedModel(PreTrainedModel):
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
    # Whether a label's score is the same in any company of other candidates.
    independent_of_other_candidates = True

    def __init__(self, config: ZeroShotConfig):
        super().__init__(config)
        self.encoder = build_encoder(config.text_config)
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

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Encode texts, (B, S) int64 twice, to whatever `score` needs of them."""
        raise NotImplementedError

    def encode_classes(self, class_input_ids: torch.Tensor, class_attention_mask: torch.Tensor) -> torch.Tensor:
        """Encode labels, (N, L) int64 twice, to whatever `score` needs of them."""
        raise NotImplementedError

    def score(self, text_features: torch.Tensor, class_features: torch.Tensor) -> torch.Tensor:
        """Compare what the two phases returned: raw logits (B, N), float32."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        class_input_ids: torch.Tensor | None = None,
        class_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> ZeroShotOutput | tuple:
        """Score every text against every label of the batch.

        Args:
            input_ids: Token ids of the texts, (B, S).
            attention_mask: 1 where a text token is real, (B, S); all real when left out.
            class_input_ids: Token ids of the distinct labels, (N, L).
            class_attention_mask: 1 where a label token is real, (N, L); all real when left out.
            labels: 1 where the label holds, 0 where it does not, -100 where it is no candidate of the text, (B, N).
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
        text_features = self.encode_text(input_ids, attention_mask)
        class_features = self.encode_classes(class_input_ids, class_attention_mask)
        logits = self.score(text_features, class_features)  # (B, N)
        loss = None
        if labels is not None:
            if labels.shape != logits.shape:
                raise ValueError(
                    f"Expected labels of shape (texts, candidate labels) {tuple(logits.shape)}, "
                    f"found {tuple(labels.shape)}. Give 1, 0 or -100 for every pair."
                )
            loss = masked_bce(logits, labels)
        output = ZeroShotOutput(loss, logits, text_features, class_features)
        return output if return_dict else output.to_tuple()

    def encode_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Run the encoder: token states (rows, tokens, D)."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def scale_logits(self, similarity: torch.Tensor) -> torch.Tensor:
        """Apply the learned scale and bias, in float32."""
        return self.logit_scale.float().exp() * similarity.float() + self.logit_bias.float()

    # -- loading and saving ------------------------------------------------------------------------------------------

    @classmethod
    def from_encoder(cls, name: str, *, encoder_kwargs: dict | None = None, dropout: float | None = None, **config_kwargs):
        """Build an untrained classifier on a pretrained encoder.

        Args:
            name: A folder or Hub id that `AutoModel` can load.
            encoder_kwargs: Passed to `AutoConfig`, `AutoModel` and `AutoTokenizer` (`revision`, `token`, ...); `dtype` of
                the weights is float32 unless given.
            dropout: Replaces every dropout rate of the encoder's configuration, between 0 and 1.
            **config_kwargs: Fields of this architecture's configuration.

        Returns:
            The model in evaluation mode, with `tokenizer` set.

        Raises:
            ValueError: If `max_tokens` is more than the encoder can take.
        """
        # Training in float32 under autocast: a bias in bfloat16 would not move by steps of 1e-3.
        kwargs = {"dtype": torch.float32, **(encoder_kwargs or {})}
        located = {key: value for key, value in kwargs.items() if key != "dtype"}
        text_config = AutoConfig.from_pretrained(name, **located)
        if dropout is not None:
            for field, value in text_config.to_dict().items():
                if "dropout" in field and isinstance(value, float):
                    setattr(text_config, field, dropout)
        tokenizer = AutoTokenizer.from_pretrained(name, **located)
        limit = count_positions(text_config, tokenizer)
        if config_kwargs.setdefault("max_tokens", limit) > limit:
            raise ValueError(
                f"Expected max_tokens of at most {limit}, the limit of {name!r}, "
                f"found {config_kwargs['max_tokens']}. Lower it."
            )
        config = cls.config_class(copy.deepcopy(text_config), **config_kwargs)
        config.text_config._name_or_path = ""  # config.json must not tell a local path
        model = cls(config)
        encoder = AutoModel.from_pretrained(name, config=text_config, **kwargs)
        weights = encoder.state_dict()
        model.encoder.load_state_dict({key: weights[key] for key in model.encoder.state_dict()})
        model.to(encoder.dtype)
        model.tokenizer = tokenizer
        return model.eval()

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

    # -- prediction --------------------------------------------------------------------------------------------------

    @contextmanager
    def _inference(self):
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(was_training)

    def _encode_sorted(self, encode, token_ids: list[list[int]], batch_size: int, progress_bar: tqdm) -> torch.Tensor:
        """Encode rows in batches of like length, so that little is padded; the result is in the rows' order."""
        tokenizer = self._require_tokenizer()
        order = sorted(range(len(token_ids)), key=lambda row: -len(token_ids[row]))
        parts = []
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = pad(tokenizer, [token_ids[row] for row in rows]).to(self.device)
            parts.append(encode(batch["input_ids"], batch["attention_mask"]))
            progress_bar.update(len(rows))
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[back.to(self.device)]

    def encode_candidate_labels(
        self, candidate_labels: Sequence[str], class_templates: Sequence[str] | None = None, *, batch_size: int = 256
    ) -> torch.Tensor:
        """Encode label names in every template: features of N * T rows, the T wordings of a label side by side.

        Args:
            candidate_labels: N label names.
            class_templates: T wordings with one placeholder `{}` each; the configuration's when left out.
            batch_size: Rows per pass of the encoder.
        """
        templates = [check_class_template(t) for t in class_templates or self.config.class_templates]
        worded = [template.format(label) for label in candidate_labels for template in templates]
        token_ids = tokenize(self._require_tokenizer(), worded, self.config.max_tokens, overflow="error")
        with self._inference(), tqdm(disable=True) as silent:
            return self._encode_sorted(self.encode_classes, token_ids, batch_size, silent)

    def score_classes(self, text_features: torch.Tensor, class_features: torch.Tensor, num_labels: int) -> torch.Tensor:
        """Logits (B, N): the mean over the wordings that [`encode_candidate_labels`] put side by side."""
        logits = self.score(text_features, class_features)  # (B, N * T)
        return logits.unflatten(1, (num_labels, -1)).mean(dim=2)  # (B, N)

    def predict_logits(
        self,
        texts: Sequence[str],
        candidate_labels: str | Sequence[str],
        *,
        class_templates: Sequence[str] | None = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
    ) -> torch.Tensor:
        """Score every text against every label.

        Args:
            texts: B texts, none of them empty.
            candidate_labels: N label names, as a list or separated by commas.
            class_templates: Wordings of a label; the configuration's when left out.
            batch_size: Texts per pass of the encoder; it does not change the scores.
            show_progress_bar: Whether to show texts done, texts/s and the time left.

        Returns:
            Raw logits (B, N), float32, on the CPU.

        Raises:
            TypeError: If a text or label is not a string.
            ValueError: If a text is empty, labels are missing, empty or repeated, or `batch_size` is below 1.
        """
        check_batch_size(batch_size)
        labels = check_candidate_labels(candidate_labels)
        texts = check_texts(texts)
        if not texts:
            return torch.empty(0, len(labels))
        class_features = self.encode_candidate_labels(labels, class_templates)
        token_ids = tokenize(self._require_tokenizer(), texts, self.config.max_tokens, overflow="warn")
        progress_bar = tqdm(total=len(texts), desc="Scoring", unit=" texts", disable=not show_progress_bar)

        def score_batch(input_ids, attention_mask):
            return self.score_classes(self.encode_text(input_ids, attention_mask), class_features, len(labels))

        with self._inference(), progress_bar:
            return self._encode_sorted(score_batch, token_ids, batch_size, progress_bar).float().cpu()

    def predict(
        self,
        texts: str | Sequence[str],
        candidate_labels: str | Sequence[str] | Sequence[Sequence[str]],
        *,
        multi_label: bool = False,
        class_templates: Sequence[str] | None = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
    ) -> list[dict]:
        """Classify texts.

        Args:
            texts: One text or B texts.
            candidate_labels: Label names for all texts (a list, or one string with commas), or one list per text.
            multi_label: Whether labels are judged one by one (sigmoid) or as alternatives that share 1 (softmax).
            class_templates: Wordings of a label; the configuration's when left out.
            batch_size: Texts per pass of the encoder; it does not change the scores.
            show_progress_bar: Whether to show progress.

        Returns:
            Per text `{"text": ..., "scores": {label: probability}}`, labels in the order asked for, probabilities
            between 0 and 1.

        Raises:
            TypeError: If a text or label is not a string.
            ValueError: If a text is empty; labels are missing, empty or repeated; or there are not as many lists as texts.

        Example:
            >>> model.predict(["The match ended 3:2."], ["sports", "cooking"])  # doctest: +SKIP
            [{'text': 'The match ended 3:2.', 'scores': {'sports': 0.98, 'cooking': 0.02}}]
        """
        texts = check_texts([texts] if isinstance(texts, str) else texts)
        if not texts:
            return []
        labels_per_text = check_labels_per_text(candidate_labels, len(texts))
        all_labels = list(dict.fromkeys(label for labels in labels_per_text for label in labels))
        logits = self.predict_logits(
            texts,
            all_labels,
            class_templates=class_templates,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )
        column, results = {label: position for position, label in enumerate(all_labels)}, []
        for text, labels, row in zip(texts, labels_per_text, logits, strict=True):
            own = row[[column[label] for label in labels]]
            scores = own.sigmoid() if multi_label or len(labels) == 1 else own.softmax(dim=0)
            results.append({"text": text, "scores": dict(zip(labels, scores.tolist(), strict=True))})
        return results
