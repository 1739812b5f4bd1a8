"""`zeroshot check`: what one text and its labels show, for every architecture."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from zeroshot.cli import main
from zeroshot.inference.checking import REWORDED, check_model, format_check
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .command_helpers import fail
from .conftest import LABELS, TEXTS

CALIBRATION: dict[str, Any] = {
    "method": "platt",
    "multi_label": True,
    "temperature": 2.0,
    "bias": -1.0,
    "default_threshold": 0.0,
    "thresholds": {"cooking": 1.0},
    "rows": 100,
    "data": "rows.jsonl",
}


def test_scores_are_those_of_predict(model: ZeroShotPreTrainedModel) -> None:
    check = check_model(model, TEXTS[0], LABELS)
    [shared], [alone] = (model.predict(TEXTS[0], LABELS, multi_label=kind) for kind in (False, True))
    assert check["scores"]["shared"] == pytest.approx(shared["scores"], abs=1e-6)
    assert check["scores"]["alone"] == pytest.approx(alone["scores"], abs=1e-6)
    assert check["scores"]["calibrated"] is None and check["scores"]["passed"] is None
    assert check["order_difference"] < 1e-5
    for wording in check["wordings"]:
        [expected] = model.predict(TEXTS[0], LABELS, class_templates=[wording["template"]])
        assert wording["scores"] == pytest.approx(expected["scores"], abs=1e-6)
    [known] = model.predict(check["known_pair"]["text"], ["football", "cake recipe"], multi_label=True)
    assert dict([check["known_pair"]["good"], check["known_pair"]["bad"]]) == pytest.approx(known["scores"], abs=1e-6)


def test_what_is_cut_is_what_the_model_cuts(encoder_dir: str, architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    """Words behind the cut change nothing, those before it do; beside a label a cross-encoder has less room."""
    model = ARCHITECTURES[architecture].from_encoder(encoder_dir, max_tokens=16)
    text = "goal team match cake oven sugar vote law rain sun wind storm joy anger happy sad great bad"
    seen = check_model(model, text, ["sports", "music band"])["text"]
    words = len(text.split())
    lost = len(seen["cut"].split())
    assert seen["length"] == words + 2 and seen["room"] == seen["length"] - lost == len(seen["tokens"])
    assert text.endswith(seen["cut"]) and seen["tokens"] == ["[CLS]", *text.split()[: words - lost], "[SEP]"]
    assert lost == words + 2 - (13 if architecture == "crossencoder" else 16)  # [SEP] and two words of a label
    assert not caplog.text  # once in the report, not once for each template
    same = check_model(model, f"{text} guitar", ["sports", "music band"])
    assert same["scores"]["alone"] == check_model(model, text, ["sports", "music band"])["scores"]["alone"]
    short = check_model(model, "rain", ["sports"])["text"]
    assert short["cut"] == "" and short["length"] == 3


def test_spread_is_over_the_wordings(biencoder: ZeroShotPreTrainedModel) -> None:
    biencoder.config.class_templates = ["a {} team", "{}"]
    check = check_model(biencoder, TEXTS[0], LABELS)
    assert [one["template"] for one in check["wordings"]] == ["a {} team", "{}", *REWORDED[1:]]
    assert [one["of_checkpoint"] for one in check["wordings"]] == [True, True, *[False] * (len(REWORDED) - 1)]
    for label in LABELS:
        values = [one["scores"][label] for one in check["wordings"]]
        assert check["spread"][label] == pytest.approx(max(values) - min(values)) and check["spread"][label] > 0
    assert [one["tokens"] for one in check["labels"]["sports"]] == [
        ["[CLS]", "a", "sports", "team", "[SEP]"],
        ["[CLS]", "sports", "[SEP]"],
    ]


def test_a_change_of_order_is_seen(biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that likes the first label: the check must not miss it."""
    score = biencoder.score_classes

    def favour_first(*arguments: Any, **options: Any) -> torch.Tensor:
        logits = score(*arguments, **options)
        logits[:, 0] += 1.0
        return logits

    monkeypatch.setattr(biencoder, "score_classes", favour_first)
    assert check_model(biencoder, TEXTS[0], LABELS)["order_difference"] > 0.05


def test_unknown_characters_are_named(biencoder: ZeroShotPreTrainedModel) -> None:
    check = check_model(biencoder, "the 🥅 goal", ["sports", "музыка"])
    assert check["text"]["unknown"] == ["🥅"] and "[UNK]" in check["text"]["tokens"]
    assert check["labels"]["музыка"][0]["unknown"] == ["музыка"]
    assert "(unknown: '🥅')" in format_check(check)


def test_a_calibration_is_applied(biencoder: ZeroShotPreTrainedModel) -> None:
    biencoder.config.calibration = CALIBRATION
    scores = check_model(biencoder, TEXTS[0], LABELS)["scores"]
    logits = biencoder.predict_logits([TEXTS[0]], LABELS, multi_label=True)[0]
    expected = dict(zip(LABELS, (logits / 2 - 1).sigmoid().tolist(), strict=True))
    assert scores["calibrated"] == pytest.approx(expected, abs=1e-6)
    assert scores["passed"] == [label for label in LABELS if label != "cooking"]  # its threshold is 1
    biencoder.config.calibration = {**CALIBRATION, "multi_label": False, "bias": 0.0}
    shared = check_model(biencoder, TEXTS[0], LABELS)["scores"]
    assert shared["calibrated"] is not None and sum(shared["calibrated"].values()) == pytest.approx(1.0)
    assert shared["passed"] == [max(expected, key=expected.__getitem__)]  # the best label alone can pass
    assert check_model(biencoder, TEXTS[0], ["sports"])["scores"]["calibrated"] is None


def test_one_label_is_a_yes_or_no_question(biencoder: ZeroShotPreTrainedModel) -> None:
    check = check_model(biencoder, TEXTS[0], ["sports"])
    assert check["scores"]["shared"] is None and 0 < check["wordings"][0]["scores"]["sports"] < 1
    told = format_check(check)
    assert (
        "Scores (alone: each by itself; spread: highest - lowest over the wordings)\nA single label is a yes-or-no" in told
    )
    assert "shared" not in told


def test_the_command_prints_text_or_json(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    biencoder.config.calibration = CALIBRATION
    biencoder.save_pretrained(tmp_path / "mine")
    words = ["check", str(tmp_path / "mine"), "rain " * 70, "sports", "music"]
    main([*words, "--json"])
    read = json.loads(capsys.readouterr().out)
    assert read == json.loads(json.dumps(check_model(biencoder, words[2], words[3:])))
    main(words)
    told = capsys.readouterr().out
    assert "Text: 72 tokens; this zeroshot-biencoder reads 64 beside these labels" in told
    assert "... 4 more ..." in told and "  Cut: 8 tokens, 'rain rain" in told
    assert f"  sports{read['scores']['shared']['sports']:12.4f}{read['scores']['alone']['sports']:12.4f}" in told
    assert "; alone: each by itself; calibrated: corrected by zeroshot calibrate; spread: " in told
    assert "Labels in the opposite order: scores change by " in told and "Known pair: " in told


def test_bad_input_is_refused(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path / "mine")
    assert "Expected every text to hold words" in fail("check", tmp_path / "mine", " ", "sports")
    assert "Expected distinct candidate labels, found 'sports'" in fail(
        "check", tmp_path / "mine", "goal", "sports", "sports"
    )
    assert "Expected labels of at most 64 tokens" in fail("check", tmp_path / "mine", "goal", "rain " * 70)
