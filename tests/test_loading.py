"""Finding encoders and checkpoints: each cause of a failure has its own words."""

import hashlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError
from transformers import BertConfig, BertModel
from transformers.utils import logging as hf_logging

from zeroshot.models import ZeroShotPreTrainedModel, loading

WHEEL_IS_THERE = importlib.util.find_spec(loading.WHEEL) is not None


def test_a_checkpoint_of_another_library_is_refused(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Expected a zero-shot checkpoint") as caught:
        loading.load_model(str(tmp_path))
    assert "found a model of type 'bert'" in str(caught.value)
    assert "--encoder" in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"in the folder {str(tmp_path)!r}, found no config.json there")):
        loading.load_model(str(tmp_path))


def test_own_checkpoint_loads_without_remote_code(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path)
    loaded = loading.load_model(str(tmp_path))
    assert type(loaded) is type(biencoder)
    assert not loaded.training


def test_older_code_beside_the_weights_is_told(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever trusts that code misses what came later without a word; saving anew mends it."""
    hf_logging.enable_propagation()
    biencoder.save_pretrained(tmp_path)
    options = tmp_path / "options_zeroshot.py"
    code = options.read_text(encoding="utf-8")
    options.write_text(re.sub(r"^    (explain|pairwise): .*\n", "", code, flags=re.MULTILINE), encoding="utf-8")
    model = loading.load_model(str(tmp_path))
    options.unlink()
    loading.load_model(str(tmp_path))
    some, unknown = (record.getMessage() for record in caplog.records)
    mend = f"Renew it: load_model({str(tmp_path)!r}).save_pretrained(FOLDER)"
    assert some.endswith(
        f"is older than the installed one: loaded with trust_remote_code=True, its pipeline ignores pairwise, "
        f"explain. {mend}"
    )
    assert "its pipeline ignores options that were added since. Renew it" in unknown
    caplog.clear()
    model.save_pretrained(tmp_path)
    assert options.read_text(encoding="utf-8") == code
    loading.load_model(str(tmp_path))
    for file in tmp_path.glob("*.py"):  # as in a cache of the Hub, which holds what was asked for
        file.unlink()
    loading.load_model(str(tmp_path))
    assert not caplog.records


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Let every question to the Hub end with an error."""

    def fail_with(error: Exception) -> None:
        def ask(*_args: object, **_kwargs: object) -> None:
            raise error

        monkeypatch.setattr(loading.HfApi, "model_info", ask)

    return fail_with


def test_a_name_that_the_hub_does_not_know_is_a_typo(hub: Callable[[Exception], None]) -> None:
    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    hub(error)
    with pytest.raises(FileNotFoundError, match="found 'bert-base-uncsed', which is neither .* Check the spelling"):
        loading.resolve_encoder("bert-base-uncsed")


def test_without_network_the_message_speaks_of_the_network(hub: Callable[[Exception], None]) -> None:
    hub(OfflineModeIsEnabled("offline"))
    with pytest.raises(ConnectionError, match="the Hub could not be reached .* Check the network"):
        loading.resolve_encoder("bert-base-uncased")


def test_a_file_is_no_model_and_no_matter_of_the_network(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        FileNotFoundError, match="found the file .*model.safetensors'. Name the folder that holds config.json"
    ):
        loading.find_config(str(tmp_path / "model.safetensors"))


def test_without_network_and_wheel_the_extra_is_named(
    hub: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(OfflineModeIsEnabled("offline"))
    monkeypatch.setattr(loading, "WHEEL", "no_such_wheel")
    with pytest.raises(ConnectionError, match=re.escape('pip install "zeroshot[offline]"')):
        loading.resolve_encoder(loading.DEFAULT_ENCODER)


@pytest.mark.skipif(not WHEEL_IS_THERE, reason="the extra [offline] is not installed")
def test_wheel_stands_in_for_the_default_encoder_and_is_checked(hub: Callable[[Exception], None]) -> None:
    hub(OfflineModeIsEnabled("offline"))
    folder = Path(loading.resolve_encoder(loading.DEFAULT_ENCODER))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.mark.skipif(not WHEEL_IS_THERE, reason="the extra [offline] is not installed")
def test_other_weights_in_the_wheel_are_an_error(hub: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch) -> None:
    hub(OfflineModeIsEnabled("offline"))
    monkeypatch.setattr(loading, "DEFAULT_ENCODER_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="Expected the published weights .* Do not use it"):
        loading.resolve_encoder(loading.DEFAULT_ENCODER)


def test_registry_refuses_a_taken_key_and_a_wrong_model_type() -> None:
    from zeroshot.models import ARCHITECTURES, get_architecture, register_architecture

    with pytest.raises(ValueError, match="Expected a new key, found 'biencoder'"):
        register_architecture("biencoder", ARCHITECTURES["biencoder"])
    with pytest.raises(ValueError, match="model_type to be 'zeroshot-other', found 'zeroshot-biencoder'"):
        register_architecture("other", ARCHITECTURES["biencoder"])
    with pytest.raises(ValueError, match="Expected an architecture of biencoder.*, found 'bi'"):
        get_architecture("bi")
