"""`zeroshot offsets`: texts without labels in, a file of label offsets for `zeroshot predict` out."""

import random
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..data.findings import count_things
from ..files import write_json
from ..models import ZeroShotPreTrainedModel
from ..models.inputs_zeroshot import check_batch_size
from ..models.offsets_zeroshot import LOGIT_OPTIONS
from ..models.options_zeroshot import read_options
from .call_options import read_labels
from .exported import load_checkpoint_or_export, move_to_device
from .index_files import fingerprint_vectors, read_json
from .text_files import check_fields, check_source, iterate_rows

logger = logging.get_logger(__name__)

DEFAULT_TEXTS = 2000  # beyond, nothing is gained (LOG.md, label offsets)
KEYS = ("label_offsets", "texts", "options", "model")


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call that change logits, defaults too, as JSON holds them."""
    wanted = read_options(dict(options))
    values = {name: getattr(wanted, name) for name in LOGIT_OPTIONS}
    template = values["hypothesis_template"]
    return {**values, "hypothesis_template": [template] if isinstance(template, str) else template}


def draw_texts(source: Path | None, count: int) -> list[str]:
    """Draw texts of a file evenly in bounded memory, the same at every call; rows without a text are counted and left out.

    Args:
        source: As for `zeroshot predict`.
        count: The most texts.

    Raises:
        FileNotFoundError: If `source` is not there.
        ValueError: If it cannot be read.
    """
    check_source(source)
    check_fields(source, None)
    drawn: list[str] = []
    generator, seen, left_out = random.Random(0), 0, 0
    for parse in iterate_rows(source):
        row = parse()
        if row is None or row.problem is not None:
            left_out += row is not None
            continue
        seen += 1
        if len(drawn) < count:
            drawn.append(row.fields["text"])
        elif (place := generator.randrange(seen)) < count:  # reservoir sampling: each row is as likely as any other
            drawn[place] = row.fields["text"]
    if left_out:
        logger.warning(f"{count_things(left_out, 'row')} without a text left out. zeroshot predict lists them with reasons.")
    return drawn


def write_offsets_file(
    path: Path, offsets: Mapping[str, float], model: ZeroShotPreTrainedModel, options: Mapping[str, Any], *, texts: int
) -> None:
    """Write offsets with what they hold for, in one step."""
    content = {
        "label_offsets": dict(offsets),
        "texts": texts,
        "options": describe_options(options),
        "model": fingerprint_vectors(model),
    }
    write_json(path, content, indent=2)


def _list_differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    return [name for name in expected if found.get(name) != expected[name]]


def read_offsets_file(path: Path, model: ZeroShotPreTrainedModel, options: Mapping[str, Any]) -> dict[str, float]:
    """Read what [`write_offsets_file`] wrote, for calls of this model with these options.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds for another model or other options.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a file of label offsets, found no file {str(path)!r}. Check the path, or write it with "
            "zeroshot offsets."
        )
    content = read_json(path, dict, mend="Run zeroshot offsets anew.")
    missing = [key for key in KEYS if key not in content]
    if missing or not all(isinstance(content[key], dict) for key in ("label_offsets", "options", "model")):
        raise ValueError(
            f"Expected what zeroshot offsets wrote in {str(path)!r}, found something else"
            f"{f' without {missing[0]!r}' if missing else ''}. Run zeroshot offsets anew."
        )
    if changed := _list_differences(content["model"], fingerprint_vectors(model)):
        raise ValueError(
            f"Expected label offsets of this model in {str(path)!r}, found those of another one ({' and '.join(changed)} "
            "differ). Run zeroshot offsets with this model."
        )
    if changed := _list_differences(content["options"], describe_options(options)):
        name = changed[0]
        raise ValueError(
            f"Expected label offsets for {name} {describe_options(options)[name]!r} in {str(path)!r}, found those for "
            f"{content['options'].get(name)!r}. Say the same to zeroshot offsets and zeroshot predict."
        )
    return content["label_offsets"]


def _format_extremes(offsets: Mapping[str, float]) -> str:
    ranked: Iterable[tuple[str, float]] = sorted(offsets.items(), key=lambda pair: pair[1])
    shown = [f"{name!r} {offset:+.2f}" for name, offset in ranked]
    down, up = shown[: min(3, len(shown) // 2)], shown[-min(3, len(shown) // 2) :]
    return f"Moved down most: {', '.join(down)}. Moved up most: {', '.join(reversed(up))}."


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
    """Estimate label offsets on texts of a file, write them, and return what to read.

    Args:
        model_name: Folder or Hub id of one of our checkpoints, or folder of an export.
        labels: See [`read_labels`].
        source: `.jsonl`, `.json`, `.csv`, `.parquet` or `.txt` as for `zeroshot predict`; standard input when None.
        target: JSON file to write.
        texts: The most texts that are read, drawn evenly from the file.
        batch_size: Texts per pass of the encoder.
        options: Those of the later calls that change logits.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If there are too few texts or labels, or the target is no `.json`.
    """
    check_batch_size(batch_size)
    if texts < 1:
        raise ValueError(f"Expected at least 1 text to read, found {texts}. Raise --texts.")
    if target.suffix.lower() != ".json" or target.is_dir():
        raise ValueError(f"Expected a .json file to write, found {str(target)!r}. Name it like offsets.json.")
    names = read_labels(labels)
    drawn = draw_texts(source, texts)
    model = move_to_device(load_checkpoint_or_export(model_name))
    estimated = model.estimate_label_offsets(
        drawn, names, batch_size=batch_size, show_progress_bar=sys.stderr.isatty(), **(options or {})
    )
    write_offsets_file(target, estimated, model, options or {}, texts=len(set(drawn)))
    return (
        f"Offsets of {len(estimated)} labels, estimated on {count_things(len(set(drawn)), 'different text')}, are in "
        f"{target}. {_format_extremes(estimated)}\nUse them: zeroshot predict ... --label_offsets {target}"
    )


def add_offsets(model: ZeroShotPreTrainedModel, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call with the offsets of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If they do not go with the model or the other options.
    """
    given = {**options, "label_offsets": read_offsets_file(path, model, options)}
    read_options(given)
    return given
