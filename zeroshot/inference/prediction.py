"""Classify the texts of a file, in input order; lines and JSON Lines in bounded memory."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm
from transformers.utils import logging

from ..data.reading import SUFFIXES, RawRow, iterate_lines, iterate_raw_rows, parse_json
from ..models import ZeroShotPreTrainedModel
from ..models.inputs_zeroshot import HALF_CHARACTER, check_batch_size

logger = logging.get_logger(__name__)

WINDOW = 4096  # texts that are sorted by length together
LINE_SUFFIXES = (".txt", "")


def _find_problem(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"Expected a text, found {type(text).__name__}. Write one into the field or column 'text'."
    if not text.strip():
        return "Expected a text with words, found an empty one. Leave the line out."
    if HALF_CHARACTER.search(text):
        return "Expected valid Unicode, found half a surrogate pair. Write the line anew."
    return None


def _take_text(row: RawRow) -> RawRow:
    try:
        found = parse_json(row["content"])
    except ValueError as error:
        return {**row, "problem": f"Expected JSON, found {error}. Write the line anew."}
    if not isinstance(found, dict):
        return {**row, "problem": f'Expected an object, found {type(found).__name__}. Write {{"text": "..."}}.'}
    problem = _find_problem(found.get("text"))
    return {**row, "content": found["text"]} if problem is None else {**row, "problem": problem}


def _read_texts(source: Path | None) -> Iterator[RawRow]:
    """Yield rows whose content is a text; where there is a problem, the content is what was found."""
    if source is not None and source.suffix.lower() not in LINE_SUFFIXES:
        for row in iterate_raw_rows(source, list_columns=()):
            yield row if row["problem"] else _take_text(row)
        return
    with nullcontext(sys.stdin.buffer) if source is None else source.open("rb") as file:
        for row in iterate_lines(file):
            yield row if row["problem"] else {**row, "problem": _find_problem(row["content"])}


def _keep_texts(rows: Iterable[RawRow], listing: IO[str] | None) -> Iterator[str]:
    """Yield the texts; write rows without one to `listing`, or to the log where there is none, and say how many."""
    count, first = 0, ""
    for row in rows:
        if row["problem"] is None:
            yield row["content"]
            continue
        problem = f"line {row['row']}: {row['problem']}"
        if listing is None:
            logger.warning(problem)
        else:
            listing.write(json.dumps(row, ensure_ascii=False) + "\n")
        count, first = count + 1, first or problem
    if count:
        logger.warning(f"{count} lines were left out; the first, {first}")


def _to_line(result: dict) -> str:
    labels, scores = zip(*sorted(result["scores"].items(), key=lambda pair: -pair[1]), strict=True)
    return json.dumps({"sequence": result["text"], "labels": labels, "scores": scores}, ensure_ascii=False) + "\n"


@contextmanager
def _replace_file(target: Path | None) -> Iterator[IO[str] | None]:
    """Open a file that takes the place of `target` if all goes well; if nothing is written to it, `target` is removed."""
    if target is None:
        yield None
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
        if temporary.stat().st_size:
            temporary.replace(target)
        else:
            target.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)


def _check_paths(source: Path | None, target: Path | None) -> None:
    if source is not None and not source.is_file():
        raise FileNotFoundError(f"Expected a file of texts, found no file {str(source)!r}. Check the path.")
    if source is not None and source.suffix.lower() not in (*LINE_SUFFIXES, *SUFFIXES):
        raise ValueError(
            f"Expected a file of texts (.txt, {', '.join(SUFFIXES)}), found {str(source)!r}. Convert it, or give one text "
            "a line on standard input."
        )
    if target is None or not target.exists():
        return
    if not target.is_file() or (source is not None and target.samefile(source)):
        found = "the file of texts itself" if target.is_file() else "something that is no file"
        raise ValueError(f"Expected a place for the result, found {found}, {str(target)!r}. Choose another name.")


def predict_file(
    model: ZeroShotPreTrainedModel,
    candidate_labels: Sequence[str],
    source: Path | None,
    target: Path | None,
    *,
    multi_label: bool = False,
    batch_size: int = 64,
) -> int:
    """Write one JSON line `{"sequence", "labels", "scores"}` per text, labels by falling score.

    Lines that hold no text are left out of the result, counted in the log, and listed as `{"row", "content", "problem"}`
    in `<target>.rejected.jsonl` (in the log where the result goes to standard output).

    Args:
        model: The model.
        candidate_labels: Label names.
        source: `.jsonl`, `.json` or `.parquet` with a field `text`, `.csv` with a column `text`, `.txt` or no ending for
            one text a line; standard input, one text a line, when None.
        target: The file of results, written in one step at the end; standard output when None.
        multi_label: Sigmoid instead of softmax.
        batch_size: Texts per pass of the encoder.

    Returns:
        How many texts were classified.

    Raises:
        FileNotFoundError: If `source` is not there.
        ValueError: If `source` cannot be read or holds no text, `target` cannot be written, or a label is not valid.
    """
    check_batch_size(batch_size)
    return classify_file(
        lambda texts: model.predict(texts, candidate_labels, multi_label=multi_label, batch_size=batch_size), source, target
    )


def classify_file(classify: Callable[[list[str]], list[dict]], source: Path | None, target: Path | None) -> int:
    """As [`predict_file`], with anything that classifies texts as `predict` does."""
    _check_paths(source, target)
    done = 0
    with _replace_file(target) as file, tqdm(desc="Classifying", unit=" texts", disable=not sys.stderr.isatty()) as progress:
        with _replace_file(target and target.with_name(target.name + ".rejected.jsonl")) as listing:
            texts = _keep_texts(_read_texts(source), listing)
            while window := list(islice(texts, WINDOW)):
                for result in classify(window):
                    (file or sys.stdout).write(_to_line(result))
                done += len(window)
                progress.update(len(window))
        if not done:
            raise ValueError("Expected texts to classify, found none. Give one text a line, or rows with a field 'text'.")
    return done
