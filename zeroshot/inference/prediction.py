"""Classify the texts of a file in bounded memory, by one process or many, as often interrupted as may be."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from tqdm.auto import tqdm
from transformers.utils import logging

from ..models import ZeroShotPreTrainedModel
from ..models.candidates_zeroshot import CandidateLabels, read_candidates
from ..models.inputs_zeroshot import check_batch_size
from .file_run import NO_TEXTS, Classify, FileRun, classify_rows, sort_out
from .index_files import fingerprint_scores
from .parts import Basis, Manifest, PartFolder, Processes, Session, find_processes
from .result_files import JsonLinesWriter, Record, Rejections, check_nested, check_target
from .text_files import PartReader, check_fields, check_source, iterate_rows, read_file_facts

logger = logging.get_logger(__name__)

Engine = Literal["local", "ray"]
DoParts = Callable[[FileRun], None]
WINDOW = 4096  # rows that are sorted by length together, and the most that a run which is killed does again
SCORES = 2**20  # of such rows: with many labels they are fewer


def count_window_rows(num_labels: int) -> int:
    """Rows that are classified together: fewer with more than 256 labels (or phrasings of them), for the scores' memory."""
    return min(WINDOW, max(64, SCORES // max(num_labels, 1)))


def predict_file(
    model: ZeroShotPreTrainedModel,
    candidate_labels: CandidateLabels,
    source: str | Path | None,
    target: str | Path | None,
    *,
    multi_label: bool = False,
    batch_size: int = 64,
    options: Mapping[str, Any] | None = None,
    keep_fields: Sequence[str] | None = None,
    engine: Engine = "local",
) -> int:
    """Write a row `{"sequence", "labels", "scores", ...}` per text, labels by falling score, fields of the input behind.

    Lines that hold no text are left out of the result, counted in the log, and listed as `{"row", "content", "problem"}`
    in `<target>.rejected.jsonl` (in the log where the result goes to standard output). From a file to a file, a run that
    was killed goes on when it is called again, and the processes of accelerate or torchrun share the work.

    Args:
        model: The model.
        candidate_labels: Label names, or another form of [`read_candidates`].
        source: `.jsonl`, `.json`, `.csv` or `.parquet` with a field `text`; `.txt`, no ending, or standard input when None:
            one text a line.
        target: `.csv`, `.parquet` or JSON Lines, put in place in one step at the end; standard output when None.
        multi_label: Sigmoid instead of softmax.
        batch_size: Texts per pass of the encoder.
        options: Further arguments of `model.predict`, such as JSON can hold.
        keep_fields: Fields of the input to keep; when None all but `text`, which is the `sequence` of the result. One that
            is called as one of the result is kept as `input_<name>`.
        engine: `ray` lets the workers of Ray Data do the work.

    Returns:
        How many texts were classified; in other processes than the first, 0.

    Raises:
        FileNotFoundError: If `source` is not there.
        ValueError: If `source` cannot be read or holds no text, `target` cannot be written or was begun with something
            else, or a label is not valid.
        ImportError: If `engine` is `ray` and Ray is not installed.
    """
    check_batch_size(batch_size)
    source, target = (None if path is None else Path(path) for path in (source, target))
    check_nested(target, options or {})
    check_ways(source, target, engine)
    settings = {"multi_label": multi_label, "batch_size": batch_size, **(options or {})}
    part_rows = count_window_rows(sum(map(len, read_candidates(candidate_labels).phrasings)))
    classify = partial(model.predict, candidate_labels=candidate_labels, **settings)
    with model.keep_encoded_labels():
        if source is None or target is None:
            return classify_file(classify, source, target, keep_fields=keep_fields, part_rows=part_rows)
        basis: Basis = {"model": fingerprint_scores(model), "labels": candidate_labels, "options": settings}
        do_parts: DoParts | None = None
        if engine == "ray":
            from .ray_engine import classify_with_ray

            do_parts = partial(classify_with_ray, model=model, candidate_labels=candidate_labels, settings=settings)
        return classify_in_parts(
            classify, source, target, basis, keep_fields=keep_fields, part_rows=part_rows, do_parts=do_parts
        )


def check_ways(source: Path | None, target: Path | None, engine: Engine = "local") -> None:
    """Raise an error if the processes that were launched, or the engine, cannot do the work from there to there."""
    processes = find_processes()
    if engine not in get_args(Engine):
        raise ValueError(f"Expected one of the engines {', '.join(get_args(Engine))}, found {engine!r}. Choose one.")
    if engine == "ray" and processes.count > 1:
        raise ValueError(
            f"Expected one process with the engine ray, found {processes.count} (WORLD_SIZE). Leave the launcher out."
        )
    if (source is None or target is None) and (processes.count > 1 or engine == "ray"):
        raise ValueError(
            "Expected a file of texts and a file of results for several processes, found standard "
            f"{'input' if source is None else 'output'}. Name both files."
        )


def _plan_run(
    source: Path, target: Path, folder: PartFolder, keep: Sequence[str] | None, part_rows: int
) -> tuple[FileRun, str]:
    check_source(source)
    check_target(target, source)
    columns, facts = check_fields(source, keep), read_file_facts(source)
    return FileRun(source, target, folder, keep, columns, facts.rows, part_rows), facts.digest


def _classify_parts(run: FileRun, classify: Classify, processes: Processes) -> None:
    missing = [index for index in run.folder.list_missing(run.parts) if index % processes.count == processes.rank]
    reader = PartReader(run.source, run.part_rows)
    silent = not sys.stderr.isatty() or processes.rank > 0
    with tqdm(total=run.count_rows(missing), desc="Classifying", unit=" texts", disable=silent) as progress:
        for index in missing:
            progress.update(run.classify_part(index, reader, classify))


@contextmanager
def _tidy(run: FileRun) -> Iterator[None]:
    """Where there is nothing to go on with, such as after a call that was refused, leave no folder."""
    try:
        yield
    finally:
        if len(run.folder.list_missing(run.parts)) == run.parts > 0:
            run.folder.remove()


def _finish(run: FileRun) -> int:
    """Join the parts and remove them, also where they hold no text."""
    try:
        done = run.join()
    except ValueError as error:
        if str(error) == NO_TEXTS:
            run.folder.remove()
        raise
    run.folder.remove()
    return done


def classify_in_parts(
    classify: Classify,
    source: Path,
    target: Path,
    basis: Basis,
    *,
    keep_fields: Sequence[str] | None = None,
    part_rows: int | None = None,
    do_parts: DoParts | None = None,
) -> int:
    """As [`classify_file`], but a run that was killed goes on, and the processes of a launcher share the work.

    Args:
        classify: Classifies as `predict` does.
        source: See [`predict_file`].
        target: See [`predict_file`].
        basis: What `classify` depends on; parts of another run with another basis are refused.
        keep_fields: See [`predict_file`].
        part_rows: Rows of a part; `WINDOW` when left out.
        do_parts: Does the parts that are missing, in place of this process.
    """
    part_rows = part_rows or WINDOW
    processes, folder = find_processes(), PartFolder(target.with_name(target.name + ".parts"))
    run, digest = _plan_run(source, target, folder, keep_fields, part_rows)
    manifest: Manifest = {**basis, "fields": keep_fields, "input": digest, "part_rows": part_rows}
    folder.check_or_begin(manifest, may_begin=processes.rank == 0)
    if processes.count == 1:
        with _tidy(run):
            if do_parts is not None:
                do_parts(run)
            else:
                _classify_parts(run, classify, processes)
        return _finish(run)
    session = Session(folder, processes)
    session.begin()
    folder.check_or_begin(manifest, may_begin=False)  # what the first process began
    _classify_parts(run, classify, processes)
    if processes.rank > 0:
        session.wait_for_result()
        return 0
    session.wait_for_others()
    return _finish(run)


def _stream(
    classify: Classify, source: Path | None, keep: Sequence[str] | None, rejections: Rejections, window: int
) -> Iterator[list[Record]]:
    rows = iterate_rows(source)
    while parsers := list(islice(rows, window)):
        parsed = [row for parse in parsers if (row := parse()) is not None]
        yield sort_out(parsed, classify_rows(parsed, classify), keep, rejections)


def classify_file(
    classify: Classify,
    source: Path | None,
    target: Path | None,
    *,
    keep_fields: Sequence[str] | None = None,
    part_rows: int | None = None,
) -> int:
    """As [`predict_file`], in one process and always from the start, with anything that classifies as `predict` does."""
    check_source(source)
    check_target(target, source)
    check_fields(source, keep_fields)
    part_rows = part_rows or WINDOW
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            if source is None:
                source = Path(scratch) / "input.txt"
                with source.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
            run, _ = _plan_run(source, target, PartFolder(Path(scratch) / "parts"), keep_fields, part_rows)
            _classify_parts(run, classify, Processes(0, 1))
            return run.join()
    done, writer, rejections = 0, JsonLinesWriter(sys.stdout), Rejections(None, logger.warning)
    with tqdm(desc="Classifying", unit=" texts", disable=not sys.stderr.isatty()) as progress:
        for records in _stream(classify, source, keep_fields, rejections, part_rows):
            writer.write(records)
            done += len(records)
            progress.update(len(records))
    if rejections.count:
        logger.warning(rejections.describe())
    if not done:
        raise ValueError(NO_TEXTS)
    return done
