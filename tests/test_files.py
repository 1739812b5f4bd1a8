"""Files that are whole or not there, whatever happens while they are written."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zeroshot.files import replace_file, write_json


def test_a_file_is_replaced_when_all_went_well_and_synced_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "result.json"
    write_json(path, {"name": "ä"})
    path.chmod(0o640)
    seen = []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: seen.append(json.loads(path.read_text(encoding="utf-8"))) or sync(number)
    )
    write_json(path, {"name": "ö"})
    assert seen == [{"name": "ä"}] and path.read_text(encoding="utf-8") == '{\n "name": "ö"\n}\n'
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == ["result.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")

    def break_off() -> None:
        with replace_file(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result.txt"]


def test_two_processes_write_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that two share would be torn by the one and put in place by the other."""
    path = tmp_path / "result.txt"
    with replace_file(path) as first:
        first.write_text("first")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 77)
            with replace_file(path) as second:
                assert second != first and not list(tmp_path.glob("result*"))
                second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_a_new_file_has_the_permissions_of_new_files(tmp_path: Path) -> None:
    """A writer such as safetensors writes for its owner alone, and who shares the folder could not load what is in it."""
    (tmp_path / "usual").touch()
    with replace_file(tmp_path / "head.safetensors") as partial:
        save_file({"a": torch.zeros(1)}, partial)
    assert (tmp_path / "head.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode
