"""One row: what is accepted as it stands, what is refused and with which words."""

import re
from typing import Any

import pytest

from zeroshot.data import validate_row
from zeroshot.json_text import name_json_type

from .data_helpers import THREE_PARTS


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ({"text": "goal", "labels": ["sports"]}, ("goal", ["sports"], [])),
        ({"text": "goal", "labels": ["sports"], "negatives": ["music"]}, ("goal", ["sports"], ["music"])),
        ({"text": "goal", "labels": ["sports"], "negatives": None}, ("goal", ["sports"], [])),
        ({"text": " goal\n", "labels": ["b", "a"]}, (" goal\n", ["b", "a"], [])),
        ({"text": "⚽", "labels": ["الرياضة", "🎵"]}, ("⚽", ["الرياضة", "🎵"], [])),
        ({"text": "goal", "labels": ["sports"], "id": 7, "note": None}, ("goal", ["sports"], [])),
        ({"text": "g" * 2_000_000, "labels": ["sports"]}, ("g" * 2_000_000, ["sports"], [])),
        ({"text": "goal", "labels": ["a"], "true_labels": None, "all_labels": None}, ("goal", ["a"], [])),
    ],
    ids=[
        "plain",
        "negatives",
        "null_negatives",
        "spaces_and_order",
        "any_script",
        "other_fields",
        "long",
        "null_gliclass_fields",
    ],
)
def test_a_valid_row_is_kept_as_it_stands(content: dict[str, Any], row: tuple[str, list[str], list[str]]) -> None:
    assert validate_row(content) == dict(zip(("text", "labels", "negatives"), row, strict=True))


@pytest.mark.parametrize(
    ("content", "labels", "negatives"),
    [
        ({"all_labels": ["music", "sports", "rain"], "true_labels": ["sports"]}, ["sports"], ["music", "rain"]),
        ({"all_labels": ["music"], "true_labels": ["sports", "joy"]}, ["sports", "joy"], ["music"]),
        ({"true_labels": ["sports"]}, ["sports"], []),
        ({"all_labels": None, "true_labels": ["sports"], "labels": None}, ["sports"], []),
    ],
)
def test_the_candidates_of_gliclass_that_do_not_hold_are_negatives(
    content: dict[str, Any], labels: list[str], negatives: list[str]
) -> None:
    assert validate_row({"text": "goal", **content}) == {"text": "goal", "labels": labels, "negatives": negatives}


