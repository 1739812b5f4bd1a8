"""Yes-or-no questions out of rows of any kind: a label against its denial, 'spam' against 'not spam'.

To a sentence encoder a label and its denial are nearly one vector, so that an untrained model answers such a question little
better than a coin, and rows whose labels deny nothing teach it nothing about that. Here a label that is known to hold, or to
fail, is asked about: its denial is the opposite of that.

How poorly encoders of one vector read negations: NevIR, https://arxiv.org/abs/2305.07614.
"""

import random
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from .splitting import normalize_text

# Wordings by how often they are drawn.
DENIALS = {"not {}": 6, "no {}": 1, "non-{}": 1, "not about {}": 1, "other than {}": 1}
HOLDING = 0.75  # share of the questions that are about a label that holds; with half of them denials win too often
DENIES = re.compile(r"\b(?:no|non|not|none|nothing|never|neither|nor|without|other than|anything but)\b|n['\u2019]t\b", re.I)


class Question(NamedTuple):
    """Whether a label holds."""

    label: str
    denial: str
    holds: bool


def ask_question(
    holding: Sequence[str], failing: Sequence[str], *, seed: str, taken: Collection[str] = ()
) -> Question | None:
    """Draw a question about one of a text's labels.

    Args:
        holding: Labels that hold.
        failing: Labels that are known not to. Where there are both kinds, [`HOLDING`] of the questions are about one that
            holds.
        seed: Decides the draws.
        taken: Normalised names that a denial must not have, since they mean something elsewhere.

    Returns:
        The question; None where all labels deny something themselves, or all denials of the drawn one are taken.

    Example:
        >>> ask_question(["spam"], [], seed="0-0-0")
        Question(label='spam', denial='not spam', holds=True)
    """
    generator = random.Random(f"{seed}-question")
    true, untrue = list_deniable(holding), list_deniable(failing)
    if not true and not untrue:
        return None
    holds = bool(true) and (not untrue or generator.random() < HOLDING)
    label = generator.choice(true if holds else untrue)
    free = {name: weight for name, weight in DENIALS.items() if normalize_text(name.format(label)) not in taken}
    if not free:
        return None
    [wording] = generator.choices(list(free), list(free.values()))
    return Question(label, wording.format(label), holds)


def list_deniable(names: Sequence[str]) -> list[str]:
    """Those without a word that denies: nobody writes 'not not urgent'."""
    return [name for name in names if not DENIES.search(name)]
