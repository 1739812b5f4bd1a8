"""Texts that are nearly the same: MinHash proposes candidates, the exact Jaccard similarity decides.

Two texts are near copies where their sets of shingles (runs of three words, without case and punctuation) overlap by
`threshold` or more: J(A, B) = |A and B| / |A or B|. A pair with similarity J shares one of `b` bands of `r` MinHash
values with probability 1 - (1 - J^r)^b. Both are chosen so that a pair at the threshold itself is proposed with .99,
pairs above it still more surely; every proposed pair is then verified, so nothing below the threshold is ever reported.

What this cannot see: one word changed in the middle of a text of n words leaves (n - 5) / (n + 1), so at .6 such a pair is
found from 14 words on; a text below six words is compared by runs of five characters, and never with a longer one;
paraphrases in other words are no near copies. Of a text with 20 near copies among those stored before (a
template with another number in each) only exact copies are found later, so that such texts do not cost their square.

Sources: Broder 1997, [On the resemblance and containment of documents](https://doi.org/10.1109/SEQUEN.1997.666900);
Leskovec, Rajaraman and Ullman, [Mining of Massive Datasets, chapter 3](http://www.mmds.org). We depart from them in the
shingles of short texts and in verifying by the sets themselves instead of by signatures.
"""

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from .splitting import normalize_text

if TYPE_CHECKING:
    from datasketch import MinHash

THRESHOLD = 0.6
RECALL = 0.99  # of a pair exactly at the threshold
MOST_PERMUTATIONS = 64
MOST_COPIES = 20  # near copies of a text that are compared with later texts
CHARACTERS = 5  # of a shingle of texts that have less than twice as many words as a shingle


