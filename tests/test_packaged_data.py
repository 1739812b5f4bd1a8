"""The data in the package: valid, without overlap, and fit to measure labels that training never saw."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from datasets import disable_progress_bars

from zeroshot.data import Row, Source, load_source, normalize_text, read_label_names, reading
from zeroshot.data.report import DataReport, build_report

FILES = sorted(
    path.relative_to(reading.PACKAGED).as_posix() for path in reading.PACKAGED.rglob("*") if path.suffix == ".jsonl"
)
TRAINING = [name for name in FILES if name.endswith("train.jsonl")]
NAMES = sorted(path.name for path in (reading.PACKAGED / "label_names").glob("*.json"))
HELD_OUT = [
    *(f"{part}/{split}.jsonl" for part in ("tasks", "variety") for split in ("test", "validation")),
    "zero_shot/topics/test.jsonl",
]
SHARED = Path(__file__).parents[2] / "shared" / "data"
RECIPES = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    """Every packaged file, by its path inside the packaged data."""
    disable_progress_bars()
    return {name: load_source(f"packaged:{name}", keep_unlabelled=True) for name in FILES}


@pytest.fixture(scope="module")
def rows(sources: dict[str, Source]) -> list[tuple[str, Row]]:
    """Every packaged row with its file."""
    return [(name, row) for name, source in sources.items() for row in source.rows]


def collect_labels(source: Source) -> set[str]:
    """Every label of a source, as label, negative or member of its closed set, without case and spacing."""
    names = {name for column in ("labels", "negatives") for names in source.rows[column] for name in names}
    return {normalize_text(name) for name in names.union(source.candidate_labels or ())}


def test_the_packaged_data_has_training_and_held_out_sets() -> None:
    parts = ("facets", "tasks", "topics", "variety", "wide_tasks")
    assert {*HELD_OUT, *(f"{part}/train.jsonl" for part in parts)} <= set(FILES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_measure_unseen_labels_on_the_held_out_sets(recipe: Path) -> None:
    named = yaml.safe_load(recipe.read_text(encoding="utf-8")).get("zero_shot_files") or []
    names = named.split(",") if isinstance(named, str) else named
    packaged = {name.strip().removeprefix("packaged:") for name in names if "packaged:" in name}
    assert packaged <= set(HELD_OUT)


@pytest.mark.parametrize("name", FILES)
def test_every_packaged_row_is_valid(name: str, sources: dict[str, Source]) -> None:
    lines = (reading.PACKAGED / name).read_text(encoding="utf-8").splitlines()
    assert sources[name].rejected == []
    assert len(sources[name].rows) == len(lines)
    assert all(sources[name].rows["labels"]), "a row without labels teaches and measures nothing"


@pytest.mark.parametrize("name", FILES)
def test_packaged_names_are_clean(name: str, sources: dict[str, Source]) -> None:
    """Two labels that differ in case or spacing only would be one label to an uncased encoder."""
    source = sources[name]
    names = {name for column in ("labels", "negatives") for names in source.rows[column] for name in names}
    names.update(source.candidate_labels or ())
    assert [name for name in names if name != " ".join(name.split())] == []
    spellings = Counter(normalize_text(name) for name in names)
    assert [name for name, count in spellings.items() if count > 1] == []


def test_no_text_occurs_twice_in_or_across_the_splits(rows: list[tuple[str, Row]]) -> None:
    counts = Counter(normalize_text(row["text"]) for _, row in rows)
    assert [text for text, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("held_out", HELD_OUT)
def test_no_held_out_label_occurs_in_training(training: str, held_out: str, sources: dict[str, Source]) -> None:
    """As label, as negative, or in the set from which negatives are drawn."""
    rows = sources[held_out].rows
    # Distractors count too: if only they were known from training, being new would tell which labels hold.
    names = {normalize_text(name) for column in ("labels", "negatives") for names in rows[column] for name in names}
    names.update(normalize_text(name) for name in sources[held_out].candidate_labels or ())
    assert sorted(names & collect_labels(sources[training])) == []


@pytest.mark.parametrize("file", NAMES)
def test_no_held_out_label_is_another_name(file: str, sources: dict[str, Source]) -> None:
    """In any case, punctuation and plural."""
    names = read_label_names(f"packaged:label_names/{file}")
    spellings = {spell(name) for name in names.list_names(names.labels)}
    assert len(spellings) > 50
    held_out = {spell(label) for name in HELD_OUT for label in collect_labels(sources[name])}
    assert sorted(spellings & held_out) == []


def spell(name: str) -> str:
    """A name without case, punctuation and plural."""
    words = re.findall(r"[a-z0-9]+", name.casefold())
    return " ".join(word[:-1] if word.endswith("s") and len(word) > 3 else word for word in words)


@pytest.mark.parametrize("file", NAMES)
def test_other_names_are_those_of_a_public_set_and_of_no_measured_label(file: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("the public sets are not beside this checkout")
    names = read_label_names(f"packaged:label_names/{file}")
    labels = json.loads((SHARED / "train" / Path(file).stem / "labels.json").read_text(encoding="utf-8"))
    assert names.labels <= set(labels)
    measured = {
        spell(label)
        for path in (SHARED / "zeroshot").glob("*/labels.json")
        for label in json.loads(path.read_text(encoding="utf-8"))
    }
    assert len(measured) > 100
    assert sorted({spell(name) for name in names.list_names(names.labels)} & measured) == []


def test_the_data_card_counts_other_names() -> None:
    card = (reading.PACKAGED / "README.md").read_text(encoding="utf-8").replace(",", "")
    for file in NAMES:
        names = read_label_names(f"packaged:label_names/{file}")
        same = sum(len(own) for own in names.same.values())
        broader = len({name for own in names.broader.values() for name in own})
        assert f"| `label_names/{file}` | {len(names.labels)} | {same} | {broader} |" in card


@pytest.mark.parametrize("name", FILES)
def test_labels_seldom_stand_in_their_text(name: str, sources: dict[str, Source]) -> None:
    """Else matching words would be enough, and nothing about meaning would be learned or measured."""
    literal = [row["text"] for row in sources[name].rows if any(stands_in(label, row["text"]) for label in row["labels"])]
    assert len(literal) < 0.15 * len(sources[name].rows)


def stands_in(label: str, text: str) -> bool:
    """Whether the words of a label stand in a text one after the other, in any case."""
    words = r"\W+".join(re.escape(word) for word in re.findall(r"\w+", label.casefold()))
    return re.search(rf"\b{words}\b", text.casefold()) is not None


@pytest.mark.parametrize(
    ("label", "text", "stands"),
    [("dark humour", "Dark, humour!", True), ("art", "the party", False), ("co-star", "one co-star role", True)],
)
def test_what_stands_in_a_text(label: str, text: str, stands: bool) -> None:
    assert stands_in(label, text) is stands


def test_the_packaged_data_is_large_enough(sources: dict[str, Source]) -> None:
    assert sum(len(source.rows) for source in sources.values()) >= 300
    assert len(set().union(*(names for source in sources.values() for names in source.rows["labels"]))) >= 100


@pytest.mark.parametrize("name", FILES)
def test_the_data_card_counts_rows_and_labels(name: str, sources: dict[str, Source]) -> None:
    card = (reading.PACKAGED / "README.md").read_text(encoding="utf-8").replace(",", "")
    labels = {label for names in sources[name].rows["labels"] for label in names}
    assert f"| `{name}` | {len(sources[name].rows)} | {len(labels)} |" in card


def test_the_packaged_data_is_small_enough_for_a_package() -> None:
    """Text packs to a third: under 3 MB of the wheel."""
    assert sum(path.stat().st_size for path in reading.PACKAGED.rglob("*") if path.is_file()) < 8_000_000


@pytest.mark.parametrize("file", sorted(reading.PACKAGED.rglob("labels.json")), ids=lambda file: file.parent.name)
def test_every_label_of_a_closed_set_is_carried_by_a_row(file: Path) -> None:
    folder = file.parent.relative_to(reading.PACKAGED).as_posix()
    carried = {
        name
        for path in file.parent.glob("*.jsonl")
        for names in load_source(f"packaged:{folder}/{path.name}").rows["labels"]
        for name in names
    }
    assert sorted(set(json.loads(file.read_text(encoding="utf-8"))) - carried) == []


@pytest.fixture(scope="module")
def report(sources: dict[str, Source]) -> DataReport:
    """What `zeroshot data report packaged:` says."""
    return build_report(list(sources.values()))


def test_no_text_has_a_copy_or_a_near_copy_in_any_packaged_file(report: DataReport) -> None:
    copies = report["copies"] + [copy for overlap in report["overlaps"] for copy in overlap["copies"]]
    assert [(copy["first"], copy["second"]) for copy in copies] == []


def test_labels_of_the_packaged_data_are_spread_evenly(report: DataReport) -> None:
    """Part A, the closed sets: 1 is the entropy of labels that are all equally frequent."""
    [training] = [figures for figures in report["files"] if figures["name"] == "packaged:topics/train.jsonl"]
    assert (training["labels"]["set_entropy_share"] or 0) > 0.9
    assert training["labels"]["unused_names"] == []
    assert all(figures["texts"]["with_label"] < 0.15 for figures in report["files"])


def test_the_data_card_states_the_figures_of_the_report(report: DataReport) -> None:
    """Written by hand from the report; renewed rows must renew it."""
    total, share = report["total"], {figures["name"]: figures["labels"]["entropy_share"] for figures in report["files"]}
    assert total is not None
    card = (reading.PACKAGED / "README.md").read_text(encoding="utf-8")
    for figure in (
        f"one of their labels word for word | {total['texts']['with_label']:.1%}",
        f"any content word of a label | {total['texts']['with_label_word']:.1%}",
        f"over windows of 500 words | {total['texts']['moving_type_token_ratio']:.3f}".replace("0.", "."),
        *(
            f"`{name}`, as a share of its maximum | {share[f'packaged:{name}.jsonl']:.3f}".replace("0.", ".")
            for name in (*(file.removesuffix(".jsonl") for file in TRAINING), "zero_shot/topics/test")
        ),
        f"only ever negatives | {len(total['labels']['only_negative']):,} of {total['labels']['distinct']:,}",
    ):
        assert figure in card


@pytest.mark.parametrize("name", ["zeroshot", "train"])
def test_no_packaged_text_is_of_a_public_set(name: str, sources: dict[str, Source]) -> None:
    """What is measured on public sets must not have been taught."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the public sets are not beside this checkout ({name})")
    [leak] = build_report(list(sources.values()), suites=[SHARED / name])["leaks"]
    assert leak["rows"] > 10_000
    assert leak["copies"] == []
