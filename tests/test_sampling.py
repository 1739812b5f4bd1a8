"""The order of training examples: grouped, alike in length, decided by seed and epoch alone."""

import itertools
import random
from collections.abc import Sequence

import pytest
import torch
from torch.utils.data import DataLoader

from zeroshot.training.sampling import GroupedSampler

BATCH = 8


def cut_batches(positions: Sequence[int], size: int = BATCH) -> list[list[int]]:
    return [list(positions[start : start + size]) for start in range(0, len(positions), size)]


def build_sampler(
    sizes: Sequence[int], *, seed: int = 0, epoch: int = 0, batch_size: int = BATCH
) -> tuple[GroupedSampler, list[int]]:
    """A sampler over interleaved groups of these sizes and lengths from 1 to 200, with the group of each position."""
    draw = random.Random(7)
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    draw.shuffle(groups)
    sampler = GroupedSampler([draw.randint(1, 200) for _ in groups], groups, batch_size, seed)
    sampler.set_epoch(epoch)
    return sampler, groups


@pytest.mark.parametrize("sizes", [(64, 32), (61, 35, 9), (64, 3)])
def test_a_batch_holds_one_group(sizes: tuple[int, ...]) -> None:
    sampler, groups = build_sampler(sizes)
    for batch in cut_batches(list(sampler)):
        assert len({groups[position] for position in batch}) == 1


@pytest.mark.parametrize("sizes", [(16, 3, 7), (3, 2), (16, 3, 2, 1), (9, 7, 7, 7)])
def test_groups_smaller_than_a_batch_share_batches_with_each_other_only(sizes: tuple[int, ...]) -> None:
    sampler, groups = build_sampler(sizes)
    small = {group for group, size in enumerate(sizes) if size < BATCH}
    seen: set[int] = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        loader = DataLoader(range(sum(sizes)), batch_size=BATCH, sampler=sampler)  # type: ignore[arg-type]
        for batch in loader:
            held = {groups[position] for position in batch.tolist()}
            assert held <= small or len(held) == 1
            seen.update(batch.tolist())
    assert seen == set(range(sum(sizes)))


def test_groups_are_mixed_over_the_epoch() -> None:
    sampler, groups = build_sampler((160, 160))
    order = [groups[batch[0]] for batch in cut_batches(list(sampler))]
    changes = sum(first != second for first, second in itertools.pairwise(order))
    assert changes > 5


def test_a_batch_holds_like_lengths() -> None:
    sampler, _ = build_sampler((1024,))

    def mean_spread(positions: list[int]) -> float:
        batches = [[sampler.lengths[position] for position in batch] for batch in cut_batches(positions)]
        return sum(max(batch) - min(batch) for batch in batches) / len(batches)

    assert mean_spread(list(sampler)) < 0.2 * mean_spread(list(range(1024)))


def test_short_batches_do_not_come_in_order_of_length() -> None:
    """Sorted batches would teach short texts first and long ones last."""
    sampler, _ = build_sampler((1024,))
    means = [sum(sampler.lengths[p] for p in batch) / BATCH for batch in cut_batches(list(sampler))]
    first, second = means[: len(means) // 2], means[len(means) // 2 :]
    assert abs(sum(first) - sum(second)) / len(first) < 30


@pytest.mark.parametrize("sizes", [(64,), (61, 35, 9), (64, 3), (5,), (1,), ()])
def test_no_example_comes_twice_and_the_length_is_true(sizes: tuple[int, ...]) -> None:
    sampler, _ = build_sampler(sizes)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert len(set(order)) == len(order) == len(sampler)
        assert set(order) <= set(range(sum(sizes)))


def test_only_the_incomplete_batch_of_a_group_is_left_out() -> None:
    sampler, groups = build_sampler((61, 35, 3))
    counts = [0, 0, 0]
    for position in sampler:
        counts[groups[position]] += 1
    assert counts == [56, 32, 3]


def test_every_example_is_seen_within_a_few_epochs() -> None:
    sampler, groups = build_sampler((15, 9))
    seen: set[int] = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        seen.update(sampler)
    assert seen == set(range(len(groups)))


def test_a_group_smaller_than_a_batch_comes_whole_and_last() -> None:
    sampler, groups = build_sampler((3, 40))
    assert [groups[position] for position in list(sampler)[-3:]] == [0, 0, 0]
    assert len(sampler) == 43


def test_a_resumed_run_sees_the_order_of_the_interrupted_one() -> None:
    interrupted, _ = build_sampler((61, 35))
    orders = []
    for epoch in range(3):
        interrupted.set_epoch(epoch)
        orders.append(list(interrupted))
    torch.manual_seed(99)
    random.seed(99)
    resumed, _ = build_sampler((61, 35), epoch=2)
    assert list(resumed) == orders[2]
    assert list(resumed) == orders[2]


def test_sampling_leaves_the_global_generator_alone() -> None:
    """Drawing from it would change dropout between a resumed and an uninterrupted run."""
    before = torch.random.get_rng_state()
    list(build_sampler((61, 35))[0])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_seed_and_epoch_has_its_own_order() -> None:
    orders = [tuple(build_sampler((64,), seed=seed, epoch=epoch)[0]) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == len(orders)


def test_without_groups_all_examples_are_one_group() -> None:
    lengths = [random.Random(1).randint(1, 50) for _ in range(40)]
    assert list(GroupedSampler(lengths, None, BATCH, 0)) == list(GroupedSampler(lengths, [4] * 40, BATCH, 0))


def test_a_loader_yields_the_batches_of_the_sampler() -> None:
    sampler, _ = build_sampler((20, 3))
    loader = DataLoader(range(23), batch_size=BATCH, sampler=sampler)  # type: ignore[arg-type]
    assert [len(batch) for batch in loader] == [8, 8, 3]
