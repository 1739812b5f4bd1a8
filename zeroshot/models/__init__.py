"""The registry: every architecture by its key, known to the Auto classes. This file never travels to the Hub."""

from transformers import AutoConfig, AutoModel

from .configuration_biencoder import BiEncoderConfig
from .configuration_cascade import CascadeConfig
from .configuration_crossencoder import CrossEncoderConfig
from .configuration_jointencoder import JointEncoderConfig
from .configuration_lateinteraction import LateInteractionConfig
from .configuration_polyencoder import PolyEncoderConfig
from .configuration_zeroshot import ZeroShotConfig
from .inputs_zeroshot import build_inputs
from .modeling_biencoder import BiEncoderForZeroShotClassification
from .modeling_cascade import CascadeForZeroShotClassification
from .modeling_crossencoder import CrossEncoderForZeroShotClassification
from .modeling_jointencoder import JointEncoderForZeroShotClassification
from .modeling_lateinteraction import LateInteractionForZeroShotClassification
from .modeling_polyencoder import PolyEncoderForZeroShotClassification
from .modeling_zeroshot import ZeroShotOutput, ZeroShotPreTrainedModel
from .pipeline_zeroshot import ZeroShotPipeline

ARCHITECTURES: dict[str, type[ZeroShotPreTrainedModel]] = {}


def register_architecture(key: str, model_class: type[ZeroShotPreTrainedModel]) -> None:
    """Make an architecture known by its key, to the Auto classes and to everything that goes through the registry.

    Args:
        key: What users type, e.g. `biencoder`; the configuration's `model_type` is `zeroshot-<key>`.
        model_class: The model; its `config_class` is registered with it.

    Raises:
        ValueError: If the key is taken, or `model_type` does not fit the key.
    """
    if key in ARCHITECTURES:
        raise ValueError(f"Expected a new key, found {key!r}, which {ARCHITECTURES[key].__name__} has. Choose another.")
    config_class = model_class.config_class
    if config_class.model_type != f"zeroshot-{key}":
        raise ValueError(
            f"Expected {config_class.__name__}.model_type to be 'zeroshot-{key}', found {config_class.model_type!r}. "
            "Set it so: a checkpoint is found again by it."
        )
    config_class.register_for_auto_class()
    model_class.register_for_auto_class("AutoModel")
    AutoConfig.register(config_class.model_type, config_class)
    AutoModel.register(config_class, model_class)
    ARCHITECTURES[key] = model_class


def get_architecture(key: str) -> type[ZeroShotPreTrainedModel]:
    """Return the model class registered under `key`.

    Raises:
        ValueError: If there is none; the message lists the keys.
    """
    if key not in ARCHITECTURES:
        raise ValueError(f"Expected an architecture of {', '.join(ARCHITECTURES)}, found {key!r}. Choose one of them.")
    return ARCHITECTURES[key]


register_architecture("biencoder", BiEncoderForZeroShotClassification)
register_architecture("polyencoder", PolyEncoderForZeroShotClassification)
register_architecture("lateinteraction", LateInteractionForZeroShotClassification)
register_architecture("crossencoder", CrossEncoderForZeroShotClassification)
register_architecture("jointencoder", JointEncoderForZeroShotClassification)
register_architecture("cascade", CascadeForZeroShotClassification)

__all__ = [
    "ARCHITECTURES",
    "BiEncoderConfig",
    "BiEncoderForZeroShotClassification",
    "CascadeConfig",
    "CascadeForZeroShotClassification",
    "CrossEncoderConfig",
    "CrossEncoderForZeroShotClassification",
    "JointEncoderConfig",
    "JointEncoderForZeroShotClassification",
    "LateInteractionConfig",
    "LateInteractionForZeroShotClassification",
    "PolyEncoderConfig",
    "PolyEncoderForZeroShotClassification",
    "ZeroShotConfig",
    "ZeroShotOutput",
    "ZeroShotPipeline",
    "ZeroShotPreTrainedModel",
    "build_inputs",
    "get_architecture",
    "register_architecture",
]
