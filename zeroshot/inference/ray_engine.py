"""The parts of a prediction on the workers of Ray Data; they see the same files, for instance on a shared disk."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import numpy
from tqdm.auto import tqdm

from ..models import ZeroShotPreTrainedModel
from ..models.candidates_zeroshot import CandidateLabels
from .exported import ExportedEncoder, move_to_device
from .file_run import FileRun
from .foreign_lines import hide_foreign_lines
from .text_files import PartReader


class PartWorker:
    """Classifies parts, with a model of its own.

    Args:
        run: What is to be done.
        model: The model; Ray hands each worker a copy.
        candidate_labels: Label names.
        settings: Further arguments of `predict`.
    """

    def __init__(
        self, run: FileRun, model: ZeroShotPreTrainedModel, candidate_labels: CandidateLabels, settings: Mapping[str, Any]
    ):
        self._run, self._labels, self._settings = run, candidate_labels, settings
        self._model = move_to_device(model)
        self._reader = PartReader(run.source, run.part_rows)

    def _classify(self, texts: list[str]) -> list[dict]:
        return self._model.predict(texts, self._labels, **self._settings)

    def __call__(self, batch: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        """Classify the parts `part`; how many rows they had stands in `rows`."""
        with self._model.keep_encoded_labels():
            rows = [self._run.classify_part(int(index), self._reader, self._classify) for index in batch["part"]]
        return {"part": batch["part"], "rows": numpy.array(rows)}


def classify_with_ray(
    run: FileRun, model: ZeroShotPreTrainedModel, candidate_labels: CandidateLabels, settings: Mapping[str, Any]
) -> None:
    """Have all parts that are missing classified: one worker a GPU, or a CPU where the cluster has no GPU.

    A cluster is found as Ray finds it (`RAY_ADDRESS`); otherwise Ray is started on this machine.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If the model is an exported one.
    """
    if isinstance(model.encoder, ExportedEncoder):
        raise ValueError(
            "Expected a checkpoint with the engine ray, found an exported model, whose graphs stay in the process that "
            "loaded them. Leave the engine out, or name the checkpoint that it was exported from."
        )
    try:
        import ray.data  # here, since it sets levels of its log lines
    except ImportError as error:
        raise ImportError(
            'Expected Ray for the engine ray, found it not installed. Install it: pip install "zeroshot[ray]".'
        ) from error
    missing = run.folder.list_missing(run.parts)
    if not missing:
        return
    with hide_foreign_lines("ray", "ray.data"):
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.getLogger("ray").level)
        ray.data.DataContext.get_current().enable_progress_bars = False  # ours is below
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        workers = min(len(missing), gpus or int(resources["CPU"]))
        done = ray.data.from_items([{"part": index} for index in missing], override_num_blocks=len(missing)).map_batches(
            PartWorker,
            fn_constructor_args=(run, model, candidate_labels, settings),
            batch_size=1,
            num_gpus=1 if gpus else None,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        silent = not sys.stderr.isatty()
        with tqdm(total=run.count_rows(missing), desc="Classifying", unit=" texts", disable=silent) as progress:
            for row in done.iter_rows():
                progress.update(int(row["rows"]))
