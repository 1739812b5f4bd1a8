"""Which language a text is in, as far as a machine can say.

A text is judged by py3langid, which compares byte n-grams; a label name of a few words only by its script, because below
eight words a language cannot be told reliably. So an English name in a list of German ones passes, a Russian one does not.
"""

import functools
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from ..data.duplicates import split_words

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LEAST_WORDS = 8  # below, names and numbers decide what a detector says
LEAST_SHARE = 0.05  # probability of the language asked for, below which it is ruled out
OTHER_SHARE = 0.5  # probability that another one must have for that


class Language(NamedTuple):
    """What is known of a language."""

    code: str  # ISO 639
    script: str = "LATIN"  # as Unicode names of its letters begin
    spaced: bool = True  # whether spaces part its words


LANGUAGES = {
    "arabic": Language("ar", "ARABIC"),
    "bengali": Language("bn", "BENGALI"),
    "bulgarian": Language("bg", "CYRILLIC"),
    "catalan": Language("ca"),
    "chinese": Language("zh", "CJK", spaced=False),
    "croatian": Language("hr"),
    "czech": Language("cs"),
    "danish": Language("da"),
    "dutch": Language("nl"),
    "english": Language("en"),
    "estonian": Language("et"),
    "finnish": Language("fi"),
    "french": Language("fr"),
    "german": Language("de"),
    "greek": Language("el", "GREEK"),
    "hebrew": Language("he", "HEBREW"),
    "hindi": Language("hi", "DEVANAGARI"),
    "hungarian": Language("hu"),
    "indonesian": Language("id"),
    "italian": Language("it"),
    "japanese": Language("ja", "", spaced=False),  # three scripts
    "korean": Language("ko", "HANGUL"),
    "latvian": Language("lv"),
    "lithuanian": Language("lt"),
    "norwegian": Language("no"),
    "persian": Language("fa", "ARABIC"),
    "polish": Language("pl"),
    "portuguese": Language("pt"),
    "romanian": Language("ro"),
    "russian": Language("ru", "CYRILLIC"),
    "slovak": Language("sk"),
    "slovenian": Language("sl"),
    "spanish": Language("es"),
    "swahili": Language("sw"),
    "swedish": Language("sv"),
    "tamil": Language("ta", "TAMIL"),
    "thai": Language("th", "THAI", spaced=False),
    "turkish": Language("tr"),
    "ukrainian": Language("uk", "CYRILLIC"),
    "urdu": Language("ur", "ARABIC"),
    "vietnamese": Language("vi"),
}
CODES = {language.code: language for language in LANGUAGES.values()}
# A detector takes these for each other; a text in one of a group passes for the others.
NEAR = ({"no", "nn", "da"}, {"hr", "bs", "sr", "sl"}, {"id", "ms"}, {"zh", "wuu", "yue"}, {"pt", "gl"}, {"es", "gl", "an"})


def get_language(name: str) -> Language | None:
    """What is known of a language, by its English name or its code; None for others, which are not checked."""
    folded = name.strip().casefold()
    return LANGUAGES.get(folded) or CODES.get(folded)


@functools.cache
def _load_identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def find_language_problem(text: str, name: str) -> str | None:
    """Say what is wrong if a text is clearly in another language than asked for.

    Args:
        text: Any text; one of fewer than eight words is not judged.
        name: English name or code of a language; one that is not known here is not judged.
    """
    language = get_language(name)
    if language is None or (language.spaced and len(split_words(text)) < LEAST_WORDS):
        return None
    shares = dict(_load_identifier().rank(text))
    best = max(shares, key=lambda code: shares[code])
    near = {language.code}.union(*(group for group in NEAR if language.code in group))
    if best in near or shares[best] < OTHER_SHARE or shares.get(language.code, 1) >= LEAST_SHARE:
        return None
    return f"Expected the text in {name}, found the language {best!r}. Write the text in {name}."


def find_script_problem(label: str, name: str) -> str | None:
    """Say what is wrong if a label name has no letter of the script of its language; `IT` may stand beside it."""
    language = get_language(name)
    if language is None or not language.script:
        return None
    letters = [letter for letter in label if letter.isalpha()]
    if any(unicodedata.name(letter, "").startswith(language.script) for letter in letters):
        return None
    found = "none of its letters" if letters else "no letter"
    return f"Expected label names in {name}, found {found} in {label!r}. Write the name in {name}."
