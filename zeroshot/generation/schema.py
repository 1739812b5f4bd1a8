"""What the model may answer, as Pydantic types: strict structured output cannot name a label that was not offered."""

import json
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model


class TextAnswer(BaseModel):
    """One text with its hard negatives, or the reason why the labels cannot live in one text."""

    impossible: str | None = Field(None, description="Why no text can carry all labels; null if one can.")
    text: str = Field(description="The text.")
    negatives: list[str] = Field(description="Offered names that seem to hold and do not.")


class NamesAnswer(BaseModel):
    """New label names of a kind."""

    names: list[str] = Field(description="Label names.")


class LabelNote(BaseModel):
    """What is said about a label beside its name."""

    name: str = Field(description="The label name, unchanged.")
    description: str = Field(description="One line that says when the label holds.")
    paraphrases: list[str] = Field(description="Other wordings of the name.")


class NotesAnswer(BaseModel):
    """Notes on several labels."""

    labels: list[LabelNote] = Field(description="One entry for each name.")


Answer = TypeVar("Answer", bound=BaseModel)


def build_answer_type(candidates: Sequence[str]) -> type[TextAnswer]:
    """The type of an answer whose negatives are among the candidates."""
    # There is no Literal of nothing; where no name is to spare, the row is checked against the offered names.
    offered: Any = list[Literal[tuple(candidates)]] if candidates else list[str]  # type: ignore[misc]
    return create_model("Answer", __base__=TextAnswer, negatives=(offered, TextAnswer.model_fields["negatives"]))


def find_json_object(text: str) -> dict[str, Any]:
    """The first JSON object in an answer, between words or in a code fence.

    Raises:
        ValueError: If there is none that is whole.

    Example:
        >>> find_json_object('Here you are: ```json {"a": 1} ```')
        {'a': 1}
    """
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            start = text.find("{", start + 1)
        else:
            return found
    shown = repr(text[:80]) + ("..." if len(text) > 80 else "")
    raise ValueError(f"Expected a JSON object, found {shown or 'nothing'}. Answer with one whole JSON object.")


def _describe_error(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "answer"
    if error["type"] == "literal_error":
        found = repr(error["input"])[:80]
        return f"Expected {place} to be one of the names offered, found {found}. Choose from the list, letter by letter."
    if error["type"] == "missing":
        return f"Expected the field {place}, found none. Answer with all fields."
    return f"Expected {place} to fit the schema, found {repr(error['input'])[:80]} ({error['msg']}). Mend it."


def parse_answer(text: str, answer_type: type[Answer]) -> Answer:
    """Read an answer.

    Raises:
        ValueError: In words that the model can be sent.
    """
    found = find_json_object(text)
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Expected valid Unicode, found half a surrogate pair ({error.reason}). Write the character whole."
        ) from error
    try:
        return answer_type.model_validate(found)
    except ValidationError as error:
        problems = [_describe_error(one) for one in error.errors(include_url=False)[:3]]
        raise ValueError(" ".join(problems)) from error
