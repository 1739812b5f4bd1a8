"""What can be counted about rows: labels, lengths, vocabulary, labels in their texts, labels that go together."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TypedDict

import numpy as np

from .duplicates import split_words
from .validation import Source

WINDOW = 500  # words of the moving window, as in Covington and McFall
MOST_PAIRS = 20
HEAT_MAP_LABELS = 20
_ENGLISH = """
a an the and or but nor not no of in on at to from by for with without about as into over under per via is are was were be
been being do does did has have had i you he she it we they my your his her its our their me him us them this that these
those what which who whom how when where why
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())


class Spread(TypedDict):
    """How numbers are spread."""

    min: float
    quartiles: list[float]  # 25, 50, 75 percent
    mean: float
    max: float


class PairCount(TypedDict):
    """Two labels on the same texts."""

    labels: list[str]
    count: int
    pmi: float  # bits; 0 where they meet as often as chance has it


class LabelFigures(TypedDict):
    """What labels and other names are like."""

    distinct: int
    counts: dict[str, int]  # rows of each label, most frequent first
    entropy: float  # bits
    entropy_share: float  # of log2(distinct labels), 0 to 1
    set_size: int | None  # names of the closed label set, None where rows are labelled freely
    set_entropy_share: float | None  # of log2(set size)
    unused_names: list[str]  # of the closed set, on no row
    per_text: Spread
    histogram: dict[str, int]  # number of labels -> rows
    negatives_per_text: Spread
    only_negative: list[str]  # names that are never a label
    near_names: list[list[str]]  # differ in case, punctuation or plural only
    pairs: list[PairCount]
    together: dict[str, list]  # "labels", the most frequent, and "counts", a square of how often they meet


class TextFigures(TypedDict):
    """What texts are like."""

    words: Spread
    words_histogram: dict[str, list[float]]  # "edges" of the bins, "counts" in them
    characters: Spread
    type_token_ratio: float
    moving_type_token_ratio: float | None  # mean over windows of 500 words; None below 500 words
    with_label: float  # share of the labelled texts that hold one of their labels word for word
    with_label_word: float  # share of them that hold a content word of one of their labels


class Figures(TypedDict):
    """Everything counted about one file, or about all together."""

    name: str
    rows: int  # valid ones
    unlabelled: int  # of them without a label
    labels: LabelFigures
    texts: TextFigures


def describe_spread(numbers: Sequence[int]) -> Spread:
    """Least, quartiles, mean and most of at least one number; quartiles between two numbers are interpolated."""
    quartiles = np.percentile(numbers, [25, 50, 75]).tolist()
    return {"min": min(numbers), "quartiles": quartiles, "mean": sum(numbers) / len(numbers), "max": max(numbers)}


def measure_entropy(counts: Iterable[int]) -> float:
    """Shannon entropy of a distribution given by counts, in bits: -sum p log2 p.

    Example:
        >>> measure_entropy([2, 1, 1])
        1.5
    """
    positive = [count for count in counts if count]
    total = sum(positive)
    return sum(count / total * math.log2(total / count) for count in positive)


def share_of_entropy(entropy: float, names: int) -> float:
    """Entropy as a share of log2(names), its most; 1 for a single name, which cannot be uneven."""
    return entropy / math.log2(names) if names > 1 else 1.0


def measure_variety(words: Sequence[str], window: int = WINDOW) -> tuple[float, float | None]:
    """Type-token ratio (distinct words / words), plain and as a mean over all windows of equal length.

    The plain ratio falls with the length of a text, so files of different size can be compared by the second only:
    Covington and McFall 2010, [Cutting the Gordian knot](https://doi.org/10.1080/09296171003643098).

    Args:
        words: The words of all texts, one after the other.
        window: Words of a window.

    Returns:
        The plain ratio, 0 to 1, and that of the windows, or None where there are fewer words than in a window.

    Example:
        >>> measure_variety(["a", "b", "a", "a"], window=2)
        (0.5, 0.8333333333333334)
    """
    plain = len(set(words)) / len(words) if words else 0.0
    if len(words) < window:
        return plain, None
    inside: Counter[str] = Counter()
    recent: deque[str] = deque()
    types = 0
    for word in words:
        inside[word] += 1
        recent.append(word)
        if len(recent) > window:
            left = recent.popleft()
            inside[left] -= 1
            if not inside[left]:
                del inside[left]
        if len(recent) == window:
            types += len(inside)
    return plain, types / window / (len(words) - window + 1)


def stands_in_text(label: str, words: Sequence[str]) -> bool:
    """Whether the words of a label stand one after the other among those of a text.

    Example:
        >>> stands_in_text("Dark humour", split_words("A dark, humour-filled night."))
        True
    """
    wanted = split_words(label)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(words)} "


