"""What preparing a recipe's data says aloud, and that every setting about examples reaches the data set."""

import json
import logging
from pathlib import Path

import pytest

import train
from zeroshot.data import normalize_text
from zeroshot.training import DataArguments, build_training_dataset, prepare_data

from .test_training import settings


def write_rows(file: Path, labels: list[str]) -> str:
    file.parent.mkdir(exist_ok=True)
    rows = [{"text": f"{file.parent.name} of {label}", "labels": [label], "negatives": ["noise"]} for label in labels]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Training, validation and zero-shot rows; one validation label occurs in training, in other letters."""
    return {
        "train_files": write_rows(tmp_path / "a" / "train.jsonl", ["sports", "music", "law"]),
        "validation_files": write_rows(tmp_path / "b" / "validation.jsonl", ["Sports", "rain"]),
        "zero_shot_files": write_rows(tmp_path / "c" / "test.jsonl", ["joy", "anger"]),
    }


def collect_warnings(arguments: DataArguments, caplog: pytest.LogCaptureFixture) -> list[str]:
    logger = logging.getLogger("zeroshot.training.preparation")
    logger.addHandler(caplog.handler)
    prepare_data(arguments, seed=0)
    logger.removeHandler(caplog.handler)
    # Told twice to this handler where the logger also tells its parents.
    return list(dict.fromkeys(message for message in caplog.messages if "occur in training" in message))


def test_a_known_validation_label_beside_unseen_ones_is_told(
    files: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    [message] = collect_warnings(DataArguments(**files), caplog)  # type: ignore[arg-type]
    assert message.startswith("1 of 3 labels of the validation set 'b_validation' occur in training")


def test_without_a_split_by_label_known_validation_labels_are_no_news(
    files: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert not collect_warnings(DataArguments(**{**files, "zero_shot_files": None}), caplog)  # type: ignore[arg-type]
    shares = {**files, "validation_files": None, "validation_share": 0.4}
    assert not collect_warnings(DataArguments(**shares), caplog)  # type: ignore[arg-type]


def test_every_setting_about_examples_arrives(files: dict[str, str]) -> None:
    arguments = DataArguments(
        train_files=files["train_files"],
        label_expansion="pairs",
        num_negatives=3,
        negative_weights='{"own": 1, "mined": 2}',
        label_dropout=0.25,
        question_rate=0.5,
        source_weights=[2.0],
        source_temperature=3.0,
    )
    dataset = build_training_dataset(prepare_data(arguments, seed=0), arguments, seed=7)
    assert dataset.negative_weights == {"own": 1, "mined": 2} and dataset.num_negatives == dataset.hard_negatives == 3
    assert dataset.question_rate == 0.5
    found = (dataset.label_dropout, dataset.source_weights, dataset.source_temperature, dataset.seed)
    assert found == (0.25, [2.0], 3.0, 7)
    plain = DataArguments(train_files=files["train_files"], hard_negatives=2)
    assert build_training_dataset(prepare_data(plain, seed=0), plain, seed=0).hard_negatives == 2


def test_measured_names_are_no_denials(files: dict[str, str]) -> None:
    arguments = DataArguments(**files, question_rate=0.5)  # type: ignore[arg-type]
    data = prepare_data(arguments, seed=0)
    measured = {name for part in (data.validation, data.zero_shot) for one in part.values() for name in one.candidate_labels}
    assert measured and {normalize_text(name) for name in measured} <= build_training_dataset(data, arguments, seed=0).taken


@pytest.mark.parametrize(
    ("options", "warned"), [({}, True), ({"in_batch_margin": 1.0}, False), ({"hard_negatives": 2}, False)]
)
def test_rows_without_anything_that_does_not_hold_are_told(
    options: dict, warned: bool, encoder_dir: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be learned from freely labelled rows alone: each other row's labels may hold too."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(f'{{"text": "the {word}", "labels": ["{word}"]}}\n' for word in ("team", "cake", "vote", "song"))
    )
    train.main(settings(encoder_dir, rows, tmp_path / "out", loss="infonce", max_steps=1, **options))
    told = "4 of 4 training examples have no label known not to hold" in caplog.text
    assert told == warned
