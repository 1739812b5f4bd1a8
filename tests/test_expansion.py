"""What an example brings into its batch, and negatives that follow from (seed, epoch, position) alone."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from torch.utils.data import DataLoader

from zeroshot.data import (
    Row,
    Source,
    TrainingDataset,
    TrainingExample,
    draw_negatives,
    drop_texts,
    expand_labels,
)

from .data_helpers import make_row, make_source

POOL = [f"label {number}" for number in range(12)]


@pytest.fixture
def closed() -> Source:
    """Twenty rows with one to three labels of a closed set."""
    rows = [make_row(f"text {number}", POOL[number % 9 : number % 9 + 1 + number % 3]) for number in range(20)]
    return make_source(rows, POOL)


def keep(examples: list[TrainingExample]) -> list[TrainingExample]:
    """The collation that leaves examples as they are."""
    return examples


def read_epoch(dataset: TrainingDataset, epoch: int) -> list[TrainingExample]:
    """All examples of an epoch, without workers."""
    dataset.set_epoch(epoch)
    return [dataset[position] for position in range(len(dataset))]


def list_negatives(examples: list[TrainingExample]) -> list[list[str]]:
    return [example["negatives"] for example in examples]


@pytest.mark.parametrize(
    ("mode", "positives"), [("pairs", [["a"], ["b"], ["c"], ["a"]]), ("rows", [["a", "b", "c"], ["a"]])]
)
def test_label_expansion(mode: Literal["pairs", "rows"], positives: list[list[str]]) -> None:
    rows: list[Row] = [make_row("three", ["a", "b", "c"], ["d"]), make_row("one", ["a"])]
    batch = {name: [row[name] for row in rows] for name in ("text", "labels", "negatives")}
    expanded = expand_labels(batch, mode)
    repeats = [3, 1] if mode == "pairs" else [1, 1]
    whole = [row for row, count in zip(rows, repeats, strict=True) for _ in range(count)]
    assert expanded == {
        **{name: [row[name] for row in whole] for name in ("text", "labels", "negatives")},
        "positives": positives,
    }


@pytest.mark.parametrize("mode", ["pairs", "rows"])
def test_a_row_of_negatives_alone_is_one_example_and_one_of_nothing_none(mode: Literal["pairs", "rows"]) -> None:
    """A premise that entails nothing still says what does not hold."""
    batch = {"text": ["hm", "hm hm"], "labels": [[], []], "negatives": [["a", "b"], []]}
    assert expand_labels(batch, mode) == {"text": ["hm"], "labels": [[]], "negatives": [["a", "b"]], "positives": [[]]}


@pytest.mark.parametrize(("mode", "count"), [("pairs", 39), ("rows", 20)])
def test_the_data_set_expands_every_source(mode: Literal["pairs", "rows"], count: int, closed: Source) -> None:
    dataset = TrainingDataset([make_source([make_row("free", ["a", "b"])]), closed], expansion=mode)
    assert len(dataset) == count + (2 if mode == "pairs" else 1)
    first, last = dataset[0], dataset[len(dataset) - 1]
    assert (first["text"], first["source"], last["text"], last["source"]) == ("free", 0, "text 19", 1)
    assert last["labels"] == ["label 1", "label 2"]
    assert last["positives"] == (["label 2"] if mode == "pairs" else ["label 1", "label 2"])


@pytest.mark.parametrize("labels", [["label 0"], ["label 3", "label 7"], POOL[:-1], POOL, ["no name of the pool"]])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_as_many_negatives_as_asked_for_and_none_that_holds(labels: list[str], count: int) -> None:
    others = set(POOL) - set(labels)
    for number in range(50):
        negatives = draw_negatives(labels, POOL, count, seed=str(number))
        assert len(negatives) == len(set(negatives)) == min(count, len(others))
        assert set(negatives) <= others


def test_every_other_label_is_drawn_about_equally_often() -> None:
    drawn = [name for number in range(2000) for name in draw_negatives(POOL[:3], POOL, 3, seed=str(number))]
    shares = [drawn.count(name) / 2000 for name in POOL[3:]]
    assert min(shares) > 0.28
    assert max(shares) < 0.39


@pytest.mark.parametrize("expansion", ["pairs", "rows"])
def test_negatives_of_an_example_never_hold_for_its_row(expansion: Literal["pairs", "rows"], closed: Source) -> None:
    dataset = TrainingDataset([closed], expansion=expansion, num_negatives=9)
    for epoch in range(10):
        for example in read_epoch(dataset, epoch):
            assert set(example["positives"]) <= set(example["labels"])
            assert set(example["labels"]).isdisjoint(example["negatives"])
            assert len(example["negatives"]) == 9


@pytest.mark.parametrize(
    "workers",
    [{}, {"num_workers": 1}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}],
    ids=["none", "one", "two", "persistent"],
)
def test_negatives_are_the_same_with_any_workers(workers: dict[str, Any], closed: Source) -> None:
    expected = [read_epoch(TrainingDataset([closed], num_negatives=3, seed=5), epoch) for epoch in range(3)]
    dataset = TrainingDataset([closed], num_negatives=3, seed=5)
    loader = DataLoader(dataset, batch_size=3, collate_fn=keep, **workers)
    for epoch in (0, 1, 2, 1):
        dataset.set_epoch(epoch)
        assert [example for batch in loader for example in batch] == expected[epoch]


def test_negatives_differ_between_epochs_seeds_and_positions(closed: Source) -> None:
    dataset = TrainingDataset([closed], num_negatives=3, seed=5)
    epochs = [list_negatives(read_epoch(dataset, epoch)) for epoch in range(3)]
    other_seed = list_negatives(read_epoch(TrainingDataset([closed], num_negatives=3, seed=6), 0))
    for first, second in ((epochs[0], epochs[1]), (epochs[1], epochs[2]), (epochs[0], other_seed)):
        assert sum(own != other for own, other in zip(first, second, strict=True)) > 15
    alike = make_source([make_row("text", ["label 0"])] * 20, POOL)
    drawn = list_negatives(read_epoch(TrainingDataset([alike], num_negatives=3), 0))
    assert len({tuple(names) for names in drawn}) > 15


def test_every_example_draws_by_itself(closed: Source) -> None:
    dataset = TrainingDataset([closed], num_negatives=3)
    draws = {example["draw"] for epoch in range(3) for example in read_epoch(dataset, epoch)}
    assert len(draws) == 3 * len(dataset)


def test_negatives_do_not_depend_on_the_order_of_reading(closed: Source) -> None:
    dataset = TrainingDataset([closed], num_negatives=3)
    expected = read_epoch(dataset, 0)
    assert [dataset[position] for position in reversed(range(len(dataset)))] == expected[::-1]


def test_nothing_is_drawn_where_rows_are_labelled_freely(closed: Source) -> None:
    """Another row's label may hold here too."""
    free = make_source([make_row("free", ["a"], ["b"]), make_row("other", ["c"])])
    dataset = TrainingDataset([free, closed], num_negatives=3)
    assert list_negatives([dataset[0], dataset[1]]) == [["b"], []]
    assert len(dataset[2]["negatives"]) == 3


