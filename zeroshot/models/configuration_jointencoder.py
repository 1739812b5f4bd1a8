"""Configuration of the joint encoder."""

from .configuration_biencoder import check_pooling
from .configuration_zeroshot import ZeroShotConfig


class JointEncoderConfig(ZeroShotConfig):
    """Configuration of [`JointEncoderForZeroShotClassification`].

    Args:
        label_isolation: Whether labels see the text and themselves alone; otherwise all tokens see each other, and a score
            depends on the company of labels.
        text_gate_init_value: Added to the attention scores of text tokens before training, so that labels begin nearly as
            if there were no text. Used with `label_isolation`.
        pooling: How token states become one vector: `mean`, `max` or `cls`.
        **kwargs: See [`ZeroShotConfig`].

    Raises:
        ValueError: If `pooling` is unknown.
    """

    model_type = "zeroshot-jointencoder"

    def __init__(self, text_config=None, *, label_isolation=True, text_gate_init_value=-4.0, pooling="mean", **kwargs):
        self.label_isolation = label_isolation
        self.text_gate_init_value = text_gate_init_value
        self.pooling = check_pooling(pooling)
        super().__init__(text_config, **kwargs)
