"""A batch: every distinct label once, every true pair marked, -100 where nobody judged."""

import re
from typing import Any

import pytest
import torch
from transformers import BertTokenizerFast

from zeroshot.data import TrainingDataset, TrainingExample, ZeroShotCollator

from .conftest import build_tokenizer
from .data_helpers import make_row, make_source


class CountingTokenizer:
    """A tokenizer that notes what it is asked to tokenise."""

    def __init__(self, tokenizer: BertTokenizerFast):
        self.tokenizer = tokenizer
        self.all_special_tokens = tokenizer.all_special_tokens
        self.seen: list[str] = []

    def __call__(self, texts: list[str], **kwargs: Any) -> Any:
        self.seen += texts
        return self.tokenizer(texts, **kwargs)

    def pad(self, *args: Any, **kwargs: Any) -> Any:
        return self.tokenizer.pad(*args, **kwargs)


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return build_tokenizer()


def make_example(text: str, labels: list[str], **fields: Any) -> TrainingExample:
    example: TrainingExample = {
        "text": text,
        "positives": labels,
        "labels": labels,
        "negatives": [],
        "known_negatives": fields.get("negatives", []),
        "source": 0,
        "unjudged": [],
        "denials": [],
        "draw": "0-0-0",
    }
    return {**example, **fields}  # type: ignore[typeddict-item]


def build_collator(tokenizer: Any, label_sets: list[list[str] | None], **settings: Any) -> ZeroShotCollator:
    return ZeroShotCollator(tokenizer, **{"max_tokens": 16, "class_templates": ["{}"], **settings}, label_sets=label_sets)


def read_classes(tokenizer: BertTokenizerFast, batch: Any) -> list[str]:
    return tokenizer.batch_decode(batch["class_input_ids"], skip_special_tokens=True)


def test_a_batch_has_texts_labels_and_grid(tokenizer: BertTokenizerFast) -> None:
    examples = [make_example("the team scored a goal", ["sports"]), make_example("rain", ["weather", "music band"])]
    batch = build_collator(tokenizer, [None])(examples)
    assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) == ["the team scored a goal", "rain"]
    assert read_classes(tokenizer, batch) == ["sports", "weather", "music band"]
    assert batch["labels"].shape == (2, 3)
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert batch["attention_mask"].sum(dim=1).tolist() == [7, 3]
    assert batch["class_attention_mask"].sum(dim=1).tolist() == [3, 3, 4]


def test_every_distinct_label_is_tokenised_once(tokenizer: BertTokenizerFast) -> None:
    counting = CountingTokenizer(tokenizer)
    examples = [
        make_example("goal", ["sports", "joy"], negatives=["rain"]),
        make_example("match", ["sports"], negatives=["rain", "music"]),
        make_example("song", ["music"], negatives=["sports", "joy"]),
    ]
    batch = build_collator(counting, [None])(examples)
    assert counting.seen == ["goal", "match", "song", "sports", "joy", "rain", "music"]
    assert batch["class_input_ids"].shape[0] == batch["labels"].shape[1] == 4


def test_a_true_pair_is_marked_whoever_brought_the_label(tokenizer: BertTokenizerFast) -> None:
    """Each example brings one positive; its other label comes from another row, once even as that row's negative."""
    examples = [
        make_example("goal", ["sports", "joy"], positives=["sports"]),
        make_example("song", ["music", "joy"], positives=["joy"]),
        make_example("storm", ["rain"], negatives=["music", "joy"]),
    ]
    batch = build_collator(tokenizer, [None])(examples)
    assert read_classes(tokenizer, batch) == ["sports", "joy", "rain", "music"]
    assert batch["labels"].tolist() == [[1, 1, -100, -100], [-100, 1, -100, 1], [-100, 0, 1, 0]]


def test_a_label_that_no_row_brought_is_no_column(tokenizer: BertTokenizerFast) -> None:
    batch = build_collator(tokenizer, [["sports", "joy", "rain"]])(
        [make_example("goal", ["sports", "joy"], positives=["joy"])]
    )
    assert read_classes(tokenizer, batch) == ["joy"]


