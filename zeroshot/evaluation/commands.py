"""`zeroshot evaluate`: a model beside the untrained encoder, as a table and a file."""

import shlex
from pathlib import Path

import torch

from ..models.loading import DEFAULT_ENCODER, build_untrained, load_model
from .suites import SuiteResult, evaluate_model, format_table, load_suite, write_report

BARE = "untrained encoder, bare label"
WORDED = "untrained encoder, the model's templates"


def evaluate_command(
    model_name: str,
    suite: Path,
    *,
    rows: int,
    output: Path | None = None,
    baseline: str | None = None,
    batch_size: int = 64,
    precision: str = "fp32",
) -> str:
    """Measure a checkpoint and return the Markdown table.

    Args:
        model_name: Folder or Hub id of one of our checkpoints.
        suite: Folder of sets.
        rows: The most rows of a set.
        output: JSON file to write; the table goes beside it as `.md`.
        baseline: Encoder of the first rows; the default encoder when None, no such rows when `none`.
        batch_size: Texts per pass.
        precision: `fp32`, or `bf16` for autocast matrix products.
    """
    sets = load_suite(suite, rows)
    model = load_model(model_name)
    results: dict[str, SuiteResult] = {}
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        if baseline != "none":
            untrained = build_untrained(type(model), baseline or DEFAULT_ENCODER, max_tokens=model.config.max_tokens)
            for name, templates in ((BARE, ["{}"]), (WORDED, model.config.class_templates)):
                if name == BARE or templates != ["{}"]:
                    results[name] = evaluate_model(
                        untrained, sets, class_templates=templates, batch_size=batch_size, show_progress_bar=True
                    )
        name = Path(model_name).resolve().name if Path(model_name).is_dir() else model_name
        results[name] = evaluate_model(model, sets, batch_size=batch_size, show_progress_bar=True)
    table = format_table(results)
    if output is not None:
        command = shlex.join(
            ["zeroshot", "evaluate", model_name, "--suite", str(suite), "--rows", str(rows), "--precision", precision]
        )
        baselines = {key: value for key, value in results.items() if key != name}
        write_report(output, results[name], baselines=baselines, command=command, table=table)
    return table
