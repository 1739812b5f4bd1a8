"""What a call can say beside its texts and labels: the options of the pipeline and of `predict`, checked in one place."""

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal

from transformers.utils import logging

from .configuration_zeroshot import check_class_template
from .precision_zeroshot import Precision, check_precision

logger = logging.get_logger(__name__)

CALIBRATED = "calibrated"
SHOWN_NAMES = 5  # in a message
LARGEST_OFFSET = 1e6  # logits are some tens; beyond, float32 would lose them
CHOICES: dict[str, tuple[str, ...]] = {
    "phrasing_reduction": ("max", "mean"),
    "overflow": ("split", "error", "truncate"),
    "overflow_pooling": ("max", "mean", "noisy_or"),
}


def list_names(names: Sequence[str]) -> str:
    """Names for a message, the first few of them."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(map(repr, names[:SHOWN_NAMES])) + more


def _check_offset(label: Any, offset: Any) -> None:
    number = isinstance(offset, Real) and not isinstance(offset, bool)  # also of NumPy
    if not isinstance(label, str) or not number or not -LARGEST_OFFSET <= offset <= LARGEST_OFFSET:
        raise ValueError(
            f"Expected a number from {-LARGEST_OFFSET:g} to {LARGEST_OFFSET:g} as the offset of each label, found "
            f"{reprlib.repr(offset)} for {label!r}. Take what estimate_label_offsets gives, or 'label_offsets' of a file "
            "that zeroshot offsets wrote."
        )


def _check_threshold(threshold: Any, of: str = "") -> None:
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise ValueError(
            f"Expected a threshold{of} from 0 to 1, found {threshold!r}. Scores are probabilities; try 0.5, a number for "
            f'each label like {{"sports": 0.4, "politics": 0.6}}, or {CALIBRATED!r}.'
        )


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """Everything that may be said in a call. None of it changes a call that leaves it out.

    Args:
        multi_label: Whether labels are judged one by one (sigmoid) or as alternatives that share 1 (softmax).
        hypothesis_template: A wording with one placeholder `{}`, several of them, over which a label's logits are
            averaged, or one for each label (`{label: wording}`); the checkpoint's own when left out.
        phrasing_reduction: What becomes of the logits of a label with several phrasings: their `max` or `mean`.
        calibrated: Whether logits are divided by the temperature and moved by the bias that `zeroshot calibrate` left in the
            checkpoint, before they become scores.
        threshold: The least score with which a label is decided for: a number for all, one for each label, or `calibrated`
            for those in the checkpoint, which imply `calibrated=True`. Adds `decision` to the result.
        label_offsets: What is added to the logit of each label, by name, as `estimate_label_offsets` says; nothing when left
            out.
        none_label: What is decided for where no label reaches its threshold. Adds `none_score` to the result.
        top_k: How many labels come back, those with the highest scores; all when left out.
        overflow: What becomes of texts that are too long: they are read in windows (`split`), refused (`error`), or cut with
            a warning (`truncate`, which adds `truncated`, the number of tokens cut, to the result).
        overflow_pooling: How a label's logits of several windows become one: `max`, `mean` or `noisy_or`.
        pairwise: Whether labels close to the best are compared two at a time, see `pairwise_zeroshot`.
        return_hierarchical: Whether the result has the scores of a nested dictionary of labels in its shape, `hierarchy`.
        return_embeddings: Whether the result has the text's vector, `embedding`.
        precision: Of matrix products: `fp32`, `bf16`, or `auto`, `bf16` where the hardware has it; see [`use_precision`].
        explain: Of how many of the best labels the result says which words speak for them, `explanation`; True for one.

    Raises:
        TypeError: If an option is of another type.
        ValueError: If one has a value that it cannot have.
    """

    multi_label: bool = False
    hypothesis_template: str | Sequence[str] | Mapping[str, str] | None = None
    phrasing_reduction: Literal["max", "mean"] = "max"
    calibrated: bool = False
    threshold: float | Mapping[str, float] | Literal["calibrated"] | None = None
    label_offsets: Mapping[str, float] | None = None
    none_label: str | None = None
    top_k: int | None = None
    overflow: Literal["split", "error", "truncate"] = "split"
    overflow_pooling: Literal["max", "mean", "noisy_or"] = "max"
    pairwise: bool = False
    return_hierarchical: bool = False
    return_embeddings: bool = False
    precision: Precision = "fp32"
    explain: int = 0

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Expected {name} to be one of {', '.join(choices)}, found {getattr(self, name)!r}. Choose one of them."
                )
        for name in ("multi_label", "calibrated", "pairwise", "return_hierarchical", "return_embeddings"):
            if isinstance(value := getattr(self, name), str):
                raise TypeError(f"Expected {name} to be True or False, found {value!r}. Write it without quotes.")
        check_precision(self.precision)
        self._check_templates()
        if isinstance(self.threshold, Mapping):
            for label, threshold in self.threshold.items():
                _check_threshold(threshold, f" of {label!r}")
        elif self.threshold is not None and self.threshold != CALIBRATED:
            _check_threshold(self.threshold)
        self._check_offsets()
        if self.none_label is not None and not (isinstance(self.none_label, str) and self.none_label.strip()):
            raise ValueError(
                f"Expected none_label to be a name, found {self.none_label!r}. Write one such as 'none of these'."
            )
        if self.none_label is not None and self.threshold is None:
            raise ValueError(
                f"Expected a threshold with none_label, below which {self.none_label!r} is decided for, found none. "
                "Add one, such as 0.5."
            )
        top_k = 1 if self.top_k is None else self.top_k
        if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
            raise ValueError(f"Expected top_k of at least 1 label, found {top_k!r}. Raise it, or leave it out for all.")
        if not isinstance(self.explain, int) or self.explain < 0:
            raise ValueError(
                f"Expected explain to be the number of labels to explain, found {self.explain!r}. 1 explains the best one."
            )
        if self.pairwise and self.multi_label:
            raise ValueError(
                "Expected pairwise without multi_label, found both. Labels that are judged one by one have no rivals; "
                "leave one of the two out."
            )

    def _check_templates(self) -> None:
        template = self.hypothesis_template
        if template is None or isinstance(template, str):
            templates: Iterable[Any] = [] if template is None else [template]
        elif isinstance(template, Mapping):
            templates = template.values()
        else:
            templates = template
        if not isinstance(templates, Iterable) or (template is not None and not templates):
            raise TypeError(
                f"Expected hypothesis_template to be a wording, a list of them, or one for each label, found {template!r}. "
                "Write it like 'This text is about {}.'."
            )
        for one in templates:
            check_class_template(one)

    def _check_offsets(self) -> None:
        if self.label_offsets is None:
            return
        if not isinstance(self.label_offsets, Mapping):
            raise TypeError(
                f"Expected label_offsets to be a number for each label, found {self.label_offsets!r}. Take what "
                "estimate_label_offsets gives, or 'label_offsets' of a file that zeroshot offsets wrote."
            )
        for label, offset in self.label_offsets.items():
            _check_offset(label, offset)
        if self.uses_calibration:
            raise ValueError(
                "Expected label_offsets without calibrated scores or thresholds, found both. A calibration was fitted on "
                "logits without offsets; leave one of the two out."
            )
        if self.pairwise:
            raise ValueError(
                "Expected label_offsets without pairwise, found both. Two labels that are compared alone have no offsets of "
                "their own; leave one of the two out."
            )

    @property
    def uses_calibration(self) -> bool:
        """Whether scores are those of the calibrated checkpoint."""
        return self.calibrated or self.threshold == CALIBRATED


OPTION_NAMES = tuple(field.name for field in fields(CallOptions))


def warn_of_near_misses(names: Iterable[str]) -> None:
    """Say which names of arguments that nobody knows look like one of ours; others are no concern of ours."""
    for name in names:
        near = difflib.get_close_matches(name, (*OPTION_NAMES, "candidate_labels"), n=1, cutoff=0.8)
        if near:
            logger.warning(f"The pipeline ignores the argument {name!r}, which it does not know. Did you mean {near[0]!r}?")


def read_options(options: Mapping[str, Any]) -> CallOptions:
    """Check options by name; those that are None count as left out.

    Raises:
        TypeError: If one is unknown or of another type.
        ValueError: If one has a value that it cannot have.
    """
    for name in options:
        if name not in OPTION_NAMES:
            near = difflib.get_close_matches(name, OPTION_NAMES, n=1)
            mend = f"Did you mean {near[0]!r}?" if near else "Leave it out."
            raise TypeError(f"Expected the options {', '.join(OPTION_NAMES)}, found {name!r}. {mend}")
    return CallOptions(**{name: value for name, value in options.items() if value is not None})
