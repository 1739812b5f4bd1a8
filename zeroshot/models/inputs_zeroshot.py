"""From texts and label names to tensors: the one way in, for training, evaluation and serving."""

from collections.abc import Sequence
from typing import Literal

from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils import logging

logger = logging.get_logger(__name__)


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list.

    Raises:
        TypeError: If a text is not a string; the message names its position.
        ValueError: If a text is empty or only whitespace.
    """
    texts = list(texts)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"Expected every text to be a string, found {type(text).__name__} at position {position}: {text!r}. "
                "Convert it to text or leave it out."
            )
        if not text.strip():
            raise ValueError(
                f"Expected every text to hold words, found {text!r} at position {position}. Leave empty texts out."
            )
    return texts


def check_candidate_labels(candidate_labels: str | Sequence[str]) -> list[str]:
    """Return the candidate labels as a list; a string is split at its commas.

    Raises:
        TypeError: If a label is not a string; the message names its position.
        ValueError: If there is no label, or a label is empty, or stands there twice.
    """
    if isinstance(candidate_labels, str):
        candidate_labels = [label.strip() for label in candidate_labels.split(",") if label.strip()]
    labels = list(candidate_labels)
    if not labels:
        raise ValueError("Expected at least one candidate label, found none. Pass label names like ['sports', 'politics'].")
    first_position: dict[str, int] = {}
    for position, label in enumerate(labels):
        if not isinstance(label, str):
            raise TypeError(
                f"Expected every candidate label to be a string, found {type(label).__name__} at position {position}: "
                f"{label!r}. Pass label names like ['sports', 'politics']."
            )
        if not label.strip():
            raise ValueError(
                f"Expected every candidate label to hold words, found {label!r} at position {position}. Leave it out."
            )
        if label in first_position:
            raise ValueError(
                f"Expected distinct candidate labels, found {label!r} at positions {first_position[label]} and "
                f"{position}. Leave one of them out."
            )
        first_position[label] = position
    return labels


def check_labels_per_text(
    candidate_labels: str | Sequence[str] | Sequence[Sequence[str]], num_texts: int
) -> list[list[str]]:
    """Return one list of candidate labels per text, from one list for all or from one list per text.

    Raises:
        ValueError: If there are lists per text but not as many as texts, or a list is not valid by itself.
    """
    if isinstance(candidate_labels, str) or not any(
        isinstance(entry, Sequence) and not isinstance(entry, str) for entry in candidate_labels
    ):
        return [check_candidate_labels(candidate_labels)] * num_texts  # type: ignore[arg-type]
    if len(candidate_labels) != num_texts:
        raise ValueError(
            f"Expected one list of candidate labels per text, found {len(candidate_labels)} lists for {num_texts} texts. "
            "Pass one list per text, or one flat list for all texts."
        )
    checked = []
    for position, labels in enumerate(candidate_labels):
        if isinstance(labels, str):
            raise TypeError(
                f"Expected a list of labels for every text, found the string {labels!r} at position {position}. "
                f"Write [{labels!r}]."
            )
        try:
            checked.append(check_candidate_labels(labels))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Candidate labels of text {position}: {error}") from error
    return checked


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
    *,
    overflow: Literal["error", "warn", "cut"],
) -> list[list[int]]:
    """Turn strings into token ids with special tokens, unpadded.

    Args:
        tokenizer: The encoder's tokenizer.
        texts: Strings of any content.
        max_tokens: The most tokens of one string, special tokens included.
        overflow: What happens to longer strings: `error` refuses them, `warn` cuts them and says how many, `cut` is
            for callers that have counted them already.

    Returns:
        One list of ids per string.

    Raises:
        ValueError: If a string is too long and `overflow` is `error`.
    """
    if not texts:
        return []
    # `verbose=False`: the tokenizer's own warning about long inputs does not know our limit.
    token_ids = tokenizer(list(texts), add_special_tokens=True, verbose=False)["input_ids"]
    too_long = [position for position, ids in enumerate(token_ids) if len(ids) > max_tokens]
    if not too_long:
        return token_ids
    first = too_long[0]
    if overflow == "error":
        raise ValueError(
            f"Expected labels of at most {max_tokens} tokens, found one of {len(token_ids[first])}: "
            f"{texts[first][:80]!r}... Shorten it; a label is never cut."
        )
    if overflow == "warn":
        logger.warning(
            f"{len(too_long)} of {len(texts)} texts are longer than the model's {max_tokens} tokens and were cut "
            f"(the first, at position {first}, has {len(token_ids[first])})."
        )
    shortened = tokenizer([texts[position] for position in too_long], truncation=True, max_length=max_tokens)["input_ids"]
    for position, ids in zip(too_long, shortened, strict=True):
        token_ids[position] = ids
    return token_ids


def pad(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[Sequence[int]]) -> BatchEncoding:
    """Return `input_ids` and `attention_mask`, both (rows, longest row), int64."""
    return tokenizer.pad({"input_ids": list(token_ids)}, padding=True, return_attention_mask=True, return_tensors="pt")


def build_inputs(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    class_texts: Sequence[str],
    max_tokens: int,
    *,
    overflow: Literal["error", "warn", "cut"] = "warn",
) -> BatchEncoding:
    """Turn B texts and N worded labels into the tensors that `forward` takes.

    Args:
        tokenizer: The encoder's tokenizer.
        texts: B texts.
        class_texts: N label names, already put into a template.
        max_tokens: The most tokens of a text or a label.
        overflow: What happens to texts beyond it, see [`tokenize`]. Labels beyond it are always refused.

    Returns:
        `input_ids`, `attention_mask` (B, S) and `class_input_ids`, `class_attention_mask` (N, L), int64.

    Raises:
        ValueError: If a label is longer than `max_tokens` tokens.
    """
    inputs = pad(tokenizer, tokenize(tokenizer, texts, max_tokens, overflow=overflow))
    classes = pad(tokenizer, tokenize(tokenizer, class_texts, max_tokens, overflow="error"))
    inputs["class_input_ids"] = classes["input_ids"]
    inputs["class_attention_mask"] = classes["attention_mask"]
    return inputs
