"""Model soups: members trained by themselves, then averaged."""

import json
import re
from pathlib import Path

import pytest
import torch

import train
from zeroshot.hub.card import build_model_card
from zeroshot.training import ZeroShotTrainer, parse_arguments
from zeroshot.training.runs import build_model

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
        initial = untrained.get(name.removeprefix("encoder."), members[name]) if name in averaged else members[name]
        torch.testing.assert_close(tensor, (members[name] + initial) / 2, msg=name)


def test_an_interrupted_soup_goes_on_and_a_finished_one_is_not_trained_again(
    encoder_dir: str, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 4, "save_steps": 2, "soup": SEEDS}
    train.main(settings(encoder_dir, rows_file, tmp_path / "whole", **options))
    begun: list[str] = []
    original = ZeroShotTrainer.train

    def train_until_the_second(self: ZeroShotTrainer, *arguments: object, **more: object) -> object:
        begun.append(Path(self.args.output_dir).name)
        if begun.count("member-2") == 1 and begun[-1] == "member-2":
            raise KeyboardInterrupt
        return original(self, *arguments, **more)

    monkeypatch.setattr(ZeroShotTrainer, "train", train_until_the_second)
    cut = settings(encoder_dir, rows_file, tmp_path / "cut", **options)
    with pytest.raises(KeyboardInterrupt):
        train.main(cut)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    train.main(cut)
    assert begun == ["member-1", "member-2", "member-2", "member-3"]
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    train.main(cut)
    assert len(begun) == 4


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


def test_other_rows_in_a_file_of_a_member_are_another_run(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text('{"same": {"sports": ["athletics"]}}', encoding="utf-8")
    soup = json.dumps([{"seed": 1}, {"names_files": str(names)}])
    words = settings(encoder_dir, rows_file, tmp_path / "soup", max_steps=2, soup=soup)
    train.main(words)
    names.write_text('{"same": {"sports": ["games"]}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"found content of .*names\.json changed"):
        train.main(words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soup": "[]"}, "Expected two or more members of soup, each a mapping of settings, found '[]'."),
        ({"soup": '[{"seed": 1}]'}, "Expected two or more members of soup"),
        ({"soup": "[1, 2]"}, "Expected two or more members of soup"),
        ({"soup": "twice"}, "Expected two or more members of soup"),
        (
            {"soup": '[{"seed": 1}, {"sed": 2}]'},
            "setting in member-2 of soup, found 'sed'. Did you mean 'seed'?",
        ),
        ({"soup": '[{"seed": 1}, {"seed": "x"}]'}, "Expected seed in member-2 of soup to be a whole number"),
        ({"soup": '[{"max_steps": 2.5}, {}]'}, "Expected max_steps in member-1 of soup to be a whole number"),
        ({"soup": '[{"output_dir": "a"}, {}]'}, "Expected member 1 of soup without 'output_dir', found it set. Set it once"),
        ({"soup": '[{}, {"architecture": "cascade"}]'}, "Expected member 2 of soup without 'architecture'"),
        ({"soup": '[{}, {"initial_weight_share": 0.5}]'}, "Expected member 2 of soup without 'initial_weight_share'"),
        ({"soup": '[{"max_train_rows": 5}, {}]'}, "Expected member 1 of soup without 'max_train_rows'"),
        ({"soup": '[{}, {"train_files": "other.jsonl"}]'}, "among the recipe's own, found 'other.jsonl'. Add it to"),
        (
            {"soup": "[{}, {}]", "validation_share": 0.5},
            "found validation_share: members would hold out different ones.",
        ),
        ({"soup": "[{}, {}]", "zero_shot_label_share": 0.5}, "Set zero_shot_files, and zero_shot_label_share to 0."),
        ({"soup": "[{}, {}]", "resume_from_checkpoint": "here"}, "Expected no resume_from_checkpoint with soup"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(
    options: dict, message: str, encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        train.main(settings(encoder_dir, rows_file, tmp_path / "soup", **options))
    assert not (tmp_path / "soup").exists()


def test_a_recipe_lists_members(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "soup.yaml"
    recipe.write_text(f"train_files: [{rows_file}]\nsoup:\n  - seed: 1\n  - {{seed: 2, train_files: [{rows_file}]}}\n")
    *_, training = parse_arguments([str(recipe)])
    assert training.members == [{"seed": 1}, {"seed": 2, "train_files": [str(rows_file)]}]