@pytest.mark.parametrize(
    ("content", "negatives"),
    [
        ({"labels": []}, []),
        ({"labels": [], "negatives": ["music"]}, ["music"]),
        ({"true_labels": [], "all_labels": ["music", "joy"]}, ["music", "joy"]),
    ],
)
def test_rows_without_labels_are_kept_only_on_request(content: dict[str, Any], negatives: list[str]) -> None:
    content = {"text": "hm", **content}
    assert validate_row(content, keep_unlabelled=True) == {"text": "hm", "labels": [], "negatives": negatives}
    message = "Expected at least one label, found none. Label the row or leave it out."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        validate_row(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("goal", 'Expected an object with "text" and "labels", found str. Write {"text": ...}.'),
        (["goal"], 'Expected an object with "text" and "labels", found list. Write {"text": ...}.'),
        (None, 'Expected an object with "text" and "labels", found null. Write {"text": ...}.'),
        ({}, "Expected a field 'text', found no field. Name the field of the text 'text'."),
        (
            {"sentence": "goal", "labels": ["sports"]},
            "Expected a field 'text', found sentence, labels. Name the field of the text 'text'.",
        ),
        (
            {"text": 10**30, "labels": ["sports"]},
            f"Expected 'text' to be a string, found int {10**30}. Put it in quotes.",
        ),
        (
            {"text": False, "labels": ["sports"]},
            "Expected 'text' to be a string, found bool False. Put it in quotes.",
        ),
        (
            {"text": ["goal"], "labels": ["sports"]},
            "Expected 'text' to be a string, found list ['goal']. Put it in quotes.",
        ),
        ({"text": "", "labels": ["sports"]}, "Expected 'text' to hold words, found ''. Leave the row out."),
        (
            {"text": " \u00a0\u3000\n", "labels": ["sports"]},
            r"Expected 'text' to hold words, found ' \xa0\u3000\n'. Leave the row out.",
        ),
        (
            {"text": "goal", "label": "sports"},
            'Expected a field \'labels\', found text, label. Add "labels": ["name", ...].',
        ),
        (
            {"text": "\ud83d", "labels": ["sports"]},
            "Expected valid Unicode, found half a surrogate pair (surrogates not allowed). Write the row anew.",
        ),
    ],
)
def test_a_bad_row_is_explained(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        validate_row(content)


@pytest.mark.parametrize("field", ["labels", "negatives", "true_labels", "all_labels"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('a, "b"', r"""Expected {name!r} to be a list of names, found the string 'a, "b"'. Write ["a, \"b\""]."""),
        (3, 'Expected {name!r} to be a list of names, found int. Write ["name", ...].'),
        ({"a": 1}, 'Expected {name!r} to be a list of names, found object. Write ["name", ...].'),
        (["a", 3], "Expected names in {name!r}, found int 3. Write label names."),
        ([None], "Expected names in {name!r}, found null. Write label names."),
        ([["a"]], "Expected names in {name!r}, found list ['a']. Write label names."),
        (["a", ""], "Expected names in {name!r}, found the empty name ''. Leave it out."),
        (["\t"], r"Expected names in {name!r}, found the empty name '\t'. Leave it out."),
        (["a", "b", "a"], "Expected distinct names in {name!r}, found 'a' more than once. Keep one of them."),
        (
            ["\udc00"],
            "Expected valid Unicode, found half a surrogate pair (surrogates not allowed). Write the row anew.",
        ),
    ],
)
def test_a_bad_list_of_names_is_explained(field: str, value: Any, message: str) -> None:
    others = {"labels": ["joy"]} if field == "negatives" else {"true_labels": ["joy"]} if field == "all_labels" else {}
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(name=field))}$"):
        validate_row({"text": "goal", **others, field: value})


@pytest.mark.parametrize("field", ["negatives", "all_labels"])
@pytest.mark.parametrize("value", [0, False, {}], ids=repr)
def test_what_is_no_list_is_refused_even_where_it_is_empty(field: str, value: Any) -> None:
    others = {"labels": ["joy"]} if field == "negatives" else {"true_labels": ["joy"]}
    with pytest.raises(ValueError, match=f"^Expected {field!r} to be a list of names, found {name_json_type(value)}"):
        validate_row({"text": "goal", **others, field: value})


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ({"text": None, "labels": ["sports"]}, "Expected 'text' to be a string, found"),
        ({"text": "goal", "labels": None}, "Expected 'labels' to be a list of names, found"),
    ],
)
def test_a_null_is_not_called_a_missing_field(content: dict[str, Any], start: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(start)}"):
        validate_row(content)


def test_a_label_that_holds_and_does_not_hold_is_explained() -> None:
    message = "Expected labels and negatives to differ, found 'joy' in both. Remove it from one."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        validate_row({"text": "goal", "labels": ["sports", "joy"], "negatives": ["rain", "joy"]})


@pytest.mark.parametrize(
    "content",
    [
        {"text": list(range(100_000)), "labels": ["sports"]},
        {"text": "goal", "labels": "sports" * 100_000},
        {"text": "goal", "labels": ["sports" * 100_000] * 2},
        {f"column {number}": 1 for number in range(100_000)},
    ],
    ids=["text", "labels", "label", "fields"],
)
def test_a_huge_value_does_not_flood_the_message(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=THREE_PARTS) as raised:
        validate_row(content)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ({"text": "goal", "labels": ["sports"], "true_labels": []}, ["sports"]),
        ({"text": "goal", "labels": [], "true_labels": ["sports"]}, ["sports"]),
        ({"text": "goal", "labels": ["sports"], "true_labels": None}, ["sports"]),
    ],
)
def test_of_two_label_fields_the_filled_one_counts(content: dict[str, Any], labels: list[str]) -> None:
    assert validate_row(content)["labels"] == labels


def test_two_filled_label_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="^Expected 'labels' or 'true_labels', found both. Keep the one that holds.$"):
        validate_row({"text": "goal", "labels": ["sports"], "true_labels": ["joy"]})
