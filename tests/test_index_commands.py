"""`zeroshot index` and `zeroshot search`, as one types them."""

import json
from pathlib import Path

import pytest

from zeroshot.cli import main
from zeroshot.inference import LabelIndex
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import fail, read_lines
from .conftest import TEXTS, WORDS

LABELS = [f"{one} {other}" for one in ("sports", "cooking") for other in WORDS[:10]]


def test_commands_index_labels_and_search_them(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    biencoder.save_pretrained(tmp_path / "model")
    (tmp_path / "labels.json").write_text(json.dumps(LABELS), encoding="utf-8")
    (tmp_path / "labels.txt").write_bytes("\r\n".join([*LABELS, ""]).encode())
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    for suffix in ("json", "txt"):
        main(
            [
                "index",
                str(tmp_path / "model"),
                "--labels",
                str(tmp_path / f"labels.{suffix}"),
                "--output",
                str(tmp_path / "i"),
            ]
        )
        assert LabelIndex.load(tmp_path / "i").labels == LABELS
    words = ["search", str(tmp_path / "i"), "--input", str(tmp_path / "texts.jsonl"), "--top_k", "3"]
    main([*words, "--output", str(tmp_path / "out.jsonl")])
    expected = [
        {"sequence": result["text"], "labels": list(result["scores"]), "scores": list(result["scores"].values())}
        for result in LabelIndex.load(tmp_path / "i").predict(TEXTS, 3)
    ]
    assert read_lines(tmp_path / "out.jsonl") == expected
    capsys.readouterr()
    (tmp_path / "model").rename(tmp_path / "moved")
    assert fail(*words).startswith("FileNotFoundError: Expected a folder or a model on the Hub, found")
    main([*words, "--model", str(tmp_path / "moved")])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected
    assert fail(*words, "--top_k", "0").startswith("ValueError: Expected a top_k of at least 1")
    missing = fail("index", tmp_path / "moved", "--labels", tmp_path / "none.txt", "--output", tmp_path / "i")
    assert missing.startswith("FileNotFoundError: Expected a file of labels, found no file")
    taken = fail("index", tmp_path / "moved", "--labels", tmp_path / "labels.txt", "--output", tmp_path / "labels.txt")
    assert taken.startswith("ValueError: Expected a folder for the index, found something else")


def test_index_reads_labels_as_predict_does(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """And says so where they are more than names."""
    biencoder.save_pretrained(tmp_path / "model")
    main(["index", str(tmp_path / "model"), "--labels", f"{LABELS[0]}, {LABELS[1]}", "--output", str(tmp_path / "i")])
    assert LabelIndex.load(tmp_path / "i").labels == LABELS[:2]
    tree = tmp_path / "tree.json"
    tree.write_text('{"sports": "games"}', encoding="utf-8")
    assert fail("index", "no/model", "--labels", tree, "--output", tmp_path / "j") == (
        f"ValueError: Expected names alone for an index, found an object in {str(tree)!r}. Write a list of names, or say "
        "more of them with zeroshot predict."
    )


def test_an_index_is_not_mixed_with_a_model(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path / "model")
    before = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert fail("index", tmp_path / "model", "--labels", "a,b", "--output", tmp_path / "model") == (
        f"ValueError: Expected a new folder for the index, or that of an index, found {before[0]!r} in "
        f"{str(tmp_path / 'model')!r}. Choose another name."
    )
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before
