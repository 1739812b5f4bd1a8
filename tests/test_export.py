"""A model whose encoder runs in ONNX Runtime or OpenVINO gives the same logits, by the same code."""

import importlib.util
import json
import logging
import warnings
from pathlib import Path

import pytest
import torch
from transformers import set_seed

from zeroshot.cli import main
from zeroshot.inference import exporting, load_exported
from zeroshot.inference.exporting import compare_logits, export_model
from zeroshot.inference.foreign_lines import hide_foreign_lines, shows_foreign_lines
from zeroshot.inference.graphs import describe_graphs
from zeroshot.inference.runtimes import require
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .conftest import LABELS, TEXTS

PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(MISSING), reason=f'{", ".join(MISSING)}: pip install "zeroshot[export]"')


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny encoder's words."""
    monkeypatch.setattr(exporting, "read_sample", lambda: (TEXTS, LABELS))


def build(architecture: str, encoder_dir: str, **options: object) -> ZeroShotPreTrainedModel:
    set_seed(1)
    model = ARCHITECTURES[architecture].from_encoder(encoder_dir, **options)
    with torch.no_grad():  # heads away from where they start, so that a head that is not exported shows
        model.logit_bias += 0.5
        for name, parameter in model.named_parameters():
            if not name.startswith(("encoder.", "class_encoder.", "logit_")):
                parameter.normal_()
    return model


def check_same(model: ZeroShotPreTrainedModel, exported: ZeroShotPreTrainedModel) -> None:
    """One text, many texts, one label, many labels, several wordings, the pipeline, `predict`."""
    for texts, labels in ((TEXTS, LABELS), (TEXTS[:1], LABELS), (TEXTS, LABELS[:1]), (TEXTS[:1], LABELS[3:])):
        expected, found = (one.predict_logits(texts, labels, batch_size=2) for one in (model, exported))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    expected, found = (one.predict_logits(TEXTS, LABELS, class_templates=["{}", "topic : {}"]) for one in (model, exported))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    for ours, theirs in zip(exported.as_pipeline()(TEXTS, LABELS), model.as_pipeline()(TEXTS, LABELS), strict=True):
        assert ours["labels"] == theirs["labels"]
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-4)
    single = exported.predict(TEXTS[0], LABELS, multi_label=True)[0]["scores"]
    assert single == pytest.approx(model.predict(TEXTS[0], LABELS, multi_label=True)[0]["scores"], abs=1e-4)


@needs_extra
@pytest.mark.parametrize(
    ("architecture", "file_format", "options"),
    [
        ("polyencoder", "onnx", {"own class encoder": True}),  # two encoders, weights beside them
        ("cascade", "onnx", {"shortlist_size": 2}),  # two passes
        ("crossencoder", "openvino", {"head": "nli"}),  # pairs, and the other runtime
    ],
)
def test_an_export_gives_the_models_logits(
    architecture: str, file_format: exporting.Format, options: dict, encoder_dir: str, tmp_path: Path
) -> None:
    if options == {"own class encoder": True}:
        options = {"class_encoder": encoder_dir}
    model = build(architecture, encoder_dir, **options)
    difference, same = export_model(model, tmp_path / "export", file_format)
    assert difference < 1e-4 and same == 1.0
    check_same(model, load_exported(tmp_path / "export"))
    assert [path.name for path in tmp_path.iterdir()] == ["export"]  # nothing half-made beside it


