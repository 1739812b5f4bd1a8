"""Features of any architecture: joined, picked, and written back to where they belong."""

import pytest
import torch

from zeroshot.models.features_zeroshot import (
    concatenate_features,
    count_rows,
    list_candidates,
    scatter_candidates,
    select_features,
    split_features,
)


def test_joining_pads_every_later_dimension_with_zeros() -> None:
    short = {"tokens": torch.ones(1, 2, 3), "mask": torch.ones(1, 2, dtype=torch.bool)}
    long = {"tokens": torch.full((2, 4, 3), 5.0), "mask": torch.ones(2, 4, dtype=torch.bool)}
    joined = concatenate_features([short, long])
    assert joined["tokens"].shape == (3, 4, 3) and joined["mask"].dtype == torch.bool
    assert joined["mask"].tolist() == [[True, True, False, False], [True] * 4, [True] * 4]
    assert joined["tokens"][0, 2:].abs().sum() == 0 and torch.equal(joined["tokens"][1:], long["tokens"])
    assert count_rows(joined) == 3


def test_nothing_to_join_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected features of at least one batch, found none"):
        concatenate_features([])


def test_rows_are_picked_in_all_tensors() -> None:
    features = {"a": torch.arange(3), "b": torch.arange(6).view(3, 2)}
    picked = select_features(features, torch.tensor([2, 0, 2]))
    assert picked["a"].tolist() == [2, 0, 2] and picked["b"].tolist() == [[4, 5], [0, 1], [4, 5]]


def test_parts_hold_all_rows_in_order_and_share_their_memory() -> None:
    features = {"a": torch.arange(5), "b": torch.arange(10).view(5, 2)}
    parts = split_features(features, 2)
    assert [part["a"].tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert torch.equal(torch.cat([part["b"] for part in parts]), features["b"])
    assert parts[1]["b"].data_ptr() == features["b"][2].data_ptr(), "copied"


def test_candidates_are_listed_and_their_values_come_back_to_their_cells() -> None:
    mask = torch.tensor([[True, False, True, False], [False, True, False, False], [False] * 4])
    columns, real = list_candidates(mask)
    assert columns[0].tolist() == [0, 2] and columns[1, 0] == 1
    assert real.tolist() == [[True, True], [True, False], [False, False]]
    grid = torch.full((3, 4), -7.0)
    written = scatter_candidates(torch.tensor([[1.0, 2.0], [3.0, 99.0], [99.0, 99.0]]), columns, real, grid)
    assert written.tolist() == [[1.0, -7.0, 2.0, -7.0], [-7.0, 3.0, -7.0, -7.0], [-7.0] * 4]
    assert grid.eq(-7).all(), "the grid itself stays"
