"""An exported model from file to file, in an index and in the commands; its graph is the encoder itself, so no runtime."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zeroshot.cli import main
from zeroshot.inference import LabelIndex, exported, load_exported
from zeroshot.inference.index_files import fingerprint_vectors
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import expect_records, fail, read_lines
from .conftest import LABELS, TEXTS


@pytest.fixture
def export(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `zeroshot export` writes it, but for what is in the graph."""

    class Encoder:
        def run(self, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            with torch.no_grad():
                return [biencoder.encoder(**inputs).last_hidden_state]

    monkeypatch.setattr(exported, "load_runtime", lambda *_: Encoder())
    folder = tmp_path / "export"
    folder.mkdir()
    biencoder.config.to_json_file(folder / "config.json")
    biencoder.tokenizer.save_pretrained(folder)
    head = {name: tensor for name, tensor in biencoder.state_dict().items() if not name.startswith("encoder.")}
    save_file(head, folder / exported.HEAD_FILE)
    settings = {"format": "onnx", "int8": False, "graphs": ["encoder"]}
    (folder / exported.SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
    (folder / "encoder.onnx").write_bytes(b"graph")
    return folder


def test_commands_take_the_folder_of_an_export(
    export: Path, biencoder: ZeroShotPreTrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file to a file, as an index, and found again when both have moved."""
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    words = ["predict", export, "--labels", ",".join(LABELS), "--input", tmp_path / "texts.txt", "--output"]
    main([str(word) for word in [*words, tmp_path / "out.jsonl"]])
    assert read_lines(tmp_path / "out.jsonl") == expect_records(biencoder, TEXTS)
    refused = fail(*words, tmp_path / "ray.jsonl", "--engine", "ray")
    assert "Expected a checkpoint with the engine ray, found an exported model" in refused
    assert not list(tmp_path.glob("ray.jsonl*"))

    main(["index", str(export), "--labels", str(tmp_path / "labels.txt"), "--output", str(tmp_path / "index")])
    expected = LabelIndex.build(biencoder, LABELS).search(TEXTS, 2)
    for found, wanted in zip(LabelIndex.load(tmp_path / "index").search(TEXTS, 2), expected, strict=True):
        assert dict(found) == pytest.approx(dict(wanted), abs=1e-4)
    capsys.readouterr()
    export.rename(tmp_path / "moved")
    words = ["search", tmp_path / "index", "--model", tmp_path / "moved", "--input", tmp_path / "texts.txt", "--top_k", "2"]
    main([str(word) for word in words])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["labels"] for line in lines] == [[label for label, _ in row] for row in expected]
    (tmp_path / "moved" / "encoder.onnx").write_bytes(b"another graph")
    assert "found that its weights changed since" in fail(*words)


def test_an_export_stays_where_its_runtime_is(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU must not part its head from its encoder."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model = load_exported(export)
    assert exported.move_to_device(model) is model and model.device.type == "cpu"


@pytest.mark.parametrize("change", ["encoder.onnx", "encoder.onnx.data", exported.HEAD_FILE, "precision"])
def test_an_export_is_known_by_its_files_and_precision(export: Path, change: str) -> None:
    """Each of them changes vectors."""
    before = fingerprint_vectors(load_exported(export))
    assert fingerprint_vectors(load_exported(export)) == before
    if change == exported.HEAD_FILE:
        head = load_file(export / change)
        save_file({name: tensor + 1 for name, tensor in head.items()}, export / change)
    elif change != "precision":
        (export / change).write_bytes(b"other weights")
    found = fingerprint_vectors(load_exported(export, precision="bf16" if change == "precision" else "fp32"))
    assert [part for part in before if before[part] != found[part]] == ["weights"]
