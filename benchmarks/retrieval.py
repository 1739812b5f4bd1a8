"""Retrieval on public sets: label names are the queries, texts the documents, and a text is relevant to its labels.

    OMP_NUM_THREADS=2 python benchmarks/retrieval.py DATA --retriever outputs/quickstart --reranker outputs/cascade

DATA is a folder of sets, each with labels.json and test.jsonl, as `zeroshot evaluate --suite` takes.
"""

import argparse
import json
import time
from pathlib import Path

from zeroshot.data import load_source
from zeroshot.data.validation import read_label_file
from zeroshot.inference import RetrieveRerankPipeline
from zeroshot.inference.ranking import RANKING_METRICS
from zeroshot.models.loading import load_model

SETS = ("dbpedia14", "medical_abstracts")


def main() -> None:
    """Index every set, ask it for all its labels, print one row a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--retriever", required=True, help="checkpoint of a bi-encoder or a cascade")
    parser.add_argument("--reranker", help="any checkpoint")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="(default: %(default)s)")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--num_candidates", type=int, default=100)
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    retriever = load_model(arguments.retriever)
    reranker = load_model(arguments.reranker) if arguments.reranker else None
    results = {}
    heads = [name if name == "map" else f"{name}@{arguments.k}" for name in RANKING_METRICS]  # MAP looks at all candidates
    print(f"| set | stage | {' | '.join(heads)} |")
    print("|---" * (2 + len(RANKING_METRICS)) + "|")
    for name in arguments.sets:
        rows = load_source(str(arguments.data / name / "test.jsonl")).rows
        queries = read_label_file(arguments.data / name / "labels.json")
        pipeline = RetrieveRerankPipeline(retriever, reranker)
        start = time.perf_counter()
        pipeline.index_documents(rows["text"])
        seconds = time.perf_counter() - start
        relevant = [[str(row) for row, labels in enumerate(rows["labels"]) if query in labels] for query in queries]
        measured = pipeline.evaluate(queries, relevant, k=arguments.k, num_candidates=arguments.num_candidates)
        measured["seconds"]["index"] = seconds
        results[name] = {"documents": len(rows), "queries": len(queries), **measured}
        for stage in ("retrieved", "reranked"):
            if stage in measured:
                values = " | ".join(f"{measured[stage][metric]:.3f}".lstrip("0") for metric in RANKING_METRICS)
                print(f"| {name} ({len(rows)}, {len(queries)} queries) | {stage} | {values} |")
        print({stage: round(spent, 3) for stage, spent in measured["seconds"].items()})
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
