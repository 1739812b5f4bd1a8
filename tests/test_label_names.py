"""Other names of labels: how their files are read, what an example then brings, and that no held-out name is among them."""

import json
import logging
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

import train
from zeroshot.data import (
    LabelNames,
    TrainingDataset,
    ZeroShotCollator,
    list_unnamed,
    read_label_names,
)
from zeroshot.training import DataArguments, build_training_dataset, prepare_data
from zeroshot.training.hooks import weigh_classes

from .conftest import build_tokenizer
from .data_helpers import make_row, make_source

CONTENT = {
    "same": {"sports": ["athletics", "games of skill"], "cooking": ["making food"]},
    "broader": {
        "pastime": {"holds": ["sports", "cooking"], "unsure": ["music"]},
        "in the kitchen": {"holds": ["cooking"]},
        "heard": {"holds": ["music"], "unsure": ["sports"]},
    },
}
CLOSED = ["sports", "cooking", "music", "law"]


def write_names(folder: Path, content: object = CONTENT, name: str = "names.json") -> str:
    file = folder / name
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


@pytest.fixture
def names(tmp_path: Path) -> LabelNames:
    """Those above."""
    return read_label_names(write_names(tmp_path))


def test_a_file_is_read(names: LabelNames) -> None:
    assert names.labels == {"sports", "cooking", "music"}
    assert names.list_names(["cooking", "sports"]) == [
        "making food",
        "pastime",
        "in the kitchen",
        "athletics",
        "games of skill",
    ]
    assert names.list_names(["law"]) == names.list_open(["law"]) == names.list_true([]) == []


