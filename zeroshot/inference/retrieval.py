"""Retrieve and rerank: documents found by one vector each, the best of them judged anew together with the query.

    pipeline = RetrieveRerankPipeline(biencoder, crossencoder)
    pipeline.index_documents(documents)
    pipeline.batch_search(["heart disease", "lost delivery"], top_k=5).hits

A document takes the place of a text and a query that of a label, in the model's templates: the retriever's logit says
how well the query names the document. Cost for Q queries and N documents: N encoder passes once, Q * T passes and Q * N * D
multiplications (fewer with FAISS, see `stores`), then at most Q * num_candidates pairs through the reranker.

Source: Nogueira and Cho 2019, Passage re-ranking with BERT (https://arxiv.org/abs/1901.04085). We depart from it in that
both stages score a query as a label name, and that a cascade can be both of them.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch

from ..files import write_json
from ..models import ZeroShotPreTrainedModel
from ..models.fingerprints import fingerprint_strings
from ..models.inputs_zeroshot import check_batch_size, check_candidate_labels, check_texts
from .index_files import (
    FORMAT,
    check_fingerprint,
    fingerprint_vectors,
    read_json,
    read_settings,
)
from .label_index import average_wordings, check_count, check_top_k
from .ranking import measure_ranking
from .stores import EXACT_LIMIT, VectorStore

QUERIES_PER_GROUP = 64  # whose pairs the reranker judges together
SETTINGS_FILE = "retrieval.json"
DOCUMENTS_FILE = "documents.json"


class Hit(TypedDict):
    """A document that was found."""

    id: str
    text: str
    logit: float  # of the stage that ranked it: the reranker where there is one


@dataclass(frozen=True)
class RetrievalResult:
    """What a search found.

    Args:
        hits: Per query the best documents, by falling logit of the last stage.
        retrieved: Per query all candidates, by falling logit of the retriever.
        reranked: The same candidates by falling logit of the reranker; None without one.
        seconds: Of each stage: `encode`, `retrieve`, `rerank`.
    """

    hits: list[list[Hit]]
    retrieved: list[list[Hit]]
    reranked: list[list[Hit]] | None
    seconds: dict[str, float]


def rerank_pairs(
    model: ZeroShotPreTrainedModel,
    queries: Sequence[str],
    documents: Sequence[str],
    candidates: Sequence[Sequence[int]],
    batch_size: int,
) -> list[torch.Tensor]:
    """Judge each query with its own candidates; pairs of many queries share a pass, and none depends on the others.

    Args:
        model: The reranker.
        queries: Q distinct strings.
        documents: All documents.
        candidates: Per query, positions in `documents`.
        batch_size: Documents per pass of the encoder.

    Returns:
        Per query the logits of its candidates, float32.
    """
    group_size = QUERIES_PER_GROUP
    if model.has_shortlist:  # every pair is to be rescored, so no document may have more queries than a shortlist holds
        group_size = min(group_size, model.config.shortlist_size)
    elif not model.independent_of_other_candidates:
        group_size = 1
    logits = []
    for start in range(0, len(queries), group_size):
        group = candidates[start : start + group_size]
        rows = {document: row for row, document in enumerate(dict.fromkeys(place for places in group for place in places))}
        mask = torch.zeros(len(rows), len(group), dtype=torch.bool)
        for column, places in enumerate(group):
            mask[[rows[place] for place in places], column] = True
        grid = model.predict_logits(
            [documents[place] for place in rows],
            queries[start : start + group_size],
            multi_label=True,  # pairs are judged one by one
            candidate_mask=mask,
            batch_size=batch_size,
        )
        logits += [grid[[rows[place] for place in places], column] for column, places in enumerate(group)]
    return logits


class RetrieveRerankPipeline:
    """Searches documents in two stages, see the module's text.

    Args:
        retriever: A model with `compared_vectors`.
        reranker: Any model; a cascade's second stage where it is the retriever itself. Documents stay as the retriever
            ranks them when left out.
        exact_limit: Beyond so many documents FAISS (the extra `index`) proposes those that are compared.

    Raises:
        ValueError: If the retriever has no vector for a document.
    """

    def __init__(
        self,
        retriever: ZeroShotPreTrainedModel,
        reranker: ZeroShotPreTrainedModel | None = None,
        *,
        exact_limit: int = EXACT_LIMIT,
    ):
        if retriever.compared_vectors is None:
            raise ValueError(
                f"Expected a retriever with one vector a document, found {type(retriever).__name__}. Retrieve with a "
                "bi-encoder or a cascade, and rerank with this one."
            )
        self.retriever = retriever
        self.reranker = reranker
        self.exact_limit = exact_limit
        self._texts: list[str] = []
        self._ids: list[str] = []
        self._store: VectorStore | None = None

    def __len__(self) -> int:
        return len(self._texts)

    def index_documents(
        self,
        documents: Sequence[str],
        ids: Sequence[str] | None = None,
        *,
        batch_size: int = 64,
        show_progress_bar: bool = False,
    ) -> None:
        """Encode documents and put them behind those that are there.

        Args:
            documents: Texts; longer ones than the model reads are cut with a warning.
            ids: Distinct names of them; their positions ("0", "1", ...) when left out.
            batch_size: Documents per pass of the encoder.
            show_progress_bar: Whether to show documents done, documents/s and the time left.

        Raises:
            ImportError: If there are more than `exact_limit` and the extra `index` is not installed.
            TypeError: If a document is not a string.
            ValueError: If a document is empty, there are not as many ids, or an id is there twice.
        """
        documents = check_texts(documents)
        if ids is None:
            ids = [str(number) for number in range(len(self), len(self) + len(documents))]
        if len(ids) != len(documents):
            raise ValueError(f"Expected an id for each of {len(documents)} documents, found {len(ids)}. Give one each.")
        seen = set(self._ids)
        for one in ids:
            if one in seen:
                raise ValueError(f"Expected distinct ids, found {one!r} twice. Rename one of the documents.")
            seen.add(one)
        if not documents:
            return
        check_count(self.retriever, len(self) + len(documents), self.exact_limit)
        name = str(self.retriever.compared_vectors)
        features = self.retriever.encode_texts(
            documents, names=[name], batch_size=batch_size, show_progress_bar=show_progress_bar
        )
        vectors = features[name].float().cpu()
        if self._store is None:
            self._store = VectorStore(vectors, self.exact_limit)
        else:
            self._store.add(vectors)
        self._texts += documents
        self._ids += ids

    def search(
        self, query: str, top_k: int = 10, *, num_candidates: int = 100, exact: bool = False, batch_size: int = 64
    ) -> list[Hit]:
        """The best documents for one query; arguments as in [`batch_search`]."""
        return self.batch_search([query], top_k, num_candidates=num_candidates, exact=exact, batch_size=batch_size).hits[0]

    def batch_search(
        self,
        queries: Sequence[str],
        top_k: int = 10,
        *,
        num_candidates: int = 100,
        exact: bool = False,
        batch_size: int = 64,
    ) -> RetrievalResult:
        """The best documents for many queries, which share the passes of both models.

        Args:
            queries: Strings; the same one may stand there twice.
            top_k: Documents of each query; all where there are fewer.
            num_candidates: Documents that the retriever hands to the reranker, at least `top_k`.
            exact: Whether all documents are compared, however many there are.
            batch_size: Documents per pass of the reranker.

        Raises:
            TypeError: If a query is not a string.
            ValueError: If a query is empty, `top_k` is below 1 or above `num_candidates`, or there are no documents.
        """
        check_batch_size(batch_size)
        if check_top_k(top_k) > num_candidates:
            raise ValueError(
                f"Expected at least as many candidates as results ({top_k}), found {num_candidates}. Raise num_candidates."
            )
        if self._store is None:
            raise ValueError("Expected documents to search, found none. Call index_documents first.")
        distinct = check_candidate_labels(list(dict.fromkeys(check_texts(queries))))
        start = time.perf_counter()
        vectors = average_wordings(self.retriever, distinct, batch_size=256)
        encoded = time.perf_counter()
        products, positions = self._store.search(vectors, min(num_candidates, len(self)), exact=exact)
        with torch.no_grad():
            first = self.retriever.scale_logits(products.to(self.retriever.device)).cpu()
        candidates = positions.tolist()
        retrieved = [self._describe(places, logits) for places, logits in zip(candidates, first, strict=True)]
        found = time.perf_counter()
        seconds = {"encode": encoded - start, "retrieve": found - encoded}
        reranked = None
        if self.reranker is not None:
            logits = rerank_pairs(self.reranker, distinct, self._texts, candidates, batch_size)
            reranked = [self._describe(places, own) for places, own in zip(candidates, logits, strict=True)]
            seconds["rerank"] = time.perf_counter() - found
        row = {query: position for position, query in enumerate(distinct)}
        order = [row[query] for query in queries]
        last = retrieved if reranked is None else reranked
        return RetrievalResult(
            hits=[last[position][:top_k] for position in order],
            retrieved=[retrieved[position] for position in order],
            reranked=None if reranked is None else [reranked[position] for position in order],
            seconds=seconds,
        )

    def _describe(self, places: Sequence[int], logits: torch.Tensor) -> list[Hit]:
        ranked = sorted(zip(places, logits.tolist(), strict=True), key=lambda pair: -pair[1])
        return [{"id": self._ids[place], "text": self._texts[place], "logit": logit} for place, logit in ranked]

    def evaluate(
        self,
        queries: Sequence[str],
        relevant: Sequence[Collection[str]],
        *,
        k: int = 10,
        num_candidates: int = 100,
        batch_size: int = 64,
    ) -> dict[str, dict[str, float]]:
        """Measure both stages on queries whose relevant documents are known.

        Args:
            queries: Strings.
            relevant: Per query, ids of the relevant documents.
            k: What the measures look at, see [`measure_ranking`]; MAP looks at all candidates.
            num_candidates: Documents that the retriever finds.
            batch_size: Documents per pass of the reranker.

        Returns:
            `retrieved` and, where there is a reranker, `reranked`: the measures by name. `seconds`: of each stage.

        Raises:
            ValueError: If an id is not there, no query has a relevant document, or as in [`batch_search`].
        """
        wanted = [set(one) for one in relevant]
        unknown = sorted(set().union(*wanted) - set(self._ids))
        if unknown:
            raise ValueError(f"Expected ids of documents that are indexed, found {unknown[0]!r}. Leave it out.")
        result = self.batch_search(queries, k, num_candidates=num_candidates, batch_size=batch_size)
        stages = {"retrieved": result.retrieved, "reranked": result.reranked}
        measured = {
            name: measure_ranking([[hit["id"] for hit in hits] for hits in stage], wanted, k)
            for name, stage in stages.items()
            if stage is not None
        }
        return {**measured, "seconds": result.seconds}

    def save(self, folder: str | Path) -> None:
        """Write documents and vectors, not the models; the settings last, as an index does.

        Raises:
            ValueError: If there are no documents.
        """
        if self._store is None:
            raise ValueError("Expected documents to save, found none. Call index_documents first.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).unlink(missing_ok=True)
        self._store.save(folder)
        write_json(folder / DOCUMENTS_FILE, {"ids": self._ids, "texts": self._texts})
        write_json(
            folder / SETTINGS_FILE,
            {
                "format": FORMAT,
                **self._store.describe(),
                "fingerprint": {
                    **fingerprint_vectors(self.retriever),
                    "documents": fingerprint_strings([*self._ids, *self._texts]),
                },
            },
        )

    @classmethod
    def load(
        cls, folder: str | Path, retriever: ZeroShotPreTrainedModel, reranker: ZeroShotPreTrainedModel | None = None
    ) -> "RetrieveRerankPipeline":
        """Read what [`save`] wrote.

        Args:
            folder: Of the documents.
            retriever: The model that encoded them.
            reranker: Any model.

        Raises:
            FileNotFoundError: If there are no saved documents.
            ValueError: If the retriever or the documents have changed since, or a file is damaged.
        """
        folder = Path(folder)
        settings = read_settings(folder / SETTINGS_FILE)
        documents = read_json(folder / DOCUMENTS_FILE, dict)
        pipeline = cls(retriever, reranker, exact_limit=settings["exact_limit"])
        pipeline._ids, pipeline._texts = list(documents.get("ids", [])), list(documents.get("texts", []))
        found = {
            **fingerprint_vectors(retriever),
            "documents": fingerprint_strings(map(str, [*pipeline._ids, *pipeline._texts])),
        }
        check_fingerprint(settings["fingerprint"], found)
        pipeline._store = VectorStore.load(folder, exact_limit=settings["exact_limit"], trained_on=settings["trained_on"])
        return pipeline
