"""Retrieval: both stages say of a pair what the model says of it alone, and the measures are those of a hand computation."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from transformers import set_seed

from zeroshot.inference import RetrieveRerankPipeline
from zeroshot.inference.ranking import measure_ranking
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .conftest import WORDS

DOCUMENTS = [f"the {one} of a {other}" for one in WORDS[10:20] for other in WORDS[20:32]]
QUERIES = ["sports", "cooking music", "law", "happy weather", "rain, wind", "team goal"]
IDS = [f"document {number}" for number in range(len(DOCUMENTS))]


def build(encoder_dir: str, architecture: str = "biencoder", **kwargs: object) -> ZeroShotPreTrainedModel:
    """A model of two templates whose second stage, if any, says something."""
    set_seed(1)
    model = ARCHITECTURES[architecture].from_encoder(encoder_dir, class_templates=["{}", "it is about {}."], **kwargs)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "residual.weight":
                parameter.normal_(std=1.0)
    return model


@pytest.fixture
def retriever(encoder_dir: str) -> ZeroShotPreTrainedModel:
    """A bi-encoder."""
    return build(encoder_dir)


def test_documents_are_ranked_by_the_retrievers_logits(retriever: ZeroShotPreTrainedModel) -> None:
    pipeline = RetrieveRerankPipeline(retriever)
    pipeline.index_documents(DOCUMENTS[:50], IDS[:50])
    pipeline.index_documents(DOCUMENTS[50:], IDS[50:])
    result = pipeline.batch_search(QUERIES, top_k=5, num_candidates=20)
    logits = retriever.predict_logits(DOCUMENTS, QUERIES).T
    assert result.reranked is None and set(result.seconds) == {"encode", "retrieve"}
    for query, hits, candidates, row in zip(QUERIES, result.hits, result.retrieved, logits, strict=True):
        assert len(candidates) == 20 and hits == candidates[:5]
        assert [hit["logit"] for hit in candidates] == pytest.approx(row.topk(20).values.tolist(), abs=1e-4)
        for hit in candidates:
            assert hit["text"] == DOCUMENTS[IDS.index(hit["id"])]
            assert hit["logit"] == pytest.approx(row[IDS.index(hit["id"])].item(), abs=1e-4)
        assert [hit["logit"] for hit in pipeline.search(query, 5)] == pytest.approx([h["logit"] for h in hits], abs=1e-4)
    assert len(pipeline.search("law", 1000, num_candidates=1000)) == len(DOCUMENTS)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("crossencoder", {}),
        ("crossencoder", {"head": "nli"}),
        ("jointencoder", {"label_isolation": False}),
        ("cascade", {"shortlist_size": 2}),
        ("lateinteraction", {}),
    ],
    ids=str,
)
def test_a_pair_is_judged_as_if_it_were_alone(
    encoder_dir: str, retriever: ZeroShotPreTrainedModel, architecture: str, options: dict
) -> None:
    """Many queries share a pass: neither a shortlist nor the company of other queries may change a score."""
    reranker = build(encoder_dir, architecture, **options)
    pipeline = RetrieveRerankPipeline(retriever, reranker)
    pipeline.index_documents(DOCUMENTS)
    result = pipeline.batch_search(QUERIES, top_k=3, num_candidates=100)
    assert result.reranked is not None and set(result.seconds) == {"encode", "retrieve", "rerank"}
    moved = 0
    for query, hits, before, after in zip(QUERIES, result.hits, result.retrieved, result.reranked, strict=True):
        assert sorted(hit["id"] for hit in before) == sorted(hit["id"] for hit in after) and hits == after[:3]
        alone = reranker.predict_logits([hit["text"] for hit in after], [query], multi_label=True)[:, 0]
        assert [hit["logit"] for hit in after] == pytest.approx(alone.tolist(), abs=1e-4)
        assert [hit["logit"] for hit in after] == sorted((hit["logit"] for hit in after), reverse=True)
        moved += before != after
    assert moved == len(QUERIES)


def test_queries_share_the_passes_of_both_models(encoder_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever, reranker = build(encoder_dir), build(encoder_dir, "crossencoder")
    pipeline = RetrieveRerankPipeline(retriever, reranker)
    pipeline.index_documents(DOCUMENTS)
    passes = {"retriever": 0, "reranker": 0}

    def count(name: str):
        def hook(*_: object) -> None:
            passes[name] += 1

        return hook

    retriever.encoder.register_forward_hook(count("retriever"))
    reranker.encoder.register_forward_hook(count("reranker"))
    together = pipeline.batch_search([*QUERIES, QUERIES[0]], num_candidates=10)
    assert passes["retriever"] == 1 and together.hits[0] == together.hits[-1]
    shared, passes["reranker"] = passes["reranker"], 0
    for query in QUERIES:
        pipeline.search(query, num_candidates=10)
    assert shared < passes["reranker"]


def test_saved_documents_come_back_and_know_their_retriever(retriever: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    pipeline = RetrieveRerankPipeline(retriever, exact_limit=50)
    pipeline.index_documents(DOCUMENTS, IDS)
    pipeline.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors", ".faiss"}
    loaded = RetrieveRerankPipeline.load(tmp_path, retriever)
    assert loaded.batch_search(QUERIES).hits == pipeline.batch_search(QUERIES).hits
    loaded.index_documents(["the law of the rain"], ["new"])
    assert len(loaded) == len(DOCUMENTS) + 1
    documents = (tmp_path / "documents.json").read_text(encoding="utf-8")
    (tmp_path / "documents.json").write_text(documents.replace("goal", "law"), encoding="utf-8")
    with pytest.raises(ValueError, match="found that its documents changed since"):
        RetrieveRerankPipeline.load(tmp_path, retriever)
    (tmp_path / "documents.json").write_text(documents, encoding="utf-8")
    retriever.config.class_templates = ["{}"]
    with pytest.raises(ValueError, match="found that its templates changed since"):
        RetrieveRerankPipeline.load(tmp_path, retriever)


def test_bad_requests_are_refused(encoder_dir: str, retriever: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Expected a retriever with one vector a document, found LateInter.*bi-encoder"):
        RetrieveRerankPipeline(build(encoder_dir, "lateinteraction"))
    pipeline = RetrieveRerankPipeline(retriever)
    for request in (lambda: pipeline.search("law"), lambda: pipeline.save(tmp_path)):
        with pytest.raises(ValueError, match=r"^Expected documents to \w+, found none\. Call index_documents first\.$"):
            request()
    with pytest.raises(ValueError, match=r"^Expected distinct ids, found 'a' twice\. Rename one of the documents\.$"):
        pipeline.index_documents(DOCUMENTS[:2], ["a", "a"])
    with pytest.raises(ValueError, match=r"^Expected an id for each of 2 documents, found 1\. Give one each\.$"):
        pipeline.index_documents(DOCUMENTS[:2], ["a"])
    pipeline.index_documents(DOCUMENTS[:2], ["a", "b"])
    with pytest.raises(ValueError, match=r"^Expected distinct ids, found 'a' twice\."):
        pipeline.index_documents(DOCUMENTS[2:3], ["a"])
    with pytest.raises(ValueError, match=r"^Expected at least as many candidates as results \(10\), found 5\. Raise num_"):
        pipeline.search("law", num_candidates=5)
    with pytest.raises(ValueError, match=r"^Expected ids of documents that are indexed, found 'c'\. Leave it out\.$"):
        pipeline.evaluate(["law"], [["a", "c"]])
    assert len(pipeline) == 2


def test_evaluation_measures_both_stages(encoder_dir: str, retriever: ZeroShotPreTrainedModel) -> None:
    pipeline = RetrieveRerankPipeline(retriever, build(encoder_dir, "crossencoder"))
    pipeline.index_documents(DOCUMENTS, IDS)
    result = pipeline.batch_search(QUERIES, num_candidates=20)
    assert result.reranked is not None
    relevant = [[hits[0]["id"]] for hits in result.reranked]
    measured = pipeline.evaluate(QUERIES, relevant, k=10, num_candidates=20)
    assert measured["reranked"] == {"mrr": 1.0, "ndcg": 1.0, "map": 1.0, "precision": pytest.approx(0.1), "recall": 1.0}
    retrieved = [[hit["id"] for hit in hits] for hits in result.retrieved]
    assert measured["retrieved"] == measure_ranking(retrieved, [set(one) for one in relevant], 10)
    assert measured["retrieved"]["mrr"] < 1.0 and set(measured["seconds"]) == {"encode", "retrieve", "rerank"}
    plain = RetrieveRerankPipeline(retriever)
    plain.index_documents(DOCUMENTS, IDS)
    assert set(plain.evaluate(QUERIES, relevant)) == {"retrieved", "seconds"}


def test_measures_of_a_ranking_computed_by_hand() -> None:
    # Ranks 2 and 4 are relevant, and one relevant document was not found; then a query whose first is relevant.
    measured = measure_ranking([["a", "b", "c", "d"], ["e", "f"], ["g"]], [{"b", "d", "z"}, {"e"}, set()], k=3)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert measured == {
        "mrr": pytest.approx((1 / 2 + 1) / 2),
        "ndcg": pytest.approx((1 / math.log2(3) / ideal + 1) / 2),
        "map": pytest.approx(((1 / 2 + 2 / 4) / 3 + 1) / 2),
        "precision": pytest.approx((1 / 3 + 1 / 3) / 2),
        "recall": pytest.approx((1 / 3 + 1) / 2),
    }
    assert measure_ranking([["a", "b"]], [{"b"}], k=1)["mrr"] == 0.0


def test_ndcg_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    targets, scores = generator.integers(0, 2, (20, 30)), generator.random((20, 30))
    ranked = [[str(place) for place in row] for row in np.argsort(-scores, axis=1)]
    relevant = [{str(place) for place in np.flatnonzero(row)} for row in targets]
    for k in (1, 5, 30):
        assert measure_ranking(ranked, relevant, k)["ndcg"] == pytest.approx(ndcg_score(targets, scores, k=k))


@pytest.mark.parametrize(
    ("ranked", "relevant", "k", "message"),
    [
        ([["a"]], [{"a"}], 0, "Expected a k of at least 1, found 0. Raise it."),
        ([["a"]], [], 1, "Expected one set of relevant documents per query, found 0 for 1 queries. Give every query a set."),
        ([["a"]], [set()], 1, "Expected a query with a relevant document, found none. Name relevant documents."),
    ],
)
def test_measures_refuse_what_cannot_be_measured(ranked: list, relevant: list, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        measure_ranking(ranked, relevant, k)
