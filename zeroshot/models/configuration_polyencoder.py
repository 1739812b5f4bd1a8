"""Configuration of the poly-encoder."""

from .configuration_biencoder import check_pooling
from .configuration_zeroshot import ZeroShotConfig


class PolyEncoderConfig(ZeroShotConfig):
    """Configuration of [`PolyEncoderForZeroShotClassification`].

    Args:
        num_codes: How many learned codes read a text, and so how many vectors it becomes; at least 1.
        pooling: How a label's token states become one vector: `mean`, `max`, or `cls` (first token).
        **kwargs: See [`ZeroShotConfig`].

    Raises:
        ValueError: If `num_codes` is not a positive integer, or `pooling` not one of the three.
    """

    model_type = "zeroshot-polyencoder"

    def __init__(self, text_config=None, *, num_codes=16, pooling="mean", **kwargs):
        if type(num_codes) is not int or num_codes < 1:
            raise ValueError(f"Expected num_codes to be an integer of at least 1, found {num_codes!r}. Write one like 16.")
        self.num_codes = num_codes
        self.pooling = check_pooling(pooling)
        super().__init__(text_config, **kwargs)