def test_of_a_text_with_several_labels_a_broader_name_is_true_where_it_holds_for_each(names: LabelNames) -> None:
    assert names.list_true(["sports"]) == ["athletics", "games of skill", "pastime"]
    assert names.list_true(["sports", "cooking"]) == ["athletics", "games of skill", "pastime", "making food"]
    assert names.list_true(["cooking", "law"]) == ["making food"]  # law has no pastime
    assert names.list_open(["cooking", "music"]) == ["making food", "pastime", "in the kitchen", "heard"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "Expected 'same' and 'broader', found list"),
        ({}, "Expected 'same' and 'broader', found the keys of none"),
        ({"sports": ["athletics"]}, "Expected 'same' and 'broader', found the keys sports. Write"),
        ({"same": ["athletics"]}, "Expected 'same' to be an object, found list"),
        ({"same": {"sports": "athletics"}}, "Expected 'same: sports' to be a list of names, found the string 'athletics'"),
        ({"same": {"sports": ["a", "a"]}}, "Expected distinct names in 'same: sports', found 'a' more than once"),
        ({"same": {"sports": [" "]}}, "Expected names in 'same: sports', found the empty name"),
        ({"same": {"sports": ["Play"], "music": ["play"]}}, "Expected names that mean one thing, found 'Play' of 'sports'"),
        ({"same": {"sports": ["Music"], "music": []}}, "Expected names that mean one thing, found 'Music' of 'sports'"),
        ({"same": {"sports": ["fun"]}, "broader": {"Fun": {"holds": []}}}, "found 'fun' of 'sports' more than once"),
        ({"broader": {"Fun": {"holds": []}, "fun": {"holds": []}}}, "found 'Fun' under 'broader' more than once"),
        ({"same": {"sports": ["\ud800"]}}, "Expected valid Unicode"),
        ({"broader": {"fun": ["sports"]}}, "Expected 'holds' and maybe 'unsure' for 'fun', found list"),
        ({"broader": {"fun": {"unsure": ["sports"]}}}, "Expected 'holds' and maybe 'unsure' for 'fun', found object"),
        (
            {"broader": {"fun": {"holds": ["a"], "unsure": ["a"]}}},
            "Expected 'fun' to hold for 'a' or to be unsure, found both",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told(content: object, message: str, tmp_path: Path) -> None:
    file = write_names(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        read_label_names(file)
    assert str(raised.value).startswith(f"{file}: ")


def test_a_label_that_stands_in_a_file_twice_is_told(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text('{"same": {"sports": ["athletics"], "sports": ["ball games"]}}', encoding="utf-8")
    with pytest.raises(ValueError, match="found the key 'sports' more than once in one object"):
        read_label_names(str(file))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"names\.json"):
        read_label_names(str(tmp_path / "names.json"))


def test_names_are_drawn_by_weight(names: LabelNames) -> None:
    generator = random.Random(0)
    drawn = Counter(names.draw("sports", {"own": 1, "same": 2, "broader": 1}, generator) for _ in range(2000))
    expected = {"sports": 500, "athletics": 500, "games of skill": 500, "pastime": 500}
    assert drawn.keys() == expected.keys()
    assert all(count == pytest.approx(500, abs=90) for count in drawn.values())  # 4.6 standard deviations
    assert {names.draw("music", {"same": 1}, generator) for _ in range(20)} == {"music"}  # it has none
    without = {names.draw("sports", {"broader": 1, "same": 1}, generator, {"athletics", "pastime"}) for _ in range(20)}
    assert without == {"games of skill"}


def test_an_example_brings_drawn_names_and_knows_all_that_hold(names: LabelNames) -> None:
    rows = [make_row("goal goal", ["sports"]), make_row("cake song", ["cooking", "music"], ["Heard"])]
    weights = {"own": 1, "same": 2, "broader": 1}
    source = make_source(rows, CLOSED)
    dataset = TrainingDataset([source], other_names=[names], name_weights=weights, num_negatives=2, seed=1)
    brought: dict[int, Counter[str]] = {0: Counter(), 1: Counter()}
    for epoch in range(60):
        dataset.set_epoch(epoch)
        for position in range(2):
            example = dataset[position]
            assert example == dataset[position]
            brought[position].update(example["negatives"])
            assert set(example["positives"]) <= set(example["labels"])
            assert set(example["negatives"]) <= set(example["known_negatives"])
            assert not set(example["labels"]) & set(example["known_negatives"])
    first, second = dataset[0], dataset[1]
    assert set(first["labels"]) == {"sports", "athletics", "games of skill", "pastime"}
    # A pastime for one of its labels, heard by the other, which the row itself rules out, in any case.
    assert set(second["labels"]) == {"cooking", "music", "making food"}
    # "pastime" holds for sports, and "heard" may: neither is a negative, though cooking and music have these names.
    assert set(brought[0]) == {"cooking", "making food", "in the kitchen", "music", "law"}
    assert set(brought[1]) == {"Heard", "sports", "athletics", "games of skill", "law"}


def test_without_names_an_example_stays_as_it_was(names: LabelNames) -> None:
    rows = [make_row("goal goal", ["sports"]), make_row("court", ["law"])]
    plain = TrainingDataset([make_source(rows, CLOSED)] * 2, num_negatives=2)
    named = TrainingDataset(
        [make_source(rows, CLOSED)] * 2, num_negatives=2, other_names=[None, names], name_weights={"own": 1}
    )
    assert [plain[position] for position in range(2)] == [named[position] for position in range(2)]
    renamed = named[2]
    assert renamed["positives"] == ["sports"] and renamed["negatives"] == plain[2]["negatives"]
    assert set(renamed["labels"]) == {"sports", "athletics", "games of skill", "pastime"}


def test_the_grid_of_a_batch(names: LabelNames) -> None:
    """All names of a closed set are judged, but for those that may hold; broader ones of a label without a place are not."""
    rows = [make_row("goal goal", ["sports"]), make_row("cake", ["cooking"]), make_row("song", ["music"])]
    rows += [make_row("court", ["law"]), make_row("cake song", ["cooking", "music"])]
    dataset = TrainingDataset([make_source(rows, CLOSED)], other_names=[names])
    collator = ZeroShotCollator(build_tokenizer(), 32, ["{}"], dataset.label_sets)
    classes = ["pastime", "law", "making food", "heard", "cooking", "elsewhere"]
    grid = collator.build_targets([dataset[position] for position in range(5)], classes)
    expected = [
        [1, 0, 0, -100, 0, -100],
        [1, 0, 1, 0, 1, -100],
        [-100, 0, 0, 1, 0, -100],
        [-100, 1, 0, -100, 0, -100],
        [-100, 0, 1, -100, 1, -100],
    ]
    assert torch.equal(grid, torch.tensor(expected))
    free = TrainingDataset([make_source(rows)], other_names=[names])
    assert free.label_sets == [None] and [free[position]["unjudged"] for position in range(5)] == [[]] * 5


def test_a_broader_name_is_false_only_where_rows_were_labelled_in_full(names: LabelNames) -> None:
    """A free row may be one of the larger class without saying so; so may a label that the file does not place."""
    for row, pool in ((make_row("dishes", ["sports"], ["cooking"]), None), (make_row("court", ["law"]), CLOSED)):
        dataset = TrainingDataset(
            [make_source([row], pool)], other_names=[names], num_negatives=3, name_weights={"broader": 1}
        )
        brought = set()
        for epoch in range(40):
            dataset.set_epoch(epoch)
            brought.update(dataset[0]["negatives"])
        assert brought == ({"cooking"} if pool is None else {"sports", "cooking", "music"})


def test_a_label_that_is_another_label_s_broader_name_is_not_false_of_it(tmp_path: Path) -> None:
    file = write_names(
        tmp_path, {"broader": {"music": {"holds": ["sports"]}, "law": {"holds": ["law"], "unsure": ["sports"]}}}
    )
    source = make_source([make_row("goal", ["sports"])], CLOSED)
    dataset = TrainingDataset([source], other_names=[read_label_names(file)], num_negatives=3)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        assert dataset[0]["known_negatives"] == dataset[0]["negatives"] == ["cooking"]


def test_questions_are_about_a_row_s_own_labels_and_know_the_other_names(names: LabelNames) -> None:
    source = make_source([make_row("goal goal", ["sports"], ["cooking"])])
    dataset = TrainingDataset([source], other_names=[names], name_weights={"same": 1}, question_rate=1.0)
    assert {"athletics", "pastime", "in the kitchen"} <= dataset.taken and dataset.deniable == {"sports", "cooking"}
    [denial] = dataset[0]["denials"]
    assert "sports" in denial or "cooking" in denial


def test_only_names_that_a_source_brings_are_listed(names: LabelNames) -> None:
    sources = [make_source([make_row("goal", ["sports"])]), make_source([make_row("cake", ["cooking"])])]
    assert TrainingDataset(sources, other_names=[None, names]).list_other_names() == [
        "making food",
        "pastime",
        "in the kitchen",
    ]
    assert TrainingDataset(sources).list_other_names() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"other_names": []}, None),
        ({"other_names": [None, None]}, r"Expected other names, or None, per source \(1\), found 2."),
        ({"name_weights": {"wide": 1}}, "Expected kinds of names among own, same, broader, found 'wide'."),
        ({"name_weights": {"own": -1}}, "Expected a weight of 'own' names from 0 upwards, found -1."),
        ({"name_weights": {"own": 0}}, "Expected a kind of names with a weight above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict, message: str | None) -> None:
    source = make_source([make_row("goal", ["sports"])])
    if message is None:
        assert TrainingDataset([source], **settings).other_names == [None]
        return
    with pytest.raises(ValueError, match=message):
        TrainingDataset([source], **settings)


def test_a_rare_label_is_rare_under_another_name_too(names: LabelNames) -> None:
    rows = [make_row(f"goal {number}", ["sports"]) for number in range(9)] + [make_row("cake", ["cooking"])]
    dataset = TrainingDataset([make_source(rows, CLOSED)], other_names=[names])
    [weigh] = weigh_classes(dataset, 4.0)
    weights = weigh([], ["sports", "athletics", "cooking", "making food", "pastime"])["class_weights"]
    assert torch.allclose(weights, torch.tensor([5 / 9, 5 / 9, 4.0, 4.0, 1.0]))  # the mean frequency is 5
    other = make_source([make_row("match", ["athletics"])])  # a label of its own there
    [weigh] = weigh_classes(TrainingDataset([make_source(rows, CLOSED), other], other_names=[names, None]), 4.0)
    assert torch.allclose(weigh([], ["athletics"])["class_weights"], torch.tensor(11 / 3))


def write_rows(file: Path, labels: list[str], **more: list[str]) -> str:
    file.parent.mkdir(exist_ok=True)
    rows = [{"text": f"{file.parent.name} of {label}", "labels": [label], **more} for label in labels]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def test_a_recipe_names_files_in_the_order_of_its_training_files(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a" / "train.jsonl", ["sports", "cooking", "music"])
    second = write_rows(tmp_path / "b" / "train.jsonl", ["law", "sports"])
    zero_shot = write_rows(tmp_path / "c" / "test.jsonl", ["PASTIME", "joy"])
    names = write_names(tmp_path)
    arguments = DataArguments(
        train_files=f"{first},{second}",
        zero_shot_files=zero_shot,
        names_files=f"{names},none",
        name_weights='{"broader": 1}',
    )
    data = prepare_data(arguments, seed=0)
    assert data.other_names[0] is not None and data.other_names[1] is None
    assert "heard" in data.train_labels and "pastime" not in data.train_labels  # it is measured, in other letters
    dataset = build_training_dataset(data, arguments, seed=0)
    assert dataset.name_weights == {"broader": 1} and dataset.other_names == data.other_names
    brought = {name for position in range(len(dataset)) for name in dataset[position]["positives"]}
    assert brought == {"sports", "in the kitchen", "heard", "law"}
    everywhere = prepare_data(DataArguments(train_files=f"{first},{second}", names_files=names), seed=0)
    assert everywhere.other_names[0] == everywhere.other_names[1] is not None


def test_names_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "a" / "train.jsonl", ["law", "order"])
    names = write_names(tmp_path)
    with pytest.raises(ValueError, match=r"Expected other names of the labels of .*, found those of 'cooking', 'music'"):
        prepare_data(DataArguments(train_files=rows, names_files=names), seed=0)
    with pytest.raises(ValueError, match=r"Expected one of names_files per training file \(1\) or one for all, found 2"):
        prepare_data(DataArguments(train_files=rows, names_files=f"{names},none"), seed=0)
    with pytest.raises(ValueError, match="Expected names_files with name_weights, found none"):
        DataArguments(train_files=rows, name_weights='{"own": 1}')
    arguments = DataArguments(train_files=rows, names_files="none", name_weights='{"wide": 1}')
    with pytest.raises(ValueError, match="Expected kinds of names among"):
        build_training_dataset(prepare_data(arguments, seed=0), arguments, seed=0)
    pairs = tmp_path / "nli.jsonl"
    pairs.write_text(json.dumps({"premise": "a", "hypothesis": "b", "label": "entailment"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Expected names_files of 'none' for .*its labels are sentences"):
        prepare_data(DataArguments(train_files=str(pairs), names_files=names), seed=0)


def test_labels_without_another_name_are_listed(names: LabelNames) -> None:
    assert list_unnamed(names, ["sports", "law"], "rows.jsonl", "names.json") == ["law"]
    assert list_unnamed(names.drop(["HEARD"])[0], ["sports", "music"], "rows.jsonl", "names.json") == ["music"]


def test_labels_that_do_not_fit_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = write_rows(tmp_path / "a" / "train.jsonl", ["sports", "cooking", "athletics"])
    logger = logging.getLogger("zeroshot.training.preparation")
    logger.addHandler(caplog.handler)
    data = prepare_data(DataArguments(train_files=rows, names_files=write_names(tmp_path)), seed=0)
    logger.removeHandler(caplog.handler)
    assert data.other_names[0] is not None and "athletics" not in data.other_names[0].list_names(["sports"])
    said = " ".join(caplog.messages)
    assert "1 names are labels of" in said and "1 labels are not those of" in said and "(first 'music')" in said


def test_a_run_with_names_trains_and_another_file_of_names_is_another_run(encoder_dir: str, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "a" / "train.jsonl", ["sports", "cooking", "music", "law"])
    (tmp_path / "a" / "labels.json").write_text(json.dumps(CLOSED), encoding="utf-8")
    names = write_names(tmp_path)
    given = {"encoder": encoder_dir, "train_files": rows, "names_files": names, "output_dir": tmp_path / "run"}
    given |= {"max_steps": 2, "save_steps": 1, "max_tokens": 64, "loss": "bce", "question_rate": 0.3, "report_to": "none"}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    train.main(words)
    write_names(tmp_path, {"same": {"sports": ["matches"]}})
    with pytest.raises(ValueError, match=re.escape(f"content of {names}")):
        train.main(words)
    long = {"same": {"sports": ["goal " * 100]}}
    words[words.index("--output_dir") + 1] = str(tmp_path / "other")
    write_names(tmp_path, long)
    with pytest.raises(ValueError, match="Expected labels of at most 64 tokens"):
        train.main(words)
