"""The plan of a recipe: the same for the same seed, a prefix of any longer one, and balanced."""

import doctest
import math
from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from zeroshot.generation import costs, lengths, manifest, secrets
from zeroshot.generation.arguments import GenerationArguments, parse_arguments
from zeroshot.generation.plan import Plan, PlanItem

from .generation_helpers import EMOTIONS, INTENTS, NAMES, RECIPE, TOPICS
from .openai_answers import KEY

POOL = {"topic": TOPICS, "intent": INTENTS, "emotion": EMOTIONS}
KIND_OF = {name: kind for kind, names in POOL.items() for name in names}


def deal(number: int, pool: dict[str, list[str]] = POOL, **settings: Any) -> list[PlanItem]:
    kinds = {kind: {"description": "", "names": names} for kind, names in pool.items()}
    plan = Plan(pool, GenerationArguments(**{**RECIPE, "label_kinds": kinds, **settings}))
    return [plan.item(index) for index in range(number)]


def test_the_same_seed_deals_the_same_items_and_another_seed_others() -> None:
    assert deal(50) == deal(50)
    same = sum(one.label_names == other.label_names for one, other in zip(deal(50), deal(50, seed=4), strict=True))
    assert same <= 5


def test_a_shorter_plan_is_the_beginning_of_a_longer_one() -> None:
    """`--num_samples` can be raised, and rejected items be replaced, because of this."""
    assert deal(20, num_samples=20) == deal(60, num_samples=60)[:20]


def test_items_may_be_asked_for_in_any_order() -> None:
    kinds = RECIPE["label_kinds"]
    plan = Plan(POOL, GenerationArguments(**{**RECIPE, "label_kinds": kinds}))
    assert [plan.item(9), plan.item(2)] == [deal(10)[9], deal(10)[2]]


def test_labels_are_as_many_as_asked_distinct_and_of_two_kinds() -> None:
    items = deal(300, min_labels=2, max_labels=4)
    assert {len(item.labels) for item in items} == {2, 3, 4}
    for item in items:
        assert len(set(item.label_names)) == len(item.labels)
        assert len({kind for kind, _ in item.labels}) >= 2
        assert all(KIND_OF[name] == kind for kind, name in item.labels)


def test_a_recipe_of_one_kind_deals_from_it() -> None:
    assert {len(item.labels) for item in deal(50, {"topic": NAMES})} == {2, 3}


def test_no_label_is_dealt_a_third_time_before_all_of_its_kind_were_dealt_twice() -> None:
    """Uneven counts would teach that some labels are more likely, whatever the text says."""
    counts: Counter[str] = Counter()
    for item in deal(400):
        counts.update(item.label_names)
        for names in POOL.values():
            dealt = [counts[name] for name in names]
            assert max(dealt) - min(dealt) <= 2
    assert set(counts) == set(NAMES)


def test_negatives_are_balanced_too_and_disjoint_from_the_labels() -> None:
    items = deal(400)
    for item in items:
        assert len(item.candidates) == len(set(item.candidates)) == RECIPE["num_candidates"]
        assert not set(item.candidates) & set(item.label_names)
    counts = Counter(name for item in items for name in item.candidates)
    assert set(counts) == set(NAMES)
    assert max(counts.values()) <= 1.3 * min(counts.values())


def test_half_of_the_negatives_come_from_the_kinds_of_the_labels() -> None:
    """Only these are hard; the others keep a text's kind from giving its labels away."""
    for item in deal(200, max_labels=2):
        own = {kind for kind, _ in item.labels}
        assert sum(KIND_OF[name] in own for name in item.candidates) == RECIPE["num_candidates"] / 2


def test_labels_are_combined_anew_each_time() -> None:
    """Labels that always come in the same company cannot be told apart."""
    pairs = Counter(pair for item in deal(400) for pair in combinations(sorted(item.label_names), 2))
    assert len(pairs) > 150 and max(pairs.values()) <= 12


