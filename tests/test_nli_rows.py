"""Premise and hypothesis pairs as rows to train on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers.utils import logging

from zeroshot.data import Source, TrainingDataset, ZeroShotCollator, build_evaluation_set, load_source
from zeroshot.data.nli import merge_premises, read_pair
from zeroshot.data.reading import _read_dataset
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel
from zeroshot.training import DataArguments, ZeroShotTrainer, ZeroShotTrainingArguments, prepare_data

from .conftest import SHARED
from .data_helpers import THREE_PARTS, make_row, make_source, write

PAIRS: list[dict[str, Any]] = [
    {"premise": "the team scored", "hypothesis": "a goal ended the match", "label": "entailment", "genre": "sports"},
    {"premise": "rain", "hypothesis": "the sun", "label": "contradiction"},
    {"premise": "the team scored", "hypothesis": "the player is sad", "label": "neutral"},
    {"premise": "the team scored", "hypothesis": "the team is great", "label": "Entailment"},
]
MERGED = [
    make_row("the team scored", ["a goal ended the match", "the team is great"], ["the player is sad"]),
    make_row("rain", [], ["the sun"]),
]


def write_pairs(folder: Path, *more: Any) -> str:
    """The pairs above in a folder whose `labels.json` names the three classes."""
    write(folder, "labels.json", '["entailment", "neutral", "contradiction"]')
    return write(folder, "train.jsonl", "".join(json.dumps(row) + "\n" for row in [*PAIRS, *more]))


def test_the_rows_of_a_premise_become_one(tmp_path: Path) -> None:
    source = load_source(write_pairs(tmp_path))
    assert source.rows.to_list() == MERGED
    assert source.labels_are_sentences and not source.rejected
    assert source.candidate_labels is None, "labels.json names the classes, not what hypotheses there are"


def test_csv_parquet_and_hub_data_give_the_same_rows(tmp_path: Path) -> None:
    table = Dataset.from_list([{name: row[name] for name in ("premise", "hypothesis", "label")} for row in PAIRS])
    table.to_csv(tmp_path / "train.csv")
    table.to_parquet(tmp_path / "train.parquet")
    for name in ("train.csv", "train.parquet"):
        assert load_source(str(tmp_path / name)).rows.to_list() == MERGED
    classes = ClassLabel(names=["entailment", "neutral", "contradiction"])
    features = Features({"premise": Value("string"), "hypothesis": Value("string"), "label": classes})
    numbered = Dataset.from_dict({"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, -1]}, features=features)
    first, second = (json.loads(row["content"]) for row in _read_dataset(numbered))
    assert read_pair(first) == make_row("a", [], ["c"])
    with pytest.raises(ValueError, match="Expected 'label' to be one of .*, found null"):
        read_pair(second)  # -1: the annotators did not agree


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "Expected an object with premise, hypothesis and label, found list."),
        ({"text": "a", "labels": ["b"]}, "Expected a field 'premise', found text, labels."),
        ({"premise": "a", "label": "neutral"}, "Expected a field 'hypothesis', found premise, label."),
        ({"premise": "a", "hypothesis": None, "label": "neutral"}, "Expected 'hypothesis' to be a string, found null."),
        ({"premise": 7, "hypothesis": "b", "label": "neutral"}, "Expected 'premise' to be a string, found int 7."),
        ({"premise": " ", "hypothesis": "b", "label": "neutral"}, "Expected 'premise' to hold words, found ' '."),
        (
            {"premise": "a", "hypothesis": "b", "label": "-"},
            "Expected 'label' to be one of entailment, neutral, contradiction, not_entailment, found '-'.",
        ),
        ({"premise": "a", "hypothesis": "b", "label": 1}, "not_entailment, found 1. Write the name of the class."),
    ],
)
def test_bad_pairs_are_refused(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=THREE_PARTS) as caught:
        read_pair(content)
    assert message in str(caught.value)


def test_refused_pairs_are_listed_and_the_first_readable_row_decides(tmp_path: Path) -> None:
    opposite = {**PAIRS[1], "label": "entailment"}
    path = write_pairs(tmp_path, opposite, {"premise": "a"}, {"text": "a", "labels": ["b"]}, {**PAIRS[0]})
    content = Path(path).read_text(encoding="utf-8")
    Path(path).write_text("{broken\n" + content, encoding="utf-8")
    source = load_source(path)
    assert source.rows.to_list() == MERGED
    assert [row["row"] for row in source.rejected] == [1, 6, 7, 8]
    assert source.rejected[1]["problem"] == (
        "Expected one judgement of a pair, found 'the sun' both entailed and not by its premise. Remove one of the rows."
    )
    Path(path).write_text('{"text": "a", "labels": ["neutral"]}\n' + content, encoding="utf-8")
    source = load_source(path)
    assert not source.labels_are_sentences and source.rows["text"][:] == ["a"]
    assert "Expected a field 'text', found premise" in source.rejected[0]["problem"]


def test_an_empty_table_merges_to_one() -> None:
    assert merge_premises([]) == ({"text": [], "labels": [], "negatives": []}, {})


def test_no_template_is_put_around_a_hypothesis(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    sources = [make_source([make_row("goal", ["sports"])]), load_source(write_pairs(tmp_path))]
    dataset = TrainingDataset(sources)
    assert dataset.sentence_sources == [1] and len(dataset) == 3
    collator = ZeroShotCollator(biencoder.tokenizer, 64, ["about {}"], dataset.pools, 2, dataset.sentence_sources)
    examples = [dataset[position] for position in range(3)]
    classes = ["sports", "a goal ended the match", "the sun"]
    assert collator.word_classes(examples, classes) == ["about sports", *classes[1:]]
    batch = collator(examples)
    assert batch["labels"][2].tolist() == [-100, -100, -100, -100, 0], "a premise that entails nothing still teaches"
    assert batch["candidate_mask"].sum(dim=1).tolist() == [2, 2, 2] and batch["candidate_mask"][2, 4]


def test_pairs_are_for_training_only(tmp_path: Path) -> None:
    """Measuring every premise against every hypothesis would ask what nobody judged."""
    path = write_pairs(tmp_path)
    with pytest.raises(ValueError, match="Expected rows with label names to measure with, found premises and hypotheses in"):
        build_evaluation_set(load_source(path))
    (tmp_path / "own").mkdir()
    rows = [{"text": f"goal {number}", "labels": ["sports" if number % 2 else "music"]} for number in range(20)]
    own = write(tmp_path / "own", "own.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    data = prepare_data(DataArguments(train_files=f"{path},{own}", validation_share=0.5), seed=0)
    assert data.train[0].rows.to_list() == MERGED and list(data.validation) == ["own_own"]
    data = prepare_data(DataArguments(train_files=f"{path},{own}", zero_shot_label_share=0.5), seed=0)
    assert data.train[0].rows.to_list() == MERGED and list(data.zero_shot) == ["own_own"]


@pytest.mark.parametrize("architecture", ["biencoder", "crossencoder"])
@pytest.mark.parametrize("loss", ["bce", "infonce"])
def test_pairs_train_and_infonce_says_what_it_cannot_use(
    architecture: str, loss: str, encoder_dir: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.enable_propagation()
    model = ARCHITECTURES[architecture].from_encoder(encoder_dir, dropout=0.0)
    source = Source("rain", load_source(write_pairs(tmp_path)).rows.select([1]), labels_are_sentences=True)
    arguments = ZeroShotTrainingArguments(
        output_dir=str(tmp_path / "out"),
        loss=loss,
        max_steps=2,
        candidates_per_text=8,
        head_learning_rate=1e-2,
        learning_rate=1e-2,
        precision="fp32",
        report_to="none",
    )
    before = model.predict_logits(["rain"], ["the sun"], class_templates=["{}"])
    trainer = ZeroShotTrainer(model, arguments, train_dataset=TrainingDataset([source]))
    assert trainer.data_collator.sentence_sources == {0}
    trainer.train()
    after = model.predict_logits(["rain"], ["the sun"], class_templates=["{}"])
    message = (
        "1 of 1 training examples have no label that holds; infonce learns nothing from them (--loss bce or sigmoid does)."
    )
    assert (message in caplog.text) == (loss == "infonce")
    if loss == "bce":
        assert (after < before - 0.1).all()
    else:
        assert trainer.state.log_history[-1]["train_loss"] == 0
    assert torch.isfinite(after).all()


@pytest.mark.skipif(not (SHARED / "nli").is_dir(), reason="the project's data folder is not here")
@pytest.mark.parametrize(("name", "premises"), [("snli_small", 3319), ("mnli_small", 7044), ("help_nli", 5856)])
def test_the_shared_pairs_are_read_whole(name: str, premises: int) -> None:
    source = load_source(str(SHARED / "nli" / name / "train.jsonl"))
    assert len(source.rows) == premises and not source.rejected
