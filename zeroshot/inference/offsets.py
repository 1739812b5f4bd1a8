"""`zeroshot offsets`: texts without labels in, a file of label offsets for `zeroshot predict` out."""

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..data.findings import count_things
from ..files import write_json
from ..models import ZeroShotPreTrainedModel
from ..models.candidates_zeroshot import CandidateLabels, read_candidates
from ..models.inputs_zeroshot import TextError, check_batch_size
from ..models.options_zeroshot import read_options
from .call_options import read_labels
from .exported import load_checkpoint_or_export, move_to_device
from .file_run import NO_TEXTS
from .index_files import fingerprint_vectors, read_json
from .text_files import TextRow, check_fields, check_source, iterate_rows

logger = logging.get_logger(__name__)

DEFAULT_TEXTS = 2000  # beyond, nothing is gained (LOG.md, label offsets)
# Options that change logits: offsets hold for calls that say the same.
LOGIT_OPTIONS = ("multi_label", "hypothesis_template", "phrasing_reduction", "overflow", "overflow_pooling")
KEYS = ("label_offsets", "phrasings", "texts", "options", "model")
ANEW = "Run zeroshot offsets anew."


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call that change logits, defaults too, as JSON holds them."""
    wanted = read_options(dict(options))
    values = {name: getattr(wanted, name) for name in LOGIT_OPTIONS}
    template = values["hypothesis_template"]
    return {**values, "hypothesis_template": [template] if isinstance(template, str) else template}


def list_phrasings(labels: CandidateLabels) -> dict[str, list[str]]:
    """What is encoded of each label, by name."""
    candidates = read_candidates(labels)
    return {name: list(phrasings) for name, phrasings in zip(candidates.names, candidates.phrasings, strict=True)}


def draw_texts(source: Path | None, count: int) -> list[TextRow]:
    """Draw rows of a file evenly in bounded memory, the same at every call; rows without a text are counted and left out.

    Args:
        source: As for `zeroshot predict`.
        count: The most rows.

    Raises:
        FileNotFoundError: If `source` is not there.
        ValueError: If it cannot be read, or holds no text.
    """
    check_source(source)
    check_fields(source, None)
    drawn: list[TextRow] = []
    generator, seen, left_out = random.Random(0), 0, 0
    for parse in iterate_rows(source):
        row = parse()
        if row is None or row.problem is not None:
            left_out += row is not None
            continue
        seen += 1
        if len(drawn) < count:
            drawn.append(row)
        elif (place := generator.randrange(seen)) < count:  # reservoir sampling: each row is as likely as any other
            drawn[place] = row
    if left_out:
        logger.warning(f"{count_things(left_out, 'row')} without a text left out. zeroshot predict lists them with reasons.")
    if not drawn:
        raise ValueError(NO_TEXTS)
    return drawn


def check_target(path: Path) -> None:
    """Refuse to write over anything but such a file.

    Raises:
        ValueError: If `path` is no `.json`, or holds something else.
    """
    if path.is_dir():
        raise ValueError(f"Expected a .json file to write, found the folder {str(path)!r}. Name it like offsets.json.")
    if path.suffix.lower() != ".json":
        raise ValueError(f"Expected a .json file to write, found {str(path)!r}. Name it like offsets.json.")
    if not path.exists():
        return
    try:
        content = read_json(path, dict)
    except ValueError:
        content = {}
    if not all(key in content for key in KEYS):
        raise ValueError(
            f"Expected a new file, or one that zeroshot offsets wrote, found something else in {str(path)!r}, which would "
            "be lost. Choose another name."
        )


def _read_stored(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a file of label offsets, found no file {str(path)!r}. Check the path, or write it with "
            "zeroshot offsets."
        )
    content = read_json(path, dict, mend=ANEW)
    missing = [key for key in KEYS if key not in content]
    if missing or not all(isinstance(content[key], dict) for key in KEYS if key != "texts"):
        lacking = f" without {missing[0]!r}" if missing else ""
        raise ValueError(f"Expected what zeroshot offsets wrote in {str(path)!r}, found something else{lacking}. {ANEW}")
    return content


def read_offsets_file(
    path: Path, model: ZeroShotPreTrainedModel, labels: CandidateLabels, options: Mapping[str, Any]
) -> dict[str, float]:
    """Read what [`offsets_command`] wrote, for a call of this model with these labels and options.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds for another model, other options or labels that say something else.
    """
    stored = _read_stored(path)
    found = fingerprint_vectors(model)
    if changed := [part for part in found if stored["model"].get(part) != found[part]]:
        raise ValueError(
            f"Expected label offsets of this model in {str(path)!r}, found those of another one ({' and '.join(changed)} "
            "differ). Run zeroshot offsets with this model."
        )
    for name, value in describe_options(options).items():
        if stored["options"].get(name) != value:
            raise ValueError(
                f"Expected label offsets for {name} {value!r} in {str(path)!r}, found those for "
                f"{stored['options'].get(name)!r}. Say the same to zeroshot offsets and zeroshot predict."
            )
    for name, phrasings in list_phrasings(labels).items():
        if name in stored["phrasings"] and stored["phrasings"][name] != phrasings:
            raise ValueError(
                f"Expected label offsets for {name!r} described as {phrasings} in {str(path)!r}, found it described as "
                f"{stored['phrasings'][name]}. {ANEW}"
            )
    return stored["label_offsets"]


def _format_extremes(offsets: Mapping[str, float]) -> str:
    ranked = sorted(offsets.items(), key=lambda pair: pair[1])
    down, up = (
        ", ".join(f"{name!r} {offset:+.2f}" for name, offset in some[:3])
        for some in ([one for one in ranked if one[1] < 0], [one for one in ranked[::-1] if one[1] > 0])
    )
    return f"Moved down most: {down or 'none'}. Moved up most: {up or 'none'}."


def offsets_command(
    model_name: str,
    labels: str,
    source: Path | None,
    target: Path,
    *,
    texts: int = DEFAULT_TEXTS,
    batch_size: int = 64,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Estimate label offsets on texts of a file, write them with what they hold for, and return what to read.

    Args:
        model_name: Folder or Hub id of one of our checkpoints, or folder of an export.
        labels: See [`read_labels`].
        source: `.jsonl`, `.json`, `.csv`, `.parquet` or `.txt` as for `zeroshot predict`; standard input when None.
        target: JSON file to write.
        texts: The most rows whose texts are read, drawn evenly from the file.
        batch_size: Texts per pass of the encoder.
        options: Those of the later calls that change logits.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If there are too few texts or labels, a text is too long and may not be, or the target holds something
            else.
    """
    check_batch_size(batch_size)
    if texts < 1:
        raise ValueError(f"Expected at least 1 text to read, found {texts}. Raise --texts.")
    check_target(target)
    names = read_labels(labels)
    drawn = draw_texts(source, texts)
    contents = [row.fields["text"] for row in drawn]
    model = move_to_device(load_checkpoint_or_export(model_name))
    try:
        estimated = model.estimate_label_offsets(
            contents, names, batch_size=batch_size, show_progress_bar=sys.stderr.isatty(), **(options or {})
        )
    except TextError as error:
        raise ValueError(error.tell(f"in line {drawn[error.position].number}")) from error
    different = len(set(contents))
    content = {
        "label_offsets": estimated,
        "phrasings": list_phrasings(names),
        "texts": different,
        "options": describe_options(options or {}),
        "model": fingerprint_vectors(model),
    }
    write_json(target, content, indent=2)
    return (
        f"Offsets of {len(estimated)} labels, estimated on {count_things(different, 'different text')}, are in {target}. "
        f"{_format_extremes(estimated)}\nUse them: zeroshot predict ... --label_offsets {target}"
    )


def add_offsets(
    model: ZeroShotPreTrainedModel, path: Path, labels: CandidateLabels, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a call with the offsets of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If they do not go with the model, the labels or the other options.
    """
    given = {**options, "label_offsets": read_offsets_file(path, model, labels, options)}
    read_options(given)
    return given
