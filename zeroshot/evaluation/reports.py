"""What a person reads when training has ended."""

import shlex
from collections.abc import Collection
from pathlib import Path

from .suites import REPORTS_FOLDER, SuiteResult, format_table, write_report

TRAINING_REPORT = f"{REPORTS_FOLDER}/training_report.json"
ALL_METRICS = ("accuracy", "accuracy_at_k", "macro_f1", "mrr")


def describe_examples(examples: list[dict], train_labels: Collection[str]) -> str:
    """Show classified texts, and say which of their labels training saw."""
    if not examples:
        return ""
    asked = list(examples[0]["scores"])
    seen = [label for label in asked if label in train_labels]
    lines = [f"Labels asked for: {', '.join(asked)}"]
    lines.append(f"Seen in training: {', '.join(seen) if seen else 'none of them'}")
    for example in examples:
        ranked = sorted(example["scores"].items(), key=lambda pair: -pair[1])[:3]
        scores = ", ".join(f"{label} {score:.2f}" for label, score in ranked)
        lines.append(f"  {example['text'][:90]!r}\n    -> {scores}")
    return "\n".join(lines)


def describe_run(
    output_dir: Path,
    before: SuiteResult | None,
    after: SuiteResult | None,
    examples: list[dict],
    train_labels: Collection[str],
) -> str:
    """The closing report of a run; the measured part is also written to `evaluation/training_report.json`
    in `output_dir`.

    Args:
        output_dir: Where the model is.
        before: Result of the untrained model on the zero-shot sets, if there are any.
        after: Result of the trained model.
        examples: What `predict` returned for the recipe's example texts.
        train_labels: Every label that training saw.
    """
    parts = []
    if before is not None and after is not None:
        table = format_table({"before training": before, "after training": after}, ALL_METRICS)
        write_report(output_dir / TRAINING_REPORT, after, baselines={"before training": before}, table=table)
        parts.append(f"Labels that training never saw ({', '.join(after['sets'])}):\n{table}")
    if examples:
        parts.append(describe_examples(examples, train_labels))
    parts.append(
        f"The model is in {output_dir}. Use it:\n"
        f'  zeroshot predict {shlex.quote(str(output_dir))} --labels "sports,politics" --input texts.txt\n'
        "  from transformers import pipeline\n"
        f'  pipeline("zero-shot-classification", model={str(output_dir)!r}, trust_remote_code=True)'
        f'("The match ended 3:2.", ["sports", "politics"])'
    )
    return "\n\n".join(parts)
