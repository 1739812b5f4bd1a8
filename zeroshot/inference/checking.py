"""`zeroshot check`: one text and some labels, and all that a user can ask about their scores.

What was tokenised and cut, both kinds of scores, how far they move with the wording and the order of the labels, and a pair
whose answer is known.
"""

import json
from collections.abc import Sequence
from typing import Any, TypedDict

import torch

from ..models import ZeroShotPreTrainedModel
from ..models.calibration_zeroshot import calibrate_logits
from ..models.features_zeroshot import Features
from ..models.inputs_zeroshot import check_candidate_labels, check_texts
from ..models.loading import load_model

# Beside the checkpoint's own: whoever writes a template of their own will write one like these.
REWORDED = ("{}", "This text is about {}.", "This example is {}.", "The topic is {}.")
KNOWN_TEXT = "The goalkeeper saved a penalty in the last minute of the match."
KNOWN_GOOD, KNOWN_BAD = "football", "cake recipe"
SHOWN_TOKENS = 60  # of a text, in the output for people
COLUMNS = {
    "shared": "the labels share 1",
    "alone": "each by itself",
    "calibrated": "corrected by zeroshot calibrate",
    "spread": "highest - lowest over the wordings",
}
Scores = dict[str, float]


class Tokens(TypedDict):
    """What the encoder reads of a string."""

    text: str
    tokens: list[str]  # special tokens included
    unknown: list[str]  # parts that are not in the vocabulary


class CheckedText(Tokens):
    """What the encoder reads of the text."""

    length: int  # tokens of the whole text, special tokens included
    room: int  # the most tokens that are read beside the longest label
    cut: str  # what is beyond


class CheckedScores(TypedDict):
    """Scores from 0 to 1."""

    shared: Scores | None  # softmax: labels as alternatives; None with a single label
    alone: Scores  # sigmoid: each label by itself
    calibrated: Scores | None  # None where the checkpoint has no calibration, or it is for several labels and here is one
    passed: list[str] | None  # labels whose calibrated score reaches their threshold


class CheckedWording(TypedDict):
    """Scores under one template: shared, or alone with a single label."""

    template: str
    of_checkpoint: bool
    scores: Scores


class KnownPair(TypedDict):
    """Scores alone, of a label that holds and of one that does not."""

    text: str
    good: tuple[str, float]
    bad: tuple[str, float]


class Check(TypedDict):
    """All that is checked."""

    architecture: str
    text: CheckedText
    labels: dict[str, list[Tokens]]  # in each wording of the checkpoint
    scores: CheckedScores
    wordings: list[CheckedWording]
    spread: Scores  # of each label, highest minus lowest score over the wordings
    order_difference: float  # most that a score changes when the labels come in the opposite order
    known_pair: KnownPair


def _read_tokens(model: ZeroShotPreTrainedModel, text: str, max_tokens: int) -> Tokens:
    tokenizer: Any = model.tokenizer
    encoded = tokenizer(
        text, truncation=True, max_length=max_tokens, return_offsets_mapping=tokenizer.is_fast, verbose=False
    )
    ids = encoded["input_ids"]
    unknown = [position for position, one in enumerate(ids) if one == tokenizer.unk_token_id]
    spans = encoded.get("offset_mapping")
    parts = [text[slice(*spans[position])] if spans else tokenizer.unk_token for position in unknown]
    return {"text": text, "tokens": tokenizer.convert_ids_to_tokens(ids), "unknown": parts}


def _check_text(model: ZeroShotPreTrainedModel, text: str, class_features: Features) -> CheckedText:
    tokenizer: Any = model.tokenizer
    room = int(model.count_room(class_features).min())
    content = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    length = len(tokenizer(text, verbose=False)["input_ids"])
    kept = room - (length - len(content))
    lost = [] if length <= room else content[:-kept] if tokenizer.truncation_side == "left" else content[kept:]
    return {**_read_tokens(model, text, room), "length": length, "room": room, "cut": tokenizer.decode(lost)}


def _score(
    model: ZeroShotPreTrainedModel,
    text: str,
    labels: Sequence[str],
    *,
    multi_label: bool,
    templates: Sequence[str] | None = None,
) -> torch.Tensor:
    """Logits (N,); without the warning of a cut text, which would come once for each template."""

    def score(texts: Features, classes: Features, num_labels: int, mask: torch.Tensor | None) -> torch.Tensor:
        return model.score_classes(texts, classes, num_labels, multi_label=multi_label, candidate_mask=mask).float()

    class_features = model.encode_candidate_labels(labels, templates)
    return model.score_texts([text], class_features, len(labels), score=score, overflow="cut")[0]


def _name(labels: Sequence[str], values: torch.Tensor) -> Scores:
    return dict(zip(labels, values.tolist(), strict=True))


