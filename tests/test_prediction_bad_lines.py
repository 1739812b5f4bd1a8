"""Lines that hold no text: they are listed with their reason, and the good lines around them are never lost."""

import json
import logging
import re
from pathlib import Path

import pytest

from zeroshot.inference import predict_file
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import BOM, StandardInput, read_lines
from .conftest import LABELS

GOOD = b'{"text": "one"}\n'


def predict_around(model: ZeroShotPreTrainedModel, folder: Path, name: str, content: bytes) -> tuple[list[str], list[dict]]:
    """The texts that were classified and the lines that were refused."""
    (folder / name).write_bytes(content)
    target = folder / "out.jsonl"
    done = predict_file(model, LABELS, folder / name, target)
    texts = [line["sequence"] for line in read_lines(target)]
    assert done == len(texts)
    listing = folder / "out.jsonl.rejected.jsonl"
    return texts, read_lines(listing) if listing.is_file() else []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "half', "Expected JSON, found broken JSON in column 10 (Unterminated string starting at). Write"),
        (b"plain words", "Expected JSON, found broken JSON in column 1 (Expecting value). Write the line anew."),
        (b'{"text": "\xe9"}', "Expected UTF-8, found the byte 0xe9 at 10. Save the file as UTF-8."),
        (BOM + b'{"text": "\xe9"}', "Expected UTF-8, found the byte 0xe9 at 13. Save the file as UTF-8."),
        (b'{"text": null}', "Expected a text, found null. Write"),
        (b'{"text": 5}', "Expected a text, found int. Write"),
        (b'{"text": ["a"]}', "Expected a text, found list. Write"),
        (b'{"sequence": "a"}', "Expected a field or column 'text', found sequence. Name what holds the text so."),
        (b'["a"]', "found list. Write"),
        (b'"a"', "found str. Write"),
        (b"7", "found int. Write"),
        (b'{"text": ""}', "Expected a text with words, found an empty one. Leave the line out."),
        (b'{"text": " \\n\\t"}', "Expected a text with words, found an empty one. Leave the line out."),
        (b'{"text": "cut \\ud83d emoji"}', "Expected"),
        (b'{"text": "a", "id": ' + b"1" * 5000 + b"}", "Expected"),
        (b"[" * 100_000, "Expected"),
        (b'{"text": "a", "text": "b"}', "Expected JSON, found the key 'text' more than once in one object. Write"),
        (b'{"text": "a"} {"text": "b"}', "Expected JSON, found broken JSON in column 15 (Extra data). Write the line anew."),
    ],
    ids=lambda value: value[:24].decode("ascii", "backslashreplace") if isinstance(value, bytes) else "",
)
def test_a_bad_jsonl_line_is_listed_and_the_others_are_classified(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, line: bytes, problem: str
) -> None:
    texts, rejected = predict_around(biencoder, tmp_path, "a.jsonl", GOOD + line + b"\n" + GOOD)
    assert texts == ["one", "one"]
    assert [entry["row"] for entry in rejected] == [2]
    assert problem in rejected[0]["problem"]
    assert set(rejected[0]) == {"row", "content", "problem"}


