"""Parquet files and Hub data sets give the same rows as files of text; names that lead nowhere are explained."""

import datetime
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets.exceptions import DatasetGenerationError

from zeroshot.data import Source, load_source, reading

from .data_helpers import NASTY_TEXTS, ROWS, make_row, write


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load_parquet(folder: Path, columns: dict[str, list], features: Features | None = None) -> Source:
    """Write columns as Parquet and load them."""
    Dataset.from_dict(columns, features=features).to_parquet(folder / "rows.parquet")
    return load_source(str(folder / "rows.parquet"))


def put_on_hub(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Let every Hub data set be `loaded`, or raise it; returns the names and splits that are asked for."""
    asked: list[tuple[str, str | None]] = []

    def load_dataset(name: str, split: str | None = None) -> Any:
        asked.append((name, split))
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    monkeypatch.setattr(reading, "load_dataset", load_dataset)
    return asked


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    texts = [*NASTY_TEXTS.values(), "the\x00team"]
    rows = [*ROWS, *({"text": text, "labels": ["joy"], "negatives": []} for text in texts)]
    source = load_parquet(tmp_path, {name: [row[name] for row in rows] for name in rows[0]})
    assert source.rows.to_list() == rows
    assert source.rejected == []


def test_gliclass_in_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    columns: dict[str, list] = {
        "text": [row["text"] for row in ROWS],
        "all_labels": [row["negatives"] + row["labels"] for row in ROWS],
        "true_labels": [row["labels"] for row in ROWS],
    }
    assert load_parquet(tmp_path, columns).rows.to_list() == ROWS


def test_arrow_types_of_other_libraries_give_the_same_rows(tmp_path: Path) -> None:
    """Polars writes large strings, pandas writes categories as dictionaries."""
    columns = {
        "text": pyarrow.array(["goal", "cake"], pyarrow.large_string()).dictionary_encode(),
        "labels": pyarrow.array([["sports"], ["cooking", "joy"]], pyarrow.large_list(pyarrow.large_string())),
        "negatives": pyarrow.array([None, ["rain"]], pyarrow.list_(pyarrow.string())),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    assert load_source(str(tmp_path / "rows.parquet")).rows.to_list() == [
        make_row("goal", ["sports"]),
        make_row("cake", ["cooking", "joy"], ["rain"]),
    ]


def test_a_parquet_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    load_parquet(tmp_path, {"text": ["the team"], "labels": [["sports"]]})
    source = load_parquet(tmp_path, {"text": ["the cake"], "labels": [["cooking"]]})
    assert source.rows["text"][:] == ["the cake"]


def test_bad_parquet_rows_are_numbered_by_position(tmp_path: Path) -> None:
    source = load_parquet(tmp_path, {"text": ["rain", None, "sun", "wind"], "labels": [["joy"], ["joy"], None, ["joy"]]})
    assert source.rows["text"][:] == ["rain", "wind"]
    assert [row["row"] for row in source.rejected] == [2, 3]


@pytest.mark.parametrize(
    "value",
    [b"the team", datetime.datetime(2020, 1, 1), 5, 0.5, ["the team"], {"en": "the team"}],
    ids=lambda value: type(value).__name__,
)
def test_a_parquet_text_that_is_no_string_is_refused_not_converted(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected 'text' to be a string, found "):
        load_parquet(tmp_path, {"text": [value], "labels": [["joy"]]})


@pytest.mark.parametrize("content", [b"", b"PAR1 half", b"text,labels"], ids=["empty", "half", "csv"])
def test_a_file_that_is_no_parquet_is_explained(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, "rows.parquet", content)
    with pytest.raises(ValueError, match=f"^Expected .*{re.escape(repr(path))}.*found "):
        load_source(path)


def test_parquet_without_rows_is_named(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "labels": List(Value("string"))})
    message = f"Expected rows in {str(tmp_path / 'rows.parquet')!r}, found none. Check that it is the right file."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_parquet(tmp_path, {"text": [], "labels": []}, features)


def test_class_numbers_become_names(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["sports", "cooking"])})
    source = load_parquet(tmp_path, {"text": ["cake", "goal"], "label": [1, 0]}, features)
    assert source.rows["labels"][:] == [["cooking"], ["sports"]]


@pytest.mark.parametrize("missing", [-1, None])
def test_a_missing_class_number_is_no_label(missing: int | None, tmp_path: Path) -> None:
    """Test splits on the Hub write -1, which must not become the last name."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["sports", "cooking"])})
    source = load_parquet(tmp_path, {"text": ["goal", "cake"], "label": [0, missing]}, features)
    assert source.rows["labels"][:] == [["sports"]]
    assert [(row["row"], row["problem"].startswith("Expected at least one label")) for row in source.rejected] == [(2, True)]


def test_lists_of_class_numbers_become_names(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "labels": List(ClassLabel(names=["sports", "cooking"]))})
    source = load_parquet(tmp_path, {"text": ["cake", "both"], "labels": [[1], [0, 1]]}, features)
    assert source.rows["labels"][:] == [["cooking"], ["sports", "cooking"]]


