"""Scripts in processes of their own, with nothing of this one's environment that a stranger would not have."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_apart(
    words: Sequence[str], home: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Python with these words, without token and package; `home` is the Hub's cache, and the folder if none is given."""
    home.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_TOKEN")}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        # As many threads as the tests themselves have: other sums of products would differ in the last digit.
        env={
            **inherited,
            "OMP_NUM_THREADS": "1",
            "HF_HOME": str(home),
            "TOKENIZERS_PARALLELISM": "false",
            **(environment or {}),
        },
        cwd=folder or home,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def read_result(done: "subprocess.CompletedProcess[str]") -> Any:
    """What a script that ended well printed behind RESULT, as JSON."""
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT"))
