"""Negatives mined with the model itself: the nearest that do not hold, the same on every run, and never a held-out one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import train
from zeroshot.data import Source, TrainingDataset
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel
from zeroshot.training.mining import FOLDER, HardNegativeMiner

from .data_helpers import make_row, make_source
from .test_training import assert_equal_weights, build_trainer, settings, weights

TOPICS = ["sports", "cooking", "politics", "music", "weather", "joy"]
CLOSED = make_source([make_row(f"the {name} and rain {n}", [name]) for n in range(3) for name in TOPICS], [*TOPICS, "anger"])
FREE = make_source(
    [
        make_row("the team scored a goal", ["great match", "goal"], ["bad weather"]),
        make_row("bake the cake", ["oven", "sugar"], ["law"]),
        make_row("parliament vote", ["election"], ["music band"]),
        make_row("rain", [], ["sun"]),
    ]
)


def mine(source: Source, model: ZeroShotPreTrainedModel, **more: Any) -> dict[str, list[str]]:
    """The names that were mined for each text."""
    dataset = TrainingDataset([source], expansion="pairs")
    miner = HardNegativeMiner(dataset, **{"top_k": 3, "margin": 0.0, **more})
    table = miner.build_table()
    table.put(0, miner.mine(model))
    return {dataset.rows[position]["text"]: table.find(position, 0) for position in range(len(dataset))}


def test_from_a_closed_set_the_highest_that_do_not_hold(biencoder: ZeroShotPreTrainedModel) -> None:
    mined = mine(CLOSED, biencoder)
    for row in CLOSED.rows:
        [logits] = biencoder.predict_logits([row["text"]], TOPICS)
        ranked = [TOPICS[place] for place in logits.argsort(descending=True).tolist()]
        assert mined[row["text"]] == [name for name in ranked if name not in row["labels"]][:3]


def test_a_label_that_no_training_row_has_is_never_mined(biencoder: ZeroShotPreTrainedModel) -> None:
    """It may be one of an evaluation set alone; as a constant negative it would be unlearned."""
    assert all("anger" not in names for names in mine(CLOSED, biencoder, top_k=7).values())


@pytest.mark.parametrize("margin", [-3.0, 0.0, 1.0])
def test_from_free_labels_those_clearly_below_the_lowest_positive(margin: float, biencoder: ZeroShotPreTrainedModel) -> None:
    names = list(dict.fromkeys(name for row in FREE.rows for name in row["labels"] + row["negatives"]))
    mined = mine(FREE, biencoder, top_k=20, margin=margin)
    for row in FREE.rows:
        logits = dict(zip(names, biencoder.predict_logits([row["text"]], names)[0].tolist(), strict=True))
        limit = min((logits[name] for name in row["labels"]), default=float("-inf")) - margin
        judged = row["labels"] + row["negatives"]
        allowed = sorted((n for n in names if n not in judged and logits[n] <= limit), key=lambda n: -logits[n])
        assert mined[row["text"]] == allowed
    assert mined["rain"] == []  # nothing holds, so nothing can be clearly worse


def test_margin_decides_how_many_remain(biencoder: ZeroShotPreTrainedModel) -> None:
    counts = [sum(map(len, mine(FREE, biencoder, top_k=20, margin=m).values())) for m in (-100.0, 0.0, 100.0)]
    assert counts[0] > counts[1] >= counts[2] == 0


def test_what_holds_in_another_row_or_another_case_is_no_negative(biencoder: ZeroShotPreTrainedModel) -> None:
    rows = [make_row("goal", ["sports"]), make_row("Goal ", ["joy"]), make_row("rain", ["Sports", "JOY", "music"])]
    mined = mine(make_source(rows), biencoder, margin=-100.0, top_k=9)
    assert mined["goal"] == mined["Goal "] == ["music"]


def test_only_drawn_candidates_are_mined_where_pairs_cost(biencoder: ZeroShotPreTrainedModel) -> None:
    few = mine(CLOSED, biencoder, top_k=9, max_candidates=2, seed=3)
    assert {len(names) for names in few.values()} <= {1, 2}
    assert len({tuple(sorted(names)) for names in few.values()}) > 3
    assert few == mine(CLOSED, biencoder, top_k=9, max_candidates=2, seed=3)
    assert few != mine(CLOSED, biencoder, top_k=9, max_candidates=2, seed=4)


def test_labels_are_encoded_once_and_the_mode_comes_back(
    biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = biencoder.encode_candidate_labels
    monkeypatch.setattr(biencoder, "encode_candidate_labels", lambda names, *a: seen.extend(names) or encode(names, *a))
    biencoder.train()
    state = torch.random.get_rng_state()
    miner = HardNegativeMiner(TrainingDataset([CLOSED, FREE, CLOSED]), top_k=3, margin=0.0)
    first = miner.mine(biencoder)
    assert sorted(seen) == sorted(set(seen)) and set(TOPICS) < set(seen)
    assert biencoder.training
    assert torch.equal(torch.random.get_rng_state(), state)  # or dropout would differ after it
    assert torch.equal(first, miner.mine(biencoder))


def test_hypotheses_are_mined_as_they_are(encoder_dir: str) -> None:
    """A template around a sentence would score something else."""
    sentences = make_source([make_row("goal", ["the team scored"]), make_row("rain", ["the sun is bad"])])
    sentences.labels_are_sentences = True
    templates = ["this text is about {}.", "the topic is {}"]
    model = ARCHITECTURES["biencoder"].from_encoder(encoder_dir, class_templates=templates)
    bare = ARCHITECTURES["biencoder"].from_encoder(encoder_dir)
    limit = bare.predict_logits(["goal"], ["the team scored", "the sun is bad"])[0]
    gap = (limit[0] - limit[1]).item()
    assert mine(sentences, model, margin=gap - 1e-3)["goal"] == ["the sun is bad"]
    assert mine(sentences, model, margin=gap + 1e-3)["goal"] == []


@pytest.mark.parametrize("architecture", ["crossencoder", "lateinteraction", "cascade", "jointencoder"])
def test_other_architectures_mine(architecture: str, encoder_dir: str) -> None:
    model = ARCHITECTURES[architecture].from_encoder(encoder_dir)
    assert all(len(names) == 2 for names in mine(CLOSED, model, top_k=2, max_candidates=4).values())


OPTIONS: dict[str, object] = {
    "max_steps": 8,
    "save_steps": 1,
    "save_total_limit": 20,
    "hard_negatives": 1,
    "mining_top_k": 2,
    "num_negatives": 0,
    "per_device_train_batch_size": 2,
    "loss": "bce",
    "batch_by_source": False,
}


def cut_run(folder: Path, step: int) -> None:
    """What a run leaves that was killed right after the checkpoint of a step."""
    for checkpoint in folder.glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > step:
            shutil.rmtree(checkpoint)
    state = json.loads((folder / "run_settings.json").read_text())
    (folder / "run_settings.json").write_text(json.dumps({**state, "finished": False}))
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("more", "steps"),
    [({"mining_strategy": "epoch"}, (4,)), ({"mining_strategy": "steps", "mining_steps": 2}, (4, 5))],
    ids=["epoch", "steps"],
)
def test_a_run_goes_on_as_if_it_had_not_stopped(
    more: dict[str, object], steps: tuple[int, ...], encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    """Amid an interval the negatives were found with weights that a checkpoint no longer has."""
    options = {**OPTIONS, **more}
    train.main(settings(encoder_dir, rows_file, tmp_path / "whole", **options))
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    for step in reversed(steps):
        cut_run(tmp_path / "cut", step)
        train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
        assert_equal_weights(tmp_path / "whole", tmp_path / "cut")


def test_mining_changes_the_weights_and_workers_do_not(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    steps = {**OPTIONS, "mining_strategy": "steps", "mining_steps": 3, "save_steps": 100}
    for name, more in {
        "steps": {},
        "ahead": {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2},
        "off": {"hard_negatives": 0},
    }.items():
        train.main(settings(encoder_dir, rows_file, tmp_path / name, **{**steps, **more}))
    assert_equal_weights(tmp_path / "steps", tmp_path / "ahead")
    first, off = weights(tmp_path / "steps"), weights(tmp_path / "off")
    assert any(not first[name].equal(off[name]) for name in first)
    assert not (tmp_path / "off" / FOLDER).exists()
    kept = sorted(file.name for file in (tmp_path / "steps" / FOLDER).iterdir())
    assert kept == [f"mining-{number:06d}.safetensors" for number in (1, 2)]


def test_the_last_two_minings_lie_in_two_tables(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """What was fetched ahead still reads the older one."""
    dataset = TrainingDataset([CLOSED], hard_negatives=1)
    options = {"mining_strategy": "steps", "mining_steps": 2, "max_steps": 5, "learning_rate": 0.1, "mining_top_k": 4}
    build_trainer(biencoder, dataset, tmp_path, **options).train()
    assert dataset.mined is not None
    for mining in (1, 2):
        written = load_file(tmp_path / FOLDER / f"mining-{mining:06d}.safetensors")["labels"]
        assert torch.equal(dataset.mined.tables[mining % 2], written) and (written >= 0).all()
    assert not torch.equal(*dataset.mined.tables)


def test_a_loader_may_not_be_further_ahead_than_an_interval(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "mining_strategy": "steps", "mining_steps": 3, "dataloader_num_workers": 2}
    with pytest.raises(ValueError, match=r"Expected mining_steps of at least 5, .* fetches 5 batches ahead, found 3."):
        train.main(settings(encoder_dir, rows_file, tmp_path, **options))


def test_lost_negatives_are_not_made_up(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    train.main(settings(encoder_dir, rows_file, tmp_path, **OPTIONS))
    cut_run(tmp_path, 2)
    shutil.rmtree(tmp_path / FOLDER)
    with pytest.raises(FileNotFoundError, match="Expected the mined negatives of this run in .* Start over with --resume"):
        train.main(settings(encoder_dir, rows_file, tmp_path, **OPTIONS))
