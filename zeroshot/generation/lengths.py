"""How long a text is to be: the phrases of a recipe, and the numbers in them."""

import math
import re

_NUMBERS = re.compile(r"(about |around |up to |at least )?(\d+)(?: ?(?:to|-|–) ?(\d+))? words?", re.IGNORECASE)


def read_word_range(length: str) -> tuple[int, float] | None:
    """The least and most words that a length asks for; None where it counts something else or nothing.

    Raises:
        ValueError: If it speaks of words in a way that is not understood.

    Example:
        >>> read_word_range("1,000 to 1,500 words"), read_word_range("about 30 words"), read_word_range("2 sentences")
        ((1000, 1500), (30, 30), None)
        >>> read_word_range("up to 20 words"), read_word_range("at least 100 words")
        ((0, 20), (100, inf))
    """
    if not re.search(r"\bwords?\b", length, re.IGNORECASE):
        return None
    match = _NUMBERS.fullmatch(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", " ".join(length.split())))
    if match is not None:
        side, low, high = (match[1] or "").lower(), int(match[2]), int(match[3] or match[2])
        if match[3] is None and side == "up to ":
            return 0, high
        if match[3] is None and side == "at least ":
            return low, math.inf
        if low <= high and side not in ("up to ", "at least "):
            return low, high
    raise ValueError(
        f"Expected a length such as '40 words', '10 to 25 words', 'up to 40 words' or 'at least 100 words', "
        f"found {length!r}. Write it so, or count something else, such as '2 sentences', which is not checked."
    )
