"""Rows in, batches out: reading, validation, splits, label expansion, negatives, collation."""

from .collation import ZeroShotCollator
from .evaluation_set import EvaluationSet, build_evaluation_set
from .expansion import TrainingDataset, TrainingExample, expand_labels
from .label_names import NAME_WEIGHTS, LabelNames, list_unnamed, read_label_names
from .negatives import draw_negatives
from .reading import read_raw_rows
from .splitting import choose_zero_shot_labels, drop_texts, hold_out_labels, normalize_text, split_by_text
from .validation import RejectedRow, Row, Source, load_source, validate_row, write_rejected_rows

__all__ = [
    "NAME_WEIGHTS",
    "EvaluationSet",
    "LabelNames",
    "RejectedRow",
    "Row",
    "Source",
    "TrainingDataset",
    "TrainingExample",
    "ZeroShotCollator",
    "build_evaluation_set",
    "choose_zero_shot_labels",
    "draw_negatives",
    "drop_texts",
    "expand_labels",
    "hold_out_labels",
    "list_unnamed",
    "load_source",
    "normalize_text",
    "read_label_names",
    "read_raw_rows",
    "split_by_text",
    "validate_row",
    "write_rejected_rows",
]
