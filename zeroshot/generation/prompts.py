"""What the model is told. The manifest holds a hash of these words, so that rows of other words do not mix."""

import hashlib
import json
from collections.abc import Sequence

from .arguments import GenerationArguments
from .plan import PlanItem
from .schema import LabelNote, NamesAnswer, NotesAnswer, TextAnswer

INSTRUCTIONS = """\
You write training data for a text classifier that is given a text and label names it has never seen. For each request \
write ONE text that carries ALL the labels listed, as a careful reader would agree, in the style, length, register and \
language that are asked for.

The text:
- It shows its labels instead of naming them: what happens, how it is said and to whom let the reader infer each one. Do \
not use the words of the label names where other words will do, and never list them.
- It reads as if a particular person had written it for a reason of their own: concrete people, places, objects, amounts. \
No title, no explanation, no quotation marks around it, no mention of labels or of this task.
- It stands alone, invents no personal data of real people, and takes an angle that few others would take.

The negatives:
- From the names offered choose {negatives} that a hasty reader would tick because the text is near them in topic, words or \
mood, and that a careful reader would rule out. If you hesitate whether a name holds, do not choose it.
- Copy each name letter by letter.

If no sensible text can carry all labels at once, say why in "impossible" and leave "text" and "negatives" empty. \
Otherwise "impossible" is null.

The kinds of labels:
{kinds}"""

ITEM = """\
Labels that must all hold:
{labels}

Style: {style}
Length: {length}
Register: {register}
Language of the text: {language}

Names offered as negatives:
{candidates}"""

RETRY = """\
{item}

Your answer to this was refused.
Answer: {answer}
Reason: {problem}
Write a new answer that mends this."""

JSON_FORM = """\
{instructions}

Answer with one JSON object and nothing else, no code fence. It fits this JSON schema:
{schema}"""

POOL_INSTRUCTIONS = """\
You build the label set of a text classifier. Label names are 1 to 5 words of {language}, lower case unless they hold a \
proper name, distinct in meaning, and none is a mere variation of another."""

NAMES = """\
Write {number} more label names of the kind "{kind}"{description}.
They stand beside these names and must differ from all of them: {known}.{problem}"""

NOTES = """\
For each label name below write a description of one line that says when the label holds of a text, without merely \
repeating the name{paraphrases}.
The names, of the kind "{kind}"{description}:
{names}{problem}"""

TEMPLATES = (INSTRUCTIONS, ITEM, RETRY, JSON_FORM, POOL_INSTRUCTIONS, NAMES, NOTES)
SHOWN_ANSWER = 2000  # characters of a refused answer that are sent back


def hash_prompts() -> str:
    """SHA-256 of all templates and of what the answers' fields say of themselves."""
    answers = (TextAnswer, NamesAnswer, LabelNote, NotesAnswer)
    fields = [[name, field.description] for answer in answers for name, field in answer.model_fields.items()]
    return hashlib.sha256(json.dumps([TEMPLATES, fields]).encode()).hexdigest()


def _name_kind(kind: str) -> str:
    return kind.replace("_", " ")


def _state_problem(problem: str | None) -> str:
    return f"\nYour last answer was refused: {problem}" if problem else ""


def _state_description(description: str) -> str:
    return f" ({description.rstrip('.')})" if description else ""


def build_instructions(arguments: GenerationArguments) -> str:
    """The instructions that every request for a text shares."""
    low, high = arguments.min_negatives, arguments.max_negatives
    kinds = [f"- {_name_kind(kind)}{_state_description(one['description'])}" for kind, one in arguments.kinds.items()]
    return INSTRUCTIONS.format(negatives=str(low) if low == high else f"{low} to {high}", kinds="\n".join(kinds))


def build_item_prompt(item: PlanItem, descriptions: dict[str, str]) -> str:
    """The request for one text.

    Args:
        item: What is asked for.
        descriptions: One line by label name, as far as there are any.
    """
    labels = [f"- {_name_kind(kind)}: {name}{_state_description(descriptions.get(name, ''))}" for kind, name in item.labels]
    return ITEM.format(
        labels="\n".join(labels),
        style=item.style,
        length=item.length,
        register=item.register,
        language=item.language,
        candidates="\n".join(f"- {name}" for name in item.candidates),
    )


def build_retry_prompt(prompt: str, answer: str, problem: str) -> str:
    """The request again, with the refused answer and the reason."""
    return RETRY.format(item=prompt, answer=answer[:SHOWN_ANSWER] or "(none)", problem=problem)


def build_json_instructions(instructions: str, schema: dict) -> str:
    """Instructions for a server that knows no structured output."""
    return JSON_FORM.format(instructions=instructions, schema=json.dumps(schema, ensure_ascii=False))


def build_pool_instructions(arguments: GenerationArguments) -> str:
    """The instructions that requests about label names share."""
    return POOL_INSTRUCTIONS.format(language=arguments.label_language)


def build_names_prompt(kind: str, description: str, number: int, known: Sequence[str], problem: str | None) -> str:
    """The request for further names of a kind."""
    return NAMES.format(
        number=number,
        kind=_name_kind(kind),
        description=_state_description(description),
        known=", ".join(known) or "(none yet)",
        problem=_state_problem(problem),
    )


def build_notes_prompt(kind: str, description: str, names: Sequence[str], paraphrases: int, problem: str | None) -> str:
    """The request for descriptions and paraphrases of names."""
    wanted = f", and {paraphrases} other wordings of the name" if paraphrases else "; leave the paraphrases empty"
    return NOTES.format(
        paraphrases=wanted,
        kind=_name_kind(kind),
        description=_state_description(description),
        names="\n".join(f"- {name}" for name in names),
        problem=_state_problem(problem),
    )
