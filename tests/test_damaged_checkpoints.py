"""Half-copied and foreign checkpoints on the command line: a message that says what to mend, no traceback, no guess."""

import json
import shutil
from pathlib import Path

import pytest

from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import fail


@pytest.fixture
def damaged(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> Path:
    """A checkpoint to damage, with a file of texts beside it."""
    biencoder.save_pretrained(tmp_path / "model")
    (tmp_path / "a.txt").write_text("the team scored\n", encoding="utf-8")
    return tmp_path / "model"


def predict_with(model: Path) -> str:
    return fail("predict", model, "--labels", "sports,cooking", "--input", model.parent / "a.txt")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("size", [0, 40])
def test_a_half_copied_file_is_named(damaged: Path, name: str, size: int) -> None:
    path = damaged / name
    path.write_bytes(path.read_bytes()[:size])
    assert name in predict_with(damaged)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(damaged: Path, name: str) -> None:
    """Without its vocabulary a tokenizer would be made up in which every word is unknown."""
    (damaged / name).unlink()
    assert name in predict_with(damaged)


@pytest.mark.parametrize("model_type", ["zeroshot-of-tomorrow", "bert"])
def test_a_checkpoint_of_another_kind_runs_none_of_its_code(
    damaged: Path, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers would ask at the terminal whether to run the code beside the weights."""

    def agree(_prompt: str = "") -> str:
        asked.append(_prompt)
        return "y"

    asked: list[str] = []
    monkeypatch.setattr("builtins.input", agree)
    config = json.loads((damaged / "config.json").read_text(encoding="utf-8"))
    (damaged / "config.json").write_text(json.dumps({**config, "model_type": model_type}), encoding="utf-8")
    said = predict_with(damaged)
    assert asked == []
    assert "Expected a zero-shot checkpoint (biencoder" in said
    assert repr(model_type) in said


def test_a_folder_of_a_hub_cache_copied_without_its_blobs_is_refused(damaged: Path, tmp_path: Path) -> None:
    """Links that lead nowhere look like files in a listing."""
    shutil.move(damaged / "config.json", tmp_path / "blob")
    (damaged / "config.json").symlink_to(tmp_path / "gone")
    assert "found no config.json there" in predict_with(damaged)
