"""`zeroshot predict`, `zeroshot index` and `zeroshot search`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..models.inputs_zeroshot import check_batch_size
from .call_options import read_labels
from .exported import load_checkpoint_or_export, move_to_device
from .label_index import LABELS_FILE, SETTINGS_FILE, LabelIndex, check_top_k
from .offsets import add_offsets
from .parts import Basis
from .prediction import Engine, check_ways, classify_file, classify_in_parts, count_window_rows, predict_file
from .result_files import check_nested
from .stores import FAISS_FILE, FEATURES_FILE

logger = logging.get_logger(__name__)

INDEX_FILES = (SETTINGS_FILE, LABELS_FILE, FEATURES_FILE, FAISS_FILE)


def read_names(words: str) -> list[str]:
    """Read labels that have nothing but their names, in the forms of [`read_labels`].

    Raises:
        FileNotFoundError: As [`read_labels`].
        TypeError: As [`read_labels`].
        ValueError: As [`read_labels`]; and if they are an object with descriptions, phrasings or a hierarchy.
    """
    labels = read_labels(words)
    if isinstance(labels, Mapping):
        raise ValueError(
            f"Expected names alone for an index, found an object in {words!r}. Write a list of names, or say more of them "
            "with zeroshot predict."
        )
    return list(labels)


def predict_command(
    model_name: str,
    labels: str,
    source: Path | None,
    target: Path | None,
    *,
    batch_size: int = 64,
    keep_fields: Sequence[str] | None = None,
    engine: Engine = "local",
    options: Mapping[str, Any] | None = None,
    label_offsets: Path | None = None,
) -> int:
    """Classify the texts of a file, each process on a GPU of its own where there are some.

    Args:
        model_name: Folder or Hub id of one of our checkpoints, or folder of an export.
        labels: See [`read_labels`].
        source: See [`predict_file`].
        target: See [`predict_file`].
        batch_size: Texts per pass of the encoder.
        keep_fields: See [`predict_file`].
        engine: See [`predict_file`].
        options: See [`read_call_options`].
        label_offsets: A file that `zeroshot offsets` wrote.

    Returns:
        How many texts were classified.
    """
    check_nested(target, options or {})
    names = read_labels(labels)
    model = load_checkpoint_or_export(model_name)
    if label_offsets is not None:
        options = add_offsets(model, label_offsets, names, options or {})
    return predict_file(
        move_to_device(model) if engine == "local" else model,
        names,
        source,
        target,
        batch_size=batch_size,
        keep_fields=keep_fields,
        engine=engine,
        options=options,
    )


def check_output(folder: Path) -> None:
    """Refuse a place in which an index would mix with something else, such as the model itself.

    Raises:
        ValueError: If it is no folder, or one that holds other files than those of an index.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected a folder for the index, found something else, {str(folder)!r}. Choose another name.")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in names if name not in INDEX_FILES and not name.startswith(".")]
    if others:
        raise ValueError(
            f"Expected a new folder for the index, or that of an index, found {others[0]!r} in {str(folder)!r}. Choose "
            "another name."
        )


def index_command(model_name: str, labels: str, output: Path, *, batch_size: int = 256) -> None:
    """Encode the labels of a file, on a GPU where there is one, and save the index.

    Args:
        model_name: Folder or Hub id of one of our checkpoints, or folder of an export.
        labels: See [`read_names`].
        output: Folder of the index; an index that is there is replaced, anything else refused.
        batch_size: Worded labels per pass of the encoder.
    """
    check_batch_size(batch_size)
    check_output(output)
    names = read_names(labels)
    try:
        model = move_to_device(load_checkpoint_or_export(model_name))
        index = LabelIndex.build(model, names, batch_size=batch_size, show_progress_bar=sys.stderr.isatty())
    except ImportError as error:  # the extra is missing, and the message says which
        sys.exit(f"{type(error).__name__}: {error}")
    index.save(output)
    logger.info(f"{len(index)} labels are in {output}. Search them: zeroshot search {output} --input texts.txt --top_k 5")


def search_command(
    index: Path,
    source: Path | None,
    target: Path | None,
    *,
    top_k: int = 5,
    model_name: str | None = None,
    batch_size: int = 64,
) -> int:
    """Write a row `{"sequence", "labels", "scores", ...}` per text, with all that [`predict_command`] does about files.

    Args:
        index: Folder of the index.
        source: See [`predict_file`].
        target: See [`predict_file`].
        top_k: Labels of each text.
        model_name: Folder or Hub id of the index's model; from where it was when the index was built, when None.
        batch_size: Texts per pass of the encoder.

    Returns:
        How many texts were classified.
    """
    check_batch_size(batch_size)
    check_top_k(top_k)
    check_ways(source, target)
    try:
        loaded = LabelIndex.load(index, None if model_name is None else load_checkpoint_or_export(model_name))
    except ImportError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    move_to_device(loaded.model)
    part_rows = count_window_rows(min(top_k, len(loaded)))

    def classify(texts: list[str]) -> list[dict]:
        return loaded.predict(texts, top_k, batch_size=batch_size)

    if source is None or target is None:
        return classify_file(classify, source, target, part_rows=part_rows)
    model = loaded.fingerprint
    basis: Basis = {
        "labels": model.pop("labels"),
        "model": model,
        "options": {"top_k": top_k, "batch_size": batch_size, **loaded.store.describe()},
    }
    return classify_in_parts(classify, source, target, basis, part_rows=part_rows)
