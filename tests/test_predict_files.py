"""Bulk prediction in every format: fields are kept with their types, nothing is lost, memory does not grow."""

import csv
import datetime
import json
import logging
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from zeroshot.cli import main
from zeroshot.data import load_source
from zeroshot.inference import predict_file, prediction, text_files
from zeroshot.inference.prediction import classify_file
from zeroshot.models import ZeroShotPreTrainedModel

from .command_helpers import StandardInput, expect_records, fail, read_lines
from .conftest import LABELS, TEXTS


def classify(texts: list[str]) -> list[dict]:
    """Stands in for a model: the longer a text, the surer it is `a`."""
    return [{"text": text, "scores": {"b": 1 / len(text), "a": 1 - 1 / len(text)}} for text in texts]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- fields ------------------------------------------------------------------------------------------------------------

ROW = {"id": 7, "text": "a cake", "labels": ["x"], "scores": None, "language": "en", "": "unnamed"}


def test_all_fields_are_kept_behind_the_result(tmp_path: Path) -> None:
    """A gold label may not be taken for a predicted one, and none may vanish."""
    classify_file(classify, write_rows(tmp_path / "a.jsonl", [ROW]), tmp_path / "out.jsonl")
    [record] = read_lines(tmp_path / "out.jsonl")
    assert list(record) == ["sequence", "labels", "scores", "id", "input_labels", "input_scores", "language"]
    assert record["labels"] == ["a", "b"] and record["input_labels"] == ["x"] and record["id"] == 7


@pytest.mark.parametrize(
    ("keep", "kept"),
    [((), []), (("language",), ["language"]), (("language", "id"), ["language", "id"]), (("text",), ["text"])],
)
def test_only_the_fields_asked_for_are_kept(tmp_path: Path, keep: tuple[str, ...], kept: list[str]) -> None:
    for suffix in ("jsonl", "csv"):
        target = tmp_path / f"out.{suffix}"
        classify_file(classify, write_rows(tmp_path / "a.jsonl", [ROW]), target, keep_fields=keep)
        record = read_lines(target)[0] if suffix == "jsonl" else read_csv(target)[0]
        assert list(record) == ["sequence", "labels", "scores", *kept]


