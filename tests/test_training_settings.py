"""A setting does what it says or is refused before training."""

from pathlib import Path
from typing import Any

import pytest
from transformers import set_seed

from zeroshot.data import TrainingDataset, build_evaluation_set, load_source
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel
from zeroshot.models.packing_zeroshot import PACKED
from zeroshot.training import DataArguments, ModelArguments, ZeroShotTrainer, ZeroShotTrainingArguments
from zeroshot.training.runs import build_model
from zeroshot.training.searching import check_space


def build_arguments(folder: Path, **settings: Any) -> ZeroShotTrainingArguments:
    return ZeroShotTrainingArguments(
        output_dir=str(folder), **{"precision": "fp32", "use_cpu": True, "disable_tqdm": True, **settings}
    )


def test_packing_and_a_gradient_cache_exclude_each_other(encoder_dir: str, tmp_path: Path) -> None:
    """The passes of the cache are never packed, though the log of the run would say so."""
    with pytest.raises(ValueError, match=r"Expected pack_batches auto or never with gradient_cache_size, .* found always\."):
        build_arguments(tmp_path, pack_batches="always", gradient_cache_size=2)
    used = [
        build_model(ModelArguments(encoder=encoder_dir), build_arguments(tmp_path, gradient_cache_size=size))
        for size in (None, 2)
    ]
    assert [model.encoder.config._attn_implementation for model in used] == [PACKED, "eager"]


@pytest.mark.parametrize(
    "settings",
    [
        {"bf16_full_eval": True}, {"fp16_full_eval": True}, {"prediction_loss_only": True}, {"eval_accumulation_steps": 2},
        {"eval_do_concat_batches": False}, {"eval_use_gather_object": True}, {"batch_eval_metrics": True},
        {"include_for_metrics": ["loss"]}, {"auto_find_batch_size": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_evaluation_would_ignore_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    [name] = settings
    with pytest.raises(ValueError, match=rf"Expected {name} to stay .*, found .*\. Leave it out\."):
        build_arguments(tmp_path, **settings)


@pytest.mark.parametrize(
    "name",
    ["initial_weight_share", "push_to_hub", "hub_model_id", "resume", "keep_freed_memory", "auto_find_batch_size"],
)
def test_what_no_trial_reads_cannot_be_searched(name: str) -> None:
    with pytest.raises(ValueError, match=f"Expected settings of training that a trial can vary, found {name!r}"):
        check_space(lambda trial: {name: 1})(None)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({"example_texts": ["rain"]}, "Expected example_labels with example_texts, found none. Name candidate labels"),
        ({"example_texts": ["rain"], "example_labels": ["sun", "sun"]}, "Expected distinct candidate labels, found 'sun'"),
        ({"example_texts": ["rain", " "], "example_labels": ["sun"]}, "Expected every text to hold words, found ' '"),
    ],
    ids=["no labels", "a label twice", "an empty text"],
)
def test_examples_that_cannot_be_classified_are_refused_before_training(examples: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataArguments(**examples)


def test_a_trainer_needs_a_model_or_what_makes_one(
    biencoder: ZeroShotPreTrainedModel, rows_file: Path, tmp_path: Path
) -> None:
    dataset = TrainingDataset([load_source(str(rows_file))])
    with pytest.raises(ValueError, match="Expected a model or model_init, found neither. Pass the model"):
        ZeroShotTrainer(None, build_arguments(tmp_path), dataset)
    with pytest.raises(ValueError, match="Expected model_init to take the trial or nothing, found 2 arguments."):
        ZeroShotTrainer(None, build_arguments(tmp_path), dataset, model_init=lambda trial, more: biencoder)
    assert ZeroShotTrainer(None, build_arguments(tmp_path), dataset, model_init=lambda: biencoder).model is biencoder


def test_a_trial_may_vary_the_size_of_batches_that_a_teacher_scores(
    encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    """More examples a step than the Trainer was built for: all of them must have been asked about."""
    optuna = pytest.importorskip("optuna")
    set_seed(5)
    ARCHITECTURES["biencoder"].from_encoder(encoder_dir).save_pretrained(tmp_path / "teacher")
    rows = load_source(str(rows_file))
    args = build_arguments(
        tmp_path / "out", max_steps=1, per_device_train_batch_size=1, save_strategy="no", report_to="none",
        teacher=str(tmp_path / "teacher"), teacher_cache=str(tmp_path / "cache"),
    )  # fmt: skip
    trainer = ZeroShotTrainer(
        None, args, TrainingDataset([rows], num_negatives=1), {"rows": build_evaluation_set(rows)},
        model_init=lambda: ARCHITECTURES["biencoder"].from_encoder(encoder_dir),
    )  # fmt: skip
    varied = {"per_device_train_batch_size": [4], "gradient_accumulation_steps": [2]}
    best = trainer.hyperparameter_search(
        lambda trial: {name: trial.suggest_categorical(name, values) for name, values in varied.items()},
        compute_objective=lambda metrics: metrics["eval_mean_loss"],
        n_trials=1,
        sampler=optuna.samplers.GridSampler(varied),
    )
    assert best.hyperparameters == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
