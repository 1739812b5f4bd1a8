"""Which run is another one: what a folder holds is never taken for it, nor overwritten by it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import train
from zeroshot.training import DataArguments, ModelArguments, ZeroShotTrainingArguments
from zeroshot.training.runs import collect_settings, fingerprint_files

from .test_training import settings, weights


@pytest.mark.parametrize("part", ["encoder", "class_encoder", "teacher"])
def test_every_file_that_decides_what_a_model_computes_counts(part: str, encoder_dir: str, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_dir, folder)

    def collect() -> dict[str, str]:
        named: dict[str, Any] = {} if part == "teacher" else {part: str(folder)}
        found = fingerprint_files(ModelArguments(**named), DataArguments(), str(folder) if part == "teacher" else None)
        return {name.removeprefix(f"content of {part}/"): digest for name, digest in found.items() if f" {part}/" in name}

    before = collect()
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"} <= set(before)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text((folder / name).read_text() + "\n")
    after = collect()
    assert {name for name in before if before[name] != after[name]} == {"config.json", "tokenizer.json"}
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for number, name in enumerate(tensors):
        save_file({name: tensors[name]}, folder / f"model-{number % 2 + 1:05d}-of-00002.safetensors")
    assert {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} <= set(collect())
    (folder / "README.md").write_text("notes")
    assert "README.md" not in collect()


def test_a_finished_run_without_checkpoints_is_not_overwritten(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    options: dict[str, object] = {"save_strategy": "no", "max_steps": 2}
    train.main(settings(encoder_dir, rows_file, tmp_path, **options))
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"found learning_rate changed from 0.001 to 0.002\. Choose another --output_dir"):
        train.main(settings(encoder_dir, rows_file, tmp_path, **options, learning_rate=2e-3))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    train.main(settings(encoder_dir, rows_file, tmp_path, **options, learning_rate=2e-3, resume="never"))
    assert (tmp_path / "model.safetensors").read_bytes() != before


def test_when_to_save_counts_where_a_checkpoint_is_chosen(tmp_path: Path) -> None:
    def collect(**more: object) -> dict[str, Any]:
        return collect_settings(
            ZeroShotTrainingArguments(output_dir=str(tmp_path), eval_strategy="steps", eval_steps=100, **more)
        )

    assert collect(save_steps=100) == collect(save_steps=200) == collect(save_strategy="no")
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    assert collect(save_steps=100, **best) != collect(save_steps=200, **best)


@pytest.mark.parametrize("loss", ["infonce", "triplet", "bce"])
def test_a_bias_that_nothing_fits_is_told(
    loss: str, encoder_dir: str, rows_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train.main(settings(encoder_dir, rows_file, tmp_path, loss=loss, max_steps=1))
    told = f"{loss} does not see the bias" in caplog.text and "Set validation_files or validation_share." in caplog.text
    assert told == (loss != "bce")
    assert weights(tmp_path)["logit_bias"].isfinite().all()
    assert json.loads((tmp_path / "run_settings.json").read_text())["finished"]
