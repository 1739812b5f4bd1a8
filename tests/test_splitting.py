"""No text on two sides of a split, no held-out label anywhere in training, and no row lost uncounted."""

from collections.abc import Callable
from typing import Any

import pytest
from datasets import Dataset

from zeroshot.data import (
    Source,
    TrainingDataset,
    choose_zero_shot_labels,
    drop_texts,
    hold_out_labels,
    normalize_text,
    split_by_text,
)

from .conftest import LABELS
from .data_helpers import make_row, make_source

MIXED = [
    make_row("goal", ["sports"], ["rain", "music"]),
    make_row("storm stops the match", ["sports", "rain"], ["joy"]),
    make_row("umbrella", ["rain"], ["sports"]),
    make_row("wet song", ["rain", "music"], ["sports"]),
    make_row("happy goal", ["joy", "sports"]),
]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("The  Team\n", "\tthe team", True),
        ("STRASSE", "straße", True),
        ("the\u00a0team", "the team", True),
        ("cafe\u0301", "caf\u00e9", True),
        ("the team", "theteam", False),
        ("the team!", "the team", False),
    ],
    ids=["case_and_spacing", "sharp_s", "no_break_space", "composed_accent", "joined_words", "punctuation"],
)
def test_what_counts_as_the_same_text(first: str, second: str, same: bool) -> None:
    assert (normalize_text(first) == normalize_text(second)) is same


@pytest.fixture
def many() -> Dataset:
    """Forty rows over twenty texts, every text twice with other case and spacing."""
    rows = [make_row(f"text {number}", ["joy"]) for number in range(20)]
    rows += [make_row(f" TEXT   {number}", ["joy"]) for number in range(20)]
    return make_source(rows).rows


@pytest.mark.parametrize(("share", "held_out"), [(0.0, 0), (0.25, 5), (0.5, 10), (1.0, 20)])
def test_no_text_is_on_both_sides_and_no_row_is_lost(many: Dataset, share: float, held_out: int) -> None:
    first, second = split_by_text(many, share, seed=3)
    texts = [{normalize_text(text) for text in part["text"]} for part in (first, second)]
    assert [len(part) for part in texts] == [20 - held_out, held_out]
    assert texts[0].isdisjoint(texts[1])
    assert len(first) + len(second) == 40


def test_a_split_follows_from_the_seed_not_from_the_order_of_rows(many: Dataset) -> None:
    chosen = {normalize_text(text) for text in split_by_text(many, 0.5, seed=3)[1]["text"]}
    reordered = many.select(range(39, -1, -1))
    assert {normalize_text(text) for text in split_by_text(reordered, 0.5, seed=3)[1]["text"]} == chosen
    assert {normalize_text(text) for text in split_by_text(many, 0.5, seed=4)[1]["text"]} != chosen


@pytest.mark.parametrize("share", [-0.1, 1.1, 20])
def test_a_share_beyond_one_is_explained(many: Dataset, share: float) -> None:
    with pytest.raises(ValueError, match=rf"^Expected .*, found {share}\. "):
        split_by_text(many, share, seed=0)
    with pytest.raises(ValueError, match=rf"^Expected .*, found {share}\. "):
        choose_zero_shot_labels(many, share, seed=0)


def test_rows_that_mix_labels_leave_a_closed_set() -> None:
    """Without its held-out label, such a row would say that the label does not hold."""
    source = make_source(MIXED, ["sports", "rain", "music", "joy"])
    training, zero_shot, left_out = hold_out_labels(source, ["rain", "music"])
    assert training.rows["text"][:] == ["goal", "happy goal"]
    assert zero_shot.rows["text"][:] == ["umbrella", "wet song"]
    assert left_out == 1
    assert (training.candidate_labels, zero_shot.candidate_labels) == (["sports", "joy"], ["rain", "music"])


def test_freely_labelled_rows_that_mix_labels_stay_without_the_held_out_one() -> None:
    training, zero_shot, left_out = hold_out_labels(make_source(MIXED), ["rain", "music"])
    assert training.rows.select_columns(["text", "labels", "negatives"]).to_list() == [
        make_row("goal", ["sports"]),
        make_row("storm stops the match", ["sports"], ["joy"]),
        make_row("happy goal", ["joy", "sports"]),
    ]
    assert zero_shot.rows["text"][:] == ["umbrella", "wet song"]
    assert left_out == 0
    assert (training.candidate_labels, zero_shot.candidate_labels) == (None, None)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "free"])
