"""Training files in given proportions: how many, which, in which order, and the same again after a resume."""

import json
from collections import Counter
from pathlib import Path

import pytest

import train
from zeroshot.data.negatives import Draw
from zeroshot.training.sampling import GroupedSampler
from zeroshot.training.sources import MiningSampler, WeightedSampler, share_examples

from .test_training import assert_equal_weights, settings, weights

SIZES = (60, 20, 8)
SOURCES = [source for source, size in enumerate(SIZES) for _ in range(size)]
BATCH = 4


def build_sampler(counts: list[int], *, seed: int = 0, epoch: int = 0, grouped: bool = True) -> WeightedSampler:
    lengths = [7 * position % 50 + 1 for position in range(len(SOURCES))]
    sampler = WeightedSampler(lengths, SOURCES, counts, batch_size=BATCH, seed=seed, grouped=grouped)
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize(
    ("sizes", "shares", "temperature", "expected"),
    [
        ([60, 20, 8], [], 1.0, [60, 20, 8]),
        ([60, 20, 8], [1, 1, 1], 1.0, [60, 20, 8]),
        ([60, 20], [1, 3], 1.0, [40, 40]),
        ([60, 20], [0, 1], 1.0, [0, 80]),
        ([90, 10], [], 2.0, [75, 25]),
        ([90, 10], [], 1e9, [50, 50]),
        ([90, 0, 10], [], 1e9, [50, 0, 50]),
        ([1, 1, 1], [1, 1, 2], 1.0, [1, 1, 1]),
    ],
)
def test_shares(sizes: list[int], shares: list[float], temperature: float, expected: list[int]) -> None:
    counts = share_examples(sizes, shares, temperature)
    assert counts == expected and sum(counts) == sum(sizes)


def test_no_source_to_draw_from_is_explained() -> None:
    with pytest.raises(ValueError, match=r"^Expected a source with rows and a weight above 0, found \[0, 1\]. Raise one."):
        share_examples([5, 0], [0, 1], 1.0)


def test_an_epoch_holds_the_counts_and_one_source_a_batch() -> None:
    sampler = build_sampler([20, 60, 8])
    draws = list(sampler)
    assert len(draws) == len(sampler) == 88
    assert Counter(SOURCES[draw.position] for draw in draws) == {0: 20, 1: 60, 2: 8}
    for start in range(0, len(draws), BATCH):
        assert len({SOURCES[draw.position] for draw in draws[start : start + BATCH]}) == 1
    mixed = list(build_sampler([20, 60, 8], grouped=False))
    assert any(len({SOURCES[draw.position] for draw in mixed[start : start + BATCH]}) > 1 for start in range(0, 88, BATCH))


def test_every_row_is_seen_as_often_as_any_other_of_its_source_or_once_more() -> None:
    draws = list(build_sampler([12, 48, 8]))
    assert len(set(draws)) == len(draws)  # no (position, visit) twice
    seen = Counter(draw.position for draw in draws)
    assert {seen[position] for position in range(60)} == {0, 1}
    assert {seen[position] for position in range(60, 80)} == {2, 3}
    for position in range(60, 80):
        assert sorted(d.visit for d in draws if d.position == position) == list(range(seen[position]))


def test_the_order_follows_from_seed_and_epoch() -> None:
    first = list(build_sampler([12, 48, 8]))
    assert list(build_sampler([12, 48, 8])) == first
    for other in (build_sampler([12, 48, 8], seed=1), build_sampler([12, 48, 8], epoch=1)):
        assert list(other) != first
        assert {d.position for d in other if d.position < 60} != {d.position for d in first if d.position < 60}


def test_mining_lags_by_one_interval_and_counts_over_epochs() -> None:
    """22 batches of 4, two a step: 11 steps an epoch; every 5 steps something is mined."""
    sampler = MiningSampler(GroupedSampler([1] * 88, None, BATCH, 0), BATCH, 2, 5)
    minings = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert sorted(draw.position for draw in draws) == list(range(88))
        minings += [draws[start].mining for start in range(0, 88, 2 * BATCH)]
    assert minings == [0] * 10 + [1] * 5 + [2] * 5 + [3] * 2
    assert isinstance(next(iter(sampler)), Draw)


@pytest.fixture
def two_files(rows_file: Path, tmp_path: Path) -> str:
    """The usual rows, and four about the weather."""
    rows = [{"text": f"{word} and wind", "labels": ["weather"]} for word in ("rain", "sun", "storm", "song")]
    other = tmp_path / "weather.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"{rows_file},{other}"


def test_a_run_with_weights_goes_on_as_if_it_had_not_stopped(encoder_dir: str, two_files: str, tmp_path: Path) -> None:
    """And the weights have an effect; sixteen examples are four steps an epoch."""
    options = {"max_steps": 6, "save_steps": 2, "save_total_limit": 9, "batch_by_source": False, "seed": 1}
    mixture = {"source_weights": 3, "source_temperature": 2}
    words = {name: settings(encoder_dir, Path(two_files), tmp_path / name, **options) for name in ("plain", "whole", "cut")}
    train.main(words["plain"])
    for name in ("whole", "cut"):
        words[name] = [word for word in words[name] if not word.startswith("--source_weights")]
        words[name] += ["--source_weights", "1", str(mixture["source_weights"]), "--source_temperature", "2"]
        train.main(words[name])
    state = json.loads((tmp_path / "cut" / "run_settings.json").read_text())
    (tmp_path / "cut" / "run_settings.json").write_text(json.dumps({**state, "finished": False}))
    (tmp_path / "cut" / "checkpoint-6" / "optimizer.pt").unlink()
    (tmp_path / "cut" / "checkpoint-4" / "optimizer.pt").unlink()
    (tmp_path / "cut" / "model.safetensors").unlink()
    train.main(words["cut"])
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    plain, whole = weights(tmp_path / "plain"), weights(tmp_path / "whole")
    assert any(not plain[name].equal(whole[name]) for name in plain)


def test_weights_must_name_every_file(encoder_dir: str, two_files: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected one of source_weights per source \(2\), found 1."):
        train.main(settings(encoder_dir, Path(two_files), tmp_path / "out", source_weights=2))
    with pytest.raises(ValueError, match=r"Expected source_weights from 0 upwards, found -1.0."):
        train.main(settings(encoder_dir, Path(two_files), tmp_path / "out", source_weights=-1))
