"""How many texts a second a model scores, against how many labels."""

import json
import time
from collections.abc import Sequence
from statistics import median

from ..data.reading import PACKAGED
from ..models import ZeroShotPreTrainedModel

REPEATS = 3
LEAST_SECONDS = 1.0  # of one timing; shorter ones are noise
LABEL_COUNTS = (2, 10, 100, 1000)


def time_prediction(
    model: ZeroShotPreTrainedModel, texts: Sequence[str], labels: Sequence[str], *, least_seconds: float = LEAST_SECONDS
) -> float:
    """Texts per second against labels that are encoded already, bare: the median of some timings.

    Args:
        model: The model.
        texts: To draw on: as many of them are scored as one timing takes.
        labels: Label names.
        least_seconds: Of one timing, as far as the texts reach.
    """
    class_features = model.encode_candidate_labels(labels, ["{}"])

    def score_once(count: int) -> float:
        start = time.perf_counter()
        model.score_texts(texts[:count], class_features, len(labels))
        return time.perf_counter() - start

    score_once(2)
    count = 2
    while (seconds := score_once(count)) < least_seconds and count < len(texts):
        count = min(len(texts), max(2 * count, int(count * least_seconds / max(seconds, 1e-6))))
    return median(count / score_once(count) for _ in range(REPEATS))


def _read_packaged(file: str) -> list[dict]:
    return [json.loads(line) for line in (PACKAGED / file).read_text(encoding="utf-8").splitlines()]


def measure_speed(
    model: ZeroShotPreTrainedModel,
    *,
    label_counts: Sequence[int] = LABEL_COUNTS,
    least_seconds: float = 0.25,
    budget: float = 30.0,
) -> dict[str, float | None]:
    """Texts per second by number of labels, on packaged texts (median 40 words) and label names.

    Args:
        model: The model, on the device that is measured.
        label_counts: Numbers of labels, rising, 1,000 at most.
        least_seconds: Of one timing.
        budget: Seconds for all of it. What would take longer is None: where every pair costs, ten times the labels are
            expected to take ten times as long.

    Returns:
        By number of labels, as text.
    """
    texts = [row["text"] for file in ("topics/test.jsonl", "zero_shot/topics/test.jsonl") for row in _read_packaged(file)]
    names = dict.fromkeys(name for row in _read_packaged("variety/train.jsonl") for name in row["labels"])
    lengths = model._require_tokenizer()(list(names), add_special_tokens=False)["input_ids"]
    short = [name for name, ids in zip(names, lengths, strict=True) if len(ids) <= model.config.max_tokens // 2]
    speeds: dict[str, float | None] = dict.fromkeys(map(str, label_counts))
    start = time.perf_counter()
    used = last = 0.0
    for previous, count in zip([None, *label_counts], label_counts, strict=False):
        growth = count / previous if previous and model.pays_per_pair else 1
        if used + last * growth > budget or count > len(short):
            break
        speeds[str(count)] = time_prediction(model, texts, short[:count], least_seconds=least_seconds)
        last = time.perf_counter() - start - used
        used += last
    return speeds
