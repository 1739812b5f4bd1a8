"""`zeroshot <verb>`: thin commands over the package."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .console import CommandParser, run_command


def _architectures(_arguments: argparse.Namespace) -> None:
    from .models import ARCHITECTURES

    sys.stdout.write("".join(f"{key}\n" for key in ARCHITECTURES))


def _evaluate(arguments: argparse.Namespace) -> None:
    from .evaluation.commands import evaluate_command

    sys.stdout.write(
        evaluate_command(
            arguments.model,
            arguments.suite,
            rows=arguments.rows,
            candidate_labels=arguments.candidate_labels,
            metrics=arguments.metrics,
            output=Path(arguments.output) if arguments.output else None,
            baseline=arguments.baseline,
            batch_size=arguments.batch_size,
            precision=arguments.precision,
            by=arguments.by,
            label_offsets=arguments.label_offsets,
        )
        + "\n"
    )


def _card(arguments: argparse.Namespace) -> None:
    from .hub.card_files import write_model_card

    output = Path(arguments.output) if arguments.output else None
    written = write_model_card(Path(arguments.model), arguments.repo_id, licence=arguments.license, output=output)
    sys.stdout.write("".join(f"{path}\n" for path in written))


def _predict(arguments: argparse.Namespace) -> None:
    from .inference.call_options import read_call_options
    from .inference.commands import predict_command

    predict_command(
        arguments.model,
        arguments.labels,
        Path(arguments.input) if arguments.input else None,
        Path(arguments.output) if arguments.output else None,
        batch_size=arguments.batch_size,
        keep_fields=None if arguments.keep_fields == "all" else [name for name in arguments.keep_fields.split(",") if name],
        engine=arguments.engine,
        options=read_call_options(arguments),
        label_offsets=None if arguments.label_offsets is None else Path(arguments.label_offsets),
    )


def _offsets(arguments: argparse.Namespace) -> None:
    from .inference.call_options import read_logit_options
    from .inference.offsets import offsets_command

    text = offsets_command(
        arguments.model,
        arguments.labels,
        Path(arguments.input) if arguments.input else None,
        Path(arguments.output),
        texts=arguments.texts,
        batch_size=arguments.batch_size,
        options=read_logit_options(arguments),
    )
    sys.stdout.write(text + "\n")


def _index(arguments: argparse.Namespace) -> None:
    from .inference.commands import index_command

    index_command(arguments.model, arguments.labels, Path(arguments.output), batch_size=arguments.batch_size)


def _search(arguments: argparse.Namespace) -> None:
    from .inference.commands import search_command

    search_command(
        Path(arguments.index),
        Path(arguments.input) if arguments.input else None,
        Path(arguments.output) if arguments.output else None,
        top_k=arguments.top_k,
        model_name=arguments.model,
        batch_size=arguments.batch_size,
    )


def _calibrate(arguments: argparse.Namespace) -> None:
    from .evaluation.calibration_files import calibrate_command

    report = calibrate_command(
        arguments.model,
        arguments.data,
        method=arguments.method,
        multi_label=arguments.multi_label,
        least_positives=arguments.least_positives,
        output=Path(arguments.output) if arguments.output else None,
        batch_size=arguments.batch_size,
    )
    sys.stdout.write(report + "\n")


def _check(arguments: argparse.Namespace) -> None:
    from .inference.checking import check_command

    sys.stdout.write(check_command(arguments.model, arguments.text, arguments.labels, as_json=arguments.json) + "\n")


def _benchmark(arguments: argparse.Namespace) -> None:
    from .benchmark.commands import benchmark_command

    table = benchmark_command(
        arguments.recipe,
        architectures=arguments.architectures,
        seeds=arguments.seeds,
        suites=arguments.suite,
        rows=arguments.rows,
        output=Path(arguments.output),
        overrides=arguments.overrides,
    )
    sys.stdout.write(table + "\n")


def _average(arguments: argparse.Namespace) -> None:
    from .training.averaging import average_command

    text = average_command(
        arguments.model, arguments.share, Path(arguments.output), encoder=arguments.encoder, other=arguments.other
    )
    sys.stdout.write(text + "\n")


def _export(arguments: argparse.Namespace) -> None:
    from .inference.exporting import export_command

    text = export_command(arguments.model, Path(arguments.output), arguments.format, int8=arguments.int8)
    sys.stdout.write(text + "\n")


def _report_data(arguments: argparse.Namespace) -> None:
    from .data import load_source
    from .data.report import build_report
    from .data.report_files import prepare_folder, write_report_files
    from .data.report_format import format_report
    from .data.row_files import find_row_files

    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        prepare_folder(output)
    files = dict.fromkeys(file for name in arguments.files for file in find_row_files(name))
    report = build_report(
        [load_source(file, keep_unlabelled=True) for file in files],
        suites=[Path(suite) for suite in arguments.suite],
        threshold=arguments.threshold,
    )
    if output is not None:
        write_report_files(report, output)
    sys.stdout.write(format_report(report) + "\n")


def _add_export(verbs: Any) -> None:
    export = verbs.add_parser("export", help="write a model for ONNX Runtime or OpenVINO")
    export.add_argument("model", help="folder or Hub id of a checkpoint")
    export.add_argument("--format", choices=("onnx", "openvino"), required=True, help="of the graphs")
    export.add_argument("--int8", action="store_true", help="matrix products in int8")
    export.add_argument("--output", required=True, help="new folder")
    export.set_defaults(run=_export)


def _add_predict_verb(verbs) -> None:
    from .inference.call_options import add_call_options

    predict = verbs.add_parser("predict", help="classify texts of a file or of standard input")
    predict.add_argument("model", help="folder or Hub id of a checkpoint, or folder of an export")
    predict.add_argument(
        "--labels",
        required=True,
        help='candidate labels, "a,b,c", or a file: .txt (one a line), .json (a list, or an object: descriptions, '
        "phrasings, a hierarchy)",
    )
    predict.add_argument(
        "--input", help="rows with a field text, or .txt with one text a line (default: standard input, one text a line)"
    )
    predict.add_argument("--output", help=".jsonl, .csv or .parquet file (default: JSON Lines on standard output)")
    predict.add_argument(
        "--keep_fields",
        default="all",
        metavar="NAMES",
        help='fields of the input to keep, "id,language", or "" for none (default: all)',
    )
    predict.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="who does the work (default %(default)s)"
    )
    predict.add_argument("--batch_size", type=int, default=64, help="texts per pass (default %(default)s)")
    add_call_options(predict)
    predict.add_argument("--label_offsets", metavar="FILE", help="what zeroshot offsets wrote, added to the labels' logits")
    predict.set_defaults(run=_predict)


def _add_offsets_verb(verbs) -> None:
    from .inference.call_options import add_logit_options
    from .inference.offsets import DEFAULT_TEXTS

    offsets = verbs.add_parser("offsets", help="estimate on texts without labels which labels win too often")
    offsets.add_argument("model", help="folder or Hub id of a checkpoint, or folder of an export")
    offsets.add_argument("--labels", required=True, help="candidate labels, as for predict")
    offsets.add_argument("--input", help="texts of the kind to be classified, as for predict (default: standard input)")
    offsets.add_argument("--output", required=True, help=".json file, for predict --label_offsets")
    offsets.add_argument(
        "--texts", type=int, default=DEFAULT_TEXTS, help="most texts, drawn evenly from the input (default %(default)s)"
    )
    offsets.add_argument("--batch_size", type=int, default=64, help="texts per pass (default %(default)s)")
    add_logit_options(offsets)
    offsets.set_defaults(run=_offsets)


def _add_index_verbs(verbs) -> None:
    index = verbs.add_parser("index", help="encode many labels once, to search them")
    index.add_argument("model", help="folder or Hub id of a checkpoint, or folder of an export")
    index.add_argument("--labels", required=True, help='label names, "a,b,c", or a file: .txt (one a line), .json (a list)')
    index.add_argument("--output", required=True, help="folder of the index")
    index.add_argument("--batch_size", type=int, default=256, help="worded labels per pass (default %(default)s)")
    index.set_defaults(run=_index)

    search = verbs.add_parser("search", help="find the best labels of an index for texts")
    search.add_argument("index", help="folder that zeroshot index wrote")
    search.add_argument("--input", help="texts, as for predict (default: standard input, one text a line)")
    search.add_argument("--output", help="as for predict (default: JSON Lines on standard output)")
    search.add_argument("--top_k", type=int, default=5, help="labels of each text (default %(default)s)")
    search.add_argument("--model", help="folder or Hub id of the index's model, where it has moved")
    search.add_argument("--batch_size", type=int, default=64, help="texts per pass (default %(default)s)")
    search.set_defaults(run=_search)


def _add_trust_verbs(verbs: Any) -> None:
    from .evaluation.calibration import LEAST_POSITIVES, METHODS

    calibrate = verbs.add_parser("calibrate", help="fit temperature and thresholds on labelled rows, into the checkpoint")
    calibrate.add_argument("model", help="folder of a checkpoint; its config.json gets the calibration")
    calibrate.add_argument("data", nargs="+", metavar="DATA", help="row files of one label set; rows without labels too")
    calibrate.add_argument(
        "--method", choices=METHODS, help="platt adds a bias (default: temperature, with --multi_label platt)"
    )
    calibrate.add_argument("--multi_label", action="store_true", help="for scores of labels judged one by one")
    calibrate.add_argument(
        "--least_positives",
        type=int,
        default=LEAST_POSITIVES,
        help="rows of a label from which on it gets a threshold of its own (default %(default)s)",
    )
    calibrate.add_argument("--output", help="folder for the plot calibration.png")
    calibrate.add_argument("--batch_size", type=int, default=64, help="texts per pass (default %(default)s)")
    calibrate.set_defaults(run=_calibrate)

    check = verbs.add_parser("check", help="one text and some labels: tokens, cuts, and how stable the scores are")
    check.add_argument("model", help="folder or Hub id of a checkpoint")
    check.add_argument("text", help="the text")
    check.add_argument("labels", nargs="+", metavar="label", help="candidate labels")
    check.add_argument("--json", action="store_true", help="print JSON instead")
    check.set_defaults(run=_check)


def _add_evaluate(verbs: Any) -> None:
    from .evaluation.suites import DEFAULT_METRICS, DEFAULT_ROWS

    measure = verbs.add_parser("evaluate", help="measure a model on a folder of test sets")
    measure.add_argument("model", help="folder or Hub id of a checkpoint")
    measure.add_argument(
        "--suite", required=True, help="folder of sets, each with labels.json and test.jsonl, or packaged:topics"
    )
    measure.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="most rows of a set (default %(default)s)")
    measure.add_argument(
        "--candidate_labels",
        nargs="+",
        metavar="FILE",
        help="JSON lists of names that are candidates in every set, instead of its labels.json; names that nobody "
        "judged for a row count as wrong",
    )
    measure.add_argument(
        "--metrics", nargs="+", default=list(DEFAULT_METRICS), help="shown in the table (default: %(default)s)"
    )
    measure.add_argument(
        "--output",
        help="write the result to this JSON file, and the table beside it as .md (default for a local model: "
        "MODEL/evaluation/SUITE.json, which the model card reads)",
    )
    measure.add_argument(
        "--by", nargs="+", default=[], metavar="FIELD", help="break the result down by these fields of the rows, in the JSON"
    )
    measure.add_argument(
        "--label_offsets",
        action="store_true",
        help="add results with label offsets, for each half of a set estimated on the texts of the other",
    )
    measure.add_argument("--baseline", help="encoder of the first rows (default: the one all recipes start from; 'none')")
    measure.add_argument("--batch_size", type=int, default=64, help="texts per pass (default %(default)s)")
    measure.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="of matrix products (default %(default)s)"
    )
    measure.set_defaults(run=_evaluate)


def _add_card(verbs: Any) -> None:
    from .hub import DEFAULT_LICENCE

    card = verbs.add_parser("card", help="write the model card of a checkpoint")
    card.add_argument("model", help="folder of a checkpoint")
    card.add_argument("--repo_id", required=True, help="where it will be on the Hub, user/name")
    card.add_argument("--license", default=DEFAULT_LICENCE, help="of the weights (default %(default)s)")
    card.add_argument("--output", help="the card (default: README.md, speed.json and plots, all in the checkpoint's folder)")
    card.set_defaults(run=_card)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    from .data.duplicates import THRESHOLD
    from .evaluation.suites import DEFAULT_ROWS

    parser = CommandParser("zeroshot", description="Zero-shot text classifiers.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("architectures", help="print the registered architectures, one a line").set_defaults(run=_architectures)

    _add_evaluate(verbs)
    _add_card(verbs)
    _add_predict_verb(verbs)
    _add_offsets_verb(verbs)
    _add_index_verbs(verbs)
    _add_trust_verbs(verbs)
    _add_export(verbs)

    compare = verbs.add_parser("benchmark", help="train and measure architectures on one recipe, with several seeds")
    compare.add_argument("recipe", help="training recipe, such as configs/benchmark.yaml")
    compare.add_argument("--architectures", nargs="+", default=["all"], help="keys (default: all)")
    compare.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each (default: 0 1 2)")
    compare.add_argument("--suite", action="append", default=[], help="further folder of test sets; may be repeated")
    compare.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="most rows of a set (default %(default)s)")
    compare.add_argument("--output", default="outputs/benchmark", help="folder of models and tables (default %(default)s)")
    compare.add_argument(
        "--overrides", nargs=argparse.REMAINDER, default=[], help="last: settings of the recipe, as for train.py"
    )
    compare.set_defaults(run=_benchmark)

    average = verbs.add_parser("average", help="average a trained model with its encoder, or with another model")
    average.add_argument("model", help="folder or Hub id of a finished model")
    average.add_argument(
        "--share", type=float, default=0.5, help="of the encoder, or of the other model (default %(default)s)"
    )
    average.add_argument("--output", required=True, help="new folder for the average")
    average.add_argument("--encoder", help="what the model was trained from (default: as its run noted)")
    average.add_argument("--with", dest="other", metavar="MODEL", help="another finished model, instead of the encoder")
    average.set_defaults(run=_average)

    data = verbs.add_parser("data", help="look at rows before training on them")
    data_verbs = data.add_subparsers(dest="data_verb", required=True)
    report = data_verbs.add_parser("report", help="labels, lengths, copies, overlaps of splits, leaks of test sets")
    report.add_argument("files", nargs="+", metavar="FILE", help="row file, folder of them, 'packaged:' or Hub data set")
    report.add_argument(
        "--suite", action="append", default=[], help="folder of test sets to look for in the files; may be repeated"
    )
    report.add_argument("--output", help="write report.json, report.md and plots into this folder")
    report.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="least similarity of near copies (default %(default)s)"
    )
    report.set_defaults(run=_report_data)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""

    def command(words: Sequence[str]) -> None:
        parsed = build_parser().parse_args(words)
        parsed.run(parsed)

    run_command(command, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
