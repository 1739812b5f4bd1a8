"""Figures against values computed by hand, findings word for word, and the files of a report."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from zeroshot.data import Source, load_source
from zeroshot.data.figures import (
    describe_rows,
    describe_spread,
    find_near_names,
    measure_entropy,
    measure_variety,
    share_of_entropy,
    shares_content_word,
    stands_in_text,
)
from zeroshot.data.findings import join_some
from zeroshot.data.report import DataReport, build_report
from zeroshot.data.report_files import PLOTS, plot_report, write_report_files
from zeroshot.data.report_format import format_report

from .data_helpers import LONG, NEAR, THREE_PARTS, make_row, make_source, write, write_rows


def make_named(name: str, *rows: Any, labels: list[str] | None = None) -> Source:
    source = make_source(rows, labels)
    source.name = name
    return source


def found_in(report: DataReport) -> list[str]:
    return [finding["found"] for finding in report["findings"]]


@pytest.fixture
def tiny() -> Source:
    """Four rows over a closed set of four names, one of them without a label."""
    return make_source(
        [
            make_row("Goal! A goal in rain", ["sports", "rain"]),
            make_row("late tax law", ["law"], ["sports"]),
            make_row("sports news", ["sports"], ["law", "rain"]),
            make_row("hm", []),
        ],
        ["sports", "rain", "law", "music"],
    )


def test_label_figures(tiny: Source) -> None:
    labels = describe_rows("tiny", [tiny])["labels"]
    assert labels["counts"] == {"sports": 2, "law": 1, "rain": 1}
    assert next(iter(labels["counts"])) == "sports"
    assert labels["entropy"] == 1.5
    assert labels["entropy_share"] == pytest.approx(1.5 / math.log2(3))
    assert (labels["set_size"], labels["set_entropy_share"], labels["unused_names"]) == (4, 0.75, ["music"])
    assert labels["per_text"] == {"min": 0, "quartiles": [0.75, 1.0, 1.25], "mean": 1.0, "max": 2}
    assert labels["histogram"] == {"0": 1, "1": 2, "2": 1}
    assert labels["negatives_per_text"]["mean"] == 0.75
    assert labels["only_negative"] == []


def test_text_figures(tiny: Source) -> None:
    figures = describe_rows("tiny", [tiny])
    texts = figures["texts"]
    assert (figures["rows"], figures["unlabelled"]) == (4, 1)
    assert texts["words"] == {"min": 1, "quartiles": [1.75, 2.5, 3.5], "mean": 11 / 4, "max": 5}
    assert texts["characters"]["max"] == len("Goal! A goal in rain")
    assert texts["words_histogram"] == {"edges": [0, 1, 2, 3, 4, 5, 6], "counts": [0, 1, 1, 1, 0, 1]}
    assert texts["type_token_ratio"] == 10 / 11  # "goal" twice
    assert texts["moving_type_token_ratio"] is None
    assert texts["with_label"] == texts["with_label_word"] == 1.0  # the unlabelled row does not count


def test_pairs_and_their_information() -> None:
    rows = [make_row("x y", ["a", "b"])] * 2 + [make_row("x y", ["c", "a"]), make_row("x y", ["d"]), make_row("x y", [])]
    labels = describe_rows("pairs", [make_source(rows)])["labels"]
    assert labels["pairs"] == [
        {"labels": ["a", "b"], "count": 2, "pmi": pytest.approx(math.log2((2 / 4) / (3 / 4 * 2 / 4)))},
        {"labels": ["a", "c"], "count": 1, "pmi": pytest.approx(math.log2((1 / 4) / (3 / 4 * 1 / 4)))},
    ]
    assert labels["together"] == {
        "labels": ["a", "b", "c", "d"],
        "counts": [[0, 2, 1, 0], [2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]],
    }


def test_names_that_are_only_negatives() -> None:
    rows = [make_row("x", ["a"], ["b", "c"]), make_row("y", ["b"], ["a"])]
    figures = describe_rows("free", [make_source(rows)])
    assert figures["labels"]["only_negative"] == ["c"]
    assert (figures["labels"]["set_size"], figures["labels"]["set_entropy_share"]) == (None, None)


def test_a_joined_set_is_closed_only_if_all_are(tiny: Source) -> None:
    other = make_source([make_row("x", ["chess"])], ["chess", "rain"])
    assert describe_rows("both", [tiny, other])["labels"]["set_size"] == 5
    assert describe_rows("both", [tiny, make_source([make_row("x", ["chess"])])])["labels"]["set_size"] is None


def test_entropy_of_even_and_single_labels() -> None:
    assert measure_entropy([3, 3, 3, 3, 0]) == 2.0
    assert measure_entropy([]) == 0
    assert share_of_entropy(2.0, 4) == share_of_entropy(0.0, 1) == 1.0


@pytest.mark.parametrize("window", [1, 2, 3, 7, 20])
def test_moving_ratio_is_the_mean_over_windows(window: int) -> None:
    """The running count against the definition."""
    words = list("abacccbadaabefeeabcd")
    windows = [words[start : start + window] for start in range(len(words) - window + 1)]
    plain, moving = measure_variety(words, window)
    assert plain == 6 / 20
    assert moving == pytest.approx(sum(len(set(one)) / window for one in windows) / len(windows))


def test_moving_ratio_does_not_fall_with_length() -> None:
    words = [f"w{number % 700}" for number in range(1400)]
    assert measure_variety(words) == (0.5, 1.0)
    assert measure_variety([]) == (0.0, None)


def test_spread_of_one_number() -> None:
    assert describe_spread([3]) == {"min": 3, "quartiles": [3, 3, 3], "mean": 3, "max": 3}


@pytest.mark.parametrize(
    ("label", "text", "whole", "word"),
    [
        ("dark humour", "Dark, humour!", True, True),
        ("art", "the party", False, False),
        ("cost of living", "living in hope", False, True),
        ("cost of living", "a cup of tea", False, False),  # "of" is no content
        ("!?", "!?", False, False),
    ],
)
def test_labels_in_their_texts(label: str, text: str, whole: bool, word: bool) -> None:
    words = text.lower().replace(",", "").replace("!", "").split()
    assert (stands_in_text(label, words), shares_content_word(label, words)) == (whole, word)


def test_near_names() -> None:
    names = ["Tax", "taxes", "e-mail", "email", "E mails", "city", "cities", "bus", "class", "boss", "gas", "😀", "😡"]
    assert find_near_names(names) == [["Tax", "taxes"], ["e-mail", "email", "E mails"], ["city", "cities"]]


def test_some_of_many() -> None:
    assert join_some([1, 2]) == "1, 2"
    assert join_some(range(7)) == "0, 1, 2, 3, 4 and 2 more"


def test_clean_rows_have_no_findings() -> None:
    report = build_report([make_named("memory", make_row("goal", ["sports"]), make_row("cake", ["cooking"]))])
    assert report["findings"] == report["copies"] == report["rejected"] == report["overlaps"] == []
    assert report["total"] is None
    assert "## Findings\n\nNone.\n" in format_report(report)


def test_copies_have_the_row_numbers_of_the_file(tmp_path: Path) -> None:
    """An empty line and a refused row lie before them."""
    rows = [make_row(LONG, ["a"]), make_row(NEAR, ["b"]), make_row(LONG.upper() + "!", ["c"])]
    file = write(tmp_path, "rows.jsonl", "\n{}\n" + "".join(json.dumps(row) + "\n" for row in rows))
    report = build_report([load_source(file)])
    numbers = [(copy["first"]["row"], copy["second"]["row"], copy["exact"]) for copy in report["copies"]]
    assert numbers == [(3, 4, False), (3, 5, True)]
    assert report["copies"][0]["similarity"] == pytest.approx(17 / 19)
    assert report["copies"][1]["similarity"] == 1
    assert [row["row"] for row in report["rejected"]] == [2]
    assert found_in(report)[:2] == [
        f"Texts of {file} are there twice: 1 exact and 1 near copies, such as {file} row 5 (of {file} row 3), "
        f"{file} row 4 (of {file} row 3).",
        f"1 row of {file} refused: row 2. The first: {report['rejected'][0]['problem']}",
    ]


def test_premises_have_the_numbers_of_their_first_pairs(tmp_path: Path) -> None:
    pairs = [(LONG, "a", "entailment"), (LONG, "b", "neutral"), ("rain", "c", "entailment"), (NEAR, "d", "entailment")]
    rows = [{"premise": premise, "hypothesis": one, "label": label} for premise, one, label in pairs]
    source = load_source(write_rows(tmp_path, "pairs.jsonl", *rows))
    assert source.numbers == [1, 3, 4]
    [copy] = build_report([source])["copies"]
    assert (copy["first"]["row"], copy["second"]["row"]) == (1, 4)


def test_texts_and_names_in_two_files() -> None:
    first = make_named("a", make_row(LONG, ["Sports"], ["law"]), make_row("other text", ["rain"]))
    second = make_named("b", make_row("new one", ["sports"], ["rain"]), make_row(NEAR, ["music"]))
    report = build_report([first, second, make_named("c", make_row("far away", ["chess"]))])
    both, *apart = report["overlaps"]
    assert [(copy["first"]["row"], copy["second"]["row"]) for copy in both["copies"]] == [(1, 2)]
    assert (both["labels"], both["names"]) == (["Sports"], ["Sports", "rain"])
    assert [(one["copies"], one["names"]) for one in apart] == [([], []), ([], [])]
    assert report["copies"] == []
    assert found_in(report)[0] == "Texts are in two files: 0 exact and 1 near copies, such as b row 2 (of a row 1)."
    text = format_report(report)
    assert "2 pairs of files share neither text nor name." in text
    assert f"- 0.89: a row 1: {LONG[:60]}...\n  b row 2: {NEAR[:60]}...\n" in text


def test_a_copy_is_found_in_every_file_that_has_it() -> None:
    """The nearest text of one file does not hide that of another."""
    report = build_report([make_named(name, make_row(LONG, ["a"]), make_row(LONG, ["b"])) for name in "xyz"])
    assert [len(one["copies"]) for one in report["overlaps"]] == [2, 2, 2]
    assert len(report["copies"]) == 3


def test_a_suite_that_leaks(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    write_rows(suite / "set", "test.jsonl", {"text": "rain", "labels": []}, {"text": LONG + ".", "labels": ["SPORTS"]})
    write(suite / "set", "labels.json", '["SPORTS"]')
    file = write_rows(tmp_path, "mine.jsonl", make_row("other", ["law"]), make_row(LONG, ["sports"]))
    report = build_report([load_source(file)], suites=[suite])
    [leak] = report["leaks"]
    assert (leak["rows"], leak["labels"], len(leak["files"])) == (2, ["SPORTS"], 1)
    [copy] = leak["copies"]
    assert (copy["first"]["source"], copy["first"]["row"], copy["second"]["row"], copy["exact"]) == (file, 2, 2, True)
    assert found_in(report) == [
        f"Texts of the suite {suite} are in the files: 1 exact and 0 near copies, such as {leak['files'][0]} row 2 "
        f"(of {file} row 2)."
    ]
    assert report["findings"][0]["mend"] == "Leave them out, or what is measured on the suite says too much."


def test_refused_rows_of_a_suite_leak_too(tmp_path: Path) -> None:
    """And a row of a suite that stands in two files is one row of the suite."""
    suite = tmp_path / "suite"
    write_rows(suite, "test.jsonl", make_row("rain", ["law"]), {"text": LONG, "labels": "sports"}, ["no", "text"])
    mine = [make_named(name, make_row(LONG, ["sports"])) for name in "ab"]
    report = build_report(mine, suites=[suite])
    [leak] = report["leaks"]
    assert (leak["rows"], len(leak["rejected"]), len(leak["copies"])) == (1, 2, 2)
    assert "are in the files: 1 exact and 0 near copies, such as" in found_in(report)[0]
    assert found_in(report)[2].startswith(f"2 rows of the suite {suite} refused, searched")
    assert f"| {suite} | 1     | 1    | 2       | 1     | 0    |" in format_report(report)


def test_a_mistyped_suite_is_refused_before_anything_is_compared(
    tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`user/name` of a folder that is not there would be asked for on the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zeroshot.data.report.NearDuplicateIndex", None)
    with pytest.raises(FileNotFoundError, match=THREE_PARTS) as raised:
        build_report([tiny], suites=[Path("data/zeroshto")])
    assert str(raised.value) == (
        "Expected a suite, a folder of row files, found nothing at 'data/zeroshto'. "
        "Check the path; it is read from the current folder."
    )


def test_a_file_does_not_leak_from_itself(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "suite", "test.jsonl", make_row(LONG, ["sports"]))
    write_rows(tmp_path / "suite", "more.jsonl", make_row("rain", ["law"]))
    [leak] = build_report([load_source(file)], suites=[tmp_path / "suite"])["leaks"]
    assert (leak["rows"], leak["copies"]) == (1, [])


def test_findings_about_labels() -> None:
    rows = [make_row(f"text {number} of sports", ["sports"], ["never"]) for number in "abcdefgh"]
    rows += [make_row("hm", ["Sport"])]
    findings = build_report([make_named("f", *rows)], threshold=1)["findings"]
    assert [finding["found"] for finding in findings] == [
        "89% of the texts of f hold one of their labels.",
        "Labels of f are unevenly frequent: their entropy is 0.50 of its maximum.",
        "Negatives of f that are never labels: never.",
        "Names of f that differ in case, punctuation or plural only: sports / Sport.",
    ]
    assert all(finding["mend"].endswith(".") for finding in findings)


def test_finding_of_unused_names(tiny: Source) -> None:
    assert "Names of the closed set of memory that are on no row: music." in found_in(build_report([tiny]))


@pytest.mark.parametrize(("names", "found"), [((), "none"), (("a", "a"), "'a' twice")])
def test_sources_are_different(names: tuple[str, ...], found: str) -> None:
    with pytest.raises(ValueError, match=THREE_PARTS) as raised:
        build_report([make_named(name, make_row("x", ["y"])) for name in names])
    assert str(raised.value) == f"Expected one or more different sources, found {found}. Name each file once."


def test_text_explains_its_figures(tiny: Source) -> None:
    text = format_report(build_report([tiny], threshold=0.75))
    assert "Most frequent: sports 2, law 1, rain 1." in text
    assert "Texts by their number of labels: 0: 1, 1: 2, 2: 1." in text
    assert "| memory | 4    | 0       | 1        | 3      | 4      | 0 / 1.00 / 2 | 0.75             | 1.50    |" in text
    assert "similarity of 0.75 or more" in text
    assert "## Between files" not in text and "## Suites" not in text


def test_bars_in_names_do_not_break_the_table() -> None:
    rows = [make_row("x", ["a|b", "c"]), make_row("y", ["d"])]
    assert "| a\\|b  | c     | 1     |" in format_report(build_report([make_source(rows)]))


def test_files_of_a_report(tiny: Source, tmp_path: Path) -> None:
    report = build_report([tiny])
    write_report_files(report, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.md", *PLOTS}
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    assert (folder / "report.md").read_text(encoding="utf-8") == format_report(report) + "\n"


def test_plots_show_something_and_differ(tiny: Source, tmp_path: Path) -> None:
    files = plot_report(build_report([tiny]), tmp_path)
    images = [matplotlib.image.imread(file) for file in files]
    assert all(image.shape[:2] == (720, 960) and image.std() > 0.01 for image in images)
    assert len({file.read_bytes() for file in files}) == len(PLOTS) == 4


def test_rows_without_any_label_can_be_drawn(tmp_path: Path) -> None:
    report = build_report([make_source([make_row("hm", []), make_row("oh", [])])])
    assert len(plot_report(report, tmp_path)) == 4
    assert format_report(report).count("None.") == 3
    assert report["findings"] == []


def test_a_closed_set_without_labelled_rows_is_not_called_uneven() -> None:
    report = build_report([make_source([make_row("hm", [])], ["a", "b"])])
    assert found_in(report) == ["Names of the closed set of memory that are on no row: a, b."]


def test_an_exact_copy_counts_before_an_equally_similar_text() -> None:
    """Repeating itself adds no shingle, so the first text has similarity 1 with the second, and other words."""
    texts = ["a b c a b c a b", "a b c a b c a b c", "A b c a b c a b c"]
    copies = build_report([make_named("f", *(make_row(one, ["x"]) for one in texts))])["copies"]
    numbers = [(copy["first"]["row"], copy["second"]["row"], copy["similarity"], copy["exact"]) for copy in copies]
    assert numbers == [(1, 2, 1.0, False), (2, 3, 1.0, True)]


def test_names_of_a_closed_set_are_shared_too() -> None:
    """Negatives are drawn from them."""
    first = make_named("a", make_row("x", ["rain"]), labels=["rain", "Chess"])
    [overlap] = build_report([first, make_named("b", make_row("y", ["chess"]))])["overlaps"]
    assert (overlap["labels"], overlap["names"]) == ([], ["Chess"])


def test_exact_and_long_copies_are_shown_first() -> None:
    """Short texts meet by chance."""
    texts = ["yes", "Yes", LONG, NEAR, "no, thank you", "No thank you"]
    text = format_report(build_report([make_named("f", *(make_row(one, [f"l{n}"]) for n, one in enumerate(texts)))]))
    assert "2 exact and 1 near copies, such as f row 6 (of f row 5), f row 2 (of f row 1), f row 4 (of f row 3)." in text
    assert text.index("f row 5: no, thank you") < text.index("f row 1: yes") < text.index("- 0.89: f row 3")


def test_label_names_are_no_formulas(tmp_path: Path) -> None:
    """Between dollar signs matplotlib reads a formula, and refuses a wrong one."""
    report = build_report([make_source([make_row("x", ["$5 \\frac $", "y" * 200])])])
    assert len(plot_report(report, tmp_path)) == 4


def test_a_missing_extra_is_named(tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError) as raised:
        plot_report(build_report([tiny]), tmp_path)
    assert str(raised.value) == (
        'Expected matplotlib for plots, found no such package. Install the extra: pip install "zeroshot[data]".'
    )


def test_a_file_is_no_folder(tiny: Source, tmp_path: Path) -> None:
    file = write(tmp_path, "taken", "")
    with pytest.raises(ValueError, match=THREE_PARTS) as raised:
        write_report_files(build_report([tiny]), Path(file))
    assert str(raised.value) == f"Expected a folder for the report, found the file {file!r}. Name a folder."
