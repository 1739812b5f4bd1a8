"""The notebook: clean as it is kept, and its cells do what they say, in order, in one process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from zeroshot.hub.commands import build_parser
from zeroshot.models.loading import DEFAULT_ENCODER

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "notebooks" / "quickstart.ipynb"
DRIVER = """
import json, os, sys
cells, injected = json.loads(sys.argv[1])
names = {}
exec(cells[0], names)
names.update(injected)  # as papermill does it: after the cell with the tag "parameters"
for number, cell in enumerate(cells[1:], 2):
    print(f"CELL {number}", flush=True)
    exec(compile(cell, f"cell {number}", "exec"), names)
pushed = []
import push
push.main = pushed.append
os.environ["HF_TOKEN"] = "hf_x"
exec(cells[-1], names)
os.environ["HF_TOKEN"], names["REPO_ID"] = "hf_x", ""
exec(cells[-1], names)
print("PUSHED " + json.dumps(pushed))
"""


def code_cells() -> list[str]:
    """The source of each code cell."""
    return [cell["source"] for cell in nbformat.read(FILE, as_version=4)["cells"] if cell["cell_type"] == "code"]


def test_is_valid_and_clean() -> None:
    """No outputs, no numbers of executions, no path of one machine, no token."""
    text = FILE.read_text(encoding="utf-8")
    book = json.loads(text)
    nbformat.validate(book)
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(code) == 5
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp|content|Users)/\w|\bhf_\w|\bsk-\w", text)
    assert [cell["metadata"].get("tags") for cell in code] == [["parameters"], None, None, None, None]
    assert set(book["metadata"]) == {"accelerator", "colab", "kernelspec", "language_info"}
    assert f'ENCODER = "{DEFAULT_ENCODER}"' in text.replace('\\"', '"')


@pytest.mark.slow
def test_the_cells_run_in_order(encoder_dir: str, tmp_path: Path) -> None:
    """From the folder of the notebook, as Jupyter starts it: a model, a table, scores; and no push without a token."""
    home, output = tmp_path / "home", tmp_path / "model"
    home.mkdir()
    tiny = ["--max_steps=2", "--eval_strategy=no", "--save_strategy=no", "--load_best_model_at_end=false"]
    injected = {"ENCODER": encoder_dir, "OUTPUT_DIR": str(output), "SETTINGS": tiny, "REPO_ID": "user/model"}
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_TOKEN")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([code_cells(), injected])],
        capture_output=True,
        text=True,
        env=environment | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")},
        cwd=FILE.parent,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    train, evaluate, labels, push = re.split(r"^CELL \d$", done.stdout, flags=re.MULTILINE)[1:]
    assert f"The model is in {output}" in train and (output / "model.safetensors").is_file()
    assert "| before training |" in train and "| after training |" in train
    assert re.match(r"\s*\| model \(accuracy / accuracy_at_k / macro_f1 / mrr\) \| topics \| mean \|", evaluate)
    assert evaluate.count("\n| untrained encoder, ") == 2 and "\n| model |" in evaluate
    assert len(re.findall(r"^  [01]\.\d\d [a-z ]+$", labels, flags=re.MULTILINE)) == 8
    assert push.count("Not pushed: set REPO_ID in the first cell and the secret HF_TOKEN, then run this cell again.") == 2
    [pushed] = [line.removeprefix("PUSHED ") for line in push.splitlines() if line.startswith("PUSHED ")]
    [words] = json.loads(pushed)
    asked = build_parser().parse_args(words)
    assert (asked.checkpoint, asked.repo_id, asked.public, asked.force) == (str(output), "user/model", False, False)


def test_the_first_cell_clones_and_installs_where_there_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Colab, which starts in a folder of its own."""
    cell, commands = code_cells()[0], []

    def run(words: list[str], **options: Any) -> None:
        commands.append(words)
        assert options == {"check": True}
        (tmp_path / "zeroshot-project").mkdir(exist_ok=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ValueError, match="Expected the address of the project in REPOSITORY, found none. Set it above."):
        exec(cell, {})
    assert not commands
    address = "https://example.org/someone/zeroshot.git"
    exec(cell.replace('REPOSITORY = ""', f'REPOSITORY = "{address}"'), {})
    project = str(tmp_path / "zeroshot-project")
    assert commands == [
        ["git", "clone", "--quiet", address, project],
        [sys.executable, "-m", "pip", "install", "--quiet", project],
    ]
    assert (Path.cwd(), sys.path[0]) == (Path(project), project)