@needs_extra
def test_the_command_writes_int8_that_cannot_be_saved_as_a_checkpoint(
    encoder_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Both kinds of int8 are near the model; a checkpoint without an encoder would be lost work.

    Nothing else is said: the lines of the exporters are theirs.
    """
    model = build("biencoder", encoder_dir)
    model.save_pretrained(tmp_path / "model")
    capsys.readouterr()  # its progress bars, which only a command takes away
    for file_format in ("onnx", "openvino"):
        folder = tmp_path / file_format
        main(["export", str(tmp_path / "model"), "--format", file_format, "--int8", "--output", str(folder)])
        told = capsys.readouterr()
        assert "the best label is the same for 100.0%" in told.out and told.out.startswith("Wrote ") and not told.err
        assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
        assert {oct(file.stat().st_mode) for file in folder.iterdir()} == {oct((folder / "config.json").stat().st_mode)}
        exported = load_exported(folder)
        difference, _ = compare_logits(model, exported)
        assert 1e-4 < difference < 1.0  # of logits that lie some ten apart
    with pytest.raises(ValueError, match="Expected a model with the weights of its encoder, found an exported one"):
        exported.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="Expected precision 'fp32' for ONNX, found 'bf16'. Export with --format openvino"):
        load_exported(tmp_path / "onnx", precision="bf16")
    settings = json.loads((tmp_path / "onnx" / "export.json").read_text(encoding="utf-8"))
    (tmp_path / "onnx" / "export.json").write_text(json.dumps({**settings, "format": "other"}), encoding="utf-8")
    with pytest.raises(ValueError, match="Expected a format of onnx, openvino in .*, found 'other'"):
        load_exported(tmp_path / "onnx")


@needs_extra
def test_an_export_that_computes_something_else_is_not_kept(
    encoder_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter may drop an input without a word."""
    model = build("biencoder", encoder_dir)
    monkeypatch.setattr(exporting, "load_exported", lambda folder: build("biencoder", encoder_dir, pooling="max"))
    with pytest.raises(ValueError, match="Expected the export to give the model's logits within 0.001, found a difference"):
        export_model(model, tmp_path / "export")
    assert not list(tmp_path.iterdir())


def test_lines_of_other_packages_are_hidden_unless_our_level_is_debug(caplog: pytest.LogCaptureFixture) -> None:
    """Their levels are theirs again behind it."""
    other = logging.getLogger("some_other_package")
    other.setLevel(logging.INFO)

    def work() -> list[str]:
        caplog.clear()
        with warnings.catch_warnings(record=True) as caught, hide_foreign_lines("some_other_package"):
            warnings.simplefilter("always") if shows_foreign_lines() else None
            other.info("a step is done")
            logging.getLogger("package_without_a_level").warning("be warned")
            logging.getLogger("package_without_a_level").error("broken")
            warnings.warn("old", FutureWarning, stacklevel=1)
        return [*caplog.messages, *(str(one.message) for one in caught)]

    with caplog.at_level(logging.INFO, "zeroshot"):
        assert work() == ["broken"]
    assert other.level == logging.INFO
    with caplog.at_level(logging.DEBUG, "zeroshot"):
        assert work() == ["a step is done", "be warned", "broken", "old"]


def test_every_graph_has_inputs_of_its_own(encoder_dir: str) -> None:
    """Inputs that are one tensor become one input of the graph, and a mask without padding may vanish from it."""
    for architecture in ("biencoder", "crossencoder", "jointencoder"):
        for graph in describe_graphs(build(architecture, encoder_dir)):
            assert len({id(tensor) for tensor in graph.inputs.values()}) == len(graph.inputs)
            assert set(graph.axes) == set(graph.inputs)
            assert not graph.inputs["attention_mask"].all()


def test_what_cannot_be_exported_says_what_can(encoder_dir: str, tmp_path: Path) -> None:
    model = build("jointencoder", encoder_dir, label_isolation=False)
    with pytest.raises(ValueError, match="label_isolation false.*Export one with label_isolation true, or classify with Py"):
        export_model(model, tmp_path / "export")
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="Expected a new folder for the export, found .*there'. Choose another name"):
        export_model(model, tmp_path / "there")
    with pytest.raises(FileNotFoundError, match="found no export.json there. Make one with: zeroshot export"):
        load_exported(tmp_path / "there")
    with pytest.raises(ImportError, match=r'Expected the package no_such_package, found none. .*"zeroshot\[export\]"'):
        require("no_such_package")
