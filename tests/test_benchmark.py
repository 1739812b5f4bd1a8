"""`zeroshot benchmark`: runs in processes of their own, one table, nothing run twice."""

import json
from pathlib import Path

import pytest

from zeroshot.benchmark.commands import benchmark_command, format_benchmark, format_short, summarise, summarise_runs

from .command_helpers import write_set


@pytest.fixture
def recipe(encoder_dir: str, rows_file: Path, tmp_path: Path) -> Path:
    """A recipe that trains a tiny model for two steps."""
    settings = {
        "encoder": encoder_dir,
        "train_files": str(rows_file),
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "candidates_per_text": 2,
        "save_strategy": "no",
        "precision": "fp32",
    }
    file = tmp_path / "recipe.yaml"
    file.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    return file


def run(recipe: Path, output: Path, suite: Path, *seeds: int, **kwargs: object) -> str:
    return benchmark_command(
        str(recipe), architectures=["biencoder"], seeds=seeds, suites=[str(suite)], rows=50, output=output, **kwargs
    )


@pytest.mark.slow
def test_every_seed_is_trained_measured_and_not_repeated(recipe: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "suite" / "topics")
    output = tmp_path / "out"
    first = run(recipe, output, tmp_path / "suite", 0)
    result = output / "biencoder-0" / "measurement.json"
    written = result.stat().st_mtime_ns
    table = run(recipe, output, tmp_path / "suite", 0, 1)
    assert result.stat().st_mtime_ns == written, "a finished run was repeated"
    assert "±" in table and "±" not in first
    content = json.loads((output / "benchmark.json").read_text())
    assert [one["seed"] for one in content["runs"]["biencoder"]] == [0, 1]
    assert content["command"].startswith("zeroshot benchmark") and "--seeds 0 1" in content["command"]
    run_0, run_1 = content["runs"]["biencoder"]
    assert run_0["packaged"]["topics"] != run_1["packaged"]["topics"], "the seed has no effect"
    figures = content["summary"]["biencoder"]
    assert figures["suite accuracy"]["mean"] == pytest.approx(
        (run_0["suites"]["suite"]["mean"]["accuracy"] + run_1["suites"]["suite"]["mean"]["accuracy"]) / 2
    )
    assert all(figures[f"texts/s at {count} labels"]["mean"] > 0 for count in (10, 100, 1000))
    assert figures["texts/s at 10 labels"]["deviation"] is None, "one seed is timed"
    assert (output / "biencoder-0" / "timing.json").is_file() and not (output / "biencoder-1" / "timing.json").exists()
    assert 0.05 < figures["train GiB"]["mean"] < 64


@pytest.mark.slow
def test_a_run_that_fails_names_its_log(recipe: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "suite" / "topics")
    with pytest.raises(
        ValueError, match=r"Expected train of biencoder-0 to end well, found status 1: .*loss_fn.*train\.log"
    ):
        run(recipe, tmp_path / "out", tmp_path / "suite", 0, overrides=["--loss_fn", "x"])


def test_unknown_architectures_are_refused_before_anything_runs(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected an architecture of biencoder, .*, found 'bert'"):
        benchmark_command(str(recipe), architectures=["bert"], seeds=[0], suites=[], rows=50, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_single_run_has_no_spread() -> None:
    assert summarise([0.5]) == {"mean": 0.5, "deviation": None}
    assert summarise([0.4, 0.6])["deviation"] == pytest.approx(0.1414, abs=1e-4)


def test_tables_show_mean_and_spread_and_the_price() -> None:
    sets = {name: {"accuracy": 0.5, "macro_f1": 0.25} for name in ("topics", "unseen topics", "unseen variety")}
    one = {
        "packaged": sets,
        "suites": {"public": {"mean": {"accuracy": 0.7, "macro_f1": 0.6}}},
        "train_texts_per_second": 30.0,
        "texts_per_second": {"10": 1000.0, "100": 900.0, "1000": 500.0},
        "parameters": 22_700_000,
        "train_peak_memory": 1.5,
        "peak_memory": 1.0,
    }
    other = {**one, "suites": {"public": {"mean": {"accuracy": 0.8, "macro_f1": 0.6}}}}
    table = format_benchmark(summarise_runs({"biencoder": [one, other]}), ["public"])
    assert "| `biencoder` | .500 ± .000 / .250 ± .000 |" in table
    assert ".750 ± .071 / .600 ± .000 |" in table
    assert "| `biencoder` | 30 | 1,000 | 900 | 500 | 22.7 M | 1.5 | 1.0 |" in table
    short = format_short(
        summarise_runs({"biencoder": [one, {**other, "texts_per_second": {"10": 9.87, "100": 9, "1000": 5}}]}), ["public"]
    )
    assert "| `biencoder` | .500 ± .000 / .250 ± .000 | .750 ± .071 / .600 ± .000 | 30 |" in short
    slow = format_short(
        summarise_runs({"crossencoder": [{**one, "texts_per_second": {"10": 9.87, "100": 1, "1000": 0.1}}]}), []
    )
    assert slow.endswith("| `crossencoder` | .500 / .250 | 30 | 9.9 | 1.0 | 0.1 |")