class _Folding(dict[int, str]):
    """Table of `str.translate`: letters, marks and digits stay, apostrophes vanish, all else parts words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        word = unicodedata.category(character)[0] in "LMN"
        self[code] = character if word else "" if character in "'\u2019" else " "
        return self[code]


_FOLDING = _Folding()


def split_words(text: str) -> list[str]:
    """The words of a text without case and punctuation, also in scripts whose letters carry marks.

    Example:
        >>> split_words("Don't panic: it's a CO-STAR!")
        ['dont', 'panic', 'its', 'a', 'co', 'star']
    """
    return unicodedata.normalize("NFKC", text).casefold().translate(_FOLDING).split()


def fold_text(text: str) -> str:
    """What exact copies share: the words, or the characters of a text that has no word (`:-)`).

    Example:
        >>> fold_text("Goal!  GOAL?")
        'goal goal'
    """
    return " ".join(split_words(text)) or normalize_text(text)


def build_shingles(text: str, words: int = 3) -> frozenset[str]:
    """The runs of `words` words of a text; of texts with less than twice as many words, the runs of five characters.

    Example:
        >>> sorted(build_shingles("The ball hit the bar of the goal.", words=4))
        ['ball hit the bar', 'bar of the goal', 'hit the bar of', 'the ball hit the', 'the bar of the']
    """
    folded = fold_text(text)
    parts: Sequence[str] = folded.split()
    if len(parts) >= 2 * words:
        return frozenset(" ".join(parts[start : start + words]) for start in range(len(parts) - words + 1))
    # A blank at each end makes a word's start and end count, and gives a text of one letter a shingle.
    padded = f" {folded} "
    return frozenset(padded[start : start + CHARACTERS] for start in range(max(1, len(padded) - CHARACTERS + 1)))


def measure_overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard similarity of two sets that are not both empty, 0 to 1."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def choose_bands(threshold: float) -> tuple[int, int]:
    """Bands `b` and rows `r` of the signature: the longest rows (fewest false candidates) that keep the recall."""
    best = (1, 1)
    for rows in range(1, MOST_PERMUTATIONS):
        # At a threshold of 1 every band agrees; two bands are the least that datasketch takes.
        missed = 1 - threshold**rows
        bands = max(2, math.ceil(math.log(1 - RECALL) / math.log(missed))) if missed > 0 else 2
        if bands * rows > MOST_PERMUTATIONS:
            break
        best = (bands, rows)
    return best


class NearDuplicateIndex:
    """Texts by key, to be asked for near copies; the same texts in the same order always give the same answers.

    Args:
        threshold: Least Jaccard similarity of a near copy, from .1 to 1.
        words: Words of a shingle.

    Raises:
        ImportError: If datasketch is not installed.
        ValueError: If an argument is out of range.
    """

    def __init__(self, threshold: float = THRESHOLD, words: int = 3):
        if not 0.1 <= threshold <= 1:
            raise ValueError(
                f"Expected a threshold from 0.1 to 1, found {threshold}. Near copies share 0.6 or more of their shingles."
            )
        if words < 1:
            raise ValueError(f"Expected shingles of at least 1 word, found {words}. Three is usual.")
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise ImportError(
                "Expected datasketch for near-duplicates, found no such package. "
                'Install the extra: pip install "zeroshot[data]".'
            ) from error
        bands, rows = choose_bands(threshold)
        self.threshold = threshold
        self.words = words
        self._empty = MinHash(num_perm=bands * rows, seed=1)
        self._buckets = MinHashLSH(num_perm=bands * rows, params=(bands, rows))
        self._keys: list[str] = []
        self._shingles: dict[int, frozenset[str]] = {}
        self._folded: dict[str, int] = {}  # distinct text -> its position
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self._known)

    def _describe(self, text: str) -> tuple[frozenset[str], "MinHash"]:
        shingles = build_shingles(text, self.words)
        signature = self._empty.copy()
        signature.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in shingles])
        return shingles, signature

    def find_all(self, text: str) -> list[tuple[str, float]]:
        """Keys of the near copies of a text with their similarity, the most similar first, equals in order of arrival.

        Of stored texts that differ in case and punctuation only, the first stands for all.
        """
        shingles, signature = self._describe(text)
        near = self._list_near(shingles, signature)
        own = self._folded.get(fold_text(text))
        if own is not None:
            near[own] = 1.0
        ranked = sorted(near.items(), key=lambda found: (-found[1], found[0]))
        return [(self._keys[position], similarity) for position, similarity in ranked]

    def _list_near(self, shingles: frozenset[str], signature: "MinHash") -> dict[int, float]:
        candidates = self._buckets.query(signature)
        scored = {position: measure_overlap(shingles, self._shingles[position]) for position in candidates}
        return {position: similarity for position, similarity in scored.items() if similarity >= self.threshold}

    def find(self, text: str) -> str | None:
        """Key of the stored text that is most similar to `text`, or None where no near copy is stored."""
        found = self.find_all(text)
        return found[0][0] if found else None

    def add(self, key: str, text: str) -> None:
        """Store a text.

        Raises:
            ValueError: If the key is taken.
        """
        if key in self._known:
            raise ValueError(f"Expected a new key, found {key!r}, which is stored already. Give each text its own key.")
        self._known.add(key)
        folded = fold_text(text)
        if folded in self._folded:  # a thousand times "yes" would make every later "yes" slow
            return
        position = self._folded[folded] = len(self._keys)
        self._keys.append(key)
        shingles, signature = self._describe(text)
        if len(self._list_near(shingles, signature)) < MOST_COPIES:
            self._shingles[position] = shingles
            self._buckets.insert(position, signature, check_duplication=False)


def find_near_duplicates(texts: Sequence[str], threshold: float = THRESHOLD) -> list[tuple[int, int, float]]:
    """Pair each text with the most similar earlier one, where that is a near copy.

    Leaving out the second text of each pair leaves no near copies; the number of pairs grows with the texts, not with
    their square.

    Args:
        texts: The texts.
        threshold: Least Jaccard similarity, from .1 to 1; exact copies have 1.

    Returns:
        (earlier, later, similarity) by position from 0, in order of the later one.

    Example:
        >>> find_near_duplicates(["Lost parcel", "rain in the hills", "LOST parcel!"])
        [(0, 2, 1.0)]
    """
    index = NearDuplicateIndex(threshold)
    pairs = []
    for later, text in enumerate(tqdm(texts, desc="Comparing texts", disable=None)):
        found = index.find_all(text)
        if found:
            pairs.append((int(found[0][0]), later, found[0][1]))
        index.add(str(later), text)
    return pairs
