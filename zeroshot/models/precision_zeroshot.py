"""In which precision matrix products are computed when a model predicts."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch

Precision = Literal["fp32", "bf16", "auto"]


def supports_bfloat16() -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def check_precision(precision: Precision) -> Precision:
    """Return the precision.

    Raises:
        ValueError: If there is no such one.
    """
    if precision not in get_args(Precision):
        raise ValueError(
            f"Expected a precision of {', '.join(get_args(Precision))}, found {precision!r}. Choose one of them."
        )
    return precision


def use_precision(precision: Precision, device_type: str) -> AbstractContextManager:
    """Compute matrix products so inside this context; weights are converted once for all of it.

    Args:
        precision: `fp32` leaves the weights' own dtype, or an autocast around it, as it is; `bf16` is bfloat16, of whose
            three digits logits differ in the second or third; `auto` is `bf16` where the hardware has it.
        device_type: Where the model is.
    """
    if check_precision(precision) == "bf16" or (precision == "auto" and supports_bfloat16()):
        return torch.autocast(device_type, dtype=torch.bfloat16)
    return nullcontext()
