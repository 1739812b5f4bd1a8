"""A source: bad rows are listed with line and reason, and cost no good row."""

import json
import logging
import re
from pathlib import Path

import pytest

from zeroshot.data import Source, load_source, write_rejected_rows

from .data_helpers import THREE_PARTS, write

GOOD = b'{"text": "the team", "labels": ["sports"]}\n'


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"text": "the te', "Unterminated string"),
        (b'{"text": "goal"} {"text": "cake"}', "Extra data"),
        (b"{'text': 'goal', 'labels': ['joy']}", "property name"),
        (b'{"text": "a\tb", "labels": ["joy"]}', "Invalid control character"),
        (b"\x00\x00\x00", "Expecting value"),
        (b'{"text": "caf\xe9", "labels": ["joy"]}', "the byte 0xe9"),
        (b'{"text": "goal \\ud83d", "labels": ["joy"]}', "half a surrogate pair"),
        (b'{"\\ud83d": "goal"}', "d83d"),
        (b'{"text": NaN, "labels": ["joy"]}', "float nan"),
        (b'{"text": ' + b"9" * 5000 + b', "labels": ["joy"]}', "digits"),
        (b'{"text": ' + b"[" * 100_000, "nest"),
        (b'"goal"', "str"),
        (b"null", "found null"),
    ],
)
def test_a_bad_line_costs_only_itself(line: bytes, found: str, tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", GOOD + line + b"\n" + GOOD)
    source = load_source(path)
    assert source.rows.to_list() == [{"text": "the team", "labels": ["sports"], "negatives": []}] * 2
    (rejected,) = source.rejected
    assert (rejected["source"], rejected["row"]) == (path, 2)
    assert re.search(THREE_PARTS, rejected["problem"])
    assert found in rejected["problem"]
    assert " at at " not in rejected["problem"]


def test_bad_rows_keep_their_line_numbers_in_a_long_file(tmp_path: Path) -> None:
    lines = [GOOD.decode()] * 2500
    bad = [1, 999, 1001, 2002, 2500]
    for number in bad:
        lines[number - 1] = f'{{"text": "row {number}"}}\n'
    lines[1499] = "\n"
    source = load_source(write(tmp_path, "rows.jsonl", "".join(lines)))
    assert len(source.rows) == 2500 - len(bad) - 1
    assert [(row["row"], json.loads(row["content"])["text"]) for row in source.rejected] == [
        (number, f"row {number}") for number in bad
    ]


def test_a_source_without_bad_rows_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_source(write(tmp_path, "rows.jsonl", GOOD))
    assert caplog.messages == []


def test_refused_rows_are_counted_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "rows.jsonl", GOOD + b'{"text": "", "labels": ["joy"]}\n{"text": 1}\n{"text": 1}\n')
    with caplog.at_level(logging.WARNING):
        load_source(path)
    assert caplog.messages == [
        f"{path}: 3 of 4 rows refused (first row 2): 2 x Expected 'text' to be a string, found int 1. Put it in quotes.; "
        "1 x Expected 'text' to hold words, found ''. Leave the row out."
    ]


