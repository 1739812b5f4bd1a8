"""float32 changes nothing; bfloat16 is near it and is what was asked for."""

import json
from pathlib import Path

import pytest
import torch

from zeroshot.cli import main
from zeroshot.models import ZeroShotPreTrainedModel, precision_zeroshot
from zeroshot.models.precision_zeroshot import use_precision

from .conftest import LABELS, TEXTS


def test_bfloat16_is_near_float32_in_predict_and_in_the_pipeline(model: ZeroShotPreTrainedModel) -> None:
    """A precision that never arrives leaves the logits as they are."""
    exact = model.predict_logits(TEXTS, LABELS)
    near = model.predict_logits(TEXTS, LABELS, precision="bf16")
    assert near.dtype == torch.float32 and not near.equal(exact)
    # The scale is about ten; bfloat16 has three digits.
    torch.testing.assert_close(near, exact, atol=0.5, rtol=0)
    classifier = model.as_pipeline()
    default, same, other = (
        classifier(TEXTS[0], LABELS, **given) for given in ({}, {"precision": "fp32"}, {"precision": "bf16"})
    )
    assert default == same and other["scores"] != default["scores"]
    assert sum(other["scores"]) == pytest.approx(1, abs=1e-5)  # the softmax is not in bfloat16
    [predicted] = model.predict(TEXTS[:1], LABELS, precision="bf16")
    assert predicted["scores"] == pytest.approx(dict(zip(other["labels"], other["scores"], strict=True)), abs=0.05)


def test_the_command_predicts_in_the_precision_asked_for(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text(TEXTS[0] + "\n", encoding="utf-8")
    words = [
        "--labels",
        ",".join(LABELS),
        "--input",
        str(tmp_path / "texts.txt"),
        "--output",
        str(tmp_path / "scores.jsonl"),
    ]
    main(["predict", str(tmp_path / "model"), *words, "--precision", "bf16"])
    [line] = (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    near, exact = (biencoder.predict(TEXTS[0], LABELS, precision=one)[0]["scores"] for one in ("bf16", "fp32"))
    assert dict(zip(found["labels"], found["scores"], strict=True)) == near != exact


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch, hardware: bool) -> None:
    monkeypatch.setattr(precision_zeroshot, "supports_bfloat16", lambda: hardware)
    with use_precision("auto", "cpu"):
        assert torch.is_autocast_enabled("cpu") == hardware


def test_float32_leaves_an_autocast_around_it_as_it_is() -> None:
    """`zeroshot evaluate --precision bf16` is one."""
    with torch.autocast("cpu", dtype=torch.bfloat16), use_precision("fp32", "cpu"):
        assert torch.is_autocast_enabled("cpu")


def test_an_unknown_precision_names_the_known(biencoder: ZeroShotPreTrainedModel) -> None:
    said = "Expected a precision of fp32, bf16, auto, found 'fp16'. Choose one of them."
    with pytest.raises(ValueError, match=said):
        biencoder.predict(TEXTS, LABELS, precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        biencoder.as_pipeline()(TEXTS, LABELS, precision="fp16")
