"""Rows that are searched: vectors (by FAISS where they are many), or features that only the model compares.

Both keep rows at positions 0 .. N - 1 and close gaps with the last rows, so that removing a few costs a few moves.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files import replace_file
from ..models import ZeroShotPreTrainedModel
from ..models.features_zeroshot import Features, concatenate_features, count_rows
from .approximate_search import ApproximateSearch

EXACT_LIMIT = 100_000  # rows; beyond, comparing all of them costs more than encoding a text
ROWS_PER_PART = 2**14
CANDIDATES = 4  # proposals of FAISS for each row asked for, which are then compared exactly
LEAST_CANDIDATES = 100
GROWTH = 2  # from which on centroids found for fewer rows are found anew
FEATURES_FILE = "features.safetensors"
FAISS_FILE = "vectors.faiss"

Found = tuple[torch.Tensor, torch.Tensor]  # values (B, k), float32, falling, and positions (B, k), int64


def pool(scores: torch.Tensor) -> torch.Tensor:
    """Scores (windows, n) of one text as one row (1, n), the highest of each."""
    return scores.amax(dim=0, keepdim=True)


def search_parts(score_part: Callable[[int, int], torch.Tensor], count: int, top_k: int) -> Found:
    """The highest of `count` rows, with memory for one part of them.

    Args:
        score_part: From the first row and the one behind the last to scores (B, rows).
        count: N.
        top_k: k, at most N.
    """
    best: Found | None = None
    for start in range(0, count, ROWS_PER_PART):
        scores = score_part(start, min(start + ROWS_PER_PART, count))
        values, positions = scores.topk(min(top_k, scores.shape[1]), dim=1)
        positions = positions + start
        if best is not None:
            values, positions = torch.cat([best[0], values], dim=1), torch.cat([best[1], positions], dim=1)
            values, order = values.topk(min(top_k, values.shape[1]), dim=1)
            positions = positions.gather(1, order)
        best = values, positions
    if best is None:
        raise ValueError("Expected rows to search, found none. Add some first.")
    return best


def plan_removal(count: int, removed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of `count` rows move where when rows (n,) are removed: the last ones that stay fill the gaps.

    Returns:
        The gaps and the rows that fill them, both (m,) with m <= n.

    Example:
        >>> plan_removal(5, torch.tensor([1, 3]))
        (tensor([1]), tensor([4]))
    """
    kept = count - len(removed)
    stays = torch.ones(count - kept, dtype=torch.bool)
    stays[removed[removed >= kept] - kept] = False
    return removed[removed < kept], torch.nonzero(stays)[:, 0] + kept


