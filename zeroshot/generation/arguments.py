"""What a recipe of generated data can say: the keys of `configs/generate.yaml`, which the command line overrides."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from ..data.duplicates import THRESHOLD
from ..json_text import parse_json
from ..settings import COUNT, SHARE, Range, SettingsParser, check_ranges, describe_field
from .lengths import read_word_range
from .secrets import ADDRESS_VARIABLE, read_variable

ApiName = Literal["responses", "chat", "json"]
PRICE = Range(0)
KEY_MEND = "Set OPENAI_API_KEY in the environment or in a file .env; a recipe is shared, a key is not."
# Settings that change where, how fast or at what price rows are written, but not which rows are asked for.
WITHOUT_EFFECT = frozenset(
    """
    num_samples output_dir base_url api concurrency max_retries timeout max_output_tokens input_price output_price max_cost
    batch batch_discount poll_seconds dry_run push_to_hub public license
    """.split()  # noqa: SIM905 - one word a line would hide what they have in common
)


class LabelKind(TypedDict):
    """A kind of label: topic, emotion, document type."""

    description: str
    names: list[str]
    size: int  # names wanted; the model writes those that are missing
    most: int | None  # most names of it that one text may carry; None for any number


def _check_kind(kind: str, content: Any) -> LabelKind:
    def refuse(found: str) -> ValueError:
        return ValueError(
            f"Expected label kind {kind!r} as a mapping with description, names and maybe size and most, found {found}. "
            "Write it like {description: what it is about, names: [sports, politics], size: 40, most: 2}."
        )

    if not isinstance(content, dict):
        raise refuse(type(content).__name__)
    unknown = [key for key in content if key not in ("description", "names", "size", "most")]
    if unknown:
        raise refuse(f"the key {unknown[0]!r}")
    description, names = content.get("description", ""), content.get("names") or []
    if not isinstance(description, str):
        raise refuse(f"a description of type {type(description).__name__}")
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        wrong = (
            [name for name in names if not isinstance(name, str) or not name.strip()] if isinstance(names, list) else names
        )
        raise refuse(f"names {wrong!r} (words that YAML reads as something else, such as yes or 12:30, need quotes)")
    size, most = content.get("size"), content.get("most")
    for key, value in (("size", size), ("most", most)):
        if value is not None and (type(value) is not int or value < 1):
            raise refuse(f"{key} {value!r}")
    size = len(names) if size is None else size
    if size < max(1, len(names)):
        raise refuse(f"size {size} with {len(names)} names")
    return {"description": description.strip(), "names": [name.strip() for name in names], "size": size, "most": most}


def check_label_kinds(content: Any) -> dict[str, LabelKind]:
    """Check `label_kinds` of a recipe and fill in what may be left out.

    Raises:
        ValueError: If a kind is not described as it should be, or there is none.
    """
    if isinstance(content, str):
        try:
            content = parse_json(content)
        except ValueError as error:
            raise ValueError(
                f"Expected label_kinds as a JSON object, found {content!r}. It is easier to write in a recipe."
            ) from error
    if not isinstance(content, dict) or not content:
        found = "none" if not content else type(content).__name__
        raise ValueError(
            f"Expected label_kinds (a mapping from kind to description and names), found {found}. "
            "Start from a recipe: generate_data.py configs/generate.yaml."
        )
    return {str(kind): _check_kind(str(kind), one) for kind, one in content.items()}


@dataclass
class GenerationArguments:
    """What is generated, by which model, and how much it may cost."""

    num_samples: Annotated[int, COUNT] = describe_field("Rows to write.", 1000)
    output_dir: str = describe_field("Where rows, journal, manifest and card go.", "outputs/generated")
    model: str = describe_field("Name of the model, as the server calls it.", "gpt-4o-mini")
    base_url: str | None = describe_field("Address of a compatible server; OPENAI_BASE_URL or OpenAI's when left out.", None)
    api: Literal["auto", "responses", "chat", "json"] = describe_field(
        "Way of asking. auto: the first of the others that the server knows.", "auto"
    )
    seed: int = describe_field("Seed of the plan.", 0)
    label_kinds: dict | str | None = describe_field("Kinds of labels: description, names, and maybe size and most.", None)
    label_language: str = describe_field("Language of the label names.", "English")
    min_labels: Annotated[int, COUNT] = describe_field("Fewest labels of a text.", 2)
    max_labels: Annotated[int, COUNT] = describe_field("Most labels of a text.", 4)
    min_negatives: Annotated[int, Range(0)] = describe_field("Fewest hard negatives of a text.", 3)
    max_negatives: Annotated[int, Range(0)] = describe_field("Most hard negatives of a text.", 6)
    num_candidates: Annotated[int, COUNT] = describe_field("Names from the pool offered as negatives.", 16)
    descriptions: bool = describe_field("Whether the model describes each label in one line.", False)
    paraphrases: Annotated[int, Range(0)] = describe_field(
        "Other wordings of each label that the model writes into pool.json, to use by hand as names or templates.", 0
    )
    styles: list[str] = describe_field("Kinds of text, one drawn for each row.", ["plain prose"])
    lengths: list[str] = describe_field(
        "Lengths: '10 to 25 words', 'up to 40 words'; a count of words is checked.",
        ["10 to 40 words"],
    )
    registers: list[str] = describe_field("Registers, one drawn for each row.", ["neutral"])
    languages: list[str] = describe_field("Languages of the texts, one drawn for each row.", ["English"])
    text_label_overlap: Annotated[float, Range(0, highest=1)] = describe_field(
        "Highest share of the words of its labels that a text may hold; 1 allows all.", 0.5
    )
    duplicate_threshold: Annotated[float, Range(0.1, highest=1)] = describe_field(
        "Jaccard similarity of word triples from which a text counts as a copy.", THRESHOLD
    )
    max_attempts: Annotated[int, COUNT] = describe_field("Answers asked for an item before it is rejected.", 3)
    concurrency: Annotated[int, COUNT] = describe_field("Requests in flight.", 8)
    max_retries: Annotated[int, Range(0)] = describe_field(
        "Times a request is sent again after 429, 5xx or a lost connection.", 6
    )
    timeout: Annotated[float, Range(0.001)] = describe_field("Seconds until a request counts as lost.", 120.0)
    temperature: Annotated[float | None, Range(0)] = describe_field(
        "Sampling temperature; the server's when left out.", None
    )
    max_output_tokens: Annotated[int | None, COUNT] = describe_field("Most tokens of an answer.", None)
    input_price: Annotated[float | None, PRICE] = describe_field("USD per million input tokens.", None)
    output_price: Annotated[float | None, PRICE] = describe_field("USD per million output tokens.", None)
    max_cost: Annotated[float | None, PRICE] = describe_field(
        "USD after which no request is started; a batch is sized by it beforehand.", None
    )
    batch: bool = describe_field("Whether to use the Batch API: cheaper, within a day.", False)
    batch_discount: Annotated[float, SHARE] = describe_field("Share of the price that a batch saves.", 0.5)
    poll_seconds: Annotated[float, Range(0.001)] = describe_field("Seconds between two looks at a batch.", 30.0)
    dry_run: bool = describe_field("Whether to show prompts and an estimate and send nothing.", False)
    license: str = describe_field("Licence in the data card, as the Hub names it.", "unknown")
    push_to_hub: str | None = describe_field("Data set to push to, user/name; private.", None)
    public: bool = describe_field("Whether the pushed data set is public.", False)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.base_url is None:
            self.base_url = read_variable(ADDRESS_VARIABLE)
        for length in self.lengths:
            read_word_range(length)
        self.label_kinds = check_label_kinds(self.label_kinds)
        for name in ("styles", "lengths", "registers", "languages"):
            entries = getattr(self, name)
            if not entries or not all(entry.strip() for entry in entries):
                raise ValueError(f"Expected entries in {name}, found {entries}. Write at least one.")
        for low, high in (("min_labels", "max_labels"), ("min_negatives", "max_negatives")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"Expected {low} up to {high}, found {getattr(self, low)} and {getattr(self, high)}. Swap them."
                )
        if self.num_candidates < self.max_negatives:
            raise ValueError(
                f"Expected num_candidates of at least max_negatives ({self.max_negatives}), found {self.num_candidates}. "
                "Offer more names than are to be chosen."
            )
        self._check_money()
        if self.push_to_hub is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.push_to_hub):
            raise ValueError(f"Expected push_to_hub as user/name, found {self.push_to_hub!r}. Write the name so.")
        if self.public and self.push_to_hub is None:
            raise ValueError("Expected push_to_hub with public, found none. Say where to push, or leave public out.")

    def _check_money(self) -> None:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError(
                f"Expected input_price and output_price together, found {self.input_price} and {self.output_price}. "
                "Give both in USD per million tokens; a local server costs 0 and 0."
            )
        if self.max_cost is not None and self.input_price is None:
            raise ValueError(
                "Expected input_price and output_price with max_cost, found none. "
                "Copy the provider's list price, in USD per million tokens, into the recipe."
            )

    @property
    def kinds(self) -> dict[str, LabelKind]:
        """The checked label kinds."""
        return self.label_kinds  # type: ignore[return-value]  # a dictionary since __post_init__


def parse_arguments(arguments: Sequence[str]) -> GenerationArguments:
    """Parse `CONFIG.yaml [--key value ...]`.

    Raises:
        FileNotFoundError: If the recipe is not there.
        ValueError: If a key is unknown or a value does not fit; a key of the provider has no place here.
    """
    mends = dict.fromkeys(("api_key", "openai_api_key", "key", "token"), KEY_MEND)
    return SettingsParser((GenerationArguments,), "generate_data.py", mends).parse(arguments)[0]
