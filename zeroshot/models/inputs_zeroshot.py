"""From texts and label names to tensors: the one way in, for training, evaluation and serving."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils import logging

logger = logging.get_logger(__name__)

HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # half a surrogate pair, as of a cut emoji: no tokenizer takes it


class TextError(ValueError):
    """One text of several is refused; whoever knows it by another place than its position says it with `tell`.

    Args:
        found: What was expected and what was found.
        position: Of the text, from 0.
        mend: What to do about it.
    """

    def __init__(self, found: str, position: int, mend: str) -> None:
        super().__init__(found, position, mend)
        self.found, self.position, self.mend = found, position, mend

    def tell(self, place: str) -> str:
        """The message, with the place of the text in these words."""
        return f"{self.found} {place}. {self.mend}"

    def __str__(self) -> str:
        return self.tell(f"at position {self.position}")


def _check_strings(strings: Iterable[str], kind: str, *, mend_type: str, mend_empty: str) -> list[str]:
    if not isinstance(strings, Iterable):
        raise TypeError(f"Expected a list of {kind}s, found {type(strings).__name__}: {strings!r}. Pass a list of strings.")
    strings = list(strings)
    for position, string in enumerate(strings):
        if not isinstance(string, str):
            raise TypeError(
                f"Expected every {kind} to be a string, found {type(string).__name__} at position {position}: {string!r}. "
                f"{mend_type}"
            )
        if not string.strip():
            raise ValueError(f"Expected every {kind} to hold words, found {string!r} at position {position}. {mend_empty}")
        if half := HALF_CHARACTER.search(string):
            raise ValueError(
                f"Expected every {kind} to be valid Unicode, found half a surrogate pair ({half.group()!r}) at position "
                f"{position}. Write it anew or leave it out."
            )
    return strings


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return the texts as a list.

    Raises:
        TypeError: If there is no list, or a text is not a string; the message names its position.
        ValueError: If a text is empty, only whitespace, or not valid Unicode.
    """
    if isinstance(texts, str):
        raise TypeError(f"Expected a list of texts, found one string. Put it in a list: [{texts[:80]!r}].")
    return _check_strings(
        texts, "text", mend_type="Convert it to text or leave it out.", mend_empty="Leave empty texts out."
    )


def check_candidate_labels(candidate_labels: str | Iterable[str]) -> list[str]:
    """Return the candidate labels as a list; a string is split at its commas.

    Raises:
        TypeError: If there is no list, or a label is not a string; the message names its position.
        ValueError: If there is no label, or a label is empty, not valid Unicode, or stands there twice.
    """
    if isinstance(candidate_labels, str):
        candidate_labels = [label.strip() for label in candidate_labels.split(",") if label.strip()]
    mend = "Pass label names like ['sports', 'politics']."
    labels = _check_strings(candidate_labels, "candidate label", mend_type=mend, mend_empty="Leave it out.")
    if not labels:
        raise ValueError(f"Expected at least one candidate label, found none. {mend}")
    first_position: dict[str, int] = {}
    for position, label in enumerate(labels):
        if label in first_position:
            raise ValueError(
                f"Expected distinct candidate labels, found {label!r} at positions {first_position[label]} and "
                f"{position}. Leave one of them out."
            )
        first_position[label] = position
    return labels


def check_batch_size(batch_size: int) -> int:
    """Return the batch size.

    Raises:
        ValueError: If it is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"Expected a batch size of at least 1, found {batch_size}. Raise batch_size.")
    return batch_size


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


def tokenize_classes(tokenizer: PreTrainedTokenizerBase, class_texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Turn worded labels into token ids; a label is never cut, and cannot smuggle in a token that steers the model.

    Args:
        tokenizer: The encoder's tokenizer.
        class_texts: Label names, already put into a template.
        max_tokens: The most tokens of a label, special tokens included.

    Raises:
        ValueError: If a label is too long, or holds a reserved token such as `[SEP]`.
    """
    special_tokens = tokenizer.all_special_tokens
    for text in class_texts:
        reserved = next((token for token in special_tokens if token in text), None)
        if reserved is not None:
            raise ValueError(
                f"Expected label names without the tokenizer's reserved tokens, found {reserved!r} in {text[:80]!r}. "
                "Write it in other characters."
            )
    return tokenize(tokenizer, class_texts, max_tokens, overflow="error")


def pad(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[Sequence[int]]) -> BatchEncoding:
    """Return `input_ids` and `attention_mask`, both (rows, longest row), int64."""
    return tokenizer.pad(
        {"input_ids": list(token_ids)}, padding=True, padding_side="right", return_attention_mask=True, return_tensors="pt"
    )


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
        ValueError: If a label is longer than `max_tokens` tokens, or holds a reserved token.
    """
    inputs = pad(tokenizer, tokenize(tokenizer, texts, max_tokens, overflow=overflow))
    classes = pad(tokenizer, tokenize_classes(tokenizer, class_texts, max_tokens))
    inputs["class_input_ids"] = classes["input_ids"]
    inputs["class_attention_mask"] = classes["attention_mask"]
    return inputs