def test_what_nobody_judged_is_no_candidate(tokenizer: BertTokenizerFast) -> None:
    """A closed set judges its own labels only; freely labelled rows judge what they name."""
    examples = [
        make_example("goal", ["sports"], source=0),
        make_example("storm", ["rain"], source=0),
        make_example("song", ["music"], source=1, negatives=["rain"]),
        make_example("cake", ["cooking"], source=2),
    ]
    batch = build_collator(tokenizer, [["sports", "rain"], None, ["cooking", "music"]])(examples)
    assert read_classes(tokenizer, batch) == ["sports", "rain", "music", "cooking"]
    assert batch["labels"].tolist() == [
        [1, 0, -100, -100],
        [0, 1, -100, -100],
        [-100, 0, 1, -100],
        [-100, -100, 0, 1],
    ]


def test_drawn_negatives_of_a_data_set_are_marked_as_such(tokenizer: BertTokenizerFast) -> None:
    pool = ["sports", "rain", "music", "joy", "cooking"]
    rows = [make_row("goal", ["sports", "joy"]), make_row("storm", ["rain"]), make_row("song", ["music", "joy"])]
    dataset = TrainingDataset([make_source(rows, pool)], num_negatives=2)
    examples = [dataset[position] for position in range(len(dataset))]
    batch = build_collator(tokenizer, dataset.pools)(examples)
    classes = read_classes(tokenizer, batch)
    for example, targets in zip(examples, batch["labels"].tolist(), strict=True):
        assert targets == [int(name in example["labels"]) for name in classes]
        assert set(example["negatives"]) <= set(classes)


def test_a_label_has_one_wording_a_batch_and_every_wording_some_batch(tokenizer: BertTokenizerFast) -> None:
    collator = build_collator(tokenizer, [None], class_templates=["{}", "topic {}", "{} text"])
    wordings: set[str] = set()
    pairs: set[tuple[str, ...]] = set()
    for number in range(60):
        examples = [make_example("goal", ["sports"], draw=f"0-{number}-0"), make_example("song", ["sports", "music"])]
        first, second = classes = read_classes(tokenizer, collator(examples))
        assert classes == read_classes(tokenizer, collator(examples))
        wordings.add(first)
        pairs.add((first.replace("sports", "{}"), second.replace("music", "{}")))
    assert wordings == {"sports", "topic sports", "sports text"}
    assert len(pairs) == 9, "each label draws by itself"


def test_braces_in_a_label_are_part_of_it(tokenizer: BertTokenizerFast) -> None:
    counting = CountingTokenizer(tokenizer)
    build_collator(counting, [None], class_templates=["topic {}"])([make_example("goal", ["a {b} {0} {"])])
    assert counting.seen[-1] == "topic a {b} {0} {"


def test_a_long_text_is_cut_and_a_long_label_is_refused(tokenizer: BertTokenizerFast) -> None:
    collator = build_collator(tokenizer, [None], max_tokens=8)
    batch = collator([make_example("goal " * 50, ["sports"])])
    assert batch["input_ids"].shape == (1, 8)
    message = "Expected labels of at most 8 tokens, found one of 12: "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*Shorten it; a label is never cut\\.$"):
        collator([make_example("goal", ["sports", "rain " * 10])])


def test_labels_that_the_tokenizer_cannot_tell_apart_stay_two_columns(tokenizer: BertTokenizerFast) -> None:
    batch = build_collator(tokenizer, [["Sports", "sports"]])([make_example("goal", ["Sports"], negatives=["sports"])])
    assert batch["labels"].tolist() == [[1, 0]]


def test_where_pairs_cost_a_text_is_scored_against_its_own_labels_first(tokenizer: BertTokenizerFast) -> None:
    examples = [
        make_example("goal", ["sports"], negatives=["rain", "music"]),
        make_example("song", ["music"], negatives=["joy"]),
    ]
    batch = build_collator(tokenizer, [None], candidates_per_text=3)(examples)
    assert read_classes(tokenizer, batch) == ["sports", "rain", "music", "joy"]
    first, second = batch["candidate_mask"].tolist()
    assert first == [True, True, True, False]
    assert second[2:] == [True, True] and sum(second) == 3, "its own, and one drawn from the batch"
    assert torch.equal(
        batch["candidate_mask"], build_collator(tokenizer, [None], candidates_per_text=3)(examples)["candidate_mask"]
    )
    assert "candidate_mask" not in build_collator(tokenizer, [None])(examples)
