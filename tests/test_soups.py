"""Model soups: members trained by themselves, then averaged."""

import json
import re
from pathlib import Path

import pytest
import torch

import train
from zeroshot.hub.card import build_model_card
from zeroshot.models import ARCHITECTURES
from zeroshot.training import DataArguments, ZeroShotTrainer, ZeroShotTrainingArguments, parse_arguments
from zeroshot.training.runs import build_model
from zeroshot.training.soups import list_members

from .test_training import assert_equal_weights, settings, weights

SEEDS = '[{"seed": 1}, {"seed": 2, "learning_rate": 2e-3}, {"seed": 3, "max_steps": 2}]'


def mean_weights(folders: list[Path]) -> dict[str, torch.Tensor]:
    members = [weights(folder) for folder in folders]
    return {name: torch.stack([member[name] for member in members]).mean(0) for name in members[0]}


def test_a_soup_is_the_mean_of_runs_of_their_own(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    members = json.loads(SEEDS)
    for number, member in enumerate(members):
        train.main(settings(encoder_dir, rows_file, tmp_path / str(number), **{"max_steps": 3, **member}))
    train.main(settings(encoder_dir, rows_file, tmp_path / "soup", max_steps=3, soup=SEEDS))
    expected = mean_weights([tmp_path / str(number) for number in range(len(members))])
    for name, tensor in weights(tmp_path / "soup").items():
        torch.testing.assert_close(tensor, expected[name], msg=name)
    assert not torch.equal(weights(tmp_path / "0")["logit_scale"], weights(tmp_path / "soup")["logit_scale"])


def test_the_initial_weights_are_averaged_in_once(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    words = settings(encoder_dir, rows_file, tmp_path, max_steps=3, soup=SEEDS, initial_weight_share=0.5)
    train.main(words)
    model, _, training = parse_arguments(words)
    untrained = build_model(model, training).encoder.state_dict()
    members = mean_weights([tmp_path / f"member-{number}" for number in (1, 2, 3)])
    averaged = {f"encoder.{name}" for name in untrained} & members.keys()
    assert len(averaged) > 20
    for name, tensor in weights(tmp_path).items():
        initial = untrained[name.removeprefix("encoder.")] if name in averaged else members[name]
        torch.testing.assert_close(tensor, (members[name] + initial) / 2, msg=name)


def test_an_interrupted_soup_goes_on_and_a_finished_one_is_not_trained_again(
    encoder_dir: str, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 4, "save_steps": 2, "soup": SEEDS}
    train.main(settings(encoder_dir, rows_file, tmp_path / "whole", **options))
    begun: list[str] = []
    original = ZeroShotTrainer.training_step

    def step_until_the_third_of_the_second(self: ZeroShotTrainer, *arguments: object, **more: object) -> torch.Tensor:
        begun.append(Path(self.args.output_dir).name)
        if begun.count("member-2") == 3 and begun[-1] == "member-2":
            raise KeyboardInterrupt
        return original(self, *arguments, **more)

    monkeypatch.setattr(ZeroShotTrainer, "training_step", step_until_the_third_of_the_second)
    cut = settings(encoder_dir, rows_file, tmp_path / "cut", **options)
    with pytest.raises(KeyboardInterrupt):
        train.main(cut)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    train.main(cut)
    assert {name: begun.count(name) for name in begun} == {"member-1": 4, "member-2": 3 + 2, "member-3": 2}
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    record = json.loads((tmp_path / "cut" / "training_record.json").read_text())
    assert record["resumed"] and not json.loads((tmp_path / "whole" / "training_record.json").read_text())["resumed"]
    train.main(cut)
    assert len(begun) == 11


def test_started_over_and_cut_it_goes_on_with_the_new_settings(
    encoder_dir: str, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members of the earlier soup are gone, so none of them is taken for one of this."""
    words = settings(encoder_dir, rows_file, tmp_path / "soup", max_steps=2, soup=SEEDS)
    train.main(settings(encoder_dir, rows_file, tmp_path / "soup", max_steps=3, soup=SEEDS))
    (tmp_path / "soup" / "training_log.csv").touch()
    with monkeypatch.context() as patch:
        patch.setattr(train, "average_members", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train.main([*words, "--resume=never"])
    assert not (tmp_path / "soup" / "training_log.csv").exists()
    train.main(words)
    train.main(settings(encoder_dir, rows_file, tmp_path / "fresh", max_steps=2, soup=SEEDS))
    assert_equal_weights(tmp_path / "soup", tmp_path / "fresh")


@pytest.mark.parametrize("key", list(ARCHITECTURES))
def test_members_of_other_seeds_begin_from_one_model(key: str, encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """Heads drawn anew in each member would cancel each other in the mean."""
    options = {"architecture": key, "max_steps": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12, "weight_decay": 0}
    train.main(settings(encoder_dir, rows_file, tmp_path, soup='[{"seed": 1}, {"seed": 2}]', **options))
    member = weights(tmp_path / "member-2")
    for name, tensor in weights(tmp_path).items():
        if name != "logit_bias":  # fitted afterwards
            torch.testing.assert_close(tensor, member[name], msg=name)


def test_a_soup_is_nothing_for_a_trainer_alone(encoder_dir: str, tmp_path: Path) -> None:
    arguments = ZeroShotTrainingArguments(output_dir=str(tmp_path), soup=[{"seed": 1}, {"seed": 2}], report_to="none")
    trainer = ZeroShotTrainer(ARCHITECTURES["biencoder"].from_encoder(encoder_dir), arguments)
    with pytest.raises(ValueError, match="Expected one run to train, found a soup"):
        trainer.train()


def test_members_train_on_files_of_the_recipe(
    encoder_dir: str, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(rows_file.read_text().replace("sports", "athletics"), encoding="utf-8")
    soup = json.dumps([{"train_files": str(rows_file)}, {"train_files": str(other), "seed": 5}])
    train.main(settings(encoder_dir, f"{rows_file},{other}", tmp_path / "soup", max_steps=2, soup=soup))
    sources = json.loads((tmp_path / "soup" / "training_data.json").read_text())["sources"]
    assert [source["name"] for source in sources] == [rows_file.name, other.name]
    [source] = json.loads((tmp_path / "soup" / "member-2" / "training_data.json").read_text())["sources"]
    assert source["name"] == other.name
    records = [
        json.loads((tmp_path / "soup" / name / "training_record.json").read_text()) for name in ("member-1", "member-2")
    ]
    record = json.loads((tmp_path / "soup" / "training_record.json").read_text())
    assert record["seconds"] == pytest.approx(sum(one["seconds"] for one in records))
    assert capsys.readouterr().out.count("The model is in") == 1


def test_the_card_of_a_soup_names_its_members_and_no_folder(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    soup = json.dumps([{"seed": 1}, {"seed": 2, "train_files": str(rows_file)}])
    train.main(settings(encoder_dir, rows_file, tmp_path / "soup", max_steps=2, soup=soup))
    card = build_model_card(tmp_path / "soup", "user/soup")
    assert "soup" in card and f'{{"seed": 2, "train_files": "{rows_file.name}"}}' in card
    assert str(tmp_path) not in card


def test_members_get_the_weights_and_names_of_their_files() -> None:
    data = DataArguments(train_files="a,b,c", names_files="x,none,z", source_weights=[1.0, 2.0, 3.0])
    members = [{"train_files": ["c", "a"]}, {}, {"train_files": "b", "source_weights": [5.0]}]
    training = ZeroShotTrainingArguments(soup=members, report_to="none")
    first, second, third = list_members(data, training)
    assert (first["names_files"], first["source_weights"]) == (["z", "x"], [3.0, 1.0])
    assert not {"names_files", "source_weights"} & set(second)
    assert (third["names_files"], third["source_weights"]) == (["none"], [5.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soup": "[]"}, "Expected two or more members of soup, each a mapping of settings, found '[]'."),
        ({"soup": '[{"seed": 1}]'}, "Expected two or more members of soup"),
        ({"soup": "[1, 2]"}, "Expected two or more members of soup"),
        (
            {"soup": '[{"seed": 1, "seed": 2}, {}]'},
            "a mapping of settings, found the key 'seed' more than once in one object",
        ),
        ({"soup": '[{"learning_rate": -1}, {}]'}, "member-1: Expected learning_rate from 0 upwards, found -1.0."),
        ({"soup": "twice"}, "found broken JSON in column 1"),
        (
            {"soup": '[{"seed": 1}, {"sed": 2}]'},
            "member-2: Expected a known setting in a member of soup, found 'sed'. Did you mean 'seed'?",
        ),
        ({"soup": '[{"seed": 1}, {"seed": "x"}]'}, "member-2: Expected seed in a member of soup to be a whole number"),
        ({"soup": '[{"max_steps": 2.5}, {}]'}, "member-1: Expected max_steps in a member of soup to be a whole number"),
        ({"soup": '[{"output_dir": "a"}, {}]'}, "Expected member 1 of soup without 'output_dir', found it set. Set it once"),
        ({"soup": '[{}, {"architecture": "cascade"}]'}, "Expected member 2 of soup without 'architecture'"),
        ({"soup": '[{}, {"initial_weight_share": 0.5}]'}, "Expected member 2 of soup without 'initial_weight_share'"),
        ({"soup": '[{"max_train_rows": 5}, {}]'}, "Expected member 1 of soup without 'max_train_rows'"),
        ({"soup": '[{}, {"train_files": "other.jsonl"}]'}, "among the recipe's own, found 'other.jsonl'. Those are"),
        (
            {"soup": "[{}, {}]", "validation_share": 0.5},
            "found validation_share: members would hold out different ones. Set",
        ),
        ({"soup": "[{}, {}]", "zero_shot_label_share": 0.5}, "Set zero_shot_label_share to 0 and name files"),
        (
            {"soup": '[{"seed": 1}, {}, {"seed": 1}]'},
            "Expected members of soup that differ, found 1 and 3 alike, which",
        ),
        ({"soup": "[{}, {}]", "resume_from_checkpoint": "here"}, "Expected no resume_from_checkpoint with soup"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(
    options: dict, message: str, encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        train.main(settings(encoder_dir, rows_file, tmp_path / "soup", **options))
    assert not (tmp_path / "soup").exists()


def test_a_file_that_no_member_trains_on_is_refused(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """The card would name it as one the model was trained on."""
    soup = json.dumps([{"train_files": str(rows_file)}] * 2)
    with pytest.raises(ValueError, match=re.escape("train_files in some member of soup, found 'other.jsonl' in none")):
        train.main(settings(encoder_dir, f"{rows_file},other.jsonl", tmp_path / "soup", soup=soup))


def test_a_recipe_lists_members(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "soup.yaml"
    recipe.write_text(f"train_files: [{rows_file}]\nsoup:\n  - seed: 1\n  - {{seed: 2, train_files: [{rows_file}]}}\n")
    *_, training = parse_arguments([str(recipe)])
    assert training.members == [{"seed": 1}, {"seed": 2, "train_files": [str(rows_file)]}]
