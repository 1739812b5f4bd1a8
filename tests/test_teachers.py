"""Teachers: who may be one, what is asked once only, and what the model learns from the answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.normalizers import BertNormalizer
from transformers import BertConfig, BertForSequenceClassification, set_seed
from transformers.utils import logging as hf_logging

import train
from zeroshot.data import TrainingDataset, load_source
from zeroshot.models import ARCHITECTURES, CrossEncoderForZeroShotClassification, ZeroShotPreTrainedModel
from zeroshot.training import teachers
from zeroshot.training.losses import distillation_loss
from zeroshot.training.teachers import (
    ScoreCache,
    Teacher,
    hash_pairs,
    load_teacher,
    margin_mse_loss,
    teach,
)

from .conftest import build_tokenizer
from .data_helpers import make_row, make_source
from .test_mining import cut_run
from .test_training import assert_equal_weights, build_trainer, settings, weights


@pytest.fixture
def teacher_dir(encoder_dir: str, tmp_path: Path) -> str:
    """A cross-encoder with templates of its own."""
    set_seed(5)
    model = ARCHITECTURES["crossencoder"].from_encoder(encoder_dir, class_templates=["{}", "this is {}."])
    model.save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.fixture
def dataset(rows_file: Path) -> TrainingDataset:
    return TrainingDataset([load_source(str(rows_file))], num_negatives=1)


def list_examples(dataset: TrainingDataset) -> list[Any]:
    return [dataset[position] for position in range(len(dataset))]


def build_teacher(folder: str, cache: Path, **more: Any) -> Teacher:
    return Teacher(load_teacher(folder), cache, folder, **more)


def test_scores_are_the_teachers_logits(teacher_dir: str, dataset: TrainingDataset, tmp_path: Path) -> None:
    teacher = build_teacher(teacher_dir, tmp_path / "cache")
    examples = list_examples(dataset)
    teacher.score(examples)
    classes = ["politics", "cooking", "sports"]
    grid = teacher.build_grid(examples, classes)["teacher_logits"]
    expected = load_teacher(teacher_dir).predict_logits([one["text"] for one in examples], classes, multi_label=True)
    for row, example in enumerate(examples):
        brought = torch.tensor([name in example["positives"] + example["negatives"] for name in classes])
        assert brought.sum() == 2 and grid[row, ~brought].isnan().all()
        torch.testing.assert_close(grid[row, brought], expected[row, brought], atol=1e-5, rtol=0)


def test_texts_that_the_teacher_cuts_are_counted(teacher_dir: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beside a label it reads less than a student that would read them whole: 64 less `this is sports.` and [SEP]."""
    hf_logging.enable_propagation()
    dataset = TrainingDataset([make_source([make_row(f"{'rain ' * words}", ["sports"]) for words in (57, 58, 59)])])
    build_teacher(teacher_dir, tmp_path / "cache").score(list_examples(dataset))
    assert "2 of 3 texts are longer than the 59 tokens that the teacher reads beside the longest label" in caplog.text


def test_a_hypothesis_is_scored_without_a_template(teacher_dir: str, tmp_path: Path) -> None:
    source = make_source([make_row("goal", ["the team scored"], ["the sun is bad"])])
    source.labels_are_sentences = True
    dataset = TrainingDataset([source])
    teacher = build_teacher(teacher_dir, tmp_path / "cache", sentence_sources=dataset.sentence_sources)
    teacher.score([dataset[0]])
    names = ["the team scored", "the sun is bad"]
    expected = load_teacher(teacher_dir).predict_logits(["goal"], names, class_templates=["{}"], multi_label=True)
    torch.testing.assert_close(teacher.build_grid([dataset[0]], names)["teacher_logits"], expected, atol=1e-5, rtol=0)


def test_a_pair_is_asked_once_also_by_the_next_run(
    teacher_dir: str, dataset: TrainingDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_teacher(teacher_dir, tmp_path / "cache")
    examples = list_examples(dataset)
    assert first.score(examples) == 24 and first.score(examples) == 0
    second = build_teacher(teacher_dir, tmp_path / "cache")
    monkeypatch.setattr(second.model, "encode_tokens", None)  # any pass of the encoder would end the test
    monkeypatch.setattr(second.model, "encode_candidate_labels", None)
    assert second.score(examples) == 0
    names = ["sports", "cooking", "politics"]
    one, other = (teacher.build_grid(examples, names)["teacher_logits"] for teacher in (first, second))
    assert torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))
    note = json.loads((tmp_path / "cache" / first.fingerprint / "teacher.json").read_text())
    assert note == {"teacher": teacher_dir, "fingerprint": first.fingerprint, "class_templates": ["{}", "this is {}."]}


