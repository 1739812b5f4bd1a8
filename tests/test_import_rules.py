"""Who may import whom, as a machine reads it."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "zeroshot"
SHIP_SET_MAY_IMPORT = {"torch", "transformers", "huggingface_hub", "safetensors", "tqdm"}
MAY_IMPORT = {
    "models": set(),
    "data": {"models", "files", "json_text"},
    # Runs and recipes that push do it by the one list of files that may leave this machine.
    "training": {"models", "data", "files", "json_text", "settings", "version", "hub"},
    "generation": {"models", "data", "files", "json_text", "settings", "version", "hub"},
    "evaluation": {"models", "data", "files", "json_text"},
    "inference": {"models", "data", "files", "json_text"},
    "benchmark": {"models", "data", "files", "json_text", "training", "evaluation", "console"},
    # All but models and the parser of a command: the card only, see below.
    "hub": {"models", "data", "files", "json_text", "training", "evaluation", "version", "console"},
}
# A card tells of a run and its results. Nothing that training imports may import these, or the two would need each other.
FILES_OF_THE_CARD = {"card.py", "card_files.py", "front_matter.py", "measurements.py", "run_files.py", "tables.py"}
# What these run beside on the Hub: the server of Inference Endpoints; in a Space, gradio and the file handler.py too.
SHIPPED_BY_HUB = {"handler.py": {"transformers"}, "space_app.py": {"huggingface_hub", "gradio", "handler"}}


def imports_of(file: Path) -> list[tuple[int, str]]:
    """(level, module) of every import, those inside functions too."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


def part_of(file: Path, level: int, module: str) -> str | None:
    """The part of our package that an import reaches, or None for other packages."""
    if level == 0:
        return module.split(".")[1] if module.startswith("zeroshot.") else None
    package = file.relative_to(PACKAGE).parts[:-1]
    reached = [*package[: len(package) - level + 1], *module.split(".")]
    return reached[0]


def files_of(part: str) -> list[Path]:
    return sorted((PACKAGE / part).rglob("*.py"))


def test_every_part_has_a_rule() -> None:
    parts = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert parts == set(MAY_IMPORT)


@pytest.mark.parametrize("part", list(MAY_IMPORT))
def test_parts_import_only_what_they_may(part: str) -> None:
    for file in files_of(part):
        for level, module in imports_of(file):
            reached = part_of(file, level, module)
            allowed = reached in (None, part) or reached in MAY_IMPORT[part]
            assert allowed, (
                f"{file.relative_to(ROOT)} imports {reached}; {part} may import {MAY_IMPORT[part] or 'nothing of ours'}"
            )


def test_pushing_needs_no_training() -> None:
    """A run pushes by `hub`; were that to import `training`, neither could be imported first."""
    for file in files_of("hub"):
        if file.name in FILES_OF_THE_CARD:
            continue
        for level, module in imports_of(file):
            reached = part_of(file, level, module)
            assert reached in (None, "hub", "models", "console", "json_text"), f"{file.name} imports {reached}"


@pytest.mark.parametrize("name", ["settings.py", "files.py", "json_text.py", "console.py"])
def test_what_every_part_uses_imports_nothing_of_ours(name: str) -> None:
    """Every command reads its recipe by the one and writes by the other, so they may know none of them."""
    file = PACKAGE / name
    assert not [module for level, module in imports_of(file) if part_of(file, level, module) is not None]


def test_data_uses_only_the_input_functions_of_models() -> None:
    for file in files_of("data"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level and part_of(file, node.level, node.module or "") == "models":
                assert {alias.name for alias in node.names} <= {"build_inputs", "check_candidate_labels"}, file.name


def test_nobody_imports_the_command_line_or_the_scripts() -> None:
    scripts = {"train", "generate_data", "push"}
    for file in PACKAGE.rglob("*.py"):
        for level, module in imports_of(file):
            assert part_of(file, level, module) != "cli", file.name
            assert level or module not in scripts, file.name


def test_ship_set_imports_only_what_a_hub_visitor_has() -> None:
    """A file with any other import would not load from the Hub."""
    for file in files_of("models"):
        for level, module in imports_of(file):
            top = module.split(".")[0]
            if level:
                assert level == 1 and "." not in module, f"{file.name}: only single-dot imports of siblings travel"
            else:
                assert top in sys.stdlib_module_names or top in SHIP_SET_MAY_IMPORT, f"{file.name} imports {module}"


@pytest.mark.parametrize("name", SHIPPED_BY_HUB)
def test_files_that_run_on_the_hub_import_nothing_of_ours(name: str) -> None:
    """They run in places where this package is not installed."""
    for level, module in imports_of(PACKAGE / "hub" / name):
        top = module.split(".")[0]
        assert not level and (top in sys.stdlib_module_names or top in SHIPPED_BY_HUB[name]), f"{name} imports {module}"


def test_shipped_files_do_not_import_the_registry() -> None:
    """`from . import x` is saved but cannot be loaded from the Hub."""
    for file in files_of("models"):
        if file.name in ("__init__.py", "loading.py"):
            continue
        for level, module in imports_of(file):
            assert not (level and not module), f"{file.name} imports the package itself"


def test_only_one_file_imports_faiss() -> None:
    """Who has not installed the extra uses everything else."""
    using = {file.name for file in PACKAGE.rglob("*.py") if (0, "faiss") in imports_of(file)}
    assert using == {"approximate_search.py"}


def test_no_script_hides_a_library() -> None:
    """The script's folder comes first on the path: a top-level evaluate.py would hide the library of that name."""
    ours = {path.stem for path in ROOT.glob("*.py")}
    assert not ours & {"evaluate", "datasets", "transformers", "accelerate", "tokenizers", "torch"}


def test_scripts_stay_short() -> None:
    for script in ROOT.glob("*.py"):
        assert len(script.read_text(encoding="utf-8").splitlines()) < 70, script.name
