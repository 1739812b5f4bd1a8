"""Measures of ranked documents, each document relevant or not.

Hand-written, since the libraries that hold all of them bring a compiler or dozens of packages; a test holds them to
hand-computed values and NDCG to scikit-learn's. All are between 0 and 1, and means over queries.
"""

import math
from collections.abc import Sequence, Set

RANKING_METRICS = ("mrr", "ndcg", "map", "precision", "recall")


def _measure_query(ranked: Sequence[str], relevant: Set[str], k: int) -> dict[str, float]:
    holds = [document in relevant for document in ranked]
    found = [sum(holds[: rank + 1]) for rank in range(len(holds))]
    gain = sum(hold / math.log2(rank + 2) for rank, hold in enumerate(holds[:k]))
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))
    return {
        "mrr": next((1 / (rank + 1) for rank, hold in enumerate(holds[:k]) if hold), 0.0),
        "ndcg": gain / ideal,
        "map": sum(found[rank] / (rank + 1) for rank, hold in enumerate(holds) if hold) / len(relevant),
        "precision": sum(holds[:k]) / k,
        "recall": sum(holds[:k]) / len(relevant),
    }


def measure_ranking(ranked: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> dict[str, float]:
    """Mean over queries of MRR@k, NDCG@k, precision@k, recall@k, and of the average precision of the whole ranking.

    A query without a relevant document counts for nothing, since no ranking could please it.

    Args:
        ranked: Per query, identifiers of documents, best first, none twice.
        relevant: Per query, identifiers of those that are relevant.
        k: At least 1.

    Raises:
        ValueError: If there are not as many sets as rankings, no query has a relevant document, or `k` is below 1.

    Example:
        >>> measure_ranking([["a", "b"]], [{"b"}], k=2)["mrr"]
        0.5
    """
    if k < 1:
        raise ValueError(f"Expected a k of at least 1, found {k}. Raise it.")
    if len(ranked) != len(relevant):
        raise ValueError(
            f"Expected one set of relevant documents per query, found {len(relevant)} for {len(ranked)} queries. "
            "Give every query a set."
        )
    measured = [_measure_query(one, wanted, k) for one, wanted in zip(ranked, relevant, strict=True) if wanted]
    if not measured:
        raise ValueError("Expected a query with a relevant document, found none. Name relevant documents.")
    return {name: sum(one[name] for one in measured) / len(measured) for name in RANKING_METRICS}
