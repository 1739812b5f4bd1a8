"""README, recipes and folders agree with each other."""

import re
import subprocess
from pathlib import Path

import pytest

from zeroshot.generation import describe_plan
from zeroshot.generation import parse_arguments as parse_generation_arguments
from zeroshot.models import ARCHITECTURES
from zeroshot.training import parse_arguments, prepare_data

ROOT = Path(__file__).resolve().parents[1]
TRAINING_RECIPES = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.name != "generate.yaml")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tracked_files() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return listing.stdout.splitlines()


def test_every_architecture_stands_in_the_table() -> None:
    table = README.split("\n## Architectures\n", 1)[1].strip().split("\n\n", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == list(ARCHITECTURES)


def test_tree_names_every_file_of_the_package_and_no_other() -> None:
    """A newcomer finds each module with a comment; a renamed one cannot stay in the tree."""
    tree = README.split("## Files", 1)[1].split("```")[1]
    named = set(re.findall(r"[\w.]+\.(?:py|yaml|cfg|toml|txt|md)\b", tree))
    modules = {Path(file).name for file in tracked_files() if file.startswith("zeroshot/") and file.endswith(".py")}
    modules |= {file for file in tracked_files() if "/" not in file and file.endswith(".py")}
    modules |= {Path(file).name for file in tracked_files() if file.startswith("configs/")}
    assert modules - {"__init__.py"} <= named
    everything = {Path(file).name for file in tracked_files()}
    assert named <= everything


@pytest.mark.parametrize("recipe", TRAINING_RECIPES, ids=lambda path: path.name)
def test_every_shipped_recipe_parses(recipe: Path, tmp_path: Path) -> None:
    model, data, training = parse_arguments([str(recipe), "--output_dir", str(tmp_path)])
    assert model.architecture in ARCHITECTURES
    assert data.train_files and training.metric_for_best_model == "eval_mean_mrr"


def test_the_shipped_recipe_of_generated_data_can_be_dealt_from(tmp_path: Path) -> None:
    """Its names are valid, its kinds reach for every row, and its prices are there for its `max_cost`."""
    arguments = parse_generation_arguments([str(ROOT / "configs" / "generate.yaml"), "--output_dir", str(tmp_path / "data")])
    names = [name for kind in arguments.kinds.values() for name in kind["names"]]
    assert len(arguments.kinds) == 8 and len(names) == len({name.casefold() for name in names}) > 180
    assert "about $" in describe_plan(arguments)
    assert not (tmp_path / "data").exists()


def test_example_labels_of_the_quickstart_are_new_to_the_model() -> None:
    _, data, _ = parse_arguments([str(ROOT / "configs" / "quickstart.yaml")])
    assert len(data.example_texts) == 5
    assert not set(data.example_labels) & prepare_data(data, seed=0).train_labels


def test_readme_names_the_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("make train", "make test"):
        assert command in README
        assert re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE)


def test_no_path_of_one_machine_is_in_the_project() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w")
    found = []
    for file in tracked_files():
        if Path(file).suffix in (".py", ".md", ".yaml", ".cfg", ".toml", ".txt") and file != "tests/test_house.py":
            text = (ROOT / file).read_text(encoding="utf-8")
            found += [f"{file}: {match.group()}" for match in pattern.finditer(text)]
    assert not found
