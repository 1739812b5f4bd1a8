"""Whether an answer becomes a row. Each problem is a sentence that is sent back to the model."""

from typing import TypedDict

from ..data.duplicates import NearDuplicateIndex, split_words
from .arguments import GenerationArguments
from .languages import find_language_problem, get_language
from .lengths import read_word_range
from .plan import PlanItem
from .schema import TextAnswer

LENGTH_FACTOR = 2  # how far a text may be from the number of words asked for
ECHO_SHARE = 0.5  # of a text's runs of three words: from here on it is an echo of the request


class GeneratedRow(TypedDict):
    """A row of `train.jsonl`."""

    id: str
    text: str
    labels: list[str]
    negatives: list[str]
    language: str
    style: str


def format_id(index: int) -> str:
    """The id of an item's row."""
    return f"{index:06d}"


def build_row(item: PlanItem, answer: TextAnswer) -> GeneratedRow:
    """The row of an accepted answer."""
    return {
        "id": format_id(item.index),
        "text": answer.text.strip(),
        "labels": item.label_names,
        "negatives": list(answer.negatives),
        "language": item.language,
        "style": item.style,
    }


def _share_runs(words: list[str], others: list[str]) -> float:
    """The share of the runs of three words of a text that stand in another."""
    size = min(3, len(words))
    runs, known = ({tuple(some[i : i + size]) for i in range(len(some) - size + 1)} for some in (words, others))
    return len(runs & known) / len(runs)


def _find_text_problems(item: PlanItem, text: str, asked: str, arguments: GenerationArguments) -> list[str]:
    if not text or not split_words(text):
        return ["Expected a text with words, found an empty one. Write the text."]
    problems = []
    words = split_words(text)
    bounds = read_word_range(item.length)
    language = get_language(item.language)
    spaced = language is None or language.spaced
    if bounds and spaced and not bounds[0] / LENGTH_FACTOR <= len(text.split()) <= bounds[1] * LENGTH_FACTOR:
        problems.append(f"Expected a text of {item.length}, found {len(text.split())}. Keep to the length.")
    label_words = {word for name in item.label_names for word in split_words(name)}
    named = sorted(label_words & set(words))
    if set(words) <= label_words:
        problems.append("Expected a text that shows its labels, found nothing but their words. Write a real text.")
    elif len(named) > arguments.text_label_overlap * len(label_words):
        problems.append(
            f"Expected a text that shows its labels instead of naming them, found their words {', '.join(named)}. "
            "Say it in other words."
        )
    if _share_runs(words, split_words(asked)) >= ECHO_SHARE:
        problems.append("Expected a text of your own, found words of the request. Write a real text.")
    problems.append(find_language_problem(text, item.language) or "")
    return [problem for problem in problems if problem]


def _find_negative_problems(item: PlanItem, negatives: list[str], arguments: GenerationArguments) -> list[str]:
    problems = []
    folded = [name.casefold() for name in negatives]
    if len(set(folded)) < len(folded):
        repeated = next(name for name in negatives if folded.count(name.casefold()) > 1)
        problems.append(f"Expected distinct negatives, found {repeated!r} twice. Name each once.")
    low, high = arguments.min_negatives, arguments.max_negatives
    if not low <= len(set(folded)) <= high:
        problems.append(
            f"Expected {low} to {high} negatives, found {len(set(folded))}. Choose so many from the names offered."
        )
    labels = {name.casefold() for name in item.label_names}
    both = [name for name in negatives if name.casefold() in labels]
    if both:
        problems.append(f"Expected negatives that do not hold, found the label {both[0]!r}. Leave it out.")
    foreign = [name for name in negatives if name not in item.candidates and name not in both]
    if foreign:
        problems.append(f"Expected negatives among the names offered, found {foreign[0]!r}. Choose from the list.")
    return problems


def check_answer(
    item: PlanItem, answer: TextAnswer, asked: str, arguments: GenerationArguments, accepted: NearDuplicateIndex
) -> GeneratedRow:
    """Turn an answer into a row.

    Args:
        item: What was asked for.
        answer: An answer that fits the schema.
        asked: Instructions and request, without an earlier answer in it, which may be mended word for word.
        arguments: Bounds of the recipe.
        accepted: The texts accepted before.

    Raises:
        ValueError: With every problem, in words that the model can be sent.
    """
    text = answer.text.strip()
    problems = _find_text_problems(item, text, asked, arguments)
    problems += _find_negative_problems(item, answer.negatives, arguments)
    if not problems and (copy := accepted.find(text)) is not None:
        problems.append(f"Expected a new text, found a near copy of row {copy}. Write about something else.")
    if problems:
        raise ValueError(" ".join(problems))
    return build_row(item, answer)
