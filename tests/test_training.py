"""train.py from settings to a saved model, on a tiny encoder."""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, Trainer, TrainingArguments, set_seed

import train
from zeroshot.data import EvaluationSet, TrainingDataset, ZeroShotCollator, build_evaluation_set, load_source
from zeroshot.evaluation import compute_metrics
from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.training import LOSSES, DataArguments, ZeroShotTrainer, ZeroShotTrainingArguments, prepare_data
from zeroshot.training.trainer import average_weights, copy_backbones

from .conftest import LABELS, TEXTS

ROOT = Path(__file__).resolve().parents[1]


def settings(encoder: str, rows: Path, output: Path, **more: object) -> list[str]:
    values = {
        "encoder": encoder,
        "train_files": rows,
        "output_dir": output,
        "per_device_train_batch_size": 4,
        "max_steps": 8,
        "learning_rate": "1e-3",
        "num_negatives": 2,
        "precision": "fp32",
        "report_to": "none",
        "disable_tqdm": True,
        "class_templates": None,
        **more,
    }
    words = [f"--{key}={value}" for key, value in values.items() if value is not None and key != "class_templates"]
    return [*words, "--class_templates", "{}", "about {}"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, different


def test_leaves_a_model_that_loads_and_learned(
    architecture: str, encoder_dir: str, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    options = {
        "architecture": architecture,
        "max_steps": 150,
        "loss": "infonce",
        "learning_rate": "5e-3",
        "dropout": 0.0,
    }
    train.main(settings(encoder_dir, rows_file, output, **options))
    model = AutoModel.from_pretrained(output)
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    results = model.predict([row["text"] for row in rows], ["sports", "cooking", "politics"])
    best = [max(result["scores"], key=result["scores"].get) for result in results]
    assert sum(label in row["labels"] for label, row in zip(best, rows, strict=True)) >= 10
    assert model.config.class_templates == ["{}", "about {}"]
    assert f"The model is in {output}" in capsys.readouterr().out
    assert not list(output.rglob("training_args.bin"))


@pytest.mark.parametrize("loss", [*LOSSES, '{"infonce": 1, "bce": 0.2}'])
def test_each_loss_trains(loss: str, encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    train.main(settings(encoder_dir, rows_file, tmp_path, loss=loss, max_steps=3, logging_steps=1))
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses) == 3 and all(0 < float(value) < 100 for value in losses)


def test_same_seed_same_weights_other_seed_other_weights(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("second", 3), ("third", 4)):
        train.main(settings(encoder_dir, rows_file, tmp_path / name, seed=seed, max_steps=4))
    assert_equal_weights(tmp_path / "first", tmp_path / "second")
    first, third = weights(tmp_path / "first"), weights(tmp_path / "third")
    assert any(not torch.equal(first[name], third[name]) for name in first)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_weights(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """At a random moment, in the middle of an epoch, with dropout, accumulated gradients and early stopping under way."""
    options = {
        "max_steps": 60, "save_steps": 3, "eval_steps": 3, "eval_strategy": "steps", "logging_steps": 5,
        "head_learning_rate": "1e-2", "layer_decay": 0.8, "dropout": 0.1, "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 1, "validation_share": 0.34, "load_best_model_at_end": True,
        "metric_for_best_model": "eval_mean_loss", "early_stopping_patience": 12,
    }  # fmt: skip
    train.main(settings(encoder_dir, rows_file, tmp_path / "whole", **options))
    command = [sys.executable, str(ROOT / "train.py"), *settings(encoder_dir, rows_file, tmp_path / "cut", **options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not list((tmp_path / "cut").glob("checkpoint-*/trainer_state.json")) and process.poll() is None:
        assert time.time() < deadline
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert again.returncode == 0, again.stderr
    assert "Going on from" in again.stderr
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")


def test_other_settings_do_not_go_on_from_a_checkpoint(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    train.main(settings(encoder_dir, rows_file, tmp_path, max_steps=2, save_steps=1))
    with pytest.raises(ValueError, match=r"found learning_rate changed from 0.001 to 0.002") as caught:
        train.main(settings(encoder_dir, rows_file, tmp_path, max_steps=2, save_steps=1, learning_rate=2e-3))
    assert "Choose another --output_dir, or start over with --resume never." in str(caught.value)
    train.main(settings(encoder_dir, rows_file, tmp_path, max_steps=2, save_steps=1, learning_rate=2e-3, resume="never"))


@pytest.mark.parametrize("max_steps", [3, 4], ids=["whole epoch", "amid an epoch"])
def test_finished_run_started_again_stays_as_it_is(
    max_steps: int, encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    options = {"max_steps": max_steps, "save_steps": 1, "lr_scheduler_type": "constant"}
    for _ in range(3):
        train.main(settings(encoder_dir, rows_file, tmp_path / "again", **options))
    train.main(settings(encoder_dir, rows_file, tmp_path / "once", **options))
    assert_equal_weights(tmp_path / "again", tmp_path / "once")
    assert not (tmp_path / "again" / f"checkpoint-{max_steps + 1}").exists()


def test_other_rows_in_the_same_file_are_another_run(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    train.main(settings(encoder_dir, rows_file, tmp_path, max_steps=2, save_steps=1))
    with rows_file.open("a", encoding="utf-8") as file:
        file.write('{"text": "rain", "labels": ["sports"]}\n')
    with pytest.raises(ValueError, match="found content of .*train.jsonl changed from .* Choose another --output_dir"):
        train.main(settings(encoder_dir, rows_file, tmp_path, max_steps=2, save_steps=1))


def test_a_half_written_checkpoint_is_passed_over(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    options = {"max_steps": 6, "save_steps": 2, "save_total_limit": 5}
    for name in ("whole", "cut"):
        train.main(settings(encoder_dir, rows_file, tmp_path / name, **options))
    state = json.loads((tmp_path / "cut" / "run_settings.json").read_text())
    (tmp_path / "cut" / "run_settings.json").write_text(json.dumps({**state, "finished": False}))
    (tmp_path / "cut" / "checkpoint-6" / "trainer_state.json").unlink()
    (tmp_path / "cut" / "checkpoint-4" / "optimizer.pt").unlink()
    (tmp_path / "cut" / "model.safetensors").unlink()
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")


def test_after_infonce_single_scores_are_right_on_average(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = {"loss": "infonce", "max_steps": 10, "validation_share": 0.5}
    train.main(settings(encoder_dir, rows_file, output, **options))
    data = prepare_data(DataArguments(train_files=str(rows_file), validation_share=0.5), seed=42)
    [held_out] = data.validation.values()
    scores = AutoModel.from_pretrained(output).predict_logits(held_out.texts, held_out.candidate_labels).sigmoid()
    assert scores.mean().item() == pytest.approx((held_out.targets == 1).mean(), abs=1e-3)


def test_a_checkpoint_is_not_chosen_by_the_labels_that_are_reported(
    encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    options = {"zero_shot_label_share": 0.34, "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    with pytest.raises(ValueError, match="Expected validation rows with load_best_model_at_end, found none."):
        train.main(settings(encoder_dir, rows_file, tmp_path, **options, save_steps=1))


def test_a_metric_of_no_set_is_refused_before_training(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "load_best_model_at_end": True}
    with pytest.raises(ValueError, match="found 'eval_other_mrr'. eval_mean_mrr is the mean over all sets."):
        train.main(
            settings(
                encoder_dir, rows_file, tmp_path, **options, validation_share=0.5, metric_for_best_model="eval_other_mrr"
            )
        )


def test_a_share_beside_files_is_refused(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected validation_share or validation_files, found both."):
        train.main(settings(encoder_dir, rows_file, tmp_path, validation_share=0.5, validation_files=rows_file))


@pytest.mark.parametrize(
    ("architecture", "words", "options", "message"),
    [
        ("biencoder", 100, {}, "Expected labels of at most 64 tokens, found one of 102"),
        ("biencoder", 61, {"question_rate": 0.1}, "Expected labels of at most 64 tokens, found one of 6"),
        ("crossencoder", 61, {}, "Expected labels that leave room for the text among 64 tokens, found one that takes 65"),
    ],
)
def test_a_label_that_is_too_long_ends_the_run_before_its_first_step(
    architecture: str, words: int, options: dict, message: str, encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    """Denied, it is longer by a word or two; beside a text there is room for less."""
    (rows_file.parent / "labels.json").unlink()
    with rows_file.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": "rain", "labels": ["goal " * words]}) + "\n")
    with pytest.raises(ValueError, match=message):
        train.main(settings(encoder_dir, rows_file, tmp_path, save_steps=1, architecture=architecture, **options))
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("architecture", "words", "room"),
    [("biencoder", 63, "64 tokens"), ("crossencoder", 60, "61 tokens, left beside the longest label,")],
)
def test_training_texts_that_are_cut_are_counted(
    architecture: str,
    words: int,
    room: str,
    encoder_dir: str,
    rows_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is cut in silence; the collator, which cuts, says nothing. Beside a label there is room for less."""
    with rows_file.open("a", encoding="utf-8") as file:
        for count in (words, words - 1):  # and two special tokens
            file.write(json.dumps({"text": "rain " * count, "labels": ["sports"]}) + "\n")
    with caplog.at_level(logging.WARNING):
        train.main(settings(encoder_dir, rows_file, tmp_path / "out", max_steps=1, architecture=architecture))
    assert f"1 of 14 training texts are longer than {room} and are cut (--max_tokens)." in caplog.messages


def test_the_mean_over_sets_is_reported(biencoder: ZeroShotPreTrainedModel, rows_file: Path, tmp_path: Path) -> None:
    one = build_evaluation_set(load_source(str(rows_file)))
    other = EvaluationSet(one.texts[:3], one.candidate_labels, one.targets[:3])
    args = ZeroShotTrainingArguments(output_dir=str(tmp_path))
    trainer = ZeroShotTrainer(biencoder, args, eval_dataset={"a": one, "b": other}, compute_metrics=compute_metrics)
    metrics = trainer.evaluate()
    assert metrics["eval_mean_mrr"] == pytest.approx((metrics["eval_a_mrr"] + metrics["eval_b_mrr"]) / 2)


def test_refused_rows_are_listed_and_the_others_trained_on(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    with rows_file.open("ab") as file:
        file.write(b'{"text": "no labels"}\n{"text": "half writ')
    train.main(settings(encoder_dir, rows_file, tmp_path / "out", max_steps=1))
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected_rows.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rejected] == [13, 14]
    assert "Expected a field 'labels'" in rejected[0]["problem"]
    assert "half written" in rejected[1]["problem"]


def test_zero_shot_labels_are_kept_out_of_training(
    encoder_dir: str, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(
        settings(
            encoder_dir,
            rows_file,
            tmp_path,
            zero_shot_label_share=0.34,
            max_steps=2,
            eval_strategy="steps",
            eval_steps=1,
        )
    )
    report = json.loads((tmp_path / "evaluation" / "training_report.json").read_text())
    [result] = report["sets"].values()
    assert result["labels"] == 2 and result["n"] == 8
    assert "before training" in capsys.readouterr().out


def test_unknown_option_of_an_architecture_is_refused(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected an option of 'biencoder' .*pooling.*, found 'poolin'. Choose one."):
        train.main(settings(encoder_dir, rows_file, tmp_path, architecture_options='{"poolin": "max"}'))


@pytest.fixture
def dataset(rows_file: Path) -> TrainingDataset:
    return TrainingDataset([load_source(str(rows_file))], num_negatives=2, seed=0)


def build_trainer(model: ZeroShotPreTrainedModel, dataset: TrainingDataset, output: Path, **more: object) -> ZeroShotTrainer:
    arguments = {"max_steps": 4, "per_device_train_batch_size": 4, "precision": "fp32", "disable_tqdm": True, **more}
    evaluation = arguments.pop("eval_dataset", None)
    args = ZeroShotTrainingArguments(output_dir=str(output), save_strategy=arguments.pop("save_strategy", "no"), **arguments)
    return ZeroShotTrainer(
        model,
        args,
        train_dataset=dataset,
        eval_dataset=evaluation,
        compute_metrics=compute_metrics,
    )


def test_accumulated_batches_scale_the_loss_once(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """With `**kwargs` in forward the Trainer would not divide by the accumulation steps, and gradients grow fourfold."""
    row = rows_file.read_text().splitlines()[0]
    rows_file.write_text(f"{row}\n" * 4)
    norms = []
    for steps in (1, 4):
        output = tmp_path / str(steps)
        options = {
            "gradient_accumulation_steps": steps,
            "per_device_train_batch_size": 1,
            "dropout": 0.0,
            "max_steps": 1,
        }
        train.main(settings(encoder_dir, rows_file, output, logging_steps=1, num_negatives=0, **options))
        norms.append(json.loads((output / "trainer_state.json").read_text())["log_history"][0]["grad_norm"])
    assert norms[0] > 0
    # The wording is drawn per batch, so the four micro-batches differ a little from the one.
    assert norms[1] == pytest.approx(norms[0], rel=0.6)


def test_head_has_its_own_learning_rate(
    biencoder: ZeroShotPreTrainedModel, dataset: TrainingDataset, tmp_path: Path
) -> None:
    optimizer = build_trainer(biencoder, dataset, tmp_path, head_learning_rate=0.5).create_optimizer()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(biencoder.logit_scale)] == rates[id(biencoder.logit_bias)] == 0.5
    assert {rates[id(p)] for p in biencoder.encoder.parameters()} == {2e-5}
    assert len(rates) == len(list(biencoder.parameters()))


def test_best_checkpoint_is_loaded_and_early_stopping_stops(
    biencoder: ZeroShotPreTrainedModel, dataset: TrainingDataset, rows_file: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(
        biencoder,
        dataset,
        tmp_path,
        max_steps=40,
        learning_rate=0.5,  # so high that it gets worse
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_rows_accuracy",
        early_stopping_patience=2,
        eval_dataset={"rows": build_evaluation_set(load_source(str(rows_file)))},
    )
    trainer.train()
    assert trainer.state.global_step < 40
    values = [entry["eval_rows_accuracy"] for entry in trainer.state.log_history if "eval_rows_accuracy" in entry]
    assert trainer.evaluate()["eval_rows_accuracy"] == max(values)


def test_evaluate_refuses_what_is_no_evaluation_set(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    trainer = ZeroShotTrainer(biencoder, ZeroShotTrainingArguments(output_dir=str(tmp_path)))
    with pytest.raises(TypeError, match="Expected an EvaluationSet, found list"):
        trainer.evaluate([1, 2])


def test_the_stock_trainer_can_train_our_models(
    model: ZeroShotPreTrainedModel, dataset: TrainingDataset, tmp_path: Path
) -> None:
    collator = ZeroShotCollator(model.tokenizer, model.config.max_tokens, model.config.class_templates, dataset.pools)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        use_cpu=True,
        remove_unused_columns=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = Trainer(model, arguments, data_collator=collator, train_dataset=dataset).train()
    assert result.global_step == 3
    assert any(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_averaging_moves_weights_towards_the_initial_ones(biencoder: ZeroShotPreTrainedModel) -> None:
    initial = copy_backbones(biencoder)
    set_seed(0)
    with torch.no_grad():
        for parameter in biencoder.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    trained = {name: tensor.clone() for name, tensor in biencoder.encoder.state_dict().items()}
    average_weights(biencoder, initial, 0.25)
    for name, tensor in biencoder.encoder.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.25 * initial[0][name] + 0.75 * trained[name], msg=name)
    assert biencoder.predict_logits(TEXTS, LABELS).isfinite().all()


def test_initial_weight_share_of_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("Expected initial_weight_share from 0 to below 1, found 1.0")):
        ZeroShotTrainingArguments(output_dir=str(tmp_path), initial_weight_share=1.0)
