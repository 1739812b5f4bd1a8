"""A million labels: memory, time and recall of the label index, against comparing every label in the same run.

    OMP_NUM_THREADS=2 python benchmarks/label_index.py outputs/quickstart --output outputs/label_index

Two indexes are measured, each in a process of its own so that its memory is its own. `clustered` has a million names and
random vectors around 20,000 centres, and is asked with vectors around the same centres. `names` has names recombined from
the words of the packaged labels, encoded by the model with the bare template, and is asked with the packaged texts:
vectors of another kind than those it holds, as in real use.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median

import torch
from torch.nn.functional import normalize

from zeroshot.data import load_source
from zeroshot.inference.label_index import LabelIndex
from zeroshot.inference.stores import VectorStore
from zeroshot.models.loading import load_model

CENTRES = 20_000
SPREAD = 0.6  # length of the noise around a centre of length 1
QUERIES = 500
TOP_K = 10
SOURCES = ("packaged:topics/train.jsonl", "packaged:variety/train.jsonl")
TEXT_SOURCES = ("packaged:topics/test.jsonl", "packaged:zero_shot/topics/test.jsonl", "packaged:variety/test.jsonl")


def recombine_names(count: int) -> list[str]:
    """Distinct names of two or three words, drawn from the words of the packaged labels."""
    rows = [labels for source in SOURCES for labels in load_source(source).rows["labels"]]
    words = sorted({word for labels in rows for label in labels for word in label.split()})
    draw = random.Random(0)
    names: dict[str, None] = {}
    while len(names) < count:
        names[" ".join(draw.sample(words, draw.choice((2, 3))))] = None
    return list(names)


def draw_around(centres: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Unit vectors around random centres, in parts, so that the noise is never there as a whole."""
    vectors = torch.empty(count, centres.shape[1])
    for part in vectors.split(50_000):
        chosen = centres[torch.randint(len(centres), (len(part),), generator=generator)]
        noise = torch.randn(part.shape, generator=generator) * SPREAD / centres.shape[1] ** 0.5
        part.copy_(normalize(chosen + noise, dim=1))
    return vectors


def read_memory() -> dict[str, float]:
    """GB that this process holds now, and the most it has held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    resident = int(status.split("VmRSS:")[1].split()[0])
    return {"resident_gb": resident / 1e6, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def build_clustered(model_name: str, count: int, folder: Path) -> dict[str, float]:
    """Index random vectors under recombined names, and save queries of the same kind beside them."""
    generator = torch.Generator().manual_seed(0)
    model = load_model(model_name)
    centres = normalize(torch.randn(CENTRES, model.config.text_config.hidden_size, generator=generator), dim=1)
    vectors = draw_around(centres, count, generator)
    torch.save(draw_around(centres, QUERIES, generator), folder / "queries.pt")
    names = recombine_names(count)
    start = time.perf_counter()
    index = LabelIndex(model, names, VectorStore(vectors))
    built = time.perf_counter()
    index.save(folder)
    return {"build_seconds": built - start, "save_seconds": time.perf_counter() - built, **read_memory()}


def build_names(model_name: str, count: int, folder: Path) -> dict[str, float]:
    """Index recombined names by the model's own vectors."""
    model = load_model(model_name)
    model.config.class_templates = ["{}"]
    names = recombine_names(count)
    start = time.perf_counter()
    index = LabelIndex.build(model, names, show_progress_bar=sys.stderr.isatty())
    built = time.perf_counter()
    index.save(folder)
    return {"build_seconds": built - start, "labels_per_second": count / (built - start), **read_memory()}


def time_each(calls: int, call) -> dict[str, float]:
    """Milliseconds of a call, over `calls` of them; those of the processor do not count who else uses it."""
    seconds = []
    used = time.process_time()
    for number in range(calls):
        start = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - start)
    processor = (time.process_time() - used) / calls
    return {
        "processor_ms": 1e3 * processor,
        "mean_ms": 1e3 * mean(seconds),
        "median_ms": 1e3 * median(seconds),
        "highest_ms": 1e3 * max(seconds),
    }


def search(model_name: str, folder: Path) -> dict:
    """Load an index and ask it, one at a time and together; then compare with the exact answer."""
    model = load_model(model_name)
    if not (folder / "queries.pt").is_file():
        model.config.class_templates = ["{}"]
    texts = [text for source in TEXT_SOURCES for text in load_source(source).rows["text"]][:QUERIES]
    start = time.perf_counter()
    index = LabelIndex.load(folder, model)
    result: dict = {"labels": len(index), "load_seconds": time.perf_counter() - start, "after_load": read_memory()}
    store = index.store
    assert isinstance(store, VectorStore)
    if (folder / "queries.pt").is_file():
        queries = torch.load(folder / "queries.pt", weights_only=True)
    else:
        queries = model.encode_texts(texts)[str(model.compared_vectors)].float()
    store.search(queries[:1], TOP_K)
    result["one_vector"] = time_each(100, lambda number: store.search(queries[number : number + 1], TOP_K))
    result["one_text"] = time_each(100, lambda number: index.search([texts[number]], TOP_K))
    start = time.perf_counter()
    _, found = store.search(queries, TOP_K)
    result["together_ms"] = 1e3 * (time.perf_counter() - start) / len(queries)
    result["after_search"] = read_memory()
    start = time.perf_counter()
    _, exact = store.search(queries, TOP_K, exact=True)
    result["exact_together_ms"] = 1e3 * (time.perf_counter() - start) / len(queries)
    hits = (found.unsqueeze(2) == exact.unsqueeze(1)).any(dim=2).float().mean(dim=1)
    result["recall_at_10"] = {"mean": hits.mean().item(), "lowest": hits.min().item()}
    result["after_exact"] = read_memory()
    return result


JOBS = {"clustered": build_clustered, "names": build_names}


def main() -> None:
    """Run every job in a process of its own and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a checkpoint with one vector a label")
    parser.add_argument("--output", type=Path, default=Path("outputs/label_index"))
    parser.add_argument("--clustered", type=int, default=1_000_000, help="random vectors (default %(default)s; 0: none)")
    parser.add_argument("--names", type=int, default=200_000, help="encoded names (default %(default)s; 0: none)")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is not None:
        kind, step = arguments.job.split("-")
        folder = arguments.output / kind
        folder.mkdir(parents=True, exist_ok=True)
        count = vars(arguments)[kind]
        result = JOBS[kind](arguments.model, count, folder) if step == "build" else search(arguments.model, folder)
        print(json.dumps(result))
        return
    results: dict[str, dict] = {
        "threads": {"torch": torch.get_num_threads()},
        "load_average": {"before": os.getloadavg()[0]},
    }
    for kind in JOBS:
        if not vars(arguments)[kind]:
            continue
        for step in ("build", "search"):
            finished = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--job", f"{kind}-{step}"], stdout=subprocess.PIPE, check=True
            )
            results.setdefault(kind, {})[step] = json.loads(finished.stdout)
            print(kind, step, json.dumps(results[kind][step], indent=1), flush=True)
    results["load_average"]["after"] = os.getloadavg()[0]
    (arguments.output / "result.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