def test_a_source_without_a_valid_row_is_explained(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", '\n{"text": 1}\n{"text": "goal"}\n{"text": 1}\n')
    message = (
        f"Expected valid rows in {path!r}, found none in 3 (first row 2): "
        "2 x Expected 'text' to be a string, found int 1. Put it in quotes.; "
        '1 x Expected a field \'labels\', found text. Add "labels": ["name", ...].'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_source(path)


def test_unlabelled_rows_are_kept_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", GOOD + b'{"text": "hm", "labels": []}\n')
    assert load_source(path).rows["text"][:] == ["the team"]
    assert load_source(path, keep_unlabelled=True).rows["text"][:] == ["the team", "hm"]


def test_without_a_label_set_rows_are_labelled_freely(tmp_path: Path) -> None:
    assert load_source(write(tmp_path, "rows.jsonl", GOOD)).candidate_labels is None


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte_order_mark"])
def test_the_label_set_beside_a_file_is_closed(mark: str, tmp_path: Path) -> None:
    write(tmp_path, "labels.json", f'{mark}["sports", "الرياضة", "rain"]')
    source = load_source(write(tmp_path, "rows.jsonl", GOOD + b'{"text": "goal", "labels": ["rain", "Sports"]}\n'))
    assert source.candidate_labels == ["sports", "الرياضة", "rain"]
    assert source.rows["labels"][:] == [["sports"]]
    assert [(row["row"], row["problem"]) for row in source.rejected] == [
        (2, "Expected one of the 3 names in labels.json, found 'Sports'. Add it or mend the row.")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"sports": 0}', "Expected 'labels.json' to be a list of names, found object. Write [\"name\", ...]."),
        (b'"sports"', "Expected 'labels.json' to be a list of names, found the string 'sports'. Write [\"sports\"]."),
        (b'["sports", 3]', "Expected names in 'labels.json', found int 3. Write label names."),
        (b'["sports", " "]', "Expected names in 'labels.json', found the empty name ' '. Leave it out."),
        (
            b'["sports", "sports"]',
            "Expected distinct names in 'labels.json', found 'sports' more than once. Keep one of them.",
        ),
    ],
)
def test_a_bad_label_set_is_explained(content: bytes, message: str, tmp_path: Path) -> None:
    label_set = write(tmp_path, "labels.json", content)
    path = write(tmp_path, "rows.jsonl", GOOD)
    with pytest.raises(ValueError, match=f"^{re.escape(label_set)}: {re.escape(message)}$"):
        load_source(path)


@pytest.mark.parametrize(
    "content",
    [b"", b'["sports", "mus', b'["caf\xe9"]', b"[]", b'["sports", "\\ud83d"]'],
    ids=["empty", "half_written", "latin_1", "no_names", "half_a_surrogate_pair"],
)
def test_an_unreadable_label_set_is_named_with_its_mend(content: bytes, tmp_path: Path) -> None:
    label_set = write(tmp_path, "labels.json", content)
    path = write(tmp_path, "rows.jsonl", GOOD)
    with pytest.raises(ValueError, match=r"Expected .+, found .+\. [A-Z].+\.$") as raised:
        load_source(path)
    assert label_set in str(raised.value)


def test_refused_rows_of_all_sources_are_written_readably(tmp_path: Path) -> None:
    first = load_source(write(tmp_path, "first.jsonl", GOOD + '{"text": "⚽"}\n'.encode()))
    second = load_source(write(tmp_path, "second.jsonl", b'"caf\xe9"\n' + GOOD))
    file = tmp_path / "new" / "rejected_rows.jsonl"
    for _ in range(2):  # a second run replaces the file
        assert write_rejected_rows([first, second], file) == 2
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [*first.rejected, *second.rejected]
    assert "⚽" in lines[0]


def test_no_file_is_written_where_nothing_was_refused(tmp_path: Path) -> None:
    assert write_rejected_rows([load_source(write(tmp_path, "rows.jsonl", GOOD))], tmp_path / "new" / "file") == 0
    assert not (tmp_path / "new").exists()


def test_mended_rows_are_no_longer_listed(tmp_path: Path) -> None:
    file = tmp_path / "rejected_rows.jsonl"
    write_rejected_rows([load_source(write(tmp_path, "rows.jsonl", GOOD + b"{}\n"))], file)
    mended: list[Source] = [load_source(write(tmp_path, "rows.jsonl", GOOD))]
    assert write_rejected_rows(mended, file) == 0
    assert not file.exists() or file.read_text(encoding="utf-8") == ""


def test_an_empty_csv_cell_is_a_row_without_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "text,labels,negatives\ngoal,sports,\nhm,,\n")
    assert load_source(path, keep_unlabelled=True).rows["labels"][:] == [["sports"], []]


def test_a_negative_outside_the_closed_set_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "labels.json", '["sports", "rain"]')
    rows = GOOD + b'{"text": "goal", "labels": ["sports"], "negatives": ["rian"]}\n'
    (rejected,) = load_source(write(tmp_path, "rows.jsonl", rows)).rejected
    assert "found 'rian'" in rejected["problem"]
