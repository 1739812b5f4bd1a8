"""A data report as Markdown that reads well in a terminal."""

from collections.abc import Iterable, Sequence

from .figures import WINDOW, Figures, Spread
from .findings import count_later_rows, join_some, rank_copies
from .report import Copy, DataReport

SHOWN_COPIES = 10
SHOWN_OVERLAPS = 20
SHOWN_LABELS = 10
SHOWN_CHARACTERS = 60


def _build_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, its columns as wide as their widest cell; bars inside cells are escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _show_share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _show_spread(spread: Spread) -> str:
    """Least, the three quartiles and most."""
    return " / ".join(f"{value:.0f}" for value in (spread["min"], *spread["quartiles"], spread["max"]))


def _show_text(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_CHARACTERS else flat[:SHOWN_CHARACTERS] + "..."


def _format_labels(figures: Sequence[Figures], report: DataReport) -> str:
    head = ["file", "rows", "refused", "no label", "labels", "of set", "a text"]
    head += ["negatives a text", "entropy", "share", "of set's"]
    rows = []
    for one in figures:
        labels = one["labels"]
        refused = [row for row in report["rejected"] if row["source"] == one["name"] or one is report["total"]]
        spread = labels["per_text"]
        rows.append(
            [
                *(one["name"], one["rows"], len(refused), one["unlabelled"], labels["distinct"]),
                "-" if labels["set_size"] is None else labels["set_size"],
                f"{spread['min']} / {spread['mean']:.2f} / {spread['max']}",
                f"{labels['negatives_per_text']['mean']:.2f}",
                f"{labels['entropy']:.2f}",
                *(_show_share(labels["entropy_share"]), _show_share(labels["set_entropy_share"])),
            ]
        )
    return _build_table(head, rows)


def _format_texts(figures: Sequence[Figures], report: DataReport) -> str:
    head = ["file", "words", "characters", "type-token", "moving", "with label", "with label word", "exact", "near"]
    rows = []
    for one in figures:
        texts = one["texts"]
        exact = [copy["exact"] for copy in report["copies"] if copy["first"]["source"] == one["name"]]
        if one is report["total"]:
            exact = [copy["exact"] for copy in report["copies"]]
            exact += [copy["exact"] for overlap in report["overlaps"] for copy in overlap["copies"]]
        rows.append(
            [
                *(one["name"], _show_spread(texts["words"]), _show_spread(texts["characters"])),
                *(_show_share(texts["type_token_ratio"]), _show_share(texts["moving_type_token_ratio"])),
                *(f"{texts['with_label']:.1%}", f"{texts['with_label_word']:.1%}", sum(exact), len(exact) - sum(exact)),
            ]
        )
    return _build_table(head, rows)


def _format_frequencies(figures: Figures) -> str:
    counts = list(figures["labels"]["counts"].items())
    parts = ["Most frequent: " + join_some((f"{name} {count}" for name, count in counts[:SHOWN_LABELS]), SHOWN_LABELS) + "."]
    if len(counts) > SHOWN_LABELS:
        parts.append("Least frequent: " + join_some((f"{name} {count}" for name, count in counts[-5:]), 5) + ".")
    sizes = ", ".join(f"{size}: {rows}" for size, rows in figures["labels"]["histogram"].items())
    parts.append(f"Texts by their number of labels: {sizes}.")
    return "\n".join(parts)


def _format_copies(copies: Sequence[Copy]) -> str:
    """The first copies with the beginning of their texts."""
    lines = []
    for copy in rank_copies(copies)[:SHOWN_COPIES]:
        first, second = (
            f"{place['source']} row {place['row']}: {_show_text(place['text'])}" for place in (copy["first"], copy["second"])
        )
        lines += [f"- {'exact' if copy['exact'] else format(copy['similarity'], '.2f')}: {first}", f"  {second}"]
    if len(copies) > SHOWN_COPIES:
        lines.append(f"- and {len(copies) - SHOWN_COPIES} more, all of them in report.json (`--output`).")
    return "\n".join(lines) if lines else "None."


def _format_overlaps(report: DataReport) -> str:
    head = ["file", "other file", "exact", "near", "labels of both", "names of both"]
    rows: list[list[str | int]] = []
    for one in report["overlaps"]:
        exact = sum(copy["exact"] for copy in one["copies"])
        shared = (exact, len(one["copies"]) - exact, len(one["labels"]), len(one["names"]))
        if any(shared):
            rows.append([one["first"], one["second"], *shared])
    apart = len(report["overlaps"]) - len(rows)
    rows.sort(key=lambda row: [-int(number) for number in row[2:]])
    parts = [_build_table(head, rows[:SHOWN_OVERLAPS])] if rows else []
    if len(rows) > SHOWN_OVERLAPS:
        parts.append(f"{len(rows) - SHOWN_OVERLAPS} more pairs of files share something.")
    if apart:
        parts.append(f"{apart} pairs of files share neither text nor name.")
    return "\n\n".join(parts)


def _format_leaks(report: DataReport) -> str:
    head = ["suite", "files", "rows", "refused", "exact", "near", "labels of both"]
    rows = []
    for leak in report["leaks"]:
        size = (len(leak["files"]), leak["rows"], len(leak["rejected"]))
        rows.append([leak["suite"], *size, *count_later_rows(leak["copies"]), len(leak["labels"])])
    copies = [copy for leak in report["leaks"] for copy in leak["copies"]]
    return _build_table(head, rows) + "\n\n" + _format_copies(copies)


DEFINITIONS = f"""
- Entropy, in bits: -sum p log2 p over the labels, p being a label's part of all labels on rows; *share*: of log2(distinct
  labels), its maximum; *of set's*: of log2(names of the closed set).
- Labels a text: least / mean / most. Words and characters: least / quartiles / most.
- Type-token: distinct words / words. It falls with the length of a file; *moving*, the mean over windows of {WINDOW} words,
  does not (Covington and McFall 2010, https://doi.org/10.1080/09296171003643098).
- With label: share of labelled texts that hold one of their labels word for word, in any case; with label word: one word of
  a label, English function words aside. Scripts that do not part words are not searched.
- Exact: the same words, whatever case and punctuation. Near: the sets of three-word runs (below six words, five-character
  runs) have a Jaccard similarity of THRESHOLD or more. Each text is paired with the most similar earlier one of each file.
  MinHash (Broder 1997) proposes 99% of the pairs at the threshold and more above it; each one shown is verified.
- PMI, in bits: log2(p(a, b) / p(a) p(b)) over labelled texts; 0 where two labels meet as often as chance has it.
""".strip()


def format_report(report: DataReport) -> str:
    """The report as Markdown: findings first, then the figures, then what they mean."""
    total = report["total"] or report["files"][0]
    figures = [*report["files"], *([report["total"]] if report["total"] else [])]
    findings = "\n".join(f"- {finding['found']} {finding['mend']}" for finding in report["findings"])
    pairs = [[*pair["labels"], pair["count"], f"{pair['pmi']:.2f}"] for pair in total["labels"]["pairs"][:SHOWN_LABELS]]
    sections = {
        "Findings": findings or "None.",
        "Labels": f"{_format_labels(figures, report)}\n\n{_format_frequencies(total)}",
        "Texts": _format_texts(figures, report),
        "Labels on the same text": _build_table(["label", "label", "texts", "PMI"], pairs) if pairs else "None.",
        "Copies within a file": _format_copies(report["copies"]),
    }
    if report["overlaps"]:
        across = [copy for overlap in report["overlaps"] for copy in overlap["copies"]]
        sections["Between files"] = f"{_format_overlaps(report)}\n\nCopies:\n\n{_format_copies(across)}"
    if report["leaks"]:
        sections["Suites"] = _format_leaks(report)
    sections["What the figures mean"] = DEFINITIONS.replace("THRESHOLD", f"{report['threshold']:g}")
    return "# Data report\n\n" + "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
