"""What a model's results depend on, as digests: whoever keeps results asks by them whether they still hold.

Not shipped with checkpoints; it obeys the ship set's import rule all the same.
"""

import copy
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch

from .modeling_zeroshot import ZeroShotPreTrainedModel

# What tells where a configuration was loaded from or which version wrote it, and changes no vector.
PASSING_FIELDS = {"_name_or_path", "architectures", "auto_map", "dtype", "transformers_version", "class_templates"}

Fingerprint = dict[str, str]  # by part


def _digest_configuration(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {name: _digest_configuration(value) for name, value in content.items() if name not in PASSING_FIELDS}


def _describe_tokenizer(tokenizer) -> str:
    if not tokenizer.is_fast:
        return json.dumps([tokenizer.get_vocab(), tokenizer.init_kwargs], sort_keys=True, default=str)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_padding()  # both are left over from earlier calls, ours set them anew each time
    backend.no_truncation()
    return backend.to_str()


def fingerprint_strings(strings: Iterable[str]) -> str:
    """SHA-256 of strings in their order."""
    digest = hashlib.sha256()
    for string in strings:
        digest.update(json.dumps(string).encode() + b"\n")
    return digest.hexdigest()


def _digest_weights(model: ZeroShotPreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint_model(model: ZeroShotPreTrainedModel, weights: str | None = None) -> Fingerprint:
    """What a vector or a logit depends on, as SHA-256 by part: weights, tokenizer, templates, configuration.

    Args:
        model: With its tokenizer.
        weights: Their digest, where they do not lie in the model itself (an export).
    """
    # A calibration changes none of these: the configuration counts as if there were none.
    content = {**model.config.to_dict(), "calibration": None}
    configuration = json.dumps(_digest_configuration(content), sort_keys=True, default=str)
    return {
        "weights": _digest_weights(model) if weights is None else weights,
        "tokenizer": fingerprint_strings([_describe_tokenizer(model._require_tokenizer())]),
        "templates": fingerprint_strings(model.config.class_templates),
        "configuration": fingerprint_strings([configuration]),
    }
