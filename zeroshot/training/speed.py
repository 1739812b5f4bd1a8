"""What training chooses by itself for speed: how attention is computed, and whether a batch is one packed sequence."""

from ..models import ZeroShotPreTrainedModel
from ..models.packing_zeroshot import PACKED, can_pack


def choose_attention(setting: str, device_type: str) -> str | None:
    """The attention implementation for training, or None for the model's own.

    On a CPU the backward pass of SDPA took half of the step at short lengths; plain matrix products do not.
    """
    if setting != "auto":
        return setting
    return "eager" if device_type == "cpu" else None


def choose_packing(
    setting: str, attention: str, model: ZeroShotPreTrainedModel, device_type: str, *, in_passes: bool = False
) -> bool:
    """Whether texts and labels of a batch go through the encoder as one packed sequence.

    Args:
        setting: `auto`, `always` or `never`. `auto` packs where it was measured to be faster: on a CPU.
        attention: The attention implementation that was asked for; packing brings its own.
        model: An untrained or trained model.
        device_type: Where it is trained.
        in_passes: Whether a gradient cache takes texts and labels apart, so that there is no pass of both to pack.

    Raises:
        ValueError: If it must be packed and cannot.
    """
    one_encoder = model.reads_token_states and model.config.class_config is None
    possible = one_encoder and can_pack(model.encoder) and attention == "auto" and not in_passes
    if setting == "always" and not possible:
        raise ValueError(
            "Expected a model that can be trained on packed batches (biencoder, polyencoder or lateinteraction, one encoder "
            "for both sides, of type bert, roberta, xlm-roberta or electra, attn_implementation auto), found "
            f"{type(model).__name__} on {model.encoder.config.model_type!r} with attn_implementation {attention!r}. "
            "Set pack_batches to auto."
        )
    return possible and (setting == "always" or (setting == "auto" and device_type == "cpu"))


def set_training_attention(
    model: ZeroShotPreTrainedModel, attention: str, packing: str, device_type: str, *, in_passes: bool = False
) -> None:
    """Set what [`choose_packing`] and [`choose_attention`] choose; arguments as there."""
    packed = choose_packing(packing, attention, model, device_type, in_passes=in_passes)
    chosen = PACKED if packed else choose_attention(attention, device_type)
    if chosen is not None:
        model.set_attn_implementation(chosen)
