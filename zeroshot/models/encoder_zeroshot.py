"""The encoder within a model: built, measured, filled with weights, and freed of the place it came from."""

import copy
import inspect

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER


def build_encoder(text_config) -> PreTrainedModel:
    """Build the encoder without its pooler, whose weights no architecture uses and DDP would miss."""
    encoder_class = MODEL_MAPPING.get(type(text_config), None)
    takes_pooler = isinstance(encoder_class, type) and "add_pooling_layer" in inspect.signature(encoder_class).parameters
    return AutoModel.from_config(text_config, **({"add_pooling_layer": False} if takes_pooler else {}))


def find_first_position(encoder: PreTrainedModel) -> int:
    """The position of a sequence's first token: RoBERTa and its kin count from behind the padding index, others from 0."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0


def count_positions(text_config, tokenizer) -> int:
    """The most tokens that the tokenizer and the encoder's position table allow; 512 where neither sets a limit."""
    limit = tokenizer.model_max_length
    positions = getattr(text_config, "max_position_embeddings", None)
    with torch.device("meta"):
        encoder = build_encoder(text_config)
    if positions is not None:
        limit = min(limit, positions - find_first_position(encoder))
    return limit if limit < VERY_LARGE_INTEGER else 512


def load_encoder_config(name: str, dropout: float | None = None, **kwargs) -> PreTrainedConfig:
    """Read an encoder's configuration, with every dropout rate replaced and without the local path it came from."""
    config = AutoConfig.from_pretrained(name, **kwargs)
    if dropout is not None:
        for field, value in config.to_dict().items():
            if "dropout" in field and isinstance(value, float):
                setattr(config, field, dropout)
    config._name_or_path = ""  # config.json must not tell a local path
    return config


def check_same_tokenizer(tokenizer, other, name: str) -> None:
    """Texts and labels are tokenised by one function, so both encoders must know the same ids."""
    if tokenizer.get_vocab() != other.get_vocab():
        raise ValueError(
            f"Expected a class_encoder with the text encoder's vocabulary, found another in {name!r}. Choose two encoders "
            "of one family."
        )


def copy_weights(encoder: PreTrainedModel, name: str, **kwargs) -> None:
    """Load the pretrained weights of `name` into an encoder that may lack parts of it, such as the pooler."""
    weights = AutoModel.from_pretrained(name, config=copy.deepcopy(encoder.config), **kwargs)
    state = weights.state_dict()
    encoder.to(weights.dtype)
    encoder.load_state_dict({key: state[key] for key in encoder.state_dict()})
