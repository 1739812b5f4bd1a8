"""Yes-or-no questions out of rows of any kind: a label against its denial, 'spam' against 'not spam'.

To a sentence encoder a label and its denial are nearly one vector, so that an untrained model answers such a question little
better than a coin. No label set teaches otherwise, because none but a yes-or-no set names what does not hold. Here a label
that is known to hold, or not to, is asked about: its denial is the opposite of that.

How poorly encoders of one vector read negations: NevIR, https://arxiv.org/abs/2305.07614.
"""

import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

from .splitting import normalize_text

DENIALS = {
    "not {}": 6,
    "no {}": 1,
    "non-{}": 1,
    "not about {}": 1,
    "other than {}": 1,
}  # wordings by how often they are drawn
HOLDING = 0.75  # share of the questions that are about a label that holds; with half of them denials win too often
DENIES = ("not ", "no ", "non-", "non ", "other than ", "without ", "never ")


class Question(NamedTuple):
    """Whether a label holds."""

    label: str
    denial: str
    holds: bool


def ask_question(
    holding: Sequence[str],
    failing: Sequence[str],
    *,
    rate: float,
    seed: str,
    taken: Collection[str] = (),
) -> Question | None:
    """Draw a question about one of a text's labels.

    Args:
        holding: Labels that hold.
        failing: Labels that are known not to.
        rate: Probability with which there is a question, 0 to 1. Where there are both kinds, [`HOLDING`] of them are about
            a label that holds.
        seed: Decides the draws.
        taken: Normalised names that a denial must not have, since they are used elsewhere.

    Returns:
        The question; None where there is none, be it that all labels deny something themselves.

    Example:
        >>> ask_question(["spam"], [], rate=1, seed="0-0-0")
        Question(label='spam', denial='not spam', holds=True)
    """
    generator = random.Random(f"{seed}-question")
    if generator.random() >= rate:
        return None
    true, untrue = list_deniable(holding), list_deniable(failing)
    if not true and not untrue:
        return None
    holds = bool(true) and (not untrue or generator.random() < HOLDING)
    label = generator.choice(true if holds else untrue)
    [wording] = generator.choices(list(DENIALS), list(DENIALS.values()))
    denial = wording.format(label)
    return None if normalize_text(denial) in taken else Question(label, denial, holds)


def list_deniable(names: Sequence[str]) -> list[str]:
    """Those that deny nothing yet: nobody writes 'not not urgent'."""
    return [name for name in names if not name.casefold().startswith(DENIES)]
