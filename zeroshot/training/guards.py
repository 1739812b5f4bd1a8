"""What stops a run before it spoils itself: a loss that is no number or explodes, a gradient that is no number.

Weights are changed by neither: the run stops before the optimizer's step, and the batch is written down.
"""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import TrainerState

from ..data import TrainingDataset
from ..data.expansion import TrainingExample
from ..files import write_json
from .checkpoints import explain_write_errors

FAILED_BATCH_FILE = "failed_batch.json"
ROWS = "example_positions"  # what travels with a batch until the training step
WINDOW = 100  # losses of which the median is taken
FLOOR = 0.1  # least median: near 0 one hard batch is many times what is usual
SHOWN_CHARACTERS = 200


def trace_examples(examples: Sequence[TrainingExample], classes: Sequence[str]) -> dict[str, torch.Tensor]:
    """Note in a batch which examples it holds: their positions in the data set, (B,) int64."""
    return {ROWS: torch.tensor([int(example["draw"].split("-")[2]) for example in examples])}


class StepGuard:
    """Judge every step's loss and gradient.

    Args:
        dataset: Whose examples the batches hold.
        folder: Where [`FAILED_BATCH_FILE`] goes.
        max_ratio: A loss above this many times the median of the last [`WINDOW`] ones, or of [`FLOOR`], is an explosion;
            None lets every finite loss pass.
        first_steps: Steps before the first such comparison; after a resume they are counted anew.
    """

    def __init__(self, dataset: TrainingDataset, folder: Path, max_ratio: float | None, first_steps: int):
        self.dataset = dataset
        self.folder = folder
        self.max_ratio = max_ratio
        self.first_steps = first_steps
        self.seen = 0
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.batch: list[int] = []  # examples since the last step of the optimizer

    def start_step(self) -> None:
        """Forget the batches of the step before."""
        self.batch = []

    def check_loss(self, loss: float, examples: Sequence[int], state: TrainerState) -> None:
        """Judge the loss of a batch, of which `examples` are the positions.

        Raises:
            ValueError: If it is no number, or so high that training has gone astray.
        """
        self.batch.extend(examples)
        if not math.isfinite(loss):
            raise self._fail("a finite loss", f"{loss}", state, loss, None)
        if self.max_ratio is not None and self.seen >= self.first_steps:
            usual = max(statistics.median(self.losses), FLOOR)
            if loss > self.max_ratio * usual:
                raise self._fail(
                    f"a loss of at most {self.max_ratio:g} times the usual {usual:.4g} (max_loss_ratio)",
                    f"{loss:.4g}",
                    state,
                    loss,
                    None,
                )
        self.seen += 1
        self.losses.append(loss)

    def check_gradient(self, norm: float, state: TrainerState) -> None:
        """Judge the norm of a step's gradient.

        Raises:
            ValueError: If it is no number.
        """
        if not math.isfinite(norm):
            raise self._fail("a finite gradient", f"a norm of {norm}", state, self.losses[-1], norm)

    def _fail(self, expected: str, found: str, state: TrainerState, loss: float, norm: float | None) -> ValueError:
        step = state.global_step + 1
        record = {
            "step": step,
            "epoch": state.epoch,
            "loss": str(loss) if not math.isfinite(loss) else loss,
            "gradient_norm": str(norm) if norm is not None and not math.isfinite(norm) else norm,
            "rows": [self._describe_row(position) for position in self.batch],
        }
        file = self.folder / FAILED_BATCH_FILE
        with explain_write_errors(self.folder):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, record)
        return ValueError(
            f"Expected {expected}, found {found} at step {step}. The weights are those before this step, checkpoints "
            f"are untouched; look at the rows of {file}, lower learning_rate, or set max_grad_norm."
        )

    def _describe_row(self, position: int) -> dict[str, Any]:
        row = self.dataset.rows[position]
        return {
            "example": position,
            "source": row["source"],
            "text": row["text"][:SHOWN_CHARACTERS],
            "labels": row["labels"],
            "negatives": row["negatives"],
        }
