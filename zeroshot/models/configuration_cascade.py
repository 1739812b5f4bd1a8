"""Configuration of the cascade."""

from .configuration_biencoder import check_pooling
from .configuration_zeroshot import ZeroShotConfig


class CascadeConfig(ZeroShotConfig):
    """Configuration of [`CascadeForZeroShotClassification`].

    Args:
        shortlist_size: How many labels of a text the second stage rescores.
        text_gate_init_value: Added to the attention scores of text tokens before training, see [`JointEncoderConfig`].
        pooling: How token states become one vector, in both stages: `mean`, `max` or `cls`.
        **kwargs: See [`ZeroShotConfig`].

    Raises:
        ValueError: If `pooling` is unknown, or `shortlist_size` is below 1.
    """

    model_type = "zeroshot-cascade"

    def __init__(self, text_config=None, *, shortlist_size=16, text_gate_init_value=-2.0, pooling="mean", **kwargs):
        if shortlist_size < 1:
            raise ValueError(f"Expected shortlist_size of at least 1 label, found {shortlist_size}. Raise it.")
        self.shortlist_size = shortlist_size
        self.text_gate_init_value = text_gate_init_value
        self.pooling = check_pooling(pooling)
        super().__init__(text_config, **kwargs)
