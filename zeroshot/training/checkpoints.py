"""Checkpoints that a run can go on from: which are whole, and what is said when one cannot be written."""

import contextlib
import json
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainingArguments
from transformers.utils import logging

logger = logging.get_logger(__name__)

STATE_FILE = "trainer_state.json"


@contextlib.contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Say of an error in writing to `folder` what to do about it.

    Raises:
        OSError: Instead of whatever the writing library raised.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch writes through C++ streams, whose errors have no class of their own.
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in ("inline_container", "iostream")):
            raise
        if isinstance(error, OSError) and (error.errno is None or isinstance(error, ConnectionError)):
            raise  # a push that failed, or words that were found already
        raise OSError(
            f"Expected to write into {str(folder)!r}, found that it fails: {error}. Make room or mend the permissions there "
            "and give the same command again: it goes on from the last whole checkpoint. Or choose another --output_dir."
        ) from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to before any work goes into a run.

    Raises:
        OSError: If it, or the nearest folder above it, is none or does not allow it.
    """
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise OSError(
            f"Expected a folder that can be written to for {str(folder)!r}, found {str(nearest)!r}, which cannot. Mend its "
            "permissions, or choose another --output_dir."
        )


def _is_whole_file(path: Path) -> bool:
    """Whether a file can be read to its end: the writer of a torn one died."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # compares the header with the size of the file
                pass
        elif path.suffix in (".pt", ".pth"):
            return zipfile.is_zipfile(path)  # its directory is written last
    except (ValueError, SafetensorError):
        return False
    return True


def is_whole(folder: Path, processes: int = 1) -> bool:
    """Whether a checkpoint can be gone on from: no file is missing, none is torn.

    Args:
        folder: The checkpoint.
        processes: Of the run; each has a file of random states.
    """
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{number}.pth" for number in range(processes)]
    needed = ["model.safetensors", "optimizer.pt", "scheduler.pt", STATE_FILE, *states]
    return all((folder / name).is_file() for name in needed) and all(map(_is_whole_file, folder.iterdir()))


def find_last_checkpoint(folder: Path, processes: int = 1) -> str | None:
    """The newest checkpoint that is whole; one that was being written when the run died is passed over."""
    checkpoints = {int(path.name.split("-")[1]): path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()}
    for step in sorted(checkpoints, reverse=True):
        if is_whole(checkpoints[step], processes):
            return str(checkpoints[step])
        logger.warning(f"{checkpoints[step]} is not whole and is passed over.")
    return None


def has_ended(checkpoint: Path, args: TrainingArguments) -> bool:
    """Whether training had nothing left to do when a checkpoint was written: all steps done, or stopped early.

    transformers does one more step when it goes on from such a checkpoint.

    Args:
        checkpoint: Of a run.
        args: Of the run that goes on; with more steps or epochs than before there is something left.
    """
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    if args.max_steps > 0:
        same_length = args.max_steps == state["max_steps"]
    else:
        same_length = math.ceil(args.num_train_epochs) == state["num_train_epochs"]
    return same_length and state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]
