"""What tests of publishing share: checkpoints as a run leaves them, and the command as a user gives it."""

import hashlib
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import push
from zeroshot.console import run_command
from zeroshot.evaluation.suites import write_report
from zeroshot.hub import publishing
from zeroshot.models import ARCHITECTURES
from zeroshot.training.records import describe_hardware

from .command_helpers import build_result
from .hub_server import HubServer

NAME = "alice/topics"
CALIBRATION = '{"scale": 1.0, "bins": [{"confidence": 0.5, "accuracy": 0.4, "count": 2}]}'
SPEED = {"texts_per_second": {"2": 9.0}, "hardware": describe_hardware(), "dtype": "float32", "device": "cpu"}
ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
HOME = "/" + "home/ada/project"  # in two parts, as no file here may hold such a path
# What tells of a user or runs when it is loaded.
PRIVATE = re.compile(rb"hf_[A-Za-z0-9]{20}|sk-[A-Za-z0-9]{20}|/(?:home|Users)/|\x80[\x02-\x05]\x95|PK\x03\x04|ada@")


def build_checkpoint(folder: Path, encoder: str, **options: object) -> Path:
    """A tiny model as a finished run leaves it, with all that is nobody's business beside it."""
    ARCHITECTURES["biencoder"].from_encoder(encoder, **options).save_pretrained(folder)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "curve.png").write_bytes(PNG)
    torch.save({"state": 1}, folder / "optimizer.pt")
    (folder / "training_args.bin").write_bytes(pickle.dumps({"hub_token": "hf_" + "A1b2C3d4E5" * 3}))
    for name in ("run_settings.json", "trainer_state.json", "notes.md", "train.log", ".env"):
        (folder / name).write_text(json.dumps({"train_files": f"{HOME}/rows.jsonl", "mail": "ada@lovelace.name"}))
    (folder / "speed.json").write_text(json.dumps(SPEED))  # otherwise every push would measure it for its card
    (folder / "my_experiments.py").write_text(f"PATH = '{HOME}'\n")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "model.safetensors").write_bytes(b"old")
    return folder


def measure(folder: Path, value: float, sets: tuple[str, ...] = ("news", "mails"), name: str = "report") -> None:
    """Put a measurement beside a model, as `zeroshot evaluate --output` does."""
    command = f"zeroshot evaluate {HOME}/model --suite ../sets --rows 1500"
    write_report(folder / "evaluation" / f"{name}.json", build_result(value, sets), command=command, table="| a |")


def hash_folder(folder: Path) -> dict[str, str]:
    """Every file with its content's hash."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def find_private(files: dict[str, bytes]) -> list[str]:
    """Files in which something private stands."""
    return [name for name, content in files.items() if PRIVATE.search(content)]


def run_push(*words: object) -> None:
    """The command in this process."""
    run_command(push.main, [str(word) for word in words])


def fail_push(*words: object) -> str:
    """The command, which must end with an error that is returned."""
    with pytest.raises(SystemExit) as caught:
        run_push(*words)
    assert isinstance(caught.value.code, str)
    return caught.value.code


def stranger_script(lines: str) -> str:
    """A program that runs lines where the package is not installed, and prints logits and labels."""
    return (
        "import sys, json\n"
        f"sys.path = [path for path in sys.path if path not in ('', {str(ROOT)!r})]\n"
        "sys.meta_path = [one for one in sys.meta_path if 'editable' not in type(one).__module__ + repr(one)]\n"
        "try:\n    import zeroshot\n    sys.exit('the package must not be importable here')\n"
        "except ModuleNotFoundError:\n    pass\n"
        f"{lines}\n"
        "texts, labels = json.loads(sys.argv[1])\n"
        "first = globals().get('first', model).predict_logits(texts, labels).tolist()\n"
        "logits = model.predict_logits(texts, labels).tolist()\n"
        "ranked = [one['labels'] for one in classifier(texts, labels)]\n"
        "found = {'first': first, 'logits': logits, 'ranked': ranked, 'module': type(model).__module__}\n"
        "print('RESULT' + json.dumps(found))\n"
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """An empty Hub, to which this process is logged in as alice."""
    with HubServer() as running:
        running.patch(monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_STORED_TOKENS_PATH", str(tmp_path / "no tokens"))
        yield running


@pytest.fixture
def checkpoint(tmp_path: Path, encoder_dir: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint; that it loads in a clean process is left to the tests that are about it, as it takes ten seconds."""
    monkeypatch.setattr(publishing, "check_loading", lambda folder, staged: [])
    return build_checkpoint(tmp_path / "model", encoder_dir)