def test_style_length_register_and_language_are_all_drawn() -> None:
    lists = {
        "styles": ["a letter", "a joke"],
        "lengths": ["5 to 9 words", "40 words"],
        "registers": ["plain", "rude"],
        "languages": ["English", "German"],
    }
    drawn = Counter((item.style, item.length, item.register, item.language) for item in deal(400, **lists))
    assert len(drawn) == 16 and min(drawn.values()) >= 10


@pytest.mark.parametrize(
    ("pool", "settings", "message"),
    [
        ({"a": ["x"], "b": ["y"]}, {"max_labels": 4, "max_negatives": 3}, r"Expected label kinds that give a text 4 labels"),
        ({"a": ["v", "w"], "b": ["x", "y"]}, {"max_labels": 3}, r"Expected at least 7 names .*, found 4\. Add names"),
    ],
)
def test_a_pool_that_is_too_small_is_refused(pool: dict[str, list[str]], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deal(1, pool, **settings)


# -- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_cost": 1.0, "input_price": None, "output_price": None},
            "Expected input_price and output_price with max_cost",
        ),
        ({"input_price": None}, "Expected input_price and output_price together"),
        ({"min_labels": 4}, "Expected min_labels up to max_labels, found 4 and 3"),
        ({"min_negatives": 5}, "Expected min_negatives up to max_negatives, found 5 and 4"),
        ({"num_candidates": 3}, "Expected num_candidates of at least max_negatives"),
        ({"num_samples": 0}, "Expected num_samples from 1 upwards, found 0"),
        ({"concurrency": 0}, "Expected concurrency from 1 upwards, found 0"),
        ({"styles": []}, "Expected entries in styles"),
        ({"languages": [" "]}, "Expected entries in languages"),
        ({"push_to_hub": "rows"}, "Expected push_to_hub as user/name, found 'rows'"),
        ({"public": True}, "Expected push_to_hub with public, found none"),
        (
            {"lengths": ["2 paragraphs of 50 words each"]},
            "Expected a length such as .* found '2 paragraphs",
        ),
        ({"label_kinds": {}}, "Expected label_kinds .* found none"),
        ({"label_kinds": {"topic": ["a", "b"]}}, "Expected label kind 'topic' as a mapping"),
        ({"label_kinds": {"topic": {"names": ["a", True]}}}, "Expected label kind 'topic' .* need quotes"),
        ({"label_kinds": {"topic": {"names": ["a", "b"], "size": 1}}}, "found size 1 with 2 names"),
        ({"label_kinds": {"topic": {"name": ["a"]}}}, "found the key 'name'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationArguments(**{**RECIPE, **settings})


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ("1,000 words", (1000, 1000)),
        ("1,000 to 1,500 words", (1000, 1500)),
        ("10-25 words", (10, 25)),
        ("10 – 25 Words", (10, 25)),
        ("1 word", (1, 1)),
        ("up to 20 words", (0, 20)),
        ("at least 100 words", (100, math.inf)),
        ("2 paragraphs", None),
    ],
)
def test_what_a_length_asks_for(length: str, words: tuple[int, float] | None) -> None:
    assert lengths.read_word_range(length) == words
    assert costs.estimate_answer_tokens(length) > 0


@pytest.mark.parametrize("length", ["30 to 10 words", "up to 10 to 20 words", "a few words", "10,5 words", "10 words each"])
def test_a_length_that_is_not_understood_is_refused(length: str) -> None:
    """Read wrongly, it would refuse every text that the model was asked for, after it was paid."""
    with pytest.raises(ValueError, match=f"^Expected a length such as '40 words'.*, found {length!r}. Write it so"):
        lengths.read_word_range(length)


@pytest.mark.parametrize("module", [costs, lengths, manifest, secrets])
def test_examples_in_docstrings_hold(module: Any) -> None:
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


@pytest.mark.parametrize("name", ["api_key", "openai_api_key"])
def test_a_key_has_no_place_on_the_command_line(name: str) -> None:
    with pytest.raises(ValueError, match=r"OPENAI_API_KEY in the environment or in a file \.env") as caught:
        parse_arguments([f"--{name}", KEY])
    assert KEY not in str(caught.value)


def test_an_unknown_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"found 'num_sample'.* Did you mean 'num_samples'\?"):
        parse_arguments(["--num_sample", "3"])