class VectorStore:
    """Vectors (N, D), float32, on the CPU, searched by their product with a query.

    Args:
        vectors: They become the store's own, which moves rows in them.
        exact_limit: Beyond so many rows FAISS proposes those that are compared.
    """

    def __init__(self, vectors: torch.Tensor, exact_limit: int = EXACT_LIMIT, approximate: ApproximateSearch | None = None):
        self.vectors = vectors
        self.exact_limit = exact_limit
        self.approximate = approximate
        self._choose_search()

    def __len__(self) -> int:
        return len(self.vectors)

    def _choose_search(self) -> None:
        if len(self) <= self.exact_limit:
            self.approximate = None
        elif self.approximate is None or len(self) > GROWTH * self.approximate.trained_on:
            self.approximate = ApproximateSearch.build(self.vectors)

    def add(self, vectors: torch.Tensor) -> None:
        """Put vectors (n, D), float32, behind the others."""
        start = len(self)
        self.vectors = torch.cat([self.vectors, vectors])
        if self.approximate is not None:
            self.approximate.add(vectors, torch.arange(start, len(self)))
        self._choose_search()

    def move(self, gaps: torch.Tensor, movers: torch.Tensor, removed: torch.Tensor) -> None:
        """Remove rows as [`plan_removal`] says."""
        if self.approximate is not None:
            self.approximate.remove(torch.cat([removed, movers]))
            self.approximate.add(self.vectors[movers], gaps)
        self.vectors[gaps] = self.vectors[movers]
        self.vectors = self.vectors[: len(self) - len(removed)]
        self._choose_search()

    def search(self, queries: torch.Tensor, top_k: int, *, exact: bool = False, pooled: bool = False) -> Found:
        """The rows with the highest product.

        Args:
            queries: (B, D), float32.
            top_k: k, at most N.
            exact: Whether all rows are compared, however many there are.
            pooled: Whether the queries are windows of one text: a row has the highest product of all, and B is 1 in the
                result.
        """
        if exact or self.approximate is None:

            def score_part(start: int, stop: int) -> torch.Tensor:
                products = queries @ self.vectors[start:stop].T
                return pool(products) if pooled else products

            return search_parts(score_part, len(self), top_k)
        positions = self.approximate.propose(queries, min(len(self), max(LEAST_CANDIDATES, CANDIDATES * top_k)))
        if pooled:  # what one window proposed is compared with all of them
            places = positions[positions >= 0].unique()
            if len(places) < top_k:
                return self.search(queries, top_k, exact=True, pooled=True)
            values, order = pool(queries @ self.vectors[places].T).topk(top_k, dim=1)
            return values, places[order]
        products = (self.vectors[positions.clamp(min=0)] @ queries.unsqueeze(2)).squeeze(2)  # (B, candidates)
        values, order = products.masked_fill(positions < 0, float("-inf")).topk(top_k, dim=1)
        positions = positions.gather(1, order)
        short = values[:, -1] == float("-inf")  # the lists that were read held fewer rows than asked for
        if short.any():
            values[short], positions[short] = self.search(queries[short], top_k, exact=True)
        return values, positions

    def save(self, folder: Path) -> None:
        """Write the vectors and, where there are many, FAISS's lists."""
        save_features({"vectors": self.vectors}, folder)
        if self.approximate is None:
            (folder / FAISS_FILE).unlink(missing_ok=True)
        else:
            with replace_file(folder / FAISS_FILE) as file:
                self.approximate.save(file)

    def describe(self) -> dict[str, int | None]:
        """What the settings of an index say of it."""
        trained_on = None if self.approximate is None else self.approximate.trained_on
        return {"exact_limit": self.exact_limit, "trained_on": trained_on}

    @classmethod
    def load(cls, folder: Path, *, exact_limit: int, trained_on: int | None) -> "VectorStore":
        """Read what [`save`] wrote; vectors are mapped from their file, so that only those that are read take memory.

        Raises:
            ValueError: If a file is missing, damaged or of other rows.
        """
        vectors = load_features(folder)["vectors"]
        if trained_on is None:
            return cls(vectors, exact_limit)
        approximate = ApproximateSearch.load(folder / FAISS_FILE, trained_on)
        if len(approximate) != len(vectors):
            raise ValueError(
                f"Expected {len(vectors)} rows in {str(folder / FAISS_FILE)!r}, found {len(approximate)}. "
                "Build the index anew."
            )
        return cls(vectors, exact_limit, approximate)


class FeatureStore:
    """Features of labels that only the model's own score compares, all of them each time.

    Args:
        model: Whose features they are.
        features: Tensors (N, T, ...) for T wordings of a label, on the CPU.
        exact_limit: The most rows that may be there.
    """

    def __init__(self, model: ZeroShotPreTrainedModel, features: Features, exact_limit: int = EXACT_LIMIT):
        self.model = model
        self.features = features
        self.exact_limit = exact_limit

    def __len__(self) -> int:
        return count_rows(self.features)

    def add(self, features: Features) -> None:
        """Put rows behind the others."""
        self.features = concatenate_features([self.features, features])

    def move(self, gaps: torch.Tensor, movers: torch.Tensor, removed: torch.Tensor) -> None:
        """Remove rows as [`plan_removal`] says."""
        kept = len(self) - len(removed)
        for name, tensor in self.features.items():
            tensor[gaps] = tensor[movers]
            self.features[name] = tensor[:kept]

    @torch.no_grad()
    def search(self, text_features: Features, top_k: int, *, pooled: bool = False) -> Found:
        """The labels with the highest logits for texts whose features are on the model's device; `pooled` as above."""

        def score_part(start: int, stop: int) -> torch.Tensor:
            part = {name: tensor[start:stop].flatten(0, 1) for name, tensor in self.features.items()}
            part = {name: tensor.to(self.model.device) for name, tensor in part.items()}
            logits = self.model.score_classes(text_features, part, stop - start, multi_label=True).cpu()
            return pool(logits) if pooled else logits

        return search_parts(score_part, len(self), top_k)

    def save(self, folder: Path) -> None:
        """Write the features."""
        save_features(self.features, folder)
        (folder / FAISS_FILE).unlink(missing_ok=True)

    def describe(self) -> dict[str, int | None]:
        """What the settings of an index say of it."""
        return {"exact_limit": self.exact_limit, "trained_on": None}


def save_features(features: Features, folder: Path) -> None:
    """Write `features.safetensors`."""
    with replace_file(folder / FEATURES_FILE) as file:
        save_file({name: tensor.contiguous() for name, tensor in features.items()}, file)


def load_features(folder: Path) -> Features:
    """Map `features.safetensors` into memory.

    Raises:
        ValueError: If it is missing or damaged.
    """
    try:
        with safe_open(folder / FEATURES_FILE, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"Expected tensors in {str(folder / FEATURES_FILE)!r}, found {error}. Build the index anew."
        ) from error
