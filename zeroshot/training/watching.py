"""What can be seen of a run while it goes: a table and a curve in its folder, texts per second, the progress bar."""

import contextlib
import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback
from transformers.utils import logging

from ..files import replace_file
from .checkpoints import explain_write_errors

logger = logging.get_logger(__name__)

LOG_FILE = "training_log.csv"
CURVE_FILE = "training_curve.png"
SECONDS_BETWEEN_CURVES = 60.0
FIRST_COLUMNS = ("step", "epoch", "loss", "grad_norm", "learning_rate", "texts_per_second")
Entry = dict[str, Any]


class Clock(TrainerCallback):
    """Texts per second of training itself, collating included: evaluating, saving, mining and asking a teacher, which come
    between two steps, do not count. Full batches are assumed.
    """

    def __init__(self):
        self.seconds = 0.0
        self.steps = 0
        self.mark: float | None = None

    def take_speed(self, texts_per_step: int) -> float | None:
        """Texts per second since the last call, None where there was no step."""
        speed = self.steps * texts_per_step / self.seconds if self.steps else None
        self.seconds, self.steps = 0.0, 0
        return speed

    @contextlib.contextmanager
    def count(self) -> Iterator[None]:
        """Count the time of what is done inside, which belongs to a step and comes before it."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def on_step_begin(self, args, state, control, **kwargs):
        """Start."""
        self.mark = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        """Count the step."""
        if self.mark is not None:
            self.seconds += time.perf_counter() - self.mark
            self.steps += 1


class BarCallback(ProgressCallback):
    """The Trainer's progress bar with the last loss and speed beside it."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Called with every line of the log."""
        super().on_log(args, state, control, logs=logs, **kwargs)
        if self.training_bar is not None and "loss" in logs and "texts_per_second" in logs:
            self.training_bar.set_postfix({"loss": f"{logs['loss']:.4g}", "texts/s": f"{logs['texts_per_second']:.0f}"})


def _list_columns(history: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys([*FIRST_COLUMNS, *(name for entry in history for name in entry)]))


def write_log(history: Sequence[Entry], file: Path) -> list[str]:
    """Write the Trainer's log as a table and return its columns; a line of the log is a row."""
    columns = _list_columns(history)
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(history)
    return columns


def draw_curve(history: Sequence[Entry], file: Path) -> bool:
    """Draw the losses and every other measured value over the steps; nothing where there are fewer than two losses.

    Returns:
        Whether a file was written.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # without pyplot: no window, no state of the process

    trained = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    if len(trained) < 2:
        return False
    lines = {"training": trained}
    measured: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if name.startswith("eval_") and name.endswith("_loss"):
                lines.setdefault(name.removesuffix("_loss"), []).append((entry["step"], value))
            elif name.startswith("eval_") and not name.endswith(("_runtime", "_per_second")):
                measured.setdefault(name, []).append((entry["step"], value))
    figure = Figure(figsize=(11, 4.5) if measured else (6.5, 4.5), layout="constrained")
    panels = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
    for axes, curves, title in zip(panels, (lines, measured), ("Loss", "Measured"), strict=False):
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(title=title, xlabel="step")
        axes.legend(fontsize=7)
    with replace_file(file) as partial:
        figure.savefig(partial, dpi=120, format="png")
    return True


class LogCallback(TrainerCallback):
    """Keep [`LOG_FILE`] and [`CURVE_FILE`] in the run's folder up to date, whatever `report_to` says.

    The table grows with every line of the log, the curve is drawn once a minute and at the end. A run that goes on from a
    checkpoint begins with the lines that led to it.
    """

    def __init__(self):
        self.columns: list[str] = []
        self.drawn = time.monotonic()
        self.can_draw = True

    def on_train_begin(self, args, state, control, **kwargs):
        """Begin the table anew, with what the checkpoint knows."""
        if self._is_wanted(state):
            with explain_write_errors(Path(args.output_dir)):
                Path(args.output_dir).mkdir(parents=True, exist_ok=True)
                self.columns = write_log(state.log_history, Path(args.output_dir) / LOG_FILE)

    def on_log(self, args, state, control, **kwargs):
        """Add the newest line."""
        if not self._is_wanted(state) or not self.columns:
            return
        file = Path(args.output_dir) / LOG_FILE
        with explain_write_errors(file.parent):
            if any(name not in self.columns for name in state.log_history[-1]):
                self.columns = write_log(state.log_history, file)  # a column more, such as the first evaluation's
            else:
                with file.open("a", encoding="utf-8", newline="") as opened:
                    csv.DictWriter(opened, self.columns).writerow(state.log_history[-1])
        if time.monotonic() - self.drawn > SECONDS_BETWEEN_CURVES:
            self._draw(args.output_dir, state.log_history)

    def on_train_end(self, args, state, control, **kwargs):
        """Draw the whole curve."""
        if self._is_wanted(state):
            self._draw(args.output_dir, state.log_history)

    def _is_wanted(self, state) -> bool:
        return state.is_world_process_zero and not state.is_hyper_param_search

    def _draw(self, folder: str, history: list[Entry]) -> None:
        self.drawn = time.monotonic()
        if not self.can_draw:
            return
        try:
            with explain_write_errors(Path(folder)):
                draw_curve(history, Path(folder) / CURVE_FILE)
        except ImportError:
            self.can_draw = False
            logger.warning(f'No {CURVE_FILE}: matplotlib is not installed (pip install "zeroshot[data]").')
