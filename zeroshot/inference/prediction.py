"""Classify the texts of a file, in input order and bounded memory."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm
from transformers.utils import logging

from ..models import ZeroShotPreTrainedModel

logger = logging.get_logger(__name__)

WINDOW = 4096  # texts that are sorted by length together


def read_texts(file: IO[bytes], suffix: str) -> Iterator[tuple[int, str | None, str]]:
    """Yield (line, text or None, problem) of a file of texts.

    Args:
        file: Opened for reading bytes.
        suffix: `.jsonl` (objects with `text`), `.csv` (a column `text`), anything else: one text a line.
    """
    if suffix == ".csv":
        lines = (line.decode("utf-8-sig") for line in file)
        reader = csv.DictReader(lines)
        if "text" not in (reader.fieldnames or ()):
            raise ValueError(
                f"Expected a column 'text', found {', '.join(reader.fieldnames or ())}. Name the column 'text'."
            )
        for row in reader:
            yield reader.line_num, *_check(row["text"])
        return
    for number, line in enumerate(file, start=1):
        try:
            content: Any = line.decode("utf-8-sig").rstrip("\r\n")
            if suffix == ".jsonl":
                row = json.loads(content)
                content = row.get("text") if isinstance(row, dict) else None
        except UnicodeDecodeError as error:
            yield number, None, f"Expected UTF-8, found the byte 0x{line[error.start]:02x}. Save the file as UTF-8."
        except json.JSONDecodeError as error:
            yield number, None, f"Expected JSON, found {error.msg} at column {error.colno}. Write the line anew."
        else:
            yield number, *_check(content)


def _check(content: Any) -> tuple[str | None, str]:
    if not isinstance(content, str):
        return None, f'Expected a text, found {type(content).__name__}. Write {{"text": "..."}}.'
    if not content.strip():
        return None, "Expected a text with words, found an empty one. Leave the line out."
    return content, ""


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

    Lines that hold no text are left out of the result, counted in the log, and listed with their reason in
    `<target>.rejected.jsonl` (in the log where the result goes to standard output).

    Args:
        model: The model.
        candidate_labels: Label names.
        source: The file of texts; standard input when None.
        target: The file of results, written in one step at the end; standard output when None.
        multi_label: Sigmoid instead of softmax.
        batch_size: Texts per pass of the encoder.

    Returns:
        How many texts were classified.

    Raises:
        FileNotFoundError: If `source` is not there.
        ValueError: If no line holds a text, or a label is not valid.
    """
    if source is not None and not source.is_file():
        raise FileNotFoundError(f"Expected a file of texts, found no file {str(source)!r}. Check the path.")
    temporary = None if target is None else target.with_name(target.name + ".tmp")
    done, rejected = 0, []
    with (
        nullcontext(sys.stdin.buffer) if source is None else source.open("rb") as file,
        nullcontext(sys.stdout) if temporary is None else temporary.open("w", encoding="utf-8") as out,
        tqdm(desc="Classifying", unit=" texts", disable=not sys.stderr.isatty()) as progress,
    ):
        rows = read_texts(file, "" if source is None else source.suffix)
        while window := list(islice(rows, WINDOW)):
            rejected += [{"row": line, "problem": problem} for line, text, problem in window if text is None]
            texts = [text for _, text, _ in window if text is not None]
            results = model.predict(texts, candidate_labels, multi_label=multi_label, batch_size=batch_size)
            for result in results:
                ranked = sorted(result["scores"].items(), key=lambda pair: -pair[1])
                labels, scores = zip(*ranked, strict=True)
                line = {"sequence": result["text"], "labels": labels, "scores": scores}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
            done += len(texts)
            progress.update(len(texts))
    if rejected:
        first = rejected[0]
        logger.warning(f"{len(rejected)} lines were left out; the first, line {first['row']}: {first['problem']}")
        if target is not None:
            listing = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rejected)
            target.with_name(target.name + ".rejected.jsonl").write_text(listing, encoding="utf-8")
    if temporary is not None and target is not None:
        temporary.replace(target)
    if not done:
        raise ValueError("Expected texts to classify, found none. Give one text a line, or rows with a field 'text'.")
    return done