def test_a_new_name_that_is_taken_too_gives_way(tmp_path: Path) -> None:
    row = {"text": "a", "labels": 1, "input_labels": 2}
    classify_file(classify, write_rows(tmp_path / "a.jsonl", [row]), tmp_path / "out.jsonl")
    [record] = read_lines(tmp_path / "out.jsonl")
    assert (record["input_labels"], record["input_input_labels"]) == (2, 1)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_field_that_the_file_does_not_have_is_an_error(tmp_path: Path, name: str) -> None:
    if name == "a.csv":
        (tmp_path / name).write_text("id,text\n1,one\n", encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.table({"id": [1], "text": ["one"]}), tmp_path / name)
    with pytest.raises(ValueError, match="Expected fields to keep among id, text, found 'idd'. Check keep_fields against"):
        classify_file(classify, tmp_path / name, tmp_path / "out.jsonl", keep_fields=["idd"])
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("source", ["a.csv", None])
def test_a_field_that_is_not_there_is_an_error_on_standard_output_too(
    tmp_path: Path, source: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be null in every row."""
    (tmp_path / "a.csv").write_text("text,id\none,1\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", StandardInput(b"one\n"))
    place = "columns of standard input" if source is None else "columns of '.*a.csv'"
    for target in (None, tmp_path / "out.jsonl"):
        with pytest.raises(ValueError, match=rf"Expected fields to keep among text.*, found 'idd'\. Check .* {place}\.$"):
            classify_file(classify, tmp_path / source if source else None, target, keep_fields=["idd"])
    assert not capsys.readouterr().out and [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_field_that_no_row_has_is_an_error(tmp_path: Path, name: str) -> None:
    """It would be null in every row; one that the last row alone has is there."""
    rows = [{"text": "one"}, {"id": 1}, {"text": "two", "tag": "x"}]
    write_rows(tmp_path / name, rows) if name == "a.jsonl" else (tmp_path / name).write_text(json.dumps(rows))
    with pytest.raises(
        ValueError, match=r"fields to keep among text, tag, found 'idd'\. Check keep_fields against the fields"
    ):
        classify_file(classify, tmp_path / name, tmp_path / "out.jsonl", keep_fields=["tag", "idd"])
    classify_file(classify, tmp_path / name, tmp_path / "out.jsonl", keep_fields=["tag"])
    assert [record["tag"] for record in read_lines(tmp_path / "out.jsonl")] == [None, "x"]


def test_csv_under_the_name_of_json_lines_is_recognised(tmp_path: Path) -> None:
    """All of its lines would be broken JSON. A sentence that begins like a header is a line like any other."""
    (tmp_path / "a.jsonl").write_text('id,"text"\n1,one\n', encoding="utf-8")
    message = f"""Expected JSON Lines in {str(tmp_path / "a.jsonl")!r}, found the header of a CSV file, 'id,"text"'."""
    with pytest.raises(ValueError, match=re.escape(message) + r" Rename it to 'a\.csv'\.$"):
        classify_file(classify, tmp_path / "a.jsonl", None)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_source(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text('a, text\n{"text": "a, text, too"}\n', encoding="utf-8")
    assert classify_file(classify, tmp_path / "a.jsonl", tmp_path / "out.jsonl") == 1


def test_a_field_that_a_row_lacks_is_null(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.jsonl", [{"text": "one", "id": 1}, {"text": "two"}])
    classify_file(classify, source, tmp_path / "out.jsonl", keep_fields=["id"])
    assert [record["id"] for record in read_lines(tmp_path / "out.jsonl")] == [1, None]


# -- formats of the result ---------------------------------------------------------------------------------------------


def test_csv_holds_lists_as_json_and_any_text(tmp_path: Path) -> None:
    text = 'one, "two"\nthree \u2028 ש'
    rows = [{"text": text, "id": 1, "more": {"a": [1]}, "yes": True}, {"text": "b", "name": "half \ud83d"}]
    classify_file(classify, write_rows(tmp_path / "a.jsonl", rows), tmp_path / "out.csv")
    first, second = read_csv(tmp_path / "out.csv")
    assert first["sequence"] == text and json.loads(first["labels"]) == ["a", "b"]
    assert json.loads(first["scores"]) == [1 - 1 / len(text), 1 / len(text)]
    assert (first["id"], first["more"], first["yes"], first["name"]) == ("1", '{"a": [1]}', "true", "")
    assert json.loads(second["name"]) == "half \ud83d"


def test_parquet_finds_types_over_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rows do not decide: a later one may be wider, or of another kind."""
    monkeypatch.setattr(prediction, "WINDOW", 1)
    fields: dict[str, tuple[list[Any], pyarrow.DataType, list[Any]]] = {
        "whole": ([1, 2, None], pyarrow.int64(), [1, 2, None]),
        "wide": ([1, 2**60, 2], pyarrow.int64(), [1, 2**60, 2]),
        "huge": ([1, 2**70, 2], pyarrow.string(), ["1", str(2**70), "2"]),
        "part": ([None, 1, 2.5], pyarrow.float64(), [None, 1.0, 2.5]),
        "lossy": ([2**60, 1, 2.5], pyarrow.string(), [str(2**60), "1", "2.5"]),
        "word": (["a", None, "b"], pyarrow.string(), ["a", None, "b"]),
        "mixed": (["a", 1, None], pyarrow.string(), ['"a"', "1", None]),
        "list": ([["a"], [1], []], pyarrow.string(), ['["a"]', "[1]", "[]"]),
        "truth": ([True, None, False], pyarrow.bool_(), [True, None, False]),
        "truth_or_number": ([True, 1, 0], pyarrow.string(), ["true", "1", "0"]),
        "nothing": ([None, None, None], pyarrow.string(), [None, None, None]),
    }
    rows = [{"text": f"text {i}", **{name: field[0][i] for name, field in fields.items()}} for i in range(3)]
    classify_file(classify, write_rows(tmp_path / "a.jsonl", rows), tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    for name, (_, kind, values) in fields.items():
        assert (table.schema.field(name).type, table[name].to_pylist()) == (kind, values), name
    assert table["labels"].to_pylist() == [["a", "b"]] * 3
    assert table["scores"].type == pyarrow.list_(pyarrow.float64())


def test_parquet_to_parquet_keeps_types(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
    columns = {
        "text": pyarrow.array(["one", "", "three"]),
        "day": pyarrow.array([day, day, None], pyarrow.timestamp("us", tz="UTC")),
        "raw": pyarrow.array([b"\xff", None, b"\x00"]),
        "small": pyarrow.array([1, 2, 3], pyarrow.int8()),
        "list": pyarrow.array([[{"a": 1}], [], None]),
        "class": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert classify_file(classify, tmp_path / "a.parquet", tmp_path / "out.parquet") == 2
    before = pyarrow.parquet.read_table(tmp_path / "a.parquet").take([0, 2])
    after = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert after["sequence"].to_pylist() == ["one", "three"]
    for name in list(columns)[1:]:
        assert after[name].type == before[name].type and after[name].to_pylist() == before[name].to_pylist(), name
    assert [line["row"] for line in read_lines(tmp_path / "out.parquet.rejected.jsonl")] == [2]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_columns_between_other_marks_than_commas_are_told(tmp_path: Path, mark: str) -> None:
    (tmp_path / "a.csv").write_text(f"text{mark}labels\nthe goal{mark}sports\n", encoding="utf-8")
    message = f"found {f'text{mark}labels'!r}, which looks as if {mark!r} stood between them. Save it as CSV with commas."
    with pytest.raises(ValueError, match=re.escape(message)):
        classify_file(classify, tmp_path / "a.csv", tmp_path / "out.jsonl")


def test_paths_may_be_texts(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the goal\n", encoding="utf-8")
    assert predict_file(biencoder, LABELS, str(tmp_path / "a.txt"), str(tmp_path / "out.jsonl")) == 1


def test_parquet_without_the_column_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "Text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="Expected a column 'text' in .*, found id, Text. Name the column 'text'."):
        classify_file(classify, tmp_path / "a.parquet", tmp_path / "out.jsonl")


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_standard_input_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr("sys.stdin", StandardInput(b"one\n\ntwo"))
    target = tmp_path / f"out.{suffix}"
    assert classify_file(classify, None, target) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, target.name + ".rejected.jsonl"]
    if suffix == "parquet":
        assert pyarrow.parquet.read_table(target)["sequence"].to_pylist() == ["one", "two"]
    else:
        assert [row["sequence"] for row in (read_csv if suffix == "csv" else read_lines)(target)] == ["one", "two"]


def test_a_result_of_another_type_is_refused(tmp_path: Path) -> None:
    """JSON Lines under the name of something else would be found out by somebody else."""
    source = write_rows(tmp_path / "a.jsonl", [ROW])
    with pytest.raises(ValueError, match=r"Expected a result of the type \.jsonl, \.csv, \.parquet, found .*out\.xlsx"):
        classify_file(classify, source, tmp_path / "out.xlsx")


def test_further_findings_of_a_result_go_along(tmp_path: Path) -> None:
    """Whatever else `predict` says of a text has its field or column."""

    def classify_more(texts: list[str]) -> list[dict]:
        return [{**result, "truncated": len(result["text"]), "id": "own"} for result in classify(texts)]

    source = write_rows(tmp_path / "a.jsonl", [{"text": "one", "id": 5}])
    for suffix in ("jsonl", "csv", "parquet"):
        classify_file(classify_more, source, tmp_path / f"out.{suffix}")
    [record] = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    expected = {"sequence": "one", "labels": ["a", "b"], "scores": [1 - 1 / 3, 1 / 3]}
    assert record == {**expected, "truncated": 3, "id": "own", "input_id": 5} == read_lines(tmp_path / "out.jsonl")[0]
    assert list(read_csv(tmp_path / "out.csv")[0]) == list(record)


# -- memory ------------------------------------------------------------------------------------------------------------


def write_many(path: Path, count: int) -> Path:
    """So many rows of 200 characters, 12 bad ones among them."""
    rows = [
        {"id": number, "text": "" if number % 20 == 7 and number < 240 else f"{number} " * 40} for number in range(count)
    ]
    if path.suffix == ".jsonl":
        return write_rows(path, rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)
        return path
    lines = [f'{row["id"]},"{row["text"]}"\n' for row in rows]
    path.write_text("".join(["id,text\n", *lines]), encoding="utf-8")
    return path


@pytest.mark.parametrize(("source", "target"), [("jsonl", "csv"), ("csv", "parquet"), ("parquet", "jsonl")])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    """Five times the rows, the same peak: of Python's memory and of arrow's."""
    monkeypatch.setattr(prediction, "WINDOW", 50)
    monkeypatch.setattr(text_files, "BATCH", 50)
    monkeypatch.setattr(text_files, "CHUNK", 2**12)

    def measure(count: int) -> tuple[int, int]:
        file = write_many(tmp_path / f"a.{source}", count)
        before = pyarrow.total_allocated_bytes()
        peak = before

        def watch(texts: list[str]) -> list[dict]:
            nonlocal peak
            peak = max(peak, pyarrow.total_allocated_bytes())
            return classify(texts)

        tracemalloc.start()
        try:
            assert classify_file(watch, file, tmp_path / f"out.{target}") == count - 12
            return tracemalloc.get_traced_memory()[1], peak - before
        finally:
            tracemalloc.stop()

    measure(300)  # what is imported and compiled once
    (small, small_arrow), (large, large_arrow) = measure(300), measure(1500)
    assert large < 1.2 * small + 50_000
    assert large_arrow <= small_arrow + 50_000


def test_with_many_labels_fewer_rows_are_held() -> None:
    assert [prediction.count_window_rows(labels) for labels in (2, 256, 1000, 10**6)] == [4096, 4096, 1048, 64]


def test_what_is_scored_is_counted_whatever_form_the_labels_have(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hierarchy is no two labels because two stand at its top, and a string is no list of letters."""
    counted: list[int] = []
    monkeypatch.setattr(prediction, "count_window_rows", lambda number: counted.append(number) or 64)
    (tmp_path / "a.txt").write_text("rain", encoding="utf-8")
    for labels in (
        "sports, music",
        {"sports": {"goal": {}, "match": {}}, "music": {}},
        {"sports": ["goal", "match"], "music": "a song"},
    ):
        predict_file(biencoder, labels, tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert counted == [2, 4, 3]


def test_labels_are_encoded_once(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the file, not once for each window of it; and the next file may ask for others."""
    monkeypatch.setattr(prediction, "WINDOW", 2)
    encode, calls = biencoder.encode_classes, []

    def count(*arguments: Any) -> Any:
        calls.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr(biencoder, "encode_classes", count)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    predict_file(biencoder, LABELS, tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert len(calls) == 1
    predict_file(biencoder, LABELS[:2], tmp_path / "a.txt", tmp_path / "out.jsonl")
    assert len(calls) == 2
    biencoder.predict(TEXTS, LABELS[:2])
    assert len(calls) == 3
    assert read_lines(tmp_path / "out.jsonl") == expect_records(biencoder, TEXTS, LABELS[:2])


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> Callable[..., list[str]]:
    """Words of a command on a model and five texts with numbers."""
    biencoder.save_pretrained(tmp_path / "model")
    write_rows(tmp_path / "a.jsonl", [{"text": text, "id": number, "x": 0} for number, text in enumerate(TEXTS)])

    def build(labels: str, *more: str) -> list[str]:
        files = ["--input", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "out.jsonl")]
        return ["predict", str(tmp_path / "model"), "--labels", labels, *files, *more]

    return build


@pytest.mark.parametrize(
    ("name", "content"), [("labels.json", json.dumps(LABELS)), ("labels.txt", "\r\n".join(LABELS) + "\r\n"), (None, "")]
)
def test_labels_come_from_a_file_or_the_command_line(
    command: Callable[..., list[str]],
    biencoder: ZeroShotPreTrainedModel,
    tmp_path: Path,
    name: str | None,
    content: str,
) -> None:
    (tmp_path / (name or "unused")).write_text(content, encoding="utf-8", newline="")
    main(command(str(tmp_path / name) if name else ",".join(LABELS), "--keep_fields", "id"))
    expected = expect_records(biencoder, TEXTS)
    assert read_lines(tmp_path / "out.jsonl") == [{**record, "id": number} for number, record in enumerate(expected)]


def test_what_is_wrong_with_labels_is_said(command: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "twice.txt").write_text("a\nb\na\n", encoding="utf-8")
    assert "Expected distinct candidate labels, found 'a' at positions 0 and 2" in fail(
        *command(str(tmp_path / "twice.txt"))
    )
    assert "FileNotFoundError: Expected a file" in fail(*command(str(tmp_path / "none.json")))
    assert "Expected at least one candidate label, found none" in fail(*command(","))
    assert not (tmp_path / "out.jsonl.parts").exists()


def test_no_field_is_kept_when_none_is_named(command: Callable[..., list[str]], tmp_path: Path) -> None:
    main(command("sports,music", "--keep_fields", ""))
    assert {tuple(record) for record in read_lines(tmp_path / "out.jsonl")} == {("sequence", "labels", "scores")}


def test_the_last_line_says_what_was_written(
    command: Callable[..., list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "out.jsonl"
    main(command("sports,music"))
    assert caplog.messages[-1] == f"Wrote 5 rows to {target}"
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": 5}\n', encoding="utf-8")
    main(command("sports,music"))
    assert caplog.messages[-1] == (
        f"Wrote 1 row to {target}; 1 line left out and listed in {target}.rejected.jsonl; the first, line 2: Expected a "
        "text, found int. Write one into the field or column 'text'."
    )
    assert caplog.records[-1].levelno == logging.WARNING
