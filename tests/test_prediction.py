"""Bulk prediction: every format gives the same records, in input order, written in one step."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from zeroshot.inference import predict_file, prediction
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import BOM, Records, StandardInput, expect_records, read_lines
from .conftest import LABELS, TEXTS

JSONL = "".join(json.dumps({"id": 1, "text": text, "labels": ["x"]}) + "\n" for text in TEXTS).encode()
CSV = "".join(["id,text\n", *('7,"' + text.replace('"', '""') + '"\n' for text in TEXTS)]).encode()
JSON = json.dumps([{"text": text} for text in TEXTS]).encode()
PARQUET = io.BytesIO()
pyarrow.parquet.write_table(pyarrow.table({"id": range(len(TEXTS)), "text": TEXTS}), PARQUET)
LINES = "".join(text + "\n" for text in TEXTS).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.jsonl", BOM + JSONL.replace(b"\n", b"\r\n")),
        ("a.jsonl", JSONL.rstrip(b"\n")),
        ("a.csv", CSV),
        ("a.csv", BOM + CSV.replace(b"\n", b"\r\n")),
        ("a.csv", CSV.rstrip(b"\n")),
        ("a.json", JSON),
        ("a.parquet", PARQUET.getvalue()),
        ("a.txt", LINES),
        ("a.txt", BOM + LINES.replace(b"\n", b"\r\n")),
        ("a", LINES.rstrip(b"\n")),
        ("A.JSONL", JSONL),
        ("A.CSV", CSV),
    ],
)
def test_every_format_gives_the_same_records(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    done = predict_file(biencoder, LABELS, tmp_path / name, tmp_path / "out.jsonl", keep_fields=())
    assert done == len(TEXTS)
    assert read_lines(tmp_path / "out.jsonl") == expect_records(biencoder, TEXTS)


def test_standard_input_to_standard_output(
    biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", StandardInput(LINES))
    assert predict_file(biencoder, LABELS, None, None) == len(TEXTS)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == expect_records(biencoder, TEXTS)


def test_texts_are_classified_before_all_are_read(
    biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may be larger than memory, and a pipe may not end today."""
    given, predict, read = StandardInput(LINES), biencoder.predict, []

    def note(*arguments: Any, **kwargs: Any) -> Records:
        read.append(given.buffer.tell())
        return predict(*arguments, **kwargs)

    monkeypatch.setattr("sys.stdin", given)
    monkeypatch.setattr(prediction, "WINDOW", 2)
    monkeypatch.setattr(biencoder, "predict", note)
    predict_file(biencoder, LABELS, None, None)
    assert read == [len("\n".join(TEXTS[:count])) + 1 for count in (2, 4, 5)]


