"""`zeroshot average`: weights between a model and its encoder, or between two models."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel, set_seed

import train
from zeroshot.cli import main
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .command_helpers import fail
from .conftest import build_tokenizer
from .test_training import settings


def save_changed(key: str, encoder: str, folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """A checkpoint whose every weight is away from where it began, as after training."""
    set_seed(seed)
    model = ARCHITECTURES[key].from_encoder(encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(folder)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("key", list(ARCHITECTURES))
def test_pretrained_parts_move_to_the_encoder_and_the_head_stays(key: str, encoder_dir: str, tmp_path: Path) -> None:
    trained = save_changed(key, encoder_dir, tmp_path / "model", seed=1)
    out = tmp_path / "average"
    main(["average", str(tmp_path / "model"), "--encoder", encoder_dir, "--share", "0.25", "--output", str(out)])
    loaded: ZeroShotPreTrainedModel = AutoModel.from_pretrained(out)
    untrained = ARCHITECTURES[key].from_encoder(encoder_dir)
    pretrained = {id(parameter) for part in untrained.backbones for parameter in part.state_dict(keep_vars=True).values()}
    for name, tensor in untrained.state_dict(keep_vars=True).items():
        share = 0.25 if id(tensor) in pretrained and tensor.is_floating_point() else 0.0
        expected = share * tensor.detach() + (1 - share) * trained[name]
        torch.testing.assert_close(loaded.state_dict()[name], expected.to(trained[name].dtype), msg=name)


def test_two_models_are_averaged_in_all_weights(encoder_dir: str, tmp_path: Path) -> None:
    one = save_changed("biencoder", encoder_dir, tmp_path / "one", seed=1)
    other = save_changed("biencoder", encoder_dir, tmp_path / "other", seed=2)
    words = ["average", str(tmp_path / "one"), "--with", str(tmp_path / "other"), "--output", str(tmp_path / "average")]
    main(words)
    for name, tensor in AutoModel.from_pretrained(tmp_path / "average").state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (one[name] + other[name]) / 2, msg=name)
    assert "Expected a new folder for the average, found" in fail(*words)


def test_a_run_knows_its_encoder(
    encoder_dir: str, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The average of a finished run is what the recipe's own option makes."""
    options = {"max_steps": 3, "save_strategy": "no"}
    train.main(settings(encoder_dir, rows_file, tmp_path / "plain", **options))
    train.main(settings(encoder_dir, rows_file, tmp_path / "averaged", initial_weight_share=0.5, **options))
    main(["average", str(tmp_path / "plain"), "--output", str(tmp_path / "later")])
    assert f"The average is in {tmp_path / 'later'}. Measure it before" in capsys.readouterr().out
    expected = AutoModel.from_pretrained(tmp_path / "averaged").state_dict()
    for name, tensor in AutoModel.from_pretrained(tmp_path / "later").state_dict().items():
        torch.testing.assert_close(tensor, expected[name], msg=name)


def test_what_does_not_fit_is_refused(encoder_dir: str, tmp_path: Path) -> None:
    save_changed("biencoder", encoder_dir, tmp_path / "model", seed=1)
    save_changed("polyencoder", encoder_dir, tmp_path / "poly", seed=1)
    wide = BertConfig(vocab_size=len(build_tokenizer()), hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    BertModel(wide).save_pretrained(tmp_path / "wide")
    build_tokenizer().save_pretrained(tmp_path / "wide")
    words = ["average", tmp_path / "model", "--output", tmp_path / "out"]
    assert "Expected to know the encoder that" in fail(*words) and "Name it with --encoder" in fail(*words)
    assert "found BiEncoderForZeroShotClassification and PolyEncoder" in fail(*words, "--with", tmp_path / "poly")
    assert "Expected weights of the model's names and sizes in" in fail(*words, "--encoder", tmp_path / "wide")
    assert "Expected --share from 0 to 1, found 1.5." in fail(*words, "--encoder", encoder_dir, "--share", "1.5")
    assert "Expected --encoder or --with, found both." in fail(*words, "--encoder", encoder_dir, "--with", "x")
    assert not (tmp_path / "out").exists()


def test_an_average_has_no_calibration_of_other_weights(
    encoder_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its temperature was fitted on scores that the average does not give."""
    stored = {"temperature": 2.0, "bias": 0.0, "default_threshold": 0.5, "thresholds": {}, "multi_label": False}
    for name, calibration in (("plain", None), ("calibrated", stored)):
        model = ARCHITECTURES["biencoder"].from_encoder(encoder_dir, calibration=calibration)
        model.save_pretrained(tmp_path / name)
        out = tmp_path / f"{name} average"
        main(["average", str(tmp_path / name), "--encoder", encoder_dir, "--output", str(out)])
        assert AutoModel.from_pretrained(out).config.calibration is None
        said = f"The calibration of {tmp_path / name} is of other weights and was left out: zeroshot calibrate {out} ROWS"
        assert (said in capsys.readouterr().out) == (name == "calibrated")
