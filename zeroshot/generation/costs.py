"""Tokens and money."""

import math
from typing import TypedDict

from .arguments import GenerationArguments
from .lengths import read_word_range

CHARACTERS_PER_TOKEN = 4  # of English; other scripts have fewer, so an estimate for them is too low
TOKENS_PER_WORD = 1.5
USUAL_WORDS = 40  # of a text whose length counts no words
ANSWER_FRAME = 60  # tokens of an answer beside its text: braces, field names, negatives


class Usage(TypedDict):
    """Tokens of one request."""

    input_tokens: int
    output_tokens: int
    estimated: bool  # the server gave none: counted from characters


def estimate_tokens(text: str) -> int:
    """Tokens of a text, by its characters."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def estimate_answer_tokens(length: str) -> int:
    """Tokens of an answer, by the length that was asked for.

    Example:
        >>> estimate_answer_tokens("10 to 20 words")
        90
    """
    low, high = read_word_range(length) or (0, USUAL_WORDS)
    return round(TOKENS_PER_WORD * (low * 2 if math.isinf(high) else high)) + ANSWER_FRAME


def compute_cost(usage: Usage, arguments: GenerationArguments, *, batch: bool = False) -> float:
    """Cost in USD at the recipe's prices; 0 where it has none."""
    if arguments.input_price is None or arguments.output_price is None:
        return 0.0
    full = usage["input_tokens"] * arguments.input_price + usage["output_tokens"] * arguments.output_price
    return full / 1e6 * (1 - arguments.batch_discount if batch else 1)
