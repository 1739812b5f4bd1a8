"""The staged folder, loaded by a process that knows neither this package nor the network, must say what the model says."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..models.loading import load_model

TEXTS = (
    "The keeper tipped it over the bar in the last minute of extra time.",
    "My parcel says delivered, but nothing is here.",
    "Whisk the eggs with sugar until pale, then fold in the flour; leave the oven door closed for half an hour.",
    "Ça y est !",
)
LABELS = ("sports", "a complaint about a delivery", "cooking", "joy")
TOLERANCE = 1e-5  # of a logit, relative where it is above 1
SECONDS = 600
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")


def load_as_stranger(staged: Path) -> dict[str, Any] | str:
    """What `clean_load.py` printed, or the end of its complaint."""
    with tempfile.TemporaryDirectory() as home:
        # A copy, as a script's folder is searched for modules first, and this one holds more than the script.
        script = Path(home) / "load.py"
        script.write_text(Path(__file__).with_name("clean_load.py").read_text(encoding="utf-8"), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if name not in TOKENS}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": home, "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("HF_MODULES_CACHE", None)
        environment.pop("TRANSFORMERS_CACHE", None)
        try:
            done = subprocess.run(
                [sys.executable, str(script), str(staged.resolve()), json.dumps([TEXTS, LABELS])],
                capture_output=True,
                text=True,
                encoding="utf-8",
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {SECONDS} seconds"
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if done.returncode or not lines:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return json.loads(lines[-1].removeprefix("RESULT"))


def check_loading(folder: Path, staged: Path) -> list[str]:
    """Problems with loading what will be uploaded.

    Args:
        folder: The checkpoint, which is loaded here with the installed code.
        staged: What is loaded in a clean process with the code in it.
    """
    try:
        expected = load_model(str(folder)).predict_logits(TEXTS, LABELS).tolist()
    except (ValueError, OSError) as error:
        return [f"Expected a model that loads from {str(folder)!r}, found: {error}"]
    found = load_as_stranger(staged)
    mend = "Load the model with this package and save it anew."
    if isinstance(found, str):
        return [f"Expected the files to load where this package is not installed, found: {found}. {mend}"]
    problems = []
    if not found["module"].startswith("transformers_modules."):
        problems.append(f"Expected the code beside the weights to be used, found {found['module']}. {mend}")
    if found["missing"] or found["unexpected"]:
        name = (found["missing"] + found["unexpected"])[0]
        problems.append(f"Expected weights for every parameter and no others, found {name!r} in one of them only. {mend}")
    pairs = [
        (one, other)
        for row, others in zip(expected, found["logits"], strict=True)
        for one, other in zip(row, others, strict=True)
    ]
    furthest = max(abs(one - other) / max(1.0, abs(one)) for one, other in pairs)
    if not furthest <= TOLERANCE:  # so that nan is a problem too
        shown = "nan" if math.isnan(furthest) else f"{furthest:.2g}"
        problems.append(
            f"Expected the same logits in a clean process, found a difference of {shown} (at most {TOLERANCE:g}). "
            f"The code beside the weights is not the installed one, or a file is damaged. {mend}"
        )
    return problems
