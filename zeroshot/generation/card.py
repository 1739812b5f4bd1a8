"""The data card: front matter that `load_dataset` reads, and what a reader must know before training on the rows."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from .arguments import GenerationArguments
from .languages import get_language
from .manifest import Manifest
from .pool import Pool, get_names
from .state import RunState
from .validation import GeneratedRow

TEMPLATE = Path(__file__).parent / "card_template.md"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
SHOWN_REASON = 160  # characters


def name_size(rows: int) -> str:
    """The Hub's category of a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>1M")


def _count_kinds(pool: Pool, rows: list[GeneratedRow]) -> list[str]:
    labels = Counter(name for row in rows for name in row["labels"])
    negatives = Counter(name for row in rows for name in row["negatives"])
    lines = []
    for kind, names in get_names(pool).items():
        counts = [labels[name] for name in names]
        mean = sum(negatives[name] for name in names) / len(names)
        used = sum(map(bool, counts))
        lines.append(f"{kind} | {len(names)} | {used} | {min(counts)} to {max(counts)} | {mean:.1f}")
    return lines


def count_reasons(state: RunState) -> list[tuple[str, int]]:
    """How many items were rejected for which reason: the first sentence of the last problem, without what it quotes."""
    firsts = [(one.problem or "").split(". ")[0].split(": ")[0] for _, one in state.list_rejected()]
    reasons = Counter(re.sub(r"(['\"]).*?\1", "...", first) for first in firsts)
    return reasons.most_common()


def _escape(entries: Iterable[str]) -> str:
    return " · ".join(entry.replace("|", r"\|") for entry in entries)


def build_card(state: RunState, pool: Pool, manifest: Manifest) -> DatasetCard:
    """The card of the rows so far."""
    arguments: GenerationArguments = state.arguments
    rows = state.list_rows()
    codes = {language.code for name in arguments.languages if (language := get_language(name)) is not None}
    data = DatasetCardData(
        language=sorted(codes) or None,
        license=arguments.license,
        task_categories=["zero-shot-classification", "text-classification"],
        size_categories=[name_size(len(rows))],
        tags=["synthetic"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}],
    )
    unknown = arguments.license == "unknown"
    return DatasetCard.from_template(
        data,
        template_path=str(TEMPLATE),
        title=(arguments.push_to_hub or Path(arguments.output_dir).resolve().name).split("/")[-1],
        rows=len(rows),
        model=manifest["model"],
        base_url=manifest["base_url"],
        version=manifest["zeroshot_version"],
        date=manifest["created"][:10],
        prompt_sha256=manifest["prompt_sha256"],
        seed=arguments.seed,
        min_labels=arguments.min_labels,
        max_labels=arguments.max_labels,
        min_negatives=arguments.min_negatives,
        max_negatives=arguments.max_negatives,
        num_candidates=arguments.num_candidates,
        overlap=arguments.text_label_overlap,
        threshold=arguments.duplicate_threshold,
        requests=f"{state.spending.requests:,}",
        input_tokens=f"{state.spending.input_tokens:,}",
        output_tokens=f"{state.spending.output_tokens:,}",
        cost="not known" if manifest["cost"] is None else f"${manifest['cost']:.4f}",
        styles=_escape(arguments.styles),
        lengths=_escape(arguments.lengths),
        registers=_escape(arguments.registers),
        languages=_escape(arguments.languages),
        kinds=_count_kinds(pool, rows),
        rejected=[f"{_escape([reason[:SHOWN_REASON]])} | {count}" for reason, count in count_reasons(state)],
        licence="Not decided: read the terms of the model's provider." if unknown else f"`{arguments.license}`",
    )