def test_the_zero_shot_part_keeps_its_rows_whole(closed: bool) -> None:
    source = make_source(MIXED, ["sports", "rain", "music", "joy"] if closed else None)
    _, zero_shot, _ = hold_out_labels(source, ["rain", "music"])
    assert zero_shot.rows.to_list() == source.rows.select([2, 3]).to_list()


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "free"])
def test_training_never_meets_a_held_out_label(closed: bool) -> None:
    source = make_source(MIXED, ["sports", "rain", "music", "joy"] if closed else None)
    training, _, _ = hold_out_labels(source, ["rain"])
    dataset = TrainingDataset([training], num_negatives=3)
    met: set[str] = set()
    for epoch in range(5):
        dataset.set_epoch(epoch)
        for position in range(len(dataset)):
            example = dataset[position]
            met.update(example["labels"], example["positives"], example["negatives"])
    assert met == {"sports", "music", "joy"}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "free"])
def test_a_row_without_labels_is_in_one_part_only(closed: bool) -> None:
    source = make_source([*MIXED, make_row("hm", [])], ["sports", "rain", "music", "joy"] if closed else None)
    training, zero_shot, left_out = hold_out_labels(source, ["rain"])
    assert [part.rows["text"][:].count("hm") for part in (training, zero_shot)] == [1, 0]
    assert len(training.rows) + len(zero_shot.rows) + left_out == len(source.rows)


def test_a_held_out_label_is_the_same_however_it_is_cased() -> None:
    """An uncased encoder sees one and the same label."""
    rows = [make_row("goal", ["Sports"]), make_row("rain", ["weather"], ["SPORTS"])]
    training, _, _ = hold_out_labels(make_source(rows), ["sports"])
    seen = {name for column in ("labels", "negatives") for names in training.rows[column] for name in names}
    assert seen == {"weather"}


def test_nothing_changes_where_no_label_is_held_out() -> None:
    source = make_source(MIXED, ["sports", "rain", "music", "joy"])
    training, zero_shot, left_out = hold_out_labels(source, [])
    assert training.rows.to_list() == source.rows.to_list()
    assert (len(zero_shot.rows), left_out) == (0, 0)


def test_all_labels_can_be_held_out() -> None:
    training, zero_shot, left_out = hold_out_labels(make_source(MIXED), ["sports", "rain", "music", "joy"])
    assert (len(training.rows), len(zero_shot.rows), left_out) == (0, 5, 0)


def test_refused_rows_are_listed_once_after_a_split() -> None:
    source = make_source(MIXED)
    source.rejected = [{"source": "memory", "row": 9, "problem": "Expected JSON", "content": "{"}]
    training, zero_shot, _ = hold_out_labels(source, ["rain"])
    assert training.rejected + zero_shot.rejected == source.rejected


@pytest.mark.parametrize(("share", "count"), [(0.0, 2), (0.1, 2), (0.5, 2), (1.0, 4)])
def test_zero_shot_labels_are_a_share_of_the_carried_ones_and_at_least_two(share: float, count: int) -> None:
    rows = make_source([make_row(label, [label], ["never carried"]) for label in LABELS]).rows
    chosen = choose_zero_shot_labels(rows, share, seed=0)
    assert len(chosen) == count
    assert set(chosen) <= set(LABELS)


def test_zero_shot_labels_follow_from_the_seed_not_from_the_order_of_rows() -> None:
    rows = make_source([make_row(str(number), [f"label {number}"]) for number in range(30)]).rows
    chosen = choose_zero_shot_labels(rows, 0.5, seed=0)
    assert choose_zero_shot_labels(rows.select(range(29, -1, -1)), 0.5, seed=0) == chosen
    assert choose_zero_shot_labels(rows, 0.5, seed=1) != chosen
    # Pinned: the order of a set, which differs between processes, must not decide.
    assert choose_zero_shot_labels(rows, 0.1, seed=0) == ["label 2", "label 4", "label 7"]


def test_rows_with_an_evaluation_text_are_dropped_and_counted() -> None:
    source = make_source([make_row(text, ["joy"]) for text in ("Goal!", "goal !", " GOAL! ", "cake")])
    kept, dropped = drop_texts(source, ["goal!", "unknown"])
    assert kept.rows["text"][:] == ["goal !", "cake"]
    assert dropped == 2
    assert len(source.rows) == 4


@pytest.mark.parametrize("function", [hold_out_labels, drop_texts], ids=lambda function: function.__name__)
def test_one_string_where_a_list_is_meant_is_refused(function: Callable[[Source, Any], Any]) -> None:
    """Taken apart into letters, it would hold out nothing without a word."""
    with pytest.raises((TypeError, ValueError), match="^Expected .*found the string 'sports'"):
        function(make_source(MIXED), "sports")
