"""Approximate search of many vectors by FAISS: it proposes rows, whoever asks compares them exactly.

Rows lie in inverted lists around centroids (k-means), 8 bits a number; a query reads the lists of the nearest centroids.
For N rows there are about 2 sqrt(N) lists, of which a query reads 256: an eighth of a million rows. A million vectors of
384 numbers take .4 GB besides the vectors themselves.

Sources: Jegou et al. 2011, Product quantization for nearest neighbor search (https://doi.org/10.1109/TPAMI.2010.57) for
inverted lists; Douze et al. 2024 (https://arxiv.org/abs/2401.08281) for FAISS. We depart from the first in what is kept of
a row: one byte a number instead of a product code, which is less lossy and fits into memory here.
"""

from pathlib import Path

import numpy as np
import torch

LISTS_PER_ROOT = 2  # lists for N rows: this times sqrt(N)
ROWS_PER_LIST = 39  # fewer in training, and FAISS warns of poor centroids
TRAINING_ROWS_PER_LIST = 50
PROBED_LISTS = 256
ROWS_PER_PASS = 2**16


def import_faiss():
    """The package of the extra `index`.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "Expected FAISS to search this many rows, found no such package. Install the extra: "
            'pip install "zeroshot[index]", or raise exact_limit to compare all rows.'
        ) from error
    return faiss


class ApproximateSearch:
    """Inverted lists over rows that are known by their position, see the module's text.

    Args:
        lists: The FAISS index.
        trained_on: How many rows there were when the centroids were found.
    """

    def __init__(self, lists, trained_on: int):
        self.lists = lists
        self.trained_on = trained_on
        lists.nprobe = PROBED_LISTS

    @classmethod
    def build(cls, vectors: torch.Tensor) -> "ApproximateSearch":
        """Find centroids for vectors (N, D), float32, and take all of them in; the same vectors give the same lists."""
        faiss = import_faiss()
        count, size = vectors.shape
        num_lists = max(1, min(round(LISTS_PER_ROOT * count**0.5), count // ROWS_PER_LIST))
        lists = faiss.index_factory(size, f"IVF{num_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        sample = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: num_lists * TRAINING_ROWS_PER_LIST]
        lists.train(vectors[sample].numpy())
        search = cls(lists, count)
        search.add(vectors, torch.arange(count))
        return search

    def __len__(self) -> int:
        return self.lists.ntotal

    def add(self, vectors: torch.Tensor, positions: torch.Tensor) -> None:
        """Take in vectors (n, D), float32, under positions (n,), int64, that are free."""
        for part, places in zip(vectors.split(ROWS_PER_PASS), positions.split(ROWS_PER_PASS), strict=True):
            self.lists.add_with_ids(part.contiguous().numpy(), places.numpy())

    def remove(self, positions: torch.Tensor) -> None:
        """Forget the rows at positions (n,), int64."""
        self.lists.remove_ids(positions.numpy())

    def propose(self, queries: torch.Tensor, count: int) -> torch.Tensor:
        """Positions (B, count), int64, of rows that are close to queries (B, D), float32; -1 where too few were found."""
        _, positions = self.lists.search(np.ascontiguousarray(queries.numpy()), count)
        return torch.from_numpy(positions)

    def save(self, path: Path) -> None:
        """Write FAISS's own file."""
        import_faiss().write_index(self.lists, str(path))

    @classmethod
    def load(cls, path: Path, trained_on: int) -> "ApproximateSearch":
        """Read what [`save`] wrote.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        faiss = import_faiss()
        try:
            return cls(faiss.read_index(str(path)), trained_on)
        except RuntimeError as error:  # what FAISS raises for every problem of a file
            raise ValueError(f"Expected an index of FAISS in {str(path)!r}, found {error}. Build the index anew.") from error
