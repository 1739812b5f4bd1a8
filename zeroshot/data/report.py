"""A report on rows before anyone trains on them: figures, near copies, overlaps of splits, leaks of test sets."""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TypedDict

from tqdm.auto import tqdm

from .duplicates import THRESHOLD, NearDuplicateIndex, fold_text
from .figures import Figures, describe_rows
from .findings import list_findings
from .reading import expand_path
from .row_files import find_row_files
from .splitting import normalize_text
from .validation import RejectedRow, Source, load_source

TOTAL = "all together"


class Place(TypedDict):
    """Where a text stands."""

    source: str
    row: int  # line of the file, or position in the data set, from 1
    text: str


class Copy(TypedDict):
    """Two texts that are the same or nearly so."""

    first: Place
    second: Place
    similarity: float  # Jaccard similarity of their shingles, 0 to 1
    exact: bool  # the same words, whatever case and punctuation


class Overlap(TypedDict):
    """What two files share."""

    first: str
    second: str
    copies: list[Copy]
    labels: list[str]  # labels of both
    names: list[str]  # names of both: as label, as negative or in the closed set


class Leak(TypedDict):
    """What the files share with a suite."""

    suite: str
    files: list[str]
    rows: int  # valid ones
    rejected: list[RejectedRow]  # searched too, as far as their texts can be read
    copies: list[Copy]  # first: in the files, second: in the suite
    labels: list[str]  # labels of both


class Finding(TypedDict):
    """Something a person should look at."""

    found: str
    mend: str


class DataReport(TypedDict):
    """Everything that `zeroshot data report` says."""

    threshold: float  # least similarity of near copies
    files: list[Figures]
    total: Figures | None  # None for a single file
    rejected: list[RejectedRow]
    copies: list[Copy]  # within a file
    overlaps: list[Overlap]  # between every two files
    leaks: list[Leak]
    findings: list[Finding]


class _CopyFinder:
    """Finds for each text the most similar earlier one of every source, exact copies first."""

    def __init__(self, threshold: float):
        self.index = NearDuplicateIndex(threshold)
        self.holders: list[dict[str, Place]] = []  # of each distinct text: the first row of every source
        self.numbers: dict[str, int] = {}  # distinct text -> its number

    def find(self, place: Place) -> list[Copy]:
        """The nearest text of each source that was added before."""
        own = self.numbers.get(fold_text(place["text"]))
        near = [(int(key), similarity) for key, similarity in self.index.find_all(place["text"])]
        if own is not None:
            near.sort(key=lambda found: found[0] != own)
        nearest: dict[str, Copy] = {}
        for number, similarity in near:
            for source, first in self.holders[number].items():
                copy: Copy = {"first": first, "second": place, "similarity": similarity, "exact": number == own}
                nearest.setdefault(source, copy)
        return list(nearest.values())

    def add(self, place: Place) -> None:
        """Store a text."""
        folded = fold_text(place["text"])
        if folded not in self.numbers:
            self.numbers[folded] = len(self.holders)
            self.index.add(str(len(self.holders)), place["text"])
            self.holders.append({})
        self.holders[self.numbers[folded]].setdefault(place["source"], place)


def _collect_places(source: Source) -> list[Place]:
    numbers = source.numbers or range(1, len(source.rows) + 1)
    return [
        {"source": source.name, "row": row, "text": text} for row, text in zip(numbers, source.rows["text"], strict=True)
    ]


def _collect_rejected_places(source: Source) -> list[Place]:
    """The texts of refused rows: what is wrong with their labels does not keep a text from leaking."""
    places: list[Place] = []
    for row in source.rejected:
        try:
            content = json.loads(row["content"])  # a key that stands twice is one more thing that may be wrong
        except ValueError:
            continue
        text = content.get("text", content.get("premise")) if isinstance(content, dict) else None
        if isinstance(text, str) and text.strip():
            places.append({"source": source.name, "row": row["row"], "text": text})
    return places


def _collect_names(source: Source, columns: Sequence[str]) -> dict[str, str]:
    """Names by their normal form: as they are first written."""
    found: dict[str, str] = {}
    for column in columns:
        for own in source.rows[column]:
            for name in own:
                found.setdefault(normalize_text(name), name)
    if "negatives" in columns:
        for name in source.candidate_labels or ():
            found.setdefault(normalize_text(name), name)
    return found