def test_labels_stand_by_falling_score(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(LINES)
    predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl")
    records = read_lines(tmp_path / "out.jsonl")
    for record in records:
        assert list(record) == ["sequence", "labels", "scores"]
        assert record["scores"] == sorted(record["scores"], reverse=True)
        assert sorted(record["labels"]) == sorted(LABELS)
        assert sum(record["scores"]) == pytest.approx(1)
    assert len({tuple(record["labels"]) for record in records}) > 1


def test_labels_can_be_judged_one_by_one(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(LINES)
    predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl", multi_label=True)
    records = read_lines(tmp_path / "out.jsonl")
    assert records == expect_records(biencoder, TEXTS, multi_label=True)
    assert abs(sum(records[0]["scores"]) - 1) > 1e-3


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_order_is_kept_over_windows_and_batches(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Texts are sorted by length in between; a window may hold only lines that are left out."""
    monkeypatch.setattr(prediction, "WINDOW", 3)
    texts = [f"{'the team ' * (number * 7 % 5)}{number}" for number in range(11)]
    lines = [*texts[:4], "", "", "", "", "", *texts[4:]]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    assert predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl", batch_size=batch_size) == 11
    assert read_lines(tmp_path / "out.jsonl") == expect_records(biencoder, texts)
    assert [line["row"] for line in read_lines(tmp_path / "out.jsonl.rejected.jsonl")] == [5, 6, 7, 8, 9]


TRICKY = [
    "  lead and trail  ",
    "שלום, עולם",
    "👩‍👩‍👧 emoji",
    "nul \x00 inside",
    "line\u2028separator\x85",
    'a "quoted" b',
    "x " * 9000,
]


def test_texts_come_back_as_they_were(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """Also a text that the model sees cut, and characters that other readers take for the end of a line."""
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TRICKY), encoding="utf-8")
    (tmp_path / "a.txt").write_bytes("".join(text + "\n" for text in TRICKY).encode())
    for name in ("a.jsonl", "a.txt"):
        assert predict_file(biencoder, LABELS, tmp_path / name, tmp_path / "out.jsonl") == len(TRICKY)
        lines = (tmp_path / "out.jsonl").read_bytes().decode().split("\n")
        assert [json.loads(line)["sequence"] for line in lines if line] == TRICKY
        assert "שלום" in lines[1]


def test_csv_cells_can_hold_quotes_commas_and_line_ends(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,id\n"one, ""two""\nthree",1\r\n\nfour,2\n')
    assert predict_file(biencoder, LABELS, tmp_path / "a.csv", tmp_path / "out.jsonl") == 2
    assert [line["sequence"] for line in read_lines(tmp_path / "out.jsonl")] == ['one, "two"\nthree', "four"]


# -- the files ---------------------------------------------------------------------------------------------------------


def test_nothing_but_the_result_is_left_behind(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(LINES)
    predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "out.jsonl"]


def test_an_interrupted_run_leaves_the_earlier_result(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "WINDOW", 2)
    (tmp_path / "a.txt").write_bytes(LINES)
    target = tmp_path / "out.jsonl"
    target.write_text("earlier", encoding="utf-8")
    predict, calls = biencoder.predict, []

    def fail_second(*arguments: Any, **kwargs: Any) -> Records:
        calls.append(target.read_text(encoding="utf-8"))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predict(*arguments, **kwargs)

    monkeypatch.setattr(biencoder, "predict", fail_second)
    with pytest.raises(KeyboardInterrupt):
        predict_file(biencoder, LABELS, tmp_path / "a.txt", target)
    assert [*calls, target.read_text(encoding="utf-8")] == ["earlier"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "out.jsonl", "out.jsonl.parts"]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_without_texts_the_earlier_result_stays(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "out.jsonl").write_text("earlier", encoding="utf-8")
    message = "Expected texts to classify, found none. Give one text a line, or rows with a field 'text'."
    with pytest.raises(ValueError, match=re.escape(message)):
        predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "earlier"


def test_a_clean_run_removes_the_list_of_an_earlier_one(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\n")
    predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl.rejected.jsonl").is_file()
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n")
    predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl.rejected.jsonl").exists()


def test_the_folder_of_the_result_is_made(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """As `zeroshot evaluate --output` does it."""
    (tmp_path / "a.txt").write_bytes(LINES)
    predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "new" / "out.jsonl")
    assert len(read_lines(tmp_path / "new" / "out.jsonl")) == len(TEXTS)


def test_the_input_is_not_overwritten(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(JSONL)
    with pytest.raises(ValueError, match=r"Expected .*a\.jsonl"):
        predict_file(biencoder, LABELS, tmp_path / "a.jsonl", tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == JSONL


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_missing_input_is_named(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    message = f"Expected a file of texts, found no file {str(source)!r}. Check the path."
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        predict_file(biencoder, LABELS, source, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.tsv", "a.xlsx", "a.jsonl.gz"])
def test_a_structured_file_of_another_kind_is_refused(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, name: str) -> None:
    """Its lines would be classified as if they were texts."""
    (tmp_path / name).write_bytes(b'[\n{"text": "a"}\n]\n')
    with pytest.raises(ValueError, match=rf"Expected .*\.jsonl.*{re.escape(name)}"):
        predict_file(biencoder, LABELS, tmp_path / name, tmp_path / "out.jsonl")
