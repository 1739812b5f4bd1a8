"""Configuration of late interaction."""

from .configuration_zeroshot import ZeroShotConfig

LABEL_REDUCTIONS = ("mean", "sum")


class LateInteractionConfig(ZeroShotConfig):
    """Configuration of [`LateInteractionForZeroShotClassification`].

    Args:
        projection_size: Size of a projected token vector, at least 1; None compares token states as they are.
        label_reduction: How the best similarities of a label's tokens become one: `mean`, or `sum`, which favours labels of
            many tokens. A sum is larger by the number of tokens: begin with a `logit_scale_init_value` lower by its
            logarithm, about 1.0 for labels of seven tokens.
        **kwargs: See [`ZeroShotConfig`].

    Raises:
        ValueError: If `projection_size` is neither None nor a positive integer, or `label_reduction` not one of the two.
    """

    model_type = "zeroshot-lateinteraction"

    def __init__(self, text_config=None, *, projection_size=128, label_reduction="mean", **kwargs):
        if projection_size is not None and (type(projection_size) is not int or projection_size < 1):
            raise ValueError(
                f"Expected projection_size to be an integer of at least 1 or None, found {projection_size!r}. "
                "Write one like 128, or None for no projection."
            )
        if label_reduction not in LABEL_REDUCTIONS:
            raise ValueError(
                f"Expected label_reduction to be one of {', '.join(LABEL_REDUCTIONS)}, found {label_reduction!r}. "
                "Choose one of them."
            )
        self.projection_size = projection_size
        self.label_reduction = label_reduction
        super().__init__(text_config, **kwargs)