def _judge(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    return logits.sigmoid() if multi_label else logits.softmax(dim=0)


def _check_scores(
    model: ZeroShotPreTrainedModel, labels: list[str], shared: torch.Tensor, alone: torch.Tensor
) -> CheckedScores:
    """Name the scores, from logits (N,) of both kinds."""
    scores: CheckedScores = {
        "shared": _name(labels, _judge(shared, False)) if len(labels) > 1 else None,
        "alone": _name(labels, _judge(alone, True)),
        "calibrated": None,
        "passed": None,
    }
    calibration = model.config.calibration
    if calibration is None or (len(labels) == 1 and not calibration["multi_label"]):
        return scores
    multi_label = calibration["multi_label"]
    logits = calibrate_logits(alone if multi_label else shared, calibration, multi_label=multi_label)
    calibrated = scores["calibrated"] = _name(labels, _judge(logits, multi_label))
    answers = labels if multi_label else [max(labels, key=calibrated.__getitem__)]
    least = calibration["thresholds"]
    scores["passed"] = [one for one in answers if calibrated[one] >= least.get(one, calibration["default_threshold"])]
    return scores


def check_model(model: ZeroShotPreTrainedModel, text: str, candidate_labels: Sequence[str]) -> Check:
    """Look closely at the scores of one text.

    Args:
        model: A model with its tokenizer.
        text: The text.
        candidate_labels: N label names.

    Raises:
        TypeError: If the text or a label is not a string.
        ValueError: If the text is empty, or labels are missing, empty, repeated or too long.
    """
    [text], labels = check_texts([text]), check_candidate_labels(candidate_labels)
    single = len(labels) == 1  # a yes-or-no question
    own, limit = model.config.class_templates, model.config.max_tokens
    logits = {kind: _score(model, text, labels, multi_label=kind) for kind in (False, True)}
    swapped = {kind: _score(model, text, labels[::-1], multi_label=kind).flip(0) for kind in logits}
    wordings: list[CheckedWording] = []
    for template in dict.fromkeys([*own, *REWORDED]):
        scores = _judge(_score(model, text, labels, multi_label=single, templates=[template]), single)
        wordings.append({"template": template, "of_checkpoint": template in own, "scores": _name(labels, scores)})
    good, bad = _judge(_score(model, KNOWN_TEXT, [KNOWN_GOOD, KNOWN_BAD], multi_label=True), True).tolist()
    every = {label: [wording["scores"][label] for wording in wordings] for label in labels}
    return {
        "architecture": model.config.model_type,
        "text": _check_text(model, text, model.encode_candidate_labels(labels)),
        "labels": {label: [_read_tokens(model, template.format(label), limit) for template in own] for label in labels},
        "scores": _check_scores(model, labels, logits[False], logits[True]),
        "wordings": wordings,
        "spread": {label: max(values) - min(values) for label, values in every.items()},
        "order_difference": max(
            float((_judge(logits[kind], kind) - _judge(swapped[kind], kind)).abs().max()) for kind in logits
        ),
        "known_pair": {"text": KNOWN_TEXT, "good": (KNOWN_GOOD, good), "bad": (KNOWN_BAD, bad)},
    }


def _format_tokens(tokens: Tokens) -> str:
    unknown = f"   (unknown: {', '.join(map(repr, tokens['unknown']))})" if tokens["unknown"] else ""
    read = tokens["tokens"]
    if len(read) > SHOWN_TOKENS:
        read = [*read[: SHOWN_TOKENS - 5], f"... {len(read) - SHOWN_TOKENS} more ...", *read[-5:]]
    return " ".join(read) + unknown


def format_check(check: Check) -> str:
    """The check as text that a person reads."""
    text, scores, pair = check["text"], check["scores"], check["known_pair"]
    labels = list(check["labels"])
    width = max(len("label"), *map(len, labels))
    lines = [f"Text: {text['length']} tokens; this {check['architecture']} reads {text['room']} beside these labels"]
    lines += [f"  {_format_tokens(text)}"]
    lines += [f"  Cut: {text['length'] - text['room']} tokens, {text['cut'][:200]!r}"] if text["cut"] else []
    lines += ["", "Labels, as they are read:"]
    for label, worded in check["labels"].items():
        lines += [f"  {label}", *(f"    {_format_tokens(one)}" for one in worded)]
    columns: dict[str, Scores] = {"alone": scores["alone"]}
    if scores["shared"] is not None:
        columns = {"shared": scores["shared"], **columns}
    if scores["calibrated"] is not None:
        columns["calibrated"] = scores["calibrated"]
    columns["spread"] = check["spread"]
    lines += ["", f"Scores ({'; '.join(f'{name}: {COLUMNS[name]}' for name in columns)})"]
    if scores["shared"] is None:
        lines.append("A single label is a yes-or-no question: it has no others to share 1 with.")
    lines.append("  " + "label".ljust(width) + "".join(name.rjust(12) for name in columns))
    for label in labels:
        lines.append("  " + label.ljust(width) + "".join(f"{values[label]:12.4f}" for values in columns.values()))
    if scores["passed"] is not None:
        lines.append(f"  Passed the calibrated threshold: {', '.join(scores['passed']) or 'none'}")
    lines += ["", f"{'Alone' if scores['shared'] is None else 'Shared'} in other words (* of the checkpoint), best label:"]
    for wording in check["wordings"]:
        best = max(wording["scores"], key=wording["scores"].__getitem__)
        mark = "*" if wording["of_checkpoint"] else " "
        lines.append(f"  {mark} {wording['template']!r}: {best} {wording['scores'][best]:.4f}")
    difference, (good, high), (bad, low) = check["order_difference"], pair["good"], pair["bad"]
    verdict = "as it should be" if high > low else "the wrong way round: this model does not know these words"
    return "\n".join(
        [
            *lines,
            "",
            f"Labels in the opposite order: scores change by {difference:.1e} at most",
            f"Known pair: {pair['text']!r}: {good} {high:.4f}, {bad} {low:.4f} ({verdict})",
        ]
    )


def check_command(model_name: str, text: str, candidate_labels: Sequence[str], *, as_json: bool = False) -> str:
    """Load a checkpoint and check one text, as text or as JSON."""
    check = check_model(load_model(model_name), text, candidate_labels)
    return json.dumps(check, indent=2, ensure_ascii=False) if as_json else format_check(check)
