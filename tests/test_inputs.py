"""From texts and label names to tensors: what is refused, what is cut, what is padded, and that nothing else changes."""

import logging
import re
from typing import Any

import pytest
import torch
from transformers import BertTokenizerFast

from zeroshot.models.inputs_zeroshot import (
    build_inputs,
    check_candidate_labels,
    check_texts,
    pad,
    tokenize,
)

from .conftest import LABELS, TEXTS, build_tokenizer

ODD_BUT_VALID = ["שלום", "👩‍👩‍👧 hi", "a\x00b", "  lead", "tab\tnew\nline", "{}", "a,b", "e\u0301", "9" * 5000]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return build_tokenizer()


# -- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [list, tuple, iter])
def test_valid_texts_and_labels_pass_unchanged(make: type) -> None:
    assert check_texts(make(ODD_BUT_VALID)) == ODD_BUT_VALID
    assert check_candidate_labels(make(ODD_BUT_VALID)) == ODD_BUT_VALID


@pytest.mark.parametrize("value", [None, 3, 1.5, b"bytes", ["list"], {"text": "x"}])
def test_what_is_no_string_is_refused_with_its_position(value: Any) -> None:
    found = f"found {type(value).__name__} at position 1: {value!r}."
    with pytest.raises(TypeError, match=re.escape(f"Expected every text to be a string, {found} Convert it")):
        check_texts(["fine", value])
    with pytest.raises(TypeError, match=re.escape(f"Expected every candidate label to be a string, {found} Pass label")):
        check_candidate_labels(["fine", value])


@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u00a0", "\u3000"])
def test_empty_strings_are_refused_with_their_position(value: str) -> None:
    found = f"found {value!r} at position 1."
    with pytest.raises(ValueError, match=re.escape(f"Expected every text to hold words, {found} Leave empty texts out.")):
        check_texts(["fine", value])
    with pytest.raises(ValueError, match=re.escape(f"Expected every candidate label to hold words, {found} Leave it out.")):
        check_candidate_labels(["fine", value])


def test_half_a_surrogate_pair_is_refused_with_its_position() -> None:
    """The tokenizer would speak of TextEncodeInput and not say which text."""
    with pytest.raises(ValueError, match="Expected .*position 1"):
        check_texts(["fine", "\ud83d cut emoji"])
    with pytest.raises(ValueError, match="Expected .*position 1"):
        check_candidate_labels(["fine", "\ud83d"])


def test_one_string_is_no_list_of_texts() -> None:
    """Each of its characters would be scored as a text."""
    with pytest.raises(TypeError, match=r"Expected .*list.*\['goal'\]"):
        check_texts("goal")


@pytest.mark.parametrize("value", [None, 3])
def test_what_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=f"Expected .*found {type(value).__name__}"):
        check_texts(value)
    with pytest.raises(TypeError, match=f"Expected .*found {type(value).__name__}"):
        check_candidate_labels(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sports", ["sports"]),
        ("sports,politics law", ["sports", "politics law"]),
        (" sports , שלום 🎉 ", ["sports", "שלום 🎉"]),
        ("sports,,politics,", ["sports", "politics"]),
    ],
)
def test_a_string_of_labels_is_split_at_its_commas(text: str, expected: list[str]) -> None:
    assert check_candidate_labels(text) == expected


@pytest.mark.parametrize("labels", [[], (), "", " , ,"])
def test_no_labels_are_refused(labels: Any) -> None:
    message = "Expected at least one candidate label, found none. Pass label names like ['sports', 'politics']."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_candidate_labels(labels)