def test_scores_are_kept_by_weights_tokenizer_and_wordings_not_by_a_place(teacher_dir: str, tmp_path: Path) -> None:
    def fingerprint(model: ZeroShotPreTrainedModel) -> str:
        return Teacher(model, tmp_path / "cache").fingerprint

    model = load_teacher(teacher_dir)
    before = fingerprint(model)
    shutil.copytree(teacher_dir, tmp_path / "elsewhere")
    assert fingerprint(load_teacher(str(tmp_path / "elsewhere"))) == before
    found = [before]
    model.config.class_templates = ["{}"]
    found.append(fingerprint(model))
    with torch.no_grad():
        model.logit_bias.add_(1e-3)
    found.append(fingerprint(model))
    model.tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    found.append(fingerprint(model))
    assert len(set(found)) == 4


def test_an_interrupted_round_of_questions_ends_with_the_same_scores(
    teacher_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit: what is padded together must not depend on where it stopped."""
    monkeypatch.setattr(teachers, "TEXTS_PER_CHUNK", 3)
    texts = ["goal", "the team scored a goal in the match", "rain", "sun and rain and wind", "cake", "a cake", "law", "vote"]
    dataset = TrainingDataset([make_source([make_row(t, ["joy"], ["sad " * n + "song"]) for n, t in enumerate(texts)])])
    examples = list_examples(dataset)
    whole = build_teacher(teacher_dir, tmp_path / "whole")
    whole.score(examples)
    cut = build_teacher(teacher_dir, tmp_path / "cut")
    add = cut.cache.add

    def add_once(keys: np.ndarray, scores: np.ndarray) -> None:
        if cut.cache.read_files:
            raise KeyboardInterrupt
        add(keys, scores)

    monkeypatch.setattr(cut.cache, "add", add_once)
    with pytest.raises(KeyboardInterrupt):
        cut.score(examples)
    again = build_teacher(teacher_dir, tmp_path / "cut")
    assert 0 < again.score(examples) < 16
    assert np.array_equal(whole.cache.keys, again.cache.keys) and np.array_equal(whole.cache.scores, again.cache.scores)


def test_a_cache_keeps_what_it_knows(tmp_path: Path) -> None:
    keys = hash_pairs([("a", "b", False), ("a", "b", True), ("b", "a", False), ("ab", "", False)])
    assert len(set(keys.tolist())) == 4
    cache = ScoreCache(tmp_path / "cache")
    assert np.isnan(cache.find(keys)).all()
    cache.add(keys[:2], np.array([1.0, 2.0], dtype=np.float32))
    cache.add(keys[1:3], np.array([9.0, 3.0], dtype=np.float32))
    (tmp_path / "cache" / ".scores-0.safetensors.77.partial").write_bytes(b"half")
    for one in (cache, ScoreCache(tmp_path / "cache")):
        found = one.find(keys)
        assert found[0] == 1.0 and found[2] == 3.0 and np.isnan(found[3])
    assert cache.find(keys)[1] == 2.0


def test_a_worker_reads_what_was_scored_later(teacher_dir: str, dataset: TrainingDataset, tmp_path: Path) -> None:
    teacher = build_teacher(teacher_dir, tmp_path / "cache")
    worker = build_teacher(teacher_dir, tmp_path / "cache")
    examples = list_examples(dataset)[:2]
    with pytest.raises(ValueError, match="Expected the teacher's scores of all labels of .*, found none for some"):
        worker.build_grid(examples, ["sports", "cooking", "politics"])
    teacher.score(examples)
    assert not worker.build_grid(examples, ["sports", "cooking", "politics"])["teacher_logits"].isnan().all()
    assert worker.__getstate__()["model"] is None  # a worker needs the scores only


def test_a_published_nli_classifier_can_teach(tmp_path: Path) -> None:
    set_seed(0)
    tokenizer = build_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        label2id={"contradiction": 0, "entailment": 1, "neutral": 2},
        id2label={0: "contradiction", 1: "entailment", 2: "neutral"},
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "nli")
    tokenizer.save_pretrained(tmp_path / "nli")
    teacher = load_teacher(str(tmp_path / "nli"))
    assert isinstance(teacher, CrossEncoderForZeroShotClassification) and teacher.config.head == "nli"


def test_code_beside_a_teacher_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "new", "auto_map": {"AutoConfig": "evil.Config"}}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(ValueError):  # noqa: PT011 - the words are transformers'
        load_teacher(str(folder))
    assert not (tmp_path / "ran").exists()


def test_no_such_teacher_is_explained(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="Expected a model in the folder .*empty"):
        train.main(settings(encoder_dir, rows_file, tmp_path / "out", teacher=tmp_path / "empty"))


def test_margin_mse_equals_plain_loops() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, dtype=torch.float64)
    targets = torch.tensor([[1, 0, 0, -100, 1], [0, 0, 0, 0, 0], [1, 1, -100, 0, 0]])
    scored = torch.tensor([[True, True, True, True, True], [True] * 5, [True, False, True, True, True]])
    terms = [
        ((student[b, p] - student[b, n]) - (teacher[b, p] - teacher[b, n])).item() ** 2
        for b in range(3)
        for p in range(5)
        for n in range(5)
        if targets[b, p] == 1 and targets[b, n] == 0 and scored[b, p] and scored[b, n]
    ]
    assert len(terms) == 6
    assert margin_mse_loss(student, teacher, targets, scored).item() == pytest.approx(sum(terms) / 6)
    assert margin_mse_loss(student, student + 3.0, targets, scored).item() == pytest.approx(0)
    assert margin_mse_loss(student, teacher, targets, torch.zeros_like(scored)).item() == 0


@pytest.mark.parametrize("kind", ["kl", "margin_mse"])
def test_what_the_teacher_was_not_asked_has_no_gradient(kind: str) -> None:
    student = torch.tensor([[1.0, 0.5, 2.0, -1.0], [1.0, 2.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, 0.0, torch.nan, 5.0], [1.0, torch.nan, torch.nan, torch.nan]])
    targets = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0]])
    scored = torch.tensor([[True, True, True, False], [True] * 4])
    loss = teach(kind, student, teacher, targets, scored)
    loss.backward()
    assert student.grad is not None
    assert student.grad[0, 0] < 0 < student.grad[0, 1]
    assert student.grad[0, 2:].tolist() == [0.0, 0.0] and student.grad[1].abs().max() == 0
    if kind == "kl":
        assert loss.item() == pytest.approx(distillation_loss(student[:1, :2], teacher[:1, :2]).item() / 2)


def test_the_model_learns_to_agree(
    biencoder: ZeroShotPreTrainedModel, teacher_dir: str, dataset: TrainingDataset, tmp_path: Path
) -> None:
    options = {"teacher": teacher_dir, "teacher_cache": str(tmp_path / "cache"), "teacher_weight": 50.0}
    more = {"max_steps": 60, "learning_rate": 1e-3, "logging_steps": 1, "head_learning_rate": 1e-2, "loss": "infonce"}
    trainer = build_trainer(biencoder, dataset, tmp_path / "out", **options, **more)
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_a_taught_run_goes_on_as_if_it_had_not_stopped(
    encoder_dir: str, teacher_dir: str, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With mined negatives, which are asked about too; and the second time nothing is asked."""
    options = {
        "teacher": teacher_dir,
        "teacher_cache": tmp_path / "cache",
        "hard_negatives": 1,
        "max_steps": 5,
        "save_steps": 4,
        "teacher_loss": "margin_mse",
    }
    train.main(settings(encoder_dir, rows_file, tmp_path / "whole", **options))
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    cut_run(tmp_path / "cut", 4)
    monkeypatch.setattr(Teacher, "_score_grid", None)
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    train.main(settings(encoder_dir, rows_file, tmp_path / "other", **{**options, "teacher_weight": 0.5}))
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "other")
    assert any(not one[name].equal(other[name]) for name in one)


def test_no_more_is_asked_than_a_short_run_fetches(
    biencoder: ZeroShotPreTrainedModel, teacher_dir: str, tmp_path: Path
) -> None:
    """Three steps of four, and the batch that is fetched ahead; each example brings a label and a negative."""
    rows = [make_row("goal " * (n + 1), [f"joy {n}"], [f"sad {n}"]) for n in range(32)]
    options = {"teacher": teacher_dir, "teacher_cache": str(tmp_path / "cache"), "max_steps": 3, "loss": "bce"}
    trainer = build_trainer(biencoder, TrainingDataset([make_source(rows)]), tmp_path / "out", **options)
    assert trainer.train().global_step == 3
    [folder] = (tmp_path / "cache").iterdir()
    assert len(ScoreCache(folder).keys) == 4 * 4 * 2


def test_a_teacher_is_asked_before_an_epoch_only(
    encoder_dir: str, teacher_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    options = {"teacher": teacher_dir, "hard_negatives": 1, "mining_strategy": "steps"}
    with pytest.raises(ValueError, match="Expected mining_strategy 'epoch' with a teacher, .* found 'steps'. Change one."):
        train.main(settings(encoder_dir, rows_file, tmp_path / "out", **options))
