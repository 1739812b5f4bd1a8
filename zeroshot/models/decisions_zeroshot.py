"""From logits to scores, and from scores to a decision: hierarchies, thresholds, and what is said when no label fits.

The score of a label below others is that of its parent times its own among its siblings, P(child) = P(parent) *
P(child | parent). As alternatives (softmax) the leaves then share 1 and a parent's score is the sum of its leaves; judged
one by one (sigmoid) no child scores higher than its parent. Conditional probabilities along the tree: Morin and Bengio 2005
(https://proceedings.mlr.press/r5/morin05a.html), there for the speed of a softmax over words.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .calibration_zeroshot import calibrate_logits
from .candidates_zeroshot import Candidates
from .options_zeroshot import CALIBRATED, SHOWN_NAMES, CallOptions, list_names


def find_calibration(options: CallOptions, calibration: dict | None) -> dict | None:
    """The checkpoint's calibration where the call wants it, else None.

    Raises:
        ValueError: If the call wants it and the checkpoint has none.
    """
    if not options.uses_calibration:
        return None
    if calibration is None:
        raise ValueError(
            "Expected a checkpoint with a calibration for calibrated scores or thresholds, found none in its configuration. "
            "Run zeroshot calibrate on labelled rows, or pass a number as threshold."
        )
    return calibration


def check_company(calibration: dict | None, options: CallOptions, candidates: Sequence[Candidates], alone: Sequence[bool]):
    """Refuse a text with one candidate, a yes-or-no question, where the calibration is of labels that share 1.

    Raises:
        ValueError: With the text's position.
    """
    if calibration is None or calibration["multi_label"] or options.multi_label:
        return
    for position, (labels, single) in enumerate(zip(candidates, alone, strict=True)):
        if single:
            raise ValueError(
                "Expected several candidate labels for every text, since this model was calibrated on labels that share 1, "
                f"found that text {position} has one candidate, {labels.names[0]!r}, which is judged alone. Give it a "
                "second label, or classify it without calibrated scores and thresholds."
            )


def judge(
    logits: torch.Tensor,
    offsets: torch.Tensor | None,
    candidates: Candidates,
    *,
    judged_alone: bool,
    calibration: dict | None,
) -> torch.Tensor:
    """Turn logits (n,), moved by offsets (n,), into scores (n,) between 0 and 1."""
    if offsets is not None:
        logits = logits + offsets
    if calibration is not None:
        logits = calibrate_logits(logits, calibration, multi_label=judged_alone)
    if candidates.parents is None:
        return logits.sigmoid() if judged_alone else logits.softmax(dim=0)
    scores = torch.ones_like(logits)
    for parent, children in candidates.siblings:  # parents come before their children
        own = logits[children].sigmoid() if judged_alone else logits[children].softmax(dim=0)
        scores[children] = own if parent < 0 else own * scores[parent]
    return scores


def build_hierarchy(candidates: Candidates, scores: Sequence[float]) -> dict[str, Any]:
    """Nest scores as the labels were: `{name: {"score", "children": {...}}}`."""
    nodes: list[dict[str, Any]] = [{"score": score, "children": {}} for score in scores]
    top: dict[str, Any] = {}
    for position, parent in enumerate(candidates.parents or ()):
        (top if parent < 0 else nodes[parent]["children"])[candidates.names[position]] = nodes[position]
    return top


def find_thresholds(options: CallOptions, names: Sequence[str], calibration: dict | None) -> list[float] | None:
    """The threshold of each label; None where the call has none.

    Raises:
        ValueError: If some label has no threshold.
    """
    threshold: Any = options.threshold
    if threshold is None:
        return None
    if threshold == CALIBRATED:
        assert calibration is not None
        return [calibration["thresholds"].get(name, calibration["default_threshold"]) for name in names]
    if not isinstance(threshold, Mapping):
        return [float(threshold)] * len(names)
    missing = [name for name in names if name not in threshold]
    if missing:
        unknown = [name for name in threshold if name not in names]
        others = f", but one for {list_names(unknown)}, which {'is' if len(unknown) == 1 else 'are'} no label"
        example = json.dumps({name: threshold.get(name, 0.5) for name in names[:SHOWN_NAMES]}, ensure_ascii=False)
        example = example[:-1] + (", ...}" if len(names) > SHOWN_NAMES else "}")
        raise ValueError(
            f"Expected a threshold for every label, found none for {list_names(missing)}{others if unknown else ''}. "
            f"Write {example}, or one number for all labels."
        )
    return [float(threshold[name]) for name in names]


def decide(
    names: Sequence[str], scores: torch.Tensor, thresholds: Sequence[float], options: CallOptions, *, judged_alone: bool
) -> dict[str, Any]:
    """Choose labels by their scores.

    Args:
        names: n labels.
        scores: (n,), between 0 and 1.
        thresholds: The least score of each.
        options: Those of the call; `none_label` counts here.
        judged_alone: Whether several labels may hold. If not, the best is decided for or none.

    Returns:
        `decision`: names by falling score; if no label reaches its threshold, `none_label` or, without one, no name. With a
        `none_label` also `none_score`: the chance that the best label is wrong (1 - its score), for labels judged one by one
        that all are wrong, as if they were independent (the product of 1 - score).
    """
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    chosen = [position for position in order if scores[position].item() >= thresholds[position]]
    if not judged_alone:
        chosen = [position for position in chosen if position == order[0]]
    decision = [names[position] for position in chosen]
    if options.none_label is None:
        return {"decision": decision}
    none_score = (1 - scores).prod() if judged_alone else 1 - scores.max()
    return {"decision": decision or [options.none_label], "none_score": none_score.item()}


def check_names(options: CallOptions, candidates: Candidates) -> None:
    """Refuse options that do not go with these labels.

    Raises:
        ValueError: If `none_label` is one of them, or they are no hierarchy and one is asked for, or the other way round.
    """
    if options.none_label in candidates.names:
        raise ValueError(
            f"Expected a none_label that is no candidate label, found {options.none_label!r} among them. Leave it out of "
            "the candidate labels: it is decided for where none of them fits."
        )
    if options.return_hierarchical and candidates.parents is None:
        raise ValueError(
            "Expected a hierarchy of candidate labels with return_hierarchical, found labels without one. "
            'Write {"sports": {"football": {}, "tennis": {}}, "politics": {}}, or leave return_hierarchical out.'
        )
    if options.pairwise and candidates.parents is not None:
        raise ValueError(
            "Expected labels without a hierarchy with pairwise, found one. Leave pairwise out, or write the labels "
            "as a list."
        )
