"""Own, random and mined negatives in proportion, and labels that stay out of a batch without becoming untrue."""

from collections import Counter
from typing import Any

import pytest

from zeroshot.data import Source, TrainingDataset, TrainingExample, ZeroShotCollator
from zeroshot.data.negatives import NEGATIVE_KINDS, Draw, MinedNegatives, check_weights, drop_names, mix_negatives

from .conftest import build_tokenizer
from .data_helpers import THREE_PARTS, make_row, make_source

POOL = [f"label {number}" for number in range(30)]
KINDS = {name: [f"{name} {number}" for number in range(40)] for name in ("own", "random", "mined")}


def count_kinds(names: list[str]) -> Counter[str]:
    return Counter(name.split()[0] for name in names)


@pytest.fixture
def closed() -> Source:
    """Forty rows, each with a label and four negatives of its own."""
    return make_source([make_row(f"text {n}", [POOL[n % 10]], POOL[10:14]) for n in range(40)], POOL)


def build_dataset(source: Source, **settings: Any) -> TrainingDataset:
    """A data set for which labels 20 to 24 were mined for every text."""
    dataset = TrainingDataset([source], **settings)
    dataset.mined = MinedNegatives(POOL, list(range(len(dataset))), 5)
    for table in dataset.mined.tables:
        for place, number in enumerate(range(20, 25)):
            table[:, place] = number
    return dataset


def test_kinds_are_mixed_by_their_weights() -> None:
    drawn = [name for seed in range(200) for name in mix_negatives(KINDS, {"own": 3, "random": 1}, 5, str(seed))]
    counts = count_kinds(drawn)
    assert counts["mined"] == 0 and counts.total() == 1000
    assert counts["own"] / counts.total() == pytest.approx(0.75, abs=0.05)


def test_a_kind_that_runs_out_leaves_its_places_to_the_others() -> None:
    kinds = {**KINDS, "own": ["own 0"]}
    for seed in range(20):
        drawn = mix_negatives(kinds, {"own": 100, "mined": 1}, 5, str(seed))
        assert len(set(drawn)) == 5 and count_kinds(drawn)["own"] == 1


def test_a_name_of_two_kinds_stands_there_once() -> None:
    drawn = mix_negatives({"own": ["rain", "joy"], "random": ["rain", "joy"]}, {"own": 1, "random": 1}, 4, "0")
    assert sorted(drawn) == ["joy", "rain"]


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ({"hard": 1}, "'hard'"),
        ({"own": -1}, "-1"),
        ({"own": float("nan")}, "nan"),
        ({"own": True}, "True"),
        ({"own": "1"}, "'1'"),
        ({"own": 0, "mined": 0.0}, "{'own': 0"),
        ({}, "{}"),
    ],
)
def test_weights_that_are_no_mixture_are_refused(weights: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=THREE_PARTS) as caught:
        check_weights(weights, NEGATIVE_KINDS, "negatives")
    assert f"found {found}" in str(caught.value)


def test_mined_negatives_come_on_top_of_own_and_random_ones(closed: Source) -> None:
    dataset = build_dataset(closed, num_negatives=2, hard_negatives=3)
    example = dataset[0]
    assert example["negatives"][:4] == POOL[10:14]
    assert len(example["negatives"]) >= 7 and set(example["negatives"][6:]) <= set(POOL[20:25])
    assert len(set(example["negatives"])) == len(example["negatives"])


def test_nothing_mined_is_drawn_unless_asked_for(closed: Source) -> None:
    assert build_dataset(closed)[0]["negatives"] == POOL[10:14]


def test_mixed_negatives_are_as_many_as_asked_for_and_anew_in_each_epoch(closed: Source) -> None:
    dataset = build_dataset(closed, num_negatives=4, negative_weights={"own": 1, "random": 1, "mined": 1})
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append([dataset[position]["negatives"] for position in range(len(dataset))])
    assert {len(names) for names in epochs[0]} == {4}
    assert epochs[0] == epochs[2] != epochs[1]
    drawn = {name for names in epochs[0] for name in names}
    assert drawn & set(POOL[10:14]) and drawn & set(POOL[20:25]) and drawn & set(POOL[14:20] + POOL[25:])


def test_the_number_of_negatives_is_needed_for_a_mixture(closed: Source) -> None:
    for settings in ({"num_negatives": 0}, {"num_negatives": 2, "hard_negatives": 1}):
        with pytest.raises(ValueError, match="Expected num_negatives above 0 and no hard_negatives with negative_weights"):
            TrainingDataset([closed], negative_weights={"own": 1}, **settings)


def test_another_visit_draws_other_negatives(closed: Source) -> None:
    dataset = TrainingDataset([closed], num_negatives=5)
    assert dataset[Draw(3)] == dataset[3]
    assert dataset[Draw(3, visit=1)]["negatives"] != dataset[3]["negatives"]


def test_a_mining_is_read_from_its_own_table(closed: Source) -> None:
    dataset = build_dataset(closed, hard_negatives=5)
    assert dataset.mined is not None
    dataset.mined.put(3, dataset.mined.tables[0] + 5)
    assert set(dataset[Draw(0, mining=3)]["negatives"][4:]) == set(POOL[25:30])
    assert set(dataset[Draw(0, mining=2)]["negatives"][4:]) == set(POOL[20:25])


def build_grid(examples: list[TrainingExample]) -> dict[str, dict[str, int]]:
    collator = ZeroShotCollator(build_tokenizer(), 16, ["{}"], [None])
    classes = list(dict.fromkeys(name for one in examples for name in one["positives"] + one["negatives"]))
    targets = collator.build_targets(examples, classes).tolist()
    return {one["text"]: dict(zip(classes, row, strict=True)) for one, row in zip(examples, targets, strict=True)}


def test_a_negative_that_is_not_brought_still_does_not_hold() -> None:
    source = make_source([make_row("goal", ["sports"], ["rain", "joy"]), make_row("wind", ["rain", "joy"])])
    dataset = TrainingDataset([source], num_negatives=1, negative_weights={"own": 1})
    assert len(dataset[0]["negatives"]) == 1
    assert build_grid([dataset[0], dataset[1]])["goal"] == {"sports": 1, "rain": 0, "joy": 0}


def test_dropped_labels_stay_true() -> None:
    rows = [make_row(f"text {number}", ["sports", "rain"], ["joy", "music"]) for number in range(200)]
    dataset = TrainingDataset([make_source(rows)], label_dropout=0.5)
    examples = [dataset[position] for position in range(len(dataset))]
    brought = Counter(name for one in examples for name in one["positives"] + one["negatives"])
    assert 70 < brought["joy"] < 130 and 100 < brought["sports"] < 170
    assert all(one["positives"] for one in examples)
    assert all(row == {"sports": 1, "rain": 1, "joy": 0, "music": 0} for row in build_grid(examples).values())
    dataset.set_epoch(1)
    assert [dataset[position]["positives"] for position in range(200)] != [one["positives"] for one in examples]


def test_an_example_always_brings_a_label() -> None:
    """A batch without any label would end the run."""
    source = make_source([make_row("goal", [], ["rain", "joy"])])
    for seed in range(20):
        assert TrainingDataset([source], label_dropout=0.99, seed=seed)[0]["negatives"]
    assert TrainingDataset([source], num_negatives=1, negative_weights={"random": 1})[0]["negatives"] == ["rain"]
    assert drop_names([], 0.5, "0", keep_one=True) == []
