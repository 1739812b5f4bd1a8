"""Configuration shared by every zero-shot architecture."""

import copy
from string import Formatter

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from .calibration_zeroshot import check_calibration

PIPELINES = {"zero-shot-classification": {"impl": "pipeline_zeroshot.ZeroShotPipeline", "pt": ["AutoModel"]}}


def check_class_template(template: str) -> str:
    """Return ``template`` unchanged if a label name can be put into it.

    Raises:
        ValueError: If it does not hold exactly one positional placeholder ``{}``.
    """
    try:
        parsed = [tuple(rest) for _, *rest in Formatter().parse(template) if rest[0] is not None]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a template with one placeholder {{}}, found {template!r} ({error}). "
            "Write it like 'This text is about {}.'; a literal brace is written twice."
        ) from error
    if parsed not in ([("", "", None)], [("0", "", None)]):  # with a width it could make gigabytes of a label
        raise ValueError(
            f"Expected a template with exactly one placeholder {{}} for the label name, found {template!r}. "
            "Write it like 'This text is about {}.'."
        )
    return template


def resolve_encoder_config(encoder: str | dict | PreTrainedConfig) -> PreTrainedConfig:
    """Return an encoder's configuration from its `model_type`, its dictionary, or itself.

    Raises:
        ValueError: If it is an encoder-decoder.
    """
    if isinstance(encoder, str | dict):
        encoder = AutoConfig.for_model(
            **{"model_type": "bert", **({"model_type": encoder} if isinstance(encoder, str) else encoder)}
        )
    if encoder.is_encoder_decoder:
        raise ValueError(
            f"Expected an encoder, found the encoder-decoder {encoder.model_type!r}. "
            "Choose an encoder such as BERT, RoBERTa, MPNet, DeBERTa or ModernBERT."
        )
    return encoder


class ZeroShotConfig(PreTrainedConfig):
    """What every architecture stores: the encoder's configuration and how label names become inputs.

    Args:
        text_config: Configuration of the encoder, as an object or a dictionary with its `model_type`.
            A default BERT configuration when left out.
        class_config: Configuration of the labels' own encoder; labels share the texts' encoder when left out.
        freeze_class_encoder: Whether the labels' own encoder keeps its weights in training.
        class_templates: The wordings in which a label name is encoded, each with one placeholder `{}`. With several,
            the logit of a label is the mean over the wordings.
        max_tokens: The most tokens of a text or of a label, special tokens included. Longer texts are read in windows by
            the pipeline and `predict`, and cut with a warning elsewhere; longer labels are refused.
        logit_scale_init_value: Natural logarithm of the factor on the similarity before training.
        logit_bias_init_value: Added to the scaled similarity before training.
        calibration: What `zeroshot calibrate` fitted, see [`check_calibration`]; none when left out.

    Raises:
        ValueError: If a template lacks its placeholder, the encoder is an encoder-decoder, or the calibration is none.
    """

    model_type = "zeroshot"
    sub_configs = {"text_config": AutoConfig, "class_config": AutoConfig}

    def __init__(
        self,
        text_config=None,
        *,
        class_config=None,
        freeze_class_encoder=False,
        class_templates=("{}",),
        max_tokens=512,
        logit_scale_init_value=3.0,
        logit_bias_init_value=-9.0,
        calibration=None,
        **kwargs,
    ):
        text_config = resolve_encoder_config("bert" if text_config is None else text_config)
        if class_config is not None:
            class_config = resolve_encoder_config(class_config)
        elif freeze_class_encoder:
            raise ValueError("Expected a class_config with freeze_class_encoder, found none. Set class_encoder too.")
        if isinstance(class_templates, str) or not class_templates:
            raise ValueError(f"Expected a list of at least one template, found {class_templates!r}. Write ['{{}}'].")
        if max_tokens < 4:
            raise ValueError(f"Expected max_tokens of at least 4 tokens, found {max_tokens}. Raise it.")
        self.text_config = text_config
        self.class_config = class_config
        self.freeze_class_encoder = freeze_class_encoder
        self.class_templates = [check_class_template(template) for template in class_templates]
        self.max_tokens = max_tokens
        self.logit_scale_init_value = logit_scale_init_value
        self.logit_bias_init_value = logit_bias_init_value
        self.calibration = check_calibration(calibration)
        # The names under which `pipeline(...)` finds our class: constant, so that a stored value cannot redirect it.
        kwargs.pop("custom_pipelines", None)
        self.custom_pipelines = copy.deepcopy(PIPELINES)
        super().__init__(**kwargs)

    def to_dict(self):
        output = super().to_dict()
        # `pipeline(...)` replaces the class names in this dictionary by classes, which JSON cannot hold.
        output["custom_pipelines"] = copy.deepcopy(PIPELINES)
        return output
