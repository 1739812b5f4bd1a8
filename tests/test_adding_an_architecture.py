"""The walk of docs/adding_an_architecture.md: its blocks, put into a copy of the project, pass the conformance suite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "adding_an_architecture.md"


def read_blocks() -> dict[str, str]:
    """The page's code by the file that its first line names."""
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return dict(blocks)


@pytest.mark.slow
def test_two_files_and_one_line_are_enough(tmp_path: Path) -> None:
    blocks = read_blocks()
    assert len(blocks) == 3
    for part in ("zeroshot", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, code in blocks.items():
        file = tmp_path / name
        before = file.read_text(encoding="utf-8") if file.is_file() else "\n__all__"
        assert before.count("\n__all__") == 1
        file.write_text(before.replace("\n__all__", f"\n{code}\n__all__" if file.is_file() else code), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-k", "prototype"]
    tests = ["tests/test_conformance.py", "tests/test_clean_process.py", "tests/test_encoders.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *tests], capture_output=True, text=True, cwd=tmp_path, env=environment)

    first = run()  # writes the golden logits, and says so
    assert re.search(r"\b1 failed", first.stdout), first.stdout[-3000:]
    assert "wrote new golden logits for prototype" in first.stdout
    second = run()
    assert second.returncode == 0, second.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", second.stdout)[1]) > 40
