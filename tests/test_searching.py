"""A search for settings through the Trainer's own API."""

from pathlib import Path

import pytest

from zeroshot.data import TrainingDataset, build_evaluation_set, load_source
from zeroshot.evaluation import compute_metrics
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments
from zeroshot.training.searching import check_space


def test_a_search_tries_settings_and_returns_the_best(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    models: list[ZeroShotPreTrainedModel] = []

    def build(trial: object) -> ZeroShotPreTrainedModel:
        models.append(ARCHITECTURES["biencoder"].from_encoder(encoder_dir))
        return models[-1]

    args = ZeroShotTrainingArguments(
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=6, save_strategy="no", precision="fp32",
        disable_tqdm=True, freeze=["embeddings"],
    )  # fmt: skip
    rows = load_source(str(rows_file))
    trainer = ZeroShotTrainer(
        None, args, TrainingDataset([rows], num_negatives=2), {"rows": build_evaluation_set(rows)},
        model_init=build, compute_metrics=compute_metrics,
    )  # fmt: skip
    best = trainer.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", [1e-12, 1e-2])},
        compute_objective=lambda metrics: metrics["eval_mean_loss"],
        n_trials=2,
        direction="minimize",
        sampler=optuna.samplers.GridSampler({"learning_rate": [1e-12, 1e-2]}),
    )
    assert best.hyperparameters == {"learning_rate": 1e-2}
    tried = models[-2:]
    assert tried[0] is not tried[1]
    assert all(not p.requires_grad for model in tried for p in model.encoder.embeddings.parameters())
    assert not list(tmp_path.glob("training_log.csv"))  # which trial's would it be?


@pytest.mark.parametrize("name", ["loss", "learning_rat", "output_dir"])
def test_a_setting_that_a_trial_cannot_vary_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"Expected settings of training that a trial can vary, found {name!r}. Give"):
        check_space(lambda trial: {"learning_rate": 1, name: 2})(None)
