"""What a run leaves beside the model for its card."""

import json
import re
from pathlib import Path

import pytest

import train
from zeroshot.data import load_source
from zeroshot.training.records import describe_source, name_source

from .test_training import settings


def test_a_run_records_its_data_and_circumstances(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """A second start of the finished run must not overwrite when and where it was trained."""
    with rows_file.open("a", encoding="utf-8") as file:
        file.write("broken\n")
    more = {"validation_share": 0.25, "zero_shot_files": "packaged:zero_shot/topics/test.jsonl", "max_steps": 2}
    examples = ["--example_texts", "a goal", "--example_labels", "sports", "rain"]
    words = [*settings(encoder_dir, rows_file, tmp_path / "out", **more), *examples]
    train.main(words)
    rows = json.loads((tmp_path / "out" / "training_data.json").read_text())
    source = {"name": "train.jsonl", "kind": "local", "rows": 9, "labels": 3, "refused": 1, "license": None, "language": []}
    assert rows["sources"] == [source]
    assert rows["validation"] == {"rows_train": {"rows": 3, "labels": 3}}
    assert rows["zero_shot"] == {"topics_test": {"rows": 330, "labels": 60}}
    file = tmp_path / "out" / "training_record.json"
    record = json.loads(file.read_text())
    assert record["encoders"] == [{"name": Path(encoder_dir).name, "kind": "local"}]
    assert record["seconds"] > 0 and record["resumed"] is False and record["processes"] == 1
    assert set(record["versions"]) == {"zeroshot", "python", "torch", "transformers"}
    assert record["hardware"]["threads"] == 1 and record["hardware"]["processor"]
    assert (record["example_texts"], record["example_labels"]) == (["a goal"], ["sports", "rain"])
    written = file.stat().st_mtime_ns
    train.main(words)
    assert file.stat().st_mtime_ns == written
    for one in ("training_data.json", "training_record.json", "evaluation/training_report.json"):
        assert not re.search(re.escape(str(tmp_path.parent)), (tmp_path / "out" / one).read_text()), one


@pytest.mark.parametrize(
    ("name", "shown", "kind"),
    [
        ("packaged:topics/train.jsonl", "packaged:topics/train.jsonl", "packaged"),
        ("../clients/acme/mails.csv", "mails.csv", "local"),
        ("clients/mails.jsonl", "mails.jsonl", "local"),
        (r"C:\Users\ann\mails.jsonl", "mails.jsonl", "local"),
        ("a/folder/of/models", "models", "local"),
        ("~/encoder", "encoder", "local"),
        ("user/rows:test", "user/rows:test", "hub"),
        ("bert-base-uncased", "bert-base-uncased", "hub"),
    ],
)
def test_names_hold_no_folder_of_this_machine(name: str, shown: str, kind: str) -> None:
    assert name_source(name) == {"name": shown, "kind": kind}


def test_a_folder_that_looks_like_a_hub_id_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`outputs/encoder` would be linked on the Hub, where it is someone else's or nobody's."""
    (tmp_path / "outputs" / "encoder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert name_source("outputs/encoder") == {"name": "encoder", "kind": "local"}


def test_the_licence_of_packaged_rows_is_that_of_their_card() -> None:
    described = describe_source(load_source("packaged:topics/validation.jsonl"))
    assert (described["license"], described["language"], described["rows"]) == ("cc0-1.0", ["en"], 100)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\nconfigs:\n- data_files:\n  - {split: train, path: train.jsonl}\n---\n", "mit"),
        ("---\nlicense: unknown\nconfigs:\n- data_files:\n  - {split: train, path: train.jsonl}\n---\n", None),
        ("---\nlicense: mit\nconfigs:\n- data_files:\n  - {split: train, path: other.jsonl}\n---\n", None),
        ("---\nlicense: mit\n---\n# Some project\n", None),
        ("---\nlicense: [mit\n---\n", None),
        ("# No front matter\n", None),
    ],
)
def test_a_licence_counts_only_where_a_data_card_declares_the_file(card: str, licence: str | None, rows_file: Path) -> None:
    """The README of a project beside the rows says nothing of them."""
    (rows_file.parent / "README.md").write_text(card, encoding="utf-8")
    assert describe_source(load_source(str(rows_file)))["license"] == licence