def test_nothing_is_drawn_unless_asked_for(closed: Source) -> None:
    assert list_negatives(read_epoch(TrainingDataset([closed]), 0)) == [[]] * 20


def test_drawn_negatives_come_on_top_of_given_ones() -> None:
    dataset = TrainingDataset([make_source([make_row("text", POOL[:1], POOL[1:6])], POOL)], num_negatives=3)
    for epoch in range(20):
        (negatives,) = list_negatives(read_epoch(dataset, epoch))
        assert negatives[:5] == POOL[1:6]
        assert len(set(negatives)) == len(negatives) == 8


def test_a_source_from_which_all_rows_were_dropped_does_no_harm(closed: Source) -> None:
    emptied, _ = drop_texts(make_source([make_row("text", ["a"])]), ["text"])
    dataset = TrainingDataset([emptied, closed], num_negatives=2)
    assert (len(dataset), dataset[0]["source"], len(dataset[0]["negatives"])) == (20, 1, 2)


@pytest.mark.parametrize(
    "build",
    [
        list,
        lambda: [drop_texts(make_source([make_row("text", ["a"])]), ["text"])[0]],
        lambda: [make_source([make_row("hm", [])])],
    ],
    ids=["no_source", "no_row", "no_pair"],
)
def test_no_rows_to_train_on_is_explained(build: Callable[[], list[Source]]) -> None:
    with pytest.raises(ValueError, match=r"^Expected rows to train on, found none after the splits\. Hold out fewer"):
        TrainingDataset(build(), expansion="pairs")


@pytest.mark.parametrize(
    ("setting", "found"), [({"num_negatives": -1}, "-1"), ({"expansion": "pair"}, "'pair'")], ids=["count", "mode"]
)
def test_a_setting_that_means_nothing_is_explained(setting: dict[str, Any], found: str, closed: Source) -> None:
    with pytest.raises(ValueError, match=f"^Expected .*, found {found}"):
        TrainingDataset([closed], **setting)
