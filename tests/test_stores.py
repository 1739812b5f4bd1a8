"""Rows that are searched: what FAISS proposes is compared exactly, and rows can come and go."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from zeroshot.inference import approximate_search, stores
from zeroshot.inference.stores import FAISS_FILE, VectorStore, plan_removal, search_parts

ROWS, SIZE = 3000, 16


def draw(count: int, seed: int) -> torch.Tensor:
    """Vectors around forty centres, of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(40, SIZE, generator=torch.Generator().manual_seed(9)), dim=1)
    vectors = centres[torch.randint(40, (count,), generator=generator)] + 0.1 * torch.randn(count, SIZE, generator=generator)
    return vectors * (0.8 + 0.2 * torch.rand(count, 1, generator=generator))


def rank(vectors: torch.Tensor, queries: torch.Tensor, top_k: int) -> torch.return_types.topk:
    return (queries @ vectors.T).topk(top_k, dim=1)


@pytest.fixture(autouse=True)
def _few_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows have fewer lists than a query reads: all would be compared."""
    monkeypatch.setattr(approximate_search, "PROBED_LISTS", 16)


@pytest.fixture
def approximate() -> VectorStore:
    """A store that asks FAISS."""
    store = VectorStore(draw(ROWS, 0), exact_limit=100)
    assert store.approximate is not None
    return store


@pytest.mark.parametrize("top_k", [1, 7, 50])
def test_parts_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, top_k: int) -> None:
    monkeypatch.setattr(stores, "ROWS_PER_PART", 30)
    scores = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    values, positions = search_parts(lambda start, stop: scores[:, start:stop], 100, top_k)
    expected = scores.topk(top_k, dim=1)
    assert torch.equal(values, expected.values) and torch.equal(positions, expected.indices)


def test_proposals_are_compared_exactly(approximate: VectorStore) -> None:
    """8 bits a number would give other products, and miss some rows of a close race."""
    queries = draw(50, 1)
    values, positions = approximate.search(queries, 10)
    expected = rank(approximate.vectors, queries, 10)
    recall = (positions.unsqueeze(2) == expected.indices.unsqueeze(1)).any(dim=2).float().mean()
    assert recall > 0.95
    torch.testing.assert_close(values, (queries @ approximate.vectors.T).gather(1, positions))
    assert (values.diff(dim=1) <= 0).all()


def test_every_row_comes_back_when_all_are_asked_for(approximate: VectorStore) -> None:
    """The lists that FAISS reads do not hold all rows; what is missing is not left out in silence."""
    _, positions = approximate.search(draw(2, 1), ROWS)
    assert torch.equal(positions.sort(dim=1).values, torch.arange(ROWS).expand(2, -1))


def test_exact_search_asks_no_faiss(approximate: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(approximate.approximate), "propose")
    queries = draw(5, 1)
    assert torch.equal(approximate.search(queries, 10, exact=True)[1], rank(approximate.vectors, queries, 10).indices)


def test_removed_rows_are_gone_and_others_are_found_where_they_moved(approximate: VectorStore) -> None:
    before = approximate.vectors.clone()
    removed = torch.arange(0, ROWS, 3)
    gaps, movers = plan_removal(ROWS, removed)
    approximate.move(gaps, movers, removed)
    kept = torch.arange(ROWS)
    kept[gaps] = movers
    kept = kept[: ROWS - len(removed)]
    assert sorted(kept.tolist()) == sorted(set(range(ROWS)) - set(removed.tolist()))
    assert torch.equal(approximate.vectors, before[kept])
    assert approximate.approximate is not None and len(approximate.approximate) == len(kept)
    # Each row is the best answer to itself, as all had length one in this direction.
    unit = normalize(approximate.vectors, dim=1)
    _, positions = VectorStore(unit, exact_limit=100).search(unit[:200], 1)
    assert torch.equal(positions[:, 0], torch.arange(200))
    _, found = approximate.search(before[:100], 10)
    expected = rank(approximate.vectors, before[:100], 10).indices
    assert (found.unsqueeze(2) == expected.unsqueeze(1)).any(dim=2).float().mean() > 0.95


def test_added_rows_are_found(approximate: VectorStore) -> None:
    far = torch.full((1, SIZE), 3.0)
    approximate.add(far)
    assert approximate.search(far, 1)[1].tolist() == [[ROWS]]
    assert approximate.approximate is not None and approximate.approximate.trained_on == ROWS


def test_centroids_of_fewer_rows_are_found_anew(approximate: VectorStore) -> None:
    approximate.add(draw(ROWS + 1, 2))
    assert approximate.approximate is not None and approximate.approximate.trained_on == 2 * ROWS + 1


def test_a_store_that_grows_beyond_its_limit_asks_faiss_and_one_that_shrinks_does_not() -> None:
    store = VectorStore(draw(100, 0), exact_limit=100)
    assert store.approximate is None
    store.add(draw(1, 1))
    assert store.approximate is not None
    removed = torch.tensor([100])
    store.move(*plan_removal(101, removed), removed)
    assert store.approximate is None


def test_the_same_vectors_give_the_same_answers() -> None:
    queries = draw(20, 1)
    first, second = (VectorStore(draw(ROWS, 0), exact_limit=100).search(queries, 10) for _ in range(2))
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("removed", [[0], [4], [1, 3], [3, 4], [0, 1, 2, 3], [4, 0, 2]])
def test_the_last_rows_fill_the_gaps(removed: list[int]) -> None:
    rows = list("abcde")
    gaps, movers = plan_removal(5, torch.tensor(removed))
    expected = {row for position, row in enumerate(rows) if position not in removed}
    for gap, mover in zip(gaps.tolist(), movers.tolist(), strict=True):
        rows[gap] = rows[mover]
    assert set(rows[: 5 - len(removed)]) == expected


def test_a_saved_store_answers_alike_and_its_file_stays_when_rows_move(approximate: VectorStore, tmp_path: Path) -> None:
    """Vectors are mapped from the file: moving rows in memory must not reach it."""
    approximate.save(tmp_path)
    saved = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(saved) == {"features.safetensors", "vectors.faiss"}
    loaded = VectorStore.load(tmp_path, exact_limit=100, trained_on=ROWS)
    queries = draw(20, 1)
    for one, other in zip(loaded.search(queries, 10), approximate.search(queries, 10), strict=True):
        assert torch.equal(one, other)
    removed = torch.tensor([0, 5])
    loaded.move(*plan_removal(ROWS, removed), removed)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == saved
    other = VectorStore.load(tmp_path, exact_limit=100, trained_on=ROWS)
    loaded.save(tmp_path)  # over the file that both are mapped from
    assert torch.equal(other.vectors, approximate.vectors)
    assert torch.equal(VectorStore.load(tmp_path, exact_limit=100, trained_on=ROWS).vectors, loaded.vectors)


def test_lists_of_other_rows_are_refused(approximate: VectorStore, tmp_path: Path) -> None:
    approximate.save(tmp_path)
    faiss = (tmp_path / FAISS_FILE).read_bytes()
    approximate.add(draw(5, 1))
    approximate.save(tmp_path)
    (tmp_path / FAISS_FILE).write_bytes(faiss)
    with pytest.raises(ValueError, match=r"Expected 3005 rows in .*, found 3000\. Build the index anew\."):
        VectorStore.load(tmp_path, exact_limit=100, trained_on=ROWS)
    (tmp_path / FAISS_FILE).write_bytes(b"no index")
    with pytest.raises(
        ValueError, match=r"^Expected an index of FAISS in '.*vectors\.faiss', found .*Build the index anew\.$"
    ):
        VectorStore.load(tmp_path, exact_limit=100, trained_on=ROWS)


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    VectorStore(draw(5, 0)).save(tmp_path)
    (tmp_path / stores.FEATURES_FILE).write_bytes(b"\0" * 64)
    with pytest.raises(ValueError, match=r"^Expected tensors in .*features\.safetensors.*, found .*Build the index anew\.$"):
        VectorStore.load(tmp_path, exact_limit=100, trained_on=None)


def test_many_rows_without_faiss_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    VectorStore(draw(100, 0), exact_limit=100)
    with pytest.raises(ImportError, match=r'Expected FAISS .* pip install "zeroshot\[index\]", or raise exact_limit'):
        VectorStore(draw(101, 0), exact_limit=100)