def test_blank_lines_of_jsonl_are_no_rows(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """As the reader of training rows has it: a blank line at the end is common and no mistake."""
    assert predict_around(biencoder, tmp_path, "a.jsonl", GOOD + b"\n" + GOOD + b"\r\n") == (["one", "one"], [])


@pytest.mark.parametrize("line", [b"\xe9", b"", b"  \t"])
def test_a_bad_line_of_text_is_listed(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, line: bytes) -> None:
    texts, rejected = predict_around(biencoder, tmp_path, "a.txt", b"one\n" + line + b"\ntwo\n")
    assert (texts, [entry["row"] for entry in rejected]) == (["one", "two"], [2])


@pytest.mark.parametrize(
    "line",
    [
        b'1,""',
        b"1,   ",
        b"1",
        b"1,hello, world",
        b'1,"hello "big" world"',
    ],
    ids=["empty", "blank", "too short", "comma without quotes", "quote that is not doubled"],
)
def test_a_bad_csv_row_is_listed_and_the_others_are_classified(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, line: bytes
) -> None:
    """A comma outside quotes would cut the text in silence."""
    texts, rejected = predict_around(biencoder, tmp_path, "a.csv", b"id,text\n1,one\n" + line + b"\n3,two\n")
    assert (texts, [entry["row"] for entry in rejected]) == (["one", "two"], [3])


def test_a_problem_of_a_csv_row_speaks_of_csv(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    _, rejected = predict_around(biencoder, tmp_path, "a.csv", b"id,text\n1,one\n2\n")
    assert "column" in rejected[0]["problem"]
    assert "{" not in rejected[0]["problem"]


def test_a_very_long_csv_cell_is_classified(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """Python's csv module stops at 131,072 characters unless told otherwise."""
    texts, _ = predict_around(biencoder, tmp_path, "a.csv", b"text\none\n" + b"ab " * 50_000 + b"\ntwo\n")
    assert [len(text) for text in texts] == [3, 150_000, 3]


def test_an_open_quote_is_not_read_as_one_long_text(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """As the reader of training rows has it: the row that opens it is refused with all that it swallowed."""
    texts, rejected = predict_around(biencoder, tmp_path, "a.csv", b'text\none\n"open\ntwo\nthree\n')
    assert (texts, [entry["row"] for entry in rejected]) == (["one"], [3])
    assert "quote" in rejected[0]["problem"]
    assert "three" in rejected[0]["content"]


def test_csv_in_another_encoding_is_refused(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """As the reader of training rows has it: Excel wrote the whole file so, though most of its rows may be ASCII."""
    (tmp_path / "a.csv").write_bytes(b"text\none\n\xe9\n")
    with pytest.raises(ValueError, match=r"Expected .*a\.csv.* in UTF-8, found the byte 0xe9 at position 9"):
        predict_file(biencoder, LABELS, tmp_path / "a.csv", tmp_path / "out.jsonl")


def test_labels_in_csv_are_not_judged(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """Pandas writes lists as Python does, which training refuses; prediction needs the text alone."""
    content = b"text,labels\none,\"['sports', 'joy']\"\n"
    assert predict_around(biencoder, tmp_path, "a.csv", content) == (["one"], [])


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"Text\na\n", "found Text."), (b"id,Text\n1,a\n", "found id, Text."), (b"", "found none."), (b"\n\n", "found none.")],
)
def test_csv_without_the_column_is_refused(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, content: bytes, found: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    message = f"Expected a column 'text' in {str(tmp_path / 'a.csv')!r}, {found} Name the column 'text'."
    with pytest.raises(ValueError, match=re.escape(message)):
        predict_file(biencoder, LABELS, tmp_path / "a.csv", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_csv_with_line_ends_of_old_macs_is_read(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    assert predict_around(biencoder, tmp_path, "a.csv", b"text\rone\rtwo\r") == (["one", "two"], [])


def test_a_file_in_another_encoding_has_no_texts(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """Without the mark by which UTF-16 is known at once."""
    (tmp_path / "a.jsonl").write_bytes((GOOD.decode() * 2).encode("utf-16-le"))
    with pytest.raises(ValueError, match="Expected texts to classify, found none"):
        predict_file(biencoder, LABELS, tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert len(read_lines(tmp_path / "out.jsonl.rejected.jsonl")) >= 2


@pytest.mark.parametrize("name", ["a.txt", "a", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_refused(biencoder: ZeroShotPreTrainedModel, tmp_path: Path, name: str, encoding: str) -> None:
    """Every line but the first would be classified with a NUL beside every letter."""
    (tmp_path / name).write_bytes("\ufeffthe goal\nthe cake\n".encode(encoding))
    with pytest.raises(ValueError, match=f"Expected UTF-8 in .*{name}', found UTF-16. Save it as UTF-8."):
        predict_file(biencoder, LABELS, tmp_path / name, tmp_path / "out.jsonl")


def test_refused_lines_are_counted_in_the_log(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        predict_around(biencoder, tmp_path, "a.jsonl", GOOD + b'[\n{"text": 5}\n')
    (message,) = [record.getMessage() for record in caplog.records]
    listing = f"{tmp_path / 'out.jsonl.rejected.jsonl'}; the first, line 2: Expected JSON, found broken JSON in column 2"
    assert message.startswith(f"Wrote 1 row to {tmp_path / 'out.jsonl'}; 2 lines left out and listed in {listing}")


def test_without_a_target_the_log_lists_every_refused_line(
    biencoder: ZeroShotPreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is no file beside standard output to find them in."""
    monkeypatch.setattr("sys.stdin", StandardInput(b"one\n\xff\n\ntwo\n"))
    with caplog.at_level(logging.WARNING):
        assert predict_file(biencoder, LABELS, None, None) == 2
    assert [json.loads(line)["sequence"] for line in capsys.readouterr().out.splitlines()] == ["one", "two"]
    assert "line 2: Expected UTF-8, found the byte 0xff at 0." in caplog.text
    assert "line 3: Expected a text with words" in caplog.text
