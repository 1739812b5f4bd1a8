"""Every file type gives the same rows, each with its line; what cannot be read is named."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from zeroshot.data import load_source, read_raw_rows

from .data_helpers import NASTY_TEXTS, ROWS, write


def write_jsonl(folder: Path, rows: Sequence[Any]) -> str:
    return write(folder, "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def write_jsonl_unescaped(folder: Path, rows: Sequence[Any]) -> str:
    return write(folder, "rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_jsonl_of_windows(folder: Path, rows: Sequence[Any]) -> str:
    content = "\ufeff" + "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    return write(folder, "rows.jsonl", content)


def write_json(folder: Path, rows: Sequence[Any]) -> str:
    return write(folder, "rows.json", "\ufeff" + json.dumps(rows, ensure_ascii=False, indent=1))


def write_csv(folder: Path, rows: Sequence[Any]) -> str:
    with (folder / "rows.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels", "negatives"])
        writer.writerows([row["text"], json.dumps(row["labels"]), json.dumps(row["negatives"])] for row in rows)
    return str(folder / "rows.csv")


def write_csv_with_bars(folder: Path, rows: Sequence[Any]) -> str:
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(["labels", "negatives", "text"])
        writer.writerows(["|".join(row["labels"]), " | ".join(row["negatives"]), row["text"]] for row in rows)
    return str(folder / "rows.csv")


def write_gliclass(folder: Path, rows: Sequence[Any]) -> str:
    """GLiClass's format, the candidates in the order negatives, labels."""
    return write_jsonl(
        folder,
        [
            {"text": row["text"], "all_labels": row["negatives"] + row["labels"], "true_labels": row["labels"]}
            for row in rows
        ],
    )


WRITERS = [
    write_jsonl,
    write_jsonl_unescaped,
    write_jsonl_of_windows,
    write_json,
    write_csv,
    write_csv_with_bars,
    write_gliclass,
]


@pytest.mark.parametrize("write_rows", WRITERS)
def test_every_text_format_gives_the_same_rows(write_rows: Callable[[Path, Sequence[Any]], str], tmp_path: Path) -> None:
    source = load_source(write_rows(tmp_path, ROWS))
    assert source.rows.to_list() == ROWS
    assert source.rejected == []


@pytest.mark.parametrize("write_rows", WRITERS)
@pytest.mark.parametrize("text", NASTY_TEXTS.values(), ids=list(NASTY_TEXTS))
def test_a_text_arrives_unchanged(write_rows: Callable[[Path, Sequence[Any]], str], text: str, tmp_path: Path) -> None:
    rows = [{"text": text, "labels": ["joy"], "negatives": []}, ROWS[1]]
    assert load_source(write_rows(tmp_path, rows)).rows.to_list() == rows


def test_a_nul_in_jsonl_arrives_unchanged(tmp_path: Path) -> None:
    rows = [{"text": "the\x00team", "labels": ["joy"], "negatives": []}]
    assert load_source(write_jsonl(tmp_path, rows)).rows.to_list() == rows


