"""Near-duplicates: planted copies are found, other texts are not, and the same input gives the same answer."""

import doctest
import random
import sys
from typing import Any

import pytest

from zeroshot.data import duplicates, figures, findings
from zeroshot.data.duplicates import (
    MOST_COPIES,
    MOST_PERMUTATIONS,
    RECALL,
    NearDuplicateIndex,
    build_shingles,
    choose_bands,
    find_near_duplicates,
    fold_text,
    measure_overlap,
    split_words,
)

PLANTED = "the keeper tipped the ball over the bar in the last minute of extra time and the stadium fell silent"


def make_texts(count: int, seed: int = 0, vocabulary: int = 500) -> list[str]:
    """Texts of 20 random words."""
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(vocabulary)}" for _ in range(20)) for _ in range(count)]


@pytest.mark.parametrize("module", [duplicates, figures, findings], ids=lambda module: module.__name__)
def test_examples_in_docstrings_hold(module: Any) -> None:
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t  PANIC!", ["dont", "panic"]),
        ("co-star, 5.5", ["co", "star", "5", "5"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs belong to their word
        ("\ufb01ne", ["fine"]),
        (":-)", []),
    ],
)
def test_words_are_folded(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_texts_without_words_keep_their_characters() -> None:
    """Else all emoji would be one text."""
    assert fold_text("😀 ") == "😀"
    assert find_near_duplicates(["😀", "😡"]) == []


def test_shingles_are_three_words_from_six_words_on() -> None:
    assert build_shingles("a b c d e f") == {"a b c", "b c d", "c d e", "d e f"}
    assert build_shingles("ab cd") == {" ab c", "ab cd", "b cd "}
    assert build_shingles("x") == {" x "}


def test_overlap_is_jaccard() -> None:
    assert measure_overlap(frozenset("abc"), frozenset("bcd")) == 0.5


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6, 0.8, 0.95])
def test_bands_keep_the_promised_recall(threshold: float) -> None:
    bands, rows = choose_bands(threshold)
    assert bands * rows <= MOST_PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** bands >= RECALL


def test_a_planted_copy_is_found_and_other_texts_are_not() -> None:
    texts = make_texts(300)
    assert find_near_duplicates(texts) == []
    planted = [*texts[:150], PLANTED, *texts[150:], PLANTED.replace("silent", "quiet").upper()]
    [(first, second, similarity)] = find_near_duplicates(planted)
    assert (first, second) == (150, 301)
    assert similarity == pytest.approx(17 / 19)  # 18 shingles each, the last of each differs


def test_nothing_below_the_threshold_is_reported() -> None:
    """MinHash alone would propose it: the second half differs."""
    words = PLANTED.split()
    far = " ".join([*words[: len(words) // 2], *(f"other{n}" for n in range(10))])
    similarity = measure_overlap(build_shingles(PLANTED), build_shingles(far))
    assert 0.1 < similarity < 0.6
    assert find_near_duplicates([PLANTED, far]) == []
    assert find_near_duplicates([PLANTED, far], threshold=0.1) == [(0, 1, similarity)]


def test_recall_of_pairs_at_the_threshold() -> None:
    """One word changed in the middle of 14 words leaves .6 exactly; 99% of such pairs are promised."""
    originals = [" ".join(text.split()[:14]) for text in make_texts(300, seed=1)]
    changed = [" ".join([*words[:7], "other", *words[8:]]) for words in map(str.split, originals)]
    found = find_near_duplicates(originals + changed)
    assert len(found) >= 0.97 * 300
    assert all(second == first + 300 for first, second, _ in found)


def test_the_most_similar_text_is_found_and_of_equals_the_first() -> None:
    index = NearDuplicateIndex()
    index.add("near", PLANTED + " again")
    index.add("same", PLANTED)
    index.add("later", PLANTED.upper() + "!")
    assert index.find(PLANTED) == "same"
    assert [key for key, _ in index.find_all(PLANTED)] == ["same", "near"]
    assert len(index) == 3


def test_a_template_is_not_compared_with_all_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand texts that differ in one number would make half a million comparisons; each still finds its copies."""
    measured = []
    monkeypatch.setattr(duplicates, "measure_overlap", lambda *sets: measured.append(1) or measure_overlap(*sets))
    texts = [f"{number} {PLANTED}" for number in range(300)]
    assert [later for _, later, _ in find_near_duplicates(texts)] == list(range(1, 300))
    assert len(measured) <= 2 * MOST_COPIES * len(texts)
    index = NearDuplicateIndex()
    for text in texts:
        index.add(text, text)
    assert index.find(texts[250].upper()) == texts[250]
    assert index.find("rain fell " + PLANTED) == texts[0]


def test_nothing_is_found_where_nothing_is_stored() -> None:
    assert NearDuplicateIndex().find(PLANTED) is None


def test_each_text_is_paired_with_one_earlier_text() -> None:
    """A thousand equal texts give 999 pairs, not half a million."""
    assert find_near_duplicates(["Yes.", "no way", "yes", "YES!"]) == [(0, 2, 1.0), (0, 3, 1.0)]


def test_the_same_texts_give_the_same_answer() -> None:
    texts = [" ".join(text.split()[:4]) for text in make_texts(200, seed=2, vocabulary=12)]
    assert find_near_duplicates(texts, threshold=0.3) == find_near_duplicates(texts, threshold=0.3) != []


def test_shingles_of_other_lengths() -> None:
    index = NearDuplicateIndex(words=1)
    index.add("a", "rain sun wind")
    assert index.find("wind sun rain") == "a"
    assert NearDuplicateIndex().words == 3


@pytest.mark.parametrize("threshold", [0, 0.05, 1.01, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=f"Expected a threshold from 0.1 to 1, found {threshold}. Near copies share 0.6"):
        NearDuplicateIndex(threshold)


def test_a_shingle_has_words() -> None:
    with pytest.raises(ValueError, match=r"Expected shingles of at least 1 word, found 0. Three is usual."):
        NearDuplicateIndex(words=0)


def test_a_key_is_taken_once() -> None:
    index = NearDuplicateIndex()
    index.add("a", "rain")
    with pytest.raises(
        ValueError, match="Expected a new key, found 'a', which is stored already. Give each text its own key."
    ):
        index.add("a", "other")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ImportError) as raised:
        NearDuplicateIndex()
    assert str(raised.value) == (
        'Expected datasketch for near-duplicates, found no such package. Install the extra: pip install "zeroshot[data]".'
    )