@pytest.mark.parametrize("name", ["user/name", "user/name:test", "name", "user/name-1.0", "C:rows", "rows.txt"])
def test_a_hub_name_that_cannot_be_loaded_offline_is_explained(name: str) -> None:
    start = f"Expected a file of rows or a data set on the Hub, found {name!r}, which is neither ("
    end = "). Check the path or the name (user/name or user/name:split) and, for the Hub, the network and HF_TOKEN."
    with pytest.raises(ValueError, match=f"^{re.escape(start)}.+{re.escape(end)}$"):
        load_source(name)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no network"),
        FileNotFoundError("no such data set"),
        ValueError("no such split"),
        DatasetGenerationError("a broken file on the Hub"),
        RuntimeError("Dataset scripts are no longer supported, but found name.py"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_hub_raises_is_explained(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_hub(error, monkeypatch)
    with pytest.raises(ValueError, match=re.escape(f"({error})")) as raised:
        load_source("user/name")
    assert raised.value.__cause__ is error


def test_the_split_behind_the_colon_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = put_on_hub(Dataset.from_list(ROWS), monkeypatch)
    assert load_source("user/name:test").rows.to_list() == ROWS
    assert asked == [("user/name", "test")]


def test_the_train_split_is_taken_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = put_on_hub(DatasetDict(test=Dataset.from_list(ROWS[1:]), train=Dataset.from_list(ROWS)), monkeypatch)
    assert load_source("user/name").rows.to_list() == ROWS
    assert asked == [("user/name", None)]


def test_a_hub_data_set_without_train_split_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_hub(DatasetDict(test=Dataset.from_list(ROWS), dev=Dataset.from_list(ROWS)), monkeypatch)
    message = "Expected a split of 'user/name', found no 'train' among test, dev. Write user/name:SPLIT."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_source("user/name")


@pytest.mark.parametrize(
    "name", ["none.jsonl", "none/rows.csv", "./none", "/none", "~/none", "packaged:none", "packaged:topics", ".", ""]
)
def test_a_name_that_looks_like_a_file_never_goes_to_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = put_on_hub(Dataset.from_list(ROWS), monkeypatch)
    with pytest.raises(
        FileNotFoundError, match=re.escape("Expected a file of rows (.jsonl, .json, .csv, .parquet), found no")
    ):
        load_source(name)
    assert asked == []


def test_the_files_beside_a_missing_one_are_named(tmp_path: Path) -> None:
    present = write(tmp_path, "train.jsonl", "")
    write(tmp_path, "notes.txt", "")
    message = (
        f"Expected a file of rows (.jsonl, .json, .csv, .parquet), found no file {str(tmp_path / 'trian.jsonl')!r}. "
        f"Beside it are: {present}."
    )
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        load_source(str(tmp_path / "trian.jsonl"))


def test_the_label_set_is_not_offered_as_a_file_of_rows(tmp_path: Path) -> None:
    write(tmp_path, "labels.json", "[]")
    with pytest.raises(FileNotFoundError, match=r"^((?!labels\.json).)*$"):
        load_source(str(tmp_path / "train.jsonl"))


def test_a_path_may_start_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path, "rows.jsonl", '{"text": "the team", "labels": ["sports"]}\n')
    assert len(load_source("~/rows.jsonl").rows) == 1