def _share_names(first: Source, second: Source, columns: Sequence[str]) -> list[str]:
    names, others = _collect_names(first, columns), _collect_names(second, columns)
    return [name for normal, name in names.items() if normal in others]


def _find_overlaps(sources: Sequence[Source], copies: Sequence[Copy]) -> list[Overlap]:
    across: dict[tuple[str, str], list[Copy]] = {}
    for copy in copies:
        across.setdefault((copy["first"]["source"], copy["second"]["source"]), []).append(copy)
    return [
        {
            "first": first.name,
            "second": second.name,
            "copies": across.get((first.name, second.name), []),
            "labels": _share_names(first, second, ["labels"]),
            "names": _share_names(first, second, ["labels", "negatives"]),
        }
        for first, second in combinations(sources, 2)
    ]


def _list_suite_files(suite: Path, sources: Sequence[Source]) -> list[str]:
    if not expand_path(str(suite)).exists():  # a mistyped folder looks like a data set of the Hub
        raise FileNotFoundError(
            f"Expected a suite, a folder of row files, found nothing at {str(suite)!r}. "
            "Check the path; it is read from the current folder."
        )
    # A file that is reported on would be found to leak from itself.
    own = {expand_path(source.name).resolve() for source in sources}
    return [file for file in find_row_files(str(suite)) if expand_path(file).resolve() not in own]


def _find_leaks(suite: Path, files: list[str], sources: Sequence[Source], finder: _CopyFinder) -> Leak:
    ours = {normal for source in sources for normal in _collect_names(source, ["labels"])}
    leak: Leak = {"suite": str(suite), "files": files, "rows": 0, "rejected": [], "copies": [], "labels": []}
    shared: dict[str, str] = {}
    for file in files:
        source = load_source(file, keep_unlabelled=True)
        leak["rows"] += len(source.rows)
        leak["rejected"] += source.rejected
        places = _collect_places(source) + _collect_rejected_places(source)
        for place in tqdm(places, desc=f"Comparing {file}", disable=None):
            leak["copies"] += finder.find(place)
        names = _collect_names(source, ["labels"]).items()
        shared.update({normal: name for normal, name in names if normal in ours})
    leak["labels"] = list(shared.values())
    return leak


def build_report(sources: Sequence[Source], *, suites: Sequence[Path] = (), threshold: float = THRESHOLD) -> DataReport:
    """Describe rows and look for what makes training or measuring on them go wrong.

    Args:
        sources: Loaded with `keep_unlabelled=True`; several are the splits of one data set.
        suites: Folders of row files, test sets say, of which no text should be in the sources.
        threshold: Least Jaccard similarity of near copies, from .1 to 1; see [`NearDuplicateIndex`].

    Returns:
        The report. Each text is paired with the most similar earlier text of each file; of equal texts the first stands
        for all. Copies have row numbers as they are in the files.

    Raises:
        FileNotFoundError: If a suite is not there or has no row file.
        ImportError: If datasketch is not installed.
        ValueError: If there is no source, a name stands twice, or the threshold is out of range.
    """
    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        found = f"{twice!r} twice" if twice else "none"
        raise ValueError(f"Expected one or more different sources, found {found}. Name each file once.")
    suite_files = [_list_suite_files(suite, sources) for suite in suites]  # before the long work begins
    finder = _CopyFinder(threshold)
    copies: list[Copy] = []
    for source in sources:
        for place in tqdm(_collect_places(source), desc=f"Comparing {source.name}", disable=None):
            copies += finder.find(place)
            finder.add(place)
    across = [copy for copy in copies if copy["first"]["source"] != copy["second"]["source"]]
    report: DataReport = {
        "threshold": threshold,
        "files": [describe_rows(source.name, [source]) for source in sources],
        "total": describe_rows(TOTAL, sources) if len(sources) > 1 else None,
        "rejected": [row for source in sources for row in source.rejected],
        "copies": [copy for copy in copies if copy["first"]["source"] == copy["second"]["source"]],
        "overlaps": _find_overlaps(sources, across),
        "leaks": [_find_leaks(suite, files, sources, finder) for suite, files in zip(suites, suite_files, strict=True)],
        "findings": [],
    }
    report["findings"] = list_findings(report)
    return report
