"""What in a report a person should look at, and how to mend it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .figures import Figures

if TYPE_CHECKING:
    from .report import Copy, DataReport, Finding

MOST_WITH_LABEL = 0.15  # share of texts that hold a label: above it, matching words is a strategy
LEAST_ENTROPY_SHARE = 0.9
SHOWN = 5


def count_things(count: int, noun: str) -> str:
    """A number and what it counts.

    Example:
        >>> count_things(1, "row"), count_things(2, "row")
        ('1 row', '2 rows')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def join_some(items: Iterable[object], shown: int = SHOWN) -> str:
    """The first items, and how many more there are.

    Example:
        >>> join_some([3, 7, 9], shown=2)
        '3, 7 and 1 more'
    """
    words = [str(item) for item in items]
    more = len(words) - shown
    return ", ".join(words[:shown]) + (f" and {more} more" if more > 0 else "")


def rank_copies(copies: Iterable["Copy"]) -> list["Copy"]:
    """Exact copies before near ones; of equals the longest first, because short texts (`You again.`) meet by chance."""
    return sorted(copies, key=lambda copy: (not copy["exact"], -copy["similarity"], -len(copy["second"]["text"])))


def count_later_rows(copies: Iterable["Copy"]) -> tuple[int, int]:
    """How many different rows are exact and near copies of earlier ones: a row may be a copy of one in each file."""
    rows: dict[tuple[str, int], bool] = {}
    for copy in copies:
        place = copy["second"]["source"], copy["second"]["row"]
        rows[place] = rows.get(place, False) or copy["exact"]
    exact = sum(rows.values())
    return exact, len(rows) - exact


def _count_copies(copies: Sequence["Copy"]) -> str:
    exact, near = count_later_rows(copies)
    places = (
        f"{copy['second']['source']} row {copy['second']['row']} (of {copy['first']['source']} row {copy['first']['row']})"
        for copy in rank_copies(copies)
    )
    return f"{exact} exact and {near} near copies, such as {join_some(places, shown=3)}."


def _list_copies(report: "DataReport") -> list["Finding"]:
    findings: list[Finding] = []
    for leak in report["leaks"]:
        if leak["copies"]:
            found = f"Texts of the suite {leak['suite']} are in the files: {_count_copies(leak['copies'])}"
            findings.append({"found": found, "mend": "Leave them out, or what is measured on the suite says too much."})
    across = [copy for overlap in report["overlaps"] for copy in overlap["copies"]]
    if across:
        mend = "Keep each text in one file only, or what is measured on the other says too much."
        findings.append({"found": f"Texts are in two files: {_count_copies(across)}", "mend": mend})
    for figures in report["files"]:
        within = [copy for copy in report["copies"] if copy["first"]["source"] == figures["name"]]
        if within:
            found = f"Texts of {figures['name']} are there twice: {_count_copies(within)}"
            findings.append({"found": found, "mend": "Leave out the later ones."})
    return findings


def _list_label_findings(figures: Figures) -> list["Finding"]:
    name, labels = figures["name"], figures["labels"]
    findings: list[Finding] = []
    share = labels["entropy_share"] if labels["set_entropy_share"] is None else labels["set_entropy_share"]
    if labels["counts"] and share < LEAST_ENTROPY_SHARE:
        found = f"Labels of {name} are unevenly frequent: their entropy is {share:.2f} of its maximum."
        findings.append({"found": found, "mend": "Add rows of rare labels; a model learns the frequent ones by heart."})
    if labels["unused_names"]:
        found = f"Names of the closed set of {name} that are on no row: "
        mend = "Add rows of them. Where the file is only a part of a data set, its other parts may have them."
        findings.append({"found": found + join_some(labels["unused_names"]) + ".", "mend": mend})
    if labels["only_negative"]:
        found = f"Negatives of {name} that are never labels: "
        mend = "Give them rows too, or the name alone tells a model that it does not hold."
        findings.append({"found": found + join_some(labels["only_negative"]) + ".", "mend": mend})
    if labels["near_names"]:
        found = f"Names of {name} that differ in case, punctuation or plural only: "
        groups = join_some(" / ".join(group) for group in labels["near_names"])
        findings.append({"found": found + groups + ".", "mend": "Write each of them in one way."})
    return findings


def _list_row_findings(report: "DataReport") -> list["Finding"]:
    findings: list[Finding] = []
    for figures in report["files"]:
        rejected = [row for row in report["rejected"] if row["source"] == figures["name"]]
        if rejected:
            places = join_some(f"row {row['row']}" for row in rejected)
            found = f"{count_things(len(rejected), 'row')} of {figures['name']} refused: {places}. "
            found += f"The first: {rejected[0]['problem']}"
            findings.append({"found": found, "mend": "Mend them, or leave them out."})
        if figures["texts"]["with_label"] >= MOST_WITH_LABEL:
            found = f"{figures['texts']['with_label']:.0%} of the texts of {figures['name']} hold one of their labels."
            mend = "Reword texts or labels: where words match, nothing about meaning is learned or measured."
            findings.append({"found": found, "mend": mend})
    for leak in report["leaks"]:
        if leak["rejected"]:
            first = leak["rejected"][0]
            found = f"{count_things(len(leak['rejected']), 'row')} of the suite {leak['suite']} refused, searched as far as "
            found += f"readable. The first, {first['source']} row {first['row']}: {first['problem']}"
            findings.append({"found": found, "mend": "Mend them, or look at them yourself."})
    return findings


def list_findings(report: "DataReport") -> list["Finding"]:
    """The findings of a report, the gravest first: leaks, copies, rows, labels.

    Names are judged over all files together, where there are several: what is a negative in one may be a label in another.
    """
    findings = _list_copies(report) + _list_row_findings(report)
    return findings + _list_label_findings(report["total"] or report["files"][0])
