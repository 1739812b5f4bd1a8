"""What an export changes: python benchmarks/export_parity.py MODEL --suite FOLDER --output FOLDER.

Exports MODEL in every format, float32 and int8, into FOLDER (exports that lie there are taken as they are), and prints for
each the largest difference of a logit on packaged texts and the accuracy on every set, beside the model's own.

It needs the extra `export`.
"""

import argparse
import itertools
import sys
from pathlib import Path

from zeroshot.evaluation import evaluate_model, load_suite
from zeroshot.inference.exported import load_exported
from zeroshot.inference.exporting import compare_logits, export_model
from zeroshot.models.loading import load_model

SETS = ["banking77", "dbpedia14", "sib200_en"]


def main(words: list[str]) -> None:
    """Parse, export, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of a checkpoint")
    parser.add_argument("--suite", required=True, help="folder of test sets, each with labels.json and test.jsonl")
    parser.add_argument("--sets", nargs="+", default=SETS, help="those of it that are measured (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1000, help="most rows of a set (default %(default)s)")
    parser.add_argument("--formats", nargs="+", default=["onnx", "openvino"], help="(default: both)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the exports")
    arguments = parser.parse_args(words)
    model = load_model(arguments.model)
    sets = {name: one for name, one in load_suite(arguments.suite, arguments.rows).items() if name in arguments.sets}
    if missing := set(arguments.sets) - set(sets):
        parser.error(f"Expected the sets {sorted(missing)} in {arguments.suite}, found none. Name others with --sets.")
    sys.stdout.write("| model | largest difference | same best label | " + " | ".join(sets) + " |\n")
    sys.stdout.write("|---" * (3 + len(sets)) + "|\n")

    def write(name: str, one, difference: str) -> None:
        found = evaluate_model(one, sets)["sets"]
        cells = " | ".join(f"{found[key]['accuracy']:.3f}" for key in sets)
        sys.stdout.write(f"| {name} | {difference} | {cells} |\n")
        sys.stdout.flush()

    write("PyTorch, float32", model, "0 | 100%")
    for file_format, int8 in itertools.product(arguments.formats, (False, True)):
        name = f"{file_format}-{'int8' if int8 else 'fp32'}"
        folder = arguments.output / name
        if not folder.exists():
            export_model(model, folder, file_format, int8=int8)
        exported = load_exported(folder)
        difference, same = compare_logits(model, exported)
        write(name.replace("-", ", "), exported, f"{difference:.2g} | {same:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