def shares_content_word(label: str, words: Iterable[str]) -> bool:
    """Whether a word of a label, other than English function words, stands among those of a text."""
    return not (set(split_words(label)) - FUNCTION_WORDS).isdisjoint(words)


def _singularize(word: str) -> str:
    """Near enough to find plurals among English names; it need not be a word."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes", "zes")) else word[:-1]


def find_near_names(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ in case, spacing, punctuation or an English plural only.

    Example:
        >>> find_near_names(["E-mail", "recipe", "emails", "sport"])
        [['E-mail', 'emails']]
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        folded = "".join(_singularize(word) for word in split_words(name))
        groups.setdefault(folded or name, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _count_pairs(labels: Sequence[Sequence[str]], counts: Counter[str]) -> tuple[list[PairCount], dict[str, list]]:
    """The most frequent pairs, and the square of the most frequent labels; PMI is log2(p(a, b) / p(a) p(b)) over texts."""
    met = Counter(pair for own in labels for pair in combinations(sorted(own), 2))
    ranked = sorted(met.items(), key=lambda item: (-item[1], item[0]))
    pairs: list[PairCount] = [
        {"labels": [a, b], "count": count, "pmi": math.log2(count * len(labels) / (counts[a] * counts[b]))}
        for (a, b), count in ranked[:MOST_PAIRS]
    ]
    top = list(counts)[:HEAT_MAP_LABELS]
    square = [[0 if a == b else met[(min(a, b), max(a, b))] for b in top] for a in top]
    return pairs, {"labels": top, "counts": square}


def _count_histogram(numbers: Sequence[int]) -> dict[str, list[float]]:
    """At most 30 bins of whole numbers."""
    width = max(1, math.ceil((max(numbers) + 1) / 30))
    counts, edges = np.histogram(numbers, bins=np.arange(0, max(numbers) + width + 1, width))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _count_labels(rows: Sequence[Sequence[str]]) -> Counter[str]:
    counts = Counter(name for own in rows for name in own)
    return Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def _describe_labels(
    labels: Sequence[Sequence[str]], negatives: Sequence[Sequence[str]], names: Sequence[str] | None
) -> LabelFigures:
    counts = _count_labels(labels)
    refused = dict.fromkeys(name for own in negatives for name in own)
    entropy = measure_entropy(counts.values())
    sizes = Counter(len(own) for own in labels)
    pairs, together = _count_pairs([own for own in labels if own], counts)
    return {
        "distinct": len(counts),
        "counts": dict(counts),
        "entropy": entropy,
        "entropy_share": share_of_entropy(entropy, len(counts)),
        "set_size": None if names is None else len(names),
        "set_entropy_share": None if names is None else share_of_entropy(entropy, len(names)),
        "unused_names": [name for name in names or () if name not in counts],
        "per_text": describe_spread([len(own) for own in labels]),
        "histogram": {str(size): sizes[size] for size in sorted(sizes)},
        "negatives_per_text": describe_spread([len(own) for own in negatives]),
        "only_negative": [name for name in refused if name not in counts],
        "near_names": find_near_names([*counts, *refused, *(names or ())]),
        "pairs": pairs,
        "together": together,
    }


def _describe_texts(texts: Sequence[str], labels: Sequence[Sequence[str]]) -> TextFigures:
    words = [split_words(text) for text in texts]
    plain, moving = measure_variety([word for own in words for word in own])
    labelled = [(own, text) for own, text in zip(labels, words, strict=True) if own]
    literal = sum(any(stands_in_text(label, text) for label in own) for own, text in labelled)
    partial = sum(any(shares_content_word(label, text) for label in own) for own, text in labelled)
    return {
        "words": describe_spread([len(own) for own in words]),
        "words_histogram": _count_histogram([len(own) for own in words]),
        "characters": describe_spread([len(text) for text in texts]),
        "type_token_ratio": plain,
        "moving_type_token_ratio": moving,
        "with_label": literal / max(1, len(labelled)),
        "with_label_word": partial / max(1, len(labelled)),
    }


def describe_rows(name: str, sources: Sequence[Source]) -> Figures:
    """Count everything about the rows of one or more sources taken together.

    Closed label sets are joined; where one source is labelled freely there is none.
    """
    texts, labels, negatives = (
        [value for source in sources for value in source.rows[column]] for column in ("text", "labels", "negatives")
    )
    closed = [source.candidate_labels for source in sources]
    names = None if None in closed else list(dict.fromkeys(name for own in closed for name in own or ()))
    return {
        "name": name,
        "rows": len(texts),
        "unlabelled": sum(not own for own in labels),
        "labels": _describe_labels(labels, negatives, names),
        "texts": _describe_texts(texts, labels),
    }