def test_raw_rows_carry_line_content_and_problem(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", b'{"text": 1}\n\n \r\n{"half\n"caf\xe9"\n')
    assert read_raw_rows(path).to_list() == [
        {"row": 1, "content": '{"text": 1}', "problem": None},
        {"row": 4, "content": '{"half', "problem": None},
        {
            "row": 5,
            "content": '"caf\\xe9"',
            "problem": "Expected UTF-8, found the byte 0xe9 at 4. Save the file as UTF-8.",
        },
    ]


def test_the_byte_that_is_no_utf8_is_named_after_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", b'\xef\xbb\xbf"caf\xe9"\n')
    assert "found the byte 0xe9 at" in read_raw_rows(path)[0]["problem"]


def test_json_rows_are_numbered_by_position(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.json", '[{"text": "rain"},\n\n"goal"]')
    assert read_raw_rows(path).to_list() == [
        {"row": 1, "content": '{"text": "rain"}', "problem": None},
        {"row": 2, "content": '"goal"', "problem": None},
    ]


def test_csv_rows_are_numbered_by_their_first_line(tmp_path: Path) -> None:
    content = 'text,labels\n"two\nlines\u2028of text",joy\n\nthe team,\n"again\ntwo lines",\n'
    path = write(tmp_path, "rows.csv", content)
    assert [row["row"] for row in load_source(path).rejected] == [5, 6]


@pytest.mark.parametrize(
    "broken",
    ["the team, the goal,sports", "the team,sports,politics"],
    ids=["comma_in_the_text", "comma_between_labels"],
)
def test_a_csv_row_with_more_cells_than_columns_is_refused_not_cut(broken: str, tmp_path: Path) -> None:
    source = load_source(write(tmp_path, "rows.csv", f"text,labels\n{broken}\nbake the cake,cooking\n"))
    assert source.rows["text"][:] == ["bake the cake"]
    assert [row["row"] for row in source.rejected] == [2]
    assert source.rejected[0]["problem"].startswith("Expected")


def test_an_open_quote_in_csv_is_found_where_it_opens(tmp_path: Path) -> None:
    """It swallows all rows behind it."""
    content = 'text,labels\nbake the cake,cooking\n"the team,sports\nparliament vote,politics\n'
    source = load_source(write(tmp_path, "rows.csv", content))
    assert source.rows["text"][:] == ["bake the cake"]
    assert [(row["row"], "quote" in row["problem"]) for row in source.rejected] == [(3, True)]
    assert "the team" in source.rejected[0]["content"]


def test_a_quote_that_is_not_doubled_costs_only_its_row(tmp_path: Path) -> None:
    content = 'text,labels\n"the "best" team",sports\nbake the cake,cooking\n'
    source = load_source(write(tmp_path, "rows.csv", content))
    assert source.rows["text"][:] == ["bake the cake"]
    assert [(row["row"], "quote" in row["problem"]) for row in source.rejected] == [(2, True)]


def test_an_open_quote_in_the_csv_header_is_explained(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", '"text,labels\nthe team,sports\n')
    with pytest.raises(ValueError, match=r"Expected .*quote"):
        load_source(path)


def test_empty_csv_columns_at_the_end_do_no_harm(tmp_path: Path) -> None:
    """Spreadsheets write them."""
    source = load_source(write(tmp_path, "rows.csv", "text,labels,,\nthe team,sports,,\n"))
    assert source.rows["labels"][:] == [["sports"]]


def test_a_csv_header_named_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "text,text,labels\nthe team,bake the cake,sports\n")
    with pytest.raises(ValueError, match=r"Expected .*'text'"):
        load_source(path)


def test_a_list_written_by_python_gets_advice_that_works(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "text,labels\nbake the cake,cooking\nthe team,\"['sports', 'joy']\"\n")
    problem = load_source(path).rejected[0]["problem"]
    assert "Write [\"['sports', 'joy']\"]" not in problem


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_row_with_a_field_twice_is_refused_and_the_others_are_kept(name: str, tmp_path: Path) -> None:
    rows = ['{"text": "the team", "labels": ["sports"]}', '{"text": "the cake", "labels": ["joy"], "labels": ["cooking"]}']
    content = "\n".join(rows) if name == "rows.jsonl" else f"[{','.join(rows)}]"
    source = load_source(write(tmp_path, name, content))
    assert source.rows["text"] == ["the team"]
    [refused] = source.rejected
    assert refused["row"] == 2
    assert "found the key 'labels' more than once in one object" in refused["problem"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"], ids=["empty", "blank", "byte_order_mark"])
def test_a_file_without_rows_is_named(name: str, content: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=r"Expected .*" + re.escape(repr(path)) + ".*found (none|broken JSON)"):
        load_source(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.json", "[]", "Expected rows in {path!r}, found none. Check that it is the right file."),
        ("rows.csv", "text,labels\n", "Expected rows in {path!r}, found none. Check that it is the right file."),
        (
            "rows.json",
            '[{"text": "the team", "labels": ["joy"]},\n {"te',
            "Expected {path!r} to hold a JSON list of rows, found broken JSON in line 2, column 3 (Unterminated string "
            "starting at). It may be half written; one row per line in a .jsonl file loses only one row.",
        ),
        (
            "rows.json",
            '{"text": "the team"}',
            'Expected {path!r} to hold a JSON list of rows, found object. Write [{{"text": ..., "labels": [...]}}, ...].',
        ),
        (
            "rows.json",
            b'["caf\xe9"]',
            "Expected {path!r} in UTF-8, found the byte 0xe9 at position 5. Save the file as UTF-8.",
        ),
        (
            "rows.csv",
            "text,labels\nthe team,sports\n".encode("utf-16"),
            "Expected {path!r} in UTF-8, found the byte 0xff at position 0. Save the file as UTF-8.",
        ),
        (
            "rows.jsonl.gz",
            b"\x1f\x8b",
            "Expected one of the file types .jsonl, .json, .csv, .parquet, found {path!r}. Convert it, or rename it if "
            "the content is of one of these types.",
        ),
    ],
)
def test_an_unreadable_file_is_explained(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}$"):
        read_raw_rows(path)


@pytest.mark.parametrize("content", ["[" * 100_000, f'[{{"text": {"9" * 5000}}}]'], ids=["nesting", "number"])
def test_json_beyond_the_limits_of_python_is_explained(content: str, tmp_path: Path) -> None:
    path = write(tmp_path, "rows.json", content)
    with pytest.raises(ValueError, match=re.escape(f"Expected {path!r} to hold a JSON list of rows, found")):
        read_raw_rows(path)


def test_half_a_surrogate_pair_in_json_costs_only_its_row(tmp_path: Path) -> None:
    rows = [{"text": "the team \ud83d", "labels": ["joy"]}, ROWS[0]]
    source = load_source(write(tmp_path, "rows.json", json.dumps(rows)))
    assert source.rows.to_list() == ROWS[:1]
    assert [(row["row"], "half a surrogate pair" in row["problem"]) for row in source.rejected] == [(1, True)]
