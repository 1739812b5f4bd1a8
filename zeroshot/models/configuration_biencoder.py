"""Configuration of the bi-encoder."""

from .configuration_zeroshot import ZeroShotConfig

POOLINGS = ("mean", "max", "cls")


def check_pooling(pooling: str) -> str:
    """Return the name of a pooling.

    Raises:
        ValueError: If it is not one of `POOLINGS`.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"Expected pooling to be one of {', '.join(POOLINGS)}, found {pooling!r}. Choose one of them.")
    return pooling


class BiEncoderConfig(ZeroShotConfig):
    """Configuration of [`BiEncoderForZeroShotClassification`].

    Args:
        pooling: How token states become one vector: `mean` (Sentence-BERT's choice), `max`, or `cls` (first token).
        **kwargs: See [`ZeroShotConfig`].

    Raises:
        ValueError: If `pooling` is not one of the three.
    """

    model_type = "zeroshot-biencoder"

    def __init__(self, text_config=None, *, pooling="mean", **kwargs):
        self.pooling = check_pooling(pooling)
        super().__init__(text_config, **kwargs)