@pytest.mark.parametrize("labels", [["a", "b", "a"], "a, b ,a"])
def test_repeated_labels_are_refused_with_both_positions(labels: Any) -> None:
    message = "Expected distinct candidate labels, found 'a' at positions 0 and 2. Leave one of them out."
    with pytest.raises(ValueError, match=re.escape(message)):
        check_candidate_labels(labels)


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_every_string_is_tokenized_by_itself(tokenizer: BertTokenizerFast) -> None:
    together = tokenize(tokenizer, TEXTS + ODD_BUT_VALID[:-1], 64, overflow="error")
    assert together == [tokenizer(text)["input_ids"] for text in TEXTS + ODD_BUT_VALID[:-1]]
    assert all(ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id for ids in together)
    assert tokenize(tokenizer, [], 64, overflow="error") == []


def test_a_string_of_exactly_the_limit_is_whole(tokenizer: BertTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert tokenize(tokenizer, ["a b c"], 5, overflow="warn") == tokenize(tokenizer, ["a b c"], 5, overflow="error")
    assert caplog.text == ""


@pytest.mark.parametrize("overflow", ["warn", "cut"])
def test_longer_texts_keep_their_beginning_and_the_special_tokens(tokenizer: BertTokenizerFast, overflow: Any) -> None:
    short, long = tokenize(tokenizer, ["a", "b c d e f"], 5, overflow=overflow)
    assert short == tokenizer("a")["input_ids"]
    assert long == tokenizer("b c d")["input_ids"]


def test_cut_texts_are_counted_in_a_warning(tokenizer: BertTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenize(tokenizer, ["a", "b c d e f", "a a a a"], 5, overflow="warn")
    message = "2 of 3 texts are longer than the model's 5 tokens and were cut (the first, at position 1, has 7)."
    assert [record.getMessage() for record in caplog.records] == [message]


def test_cutting_without_a_word_is_for_callers_that_counted(
    tokenizer: BertTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tokenize(tokenizer, ["b c d e f"], 5, overflow="cut")
    assert caplog.text == ""


def test_a_label_is_never_cut(tokenizer: BertTokenizerFast) -> None:
    message = f"Expected labels of at most 5 tokens, found one of 102: {'b ' * 40!r}... Shorten it; a label is never cut."
    for overflow in ("error", "warn", "cut"):
        with pytest.raises(ValueError, match=re.escape(message)):
            build_inputs(tokenizer, ["a"], ["a", "b " * 100], 5, overflow=overflow)  # type: ignore[arg-type]


def test_cutting_leaves_no_limit_behind_in_the_tokenizer(tokenizer: BertTokenizerFast) -> None:
    tokenize(tokenizer, ["b c d e f"], 5, overflow="cut")
    assert len(tokenize(tokenizer, ["b c d e f"], 64, overflow="error")[0]) == 7


def test_padding_goes_to_the_longest_row_and_is_masked(tokenizer: BertTokenizerFast) -> None:
    batch = pad(tokenizer, [[2, 3], [2, 7, 8, 3]])
    assert batch["input_ids"].tolist() == [[2, 3, tokenizer.pad_token_id, tokenizer.pad_token_id], [2, 7, 8, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64


def test_inputs_have_the_shapes_of_forward(tokenizer: BertTokenizerFast) -> None:
    inputs = build_inputs(tokenizer, TEXTS, LABELS, 64)
    assert sorted(inputs) == ["attention_mask", "class_attention_mask", "class_input_ids", "input_ids"]
    text_tokens = max(len(tokenizer(text)["input_ids"]) for text in TEXTS)
    label_tokens = max(len(tokenizer(label)["input_ids"]) for label in LABELS)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (len(TEXTS), text_tokens)
    assert inputs["class_input_ids"].shape == inputs["class_attention_mask"].shape == (len(LABELS), label_tokens)
    assert tokenizer.decode(inputs["class_input_ids"][2], skip_special_tokens=True) == "politics law"


def test_texts_of_inputs_are_cut_with_a_warning(tokenizer: BertTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert build_inputs(tokenizer, ["b c d e f"], ["a"], 5)["input_ids"].shape == (1, 5)
    assert "1 of 1 texts are longer" in caplog.text
