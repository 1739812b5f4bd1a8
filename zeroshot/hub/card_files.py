"""A card as files: README.md, the speed that it shows, and its plots where matplotlib is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..files import write_json, write_text
from ..models.loading import load_model
from ..training.watching import CURVE_FILE, draw_curve
from . import DEFAULT_LICENCE
from .card import build_model_card
from .measurements import record_speed
from .run_files import CALIBRATION_PLOT, SPEED_FILE, RunFiles, read_run_files

logger = logging.get_logger(__name__)


def draw_calibration(calibration: Mapping[str, Any], path: Path) -> bool:
    """Plot the share of labels that hold over their mean score, beside the diagonal of perfect scores.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.plot(*zip(*((one["confidence"], one["accuracy"]) for one in calibration["bins"]), strict=True), marker="o")
    axes.set(xlabel="mean score", ylabel="share that holds", xlim=(0, 1), ylim=(0, 1))
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    return True


def _draw_plots(files: RunFiles) -> list[Path]:
    """Draw what is not there yet; returns what was drawn."""
    curve, calibration = files.folder / CURVE_FILE, files.folder / CALIBRATION_PLOT
    try:
        drawn = [curve] if not curve.is_file() and draw_curve(files.history, curve) else []
        if files.calibration is not None and not calibration.is_file() and draw_calibration(files.calibration, calibration):
            drawn.append(calibration)
    except ImportError:
        logger.warning('Without matplotlib (pip install "zeroshot[data]") the card has tables and no plots.')
        return []
    return drawn


def write_model_card(
    folder: Path, repo_id: str, *, licence: str = DEFAULT_LICENCE, output: Path | None = None
) -> list[Path]:
    """Write the card of a checkpoint.

    Args:
        folder: The checkpoint.
        repo_id: Where it will be on the Hub, `user/name`.
        licence: Of the weights.
        output: Where the card goes, then nothing else is written; when left out, `README.md` in the folder, with
            `speed.json` and the plots beside it unless they are there already.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
        ValueError: See [`build_model_card`].
    """
    if output is not None:
        write_text(output, build_model_card(folder, repo_id, licence=licence))
        return [output]
    files = read_run_files(folder)
    written = []
    if files.speed is None:
        write_json(folder / SPEED_FILE, record_speed(load_model(str(folder))))
        written.append(folder / SPEED_FILE)
    written += _draw_plots(files)
    write_text(folder / "README.md", build_model_card(folder, repo_id, licence=licence))
    return [*written, folder / "README.md"]
