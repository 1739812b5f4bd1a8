"""Which files the report reads, and its command end to end."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from zeroshot.cli import main
from zeroshot.data import reading
from zeroshot.data.row_files import find_row_files

from .data_helpers import LONG, NEAR, make_row, write, write_rows


def test_row_files_of_a_folder(tmp_path: Path) -> None:
    """Label sets and maps lie beside rows and are none."""
    wanted = [write_rows(tmp_path / "a" / "b", "x.jsonl"), write(tmp_path, "rows.json", '[{"text": "x", "labels": []}]')]
    wanted += [write(tmp_path, "broken.json", "["), write(tmp_path, "y.csv", "text,labels\n")]
    beside = {"labels.json": '["a"]', "label_map.json": "{}", "notes.md": "", "z.txt": ""}
    for name, content in {**beside, "journal.jsonl": "{}", "rejected_rows.jsonl": "{}"}.items():
        write(tmp_path, name, content)
    assert find_row_files(str(tmp_path)) == sorted(wanted)
    assert find_row_files("user/name:test") == ["user/name:test"]
    assert find_row_files(wanted[0]) == [wanted[0]]


def test_packaged_files() -> None:
    everything = find_row_files("packaged:")
    assert "packaged:topics/train.jsonl" in everything and "packaged:variety/test.jsonl" in everything
    assert find_row_files("packaged:topics") == [name for name in everything if name.startswith("packaged:topics/")]
    assert not any(name.endswith("labels.json") for name in everything)


def test_an_empty_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        find_row_files(str(tmp_path))
    assert str(raised.value) == (
        f"Expected row files ({', '.join(reading.SUFFIXES)}) in the folder {str(tmp_path)!r}, found none. "
        "Name another folder."
    )


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folder and file, suite, threshold and output in one call; findings do not change the exit status."""
    write_rows(tmp_path / "data", "train.jsonl", make_row(LONG, ["sports"]), {"text": "no labels"})
    write_rows(tmp_path / "data", "test.jsonl", make_row("rain", ["weather"]))
    suite = tmp_path / "suite" / "set"
    write_rows(suite, "test.jsonl", make_row(NEAR, ["sports"]))
    folder, output = str(tmp_path / "data"), tmp_path / "out"
    words = ["data", "report", folder, f"{folder}/train.jsonl", "--suite", str(suite), "--threshold", "0.8"]
    main([*words, "--output", str(output)])
    printed = capsys.readouterr().out
    assert printed == (output / "report.md").read_text(encoding="utf-8")
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in report["files"]] == [f"{folder}/test.jsonl", f"{folder}/train.jsonl"]
    assert (report["threshold"], len(report["leaks"][0]["copies"]), len(report["rejected"])) == (0.8, 1, 1)


def test_command_without_output_writes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path, "train.jsonl", make_row(LONG, ["sports"]))
    monkeypatch.chdir(tmp_path)
    main(["data", "report", file])
    assert capsys.readouterr().out.startswith("# Data report\n\n## Findings\n")
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


@pytest.mark.parametrize("module", ["datasketch", "matplotlib.figure"])
def test_command_names_the_missing_extra(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_rows(tmp_path, "train.jsonl", make_row(LONG, ["sports"]))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=r'^ImportError: Expected .* pip install "zeroshot\[data\]"\.$'):
        main(["data", "report", file, "--output", str(tmp_path / "out")])


def test_command_reports_a_file_that_is_not_there(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    with pytest.raises(SystemExit, match="FileNotFoundError: Expected a file of rows"):
        main(["data", "report", str(tmp_path / "none.jsonl")])
