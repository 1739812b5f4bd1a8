"""The model card: every figure from a file or measured, nothing invented, nothing of the machine in it."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import set_seed

import train
from zeroshot.cli import main
from zeroshot.evaluation import speed as speed_module
from zeroshot.evaluation.speed import measure_speed
from zeroshot.hub.card import build_model_card
from zeroshot.hub.card_files import write_model_card
from zeroshot.hub.measurements import choose_examples
from zeroshot.hub.tables import list_losses, show_history
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel
from zeroshot.models.loading import load_model

from .command_helpers import build_result, write_set

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "docs" / "example_model_card.md"
HARDWARE = {"processor": "a processor", "cores": 2, "threads": 1, "accelerator": None}
SPEED: dict[str, Any] = {
    "texts_per_second": {"2": 300.0, "10": 200.0, "100": 9.5, "1000": None},
    "hardware": HARDWARE,
    "dtype": "float32",
    "device": "cpu",
}
TOKEN = "hf_Zk3VbQwErTyUiOpAsDfG"


def build(folder: Path, **kwargs: Any) -> str:
    return build_model_card(folder, "user/name", speed=SPEED, **kwargs)


def list_headings(card: str) -> list[str]:
    return re.findall(r"^##+ .*", card, flags=re.MULTILINE)


def list_table_heads(card: str) -> list[str]:
    """The first line of every table, each once; the fields of breakdowns differ from run to run."""
    heads = re.findall(r"^(\|.*\|)\n\|-", card, flags=re.MULTILINE)
    return list(dict.fromkeys(re.sub(r"^\| \w+ (\| rows \| accuracy \| macro F1 \|)$", r"| FIELD \1", one) for one in heads))


def count_cells(card: str) -> dict[int, list[int]]:
    """Numbers of cells of the lines of each table, by the line where it begins."""
    tables: dict[int, list[int]] = {}
    start = None
    for number, line in enumerate(card.splitlines()):
        start = (number if start is None else start) if line.startswith("|") else None
        if start is not None:
            tables.setdefault(start, []).append(len(re.findall(r"(?<!\\)\|", line)))
    return tables


@pytest.fixture(scope="module")
def trained(encoder_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps with the recipe's kinds of data, measured on one more set by a field of its rows."""
    place = tmp_path_factory.mktemp("clients_of_acme")
    folder = place / "model"
    settings = {
        "encoder": encoder_dir,
        "train_files": "packaged:topics/train.jsonl",
        "max_train_rows": 24,
        "validation_files": "packaged:variety/validation.jsonl",
        "zero_shot_files": "packaged:variety/test.jsonl",
        "output_dir": folder,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "logging_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_mean_mrr",
        "precision": "fp32",
        "report_to": "none",
        "disable_tqdm": True,
    }
    words = [f"--{key}={value}" for key, value in settings.items()]
    train.main(
        [*words, "--class_templates", "{}", "about {}", "--example_texts", "a goal", "--example_labels", "sports", "rain"]
    )
    suite = write_set(place / "suite" / "groups").parent
    rows = [
        {"text": "goal", "labels": ["sports"], "target": "team"},
        {"text": "cake", "labels": ["cooking"], "target": "oven"},
    ]
    (suite / "groups" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["evaluate", str(folder), "--suite", str(suite), "--baseline", encoder_dir, "--by", "target"])
    return folder


@pytest.fixture
def untold(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> Path:
    """A model of which nothing but its weights is known."""
    biencoder.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def write_evaluation(folder: Path, content: Any, name: str = "mine") -> None:
    (folder / "evaluation").mkdir(exist_ok=True)
    (folder / "evaluation" / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))


# -- a trained model --------------------------------------------------------------------------------------------------


def test_the_example_in_the_docs_is_of_the_same_structure(trained: Path) -> None:
    """A card that changed leaves an example of something that nobody gets any more."""
    file = trained / "training_record.json"
    record = json.loads(file.read_text())
    # As if the encoder had come from the Hub: only those have a base_model.
    hub = {**record, "encoders": [{"name": "sentence-transformers/all-MiniLM-L6-v2", "kind": "hub"}]}
    file.write_text(json.dumps(hub))
    card, example = build(trained), EXAMPLE.read_text(encoding="utf-8")
    file.write_text(json.dumps(record))
    assert list(ModelCard(card).data.to_dict()) == list(ModelCard(example).data.to_dict())
    assert list_headings(card) == list_headings(example)
    assert list_table_heads(card) == list_table_heads(example)
    assert len(set(list_headings(card))) == len(list_headings(card)) >= 12


def test_the_widget_shows_what_the_pipeline_answers(trained: Path) -> None:
    widget = ModelCard(build(trained)).data.to_dict()["widget"]
    answer = load_model(str(trained)).as_pipeline()("a goal", "sports,rain")
    [example] = widget
    assert example["text"] == "a goal" and example["candidate_labels"] == "sports, rain"
    assert [one["label"] for one in example["output"]] == answer["labels"]
    assert [one["score"] for one in example["output"]] == pytest.approx(answer["scores"], abs=5e-5)


def test_the_model_index_holds_every_figure_of_the_evaluation_files(trained: Path) -> None:
    results = ModelCard(build(trained)).data.eval_results or []
    shown = {(one.dataset_config, one.dataset_name, one.metric_type): one.metric_value for one in results}
    names = {"accuracy": "accuracy", "accuracy_at_k": "accuracy_at_k", "macro_f1": "f1", "mrr": "mrr"}
    expected = {}
    for file in (trained / "evaluation").glob("*.json"):
        for set_name, figures in json.loads(file.read_text())["sets"].items():
            expected |= {(file.stem, set_name, names[key]): figures[key] for key in names}
    assert len(expected) == 8 and shown == pytest.approx(expected, abs=5e-5)


def test_the_sections_tell_of_the_run(trained: Path) -> None:
    card = build(trained)
    data = json.loads((trained / "training_data.json").read_text())["sources"][0]
    assert f"| packaged:topics/train.jsonl | 24 | {data['labels']} | 0 | cc0-1.0 |" in card
    assert card.index("| max_steps | 4 | -1 |") < card.index("At their defaults:") < card.index("| weight_decay | 0.01 |")
    assert "| 100 | 9.5 |" in card and "| 1,000 | not measured |" in card
    assert "a processor, 2 cores, threads of torch: 1" in card
    assert "Set groups by target:" in card and re.search(r"^\| team \| 1 \| ", card, flags=re.MULTILINE)
    assert "`zeroshot evaluate user/name --suite suite" in card
    assert "| groups | 2 | 2 | **this model** |" in card
    assert "logit(x, c) = exp(a) * cos(pool(E(x)), pool(E(c))) + b\n```" in card
    assert not [count for counts in count_cells(card).values() for count in counts if count != counts[0]]


def test_nothing_of_the_machine_is_in_it(trained: Path, encoder_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders name clients and people."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    settings_file, evaluation = trained / "run_settings.json", trained / "evaluation" / "suite.json"
    before, measured = settings_file.read_text(), evaluation.read_text()
    files = {"train_files": "/data/acme/a.jsonl,../acme/b.csv", "deepspeed": "/data/acme/zero.json"}
    more = {"class_encoder": encoder_dir, "architecture_options": {"deep": ["/data/acme/x"]}}
    settings_file.write_text(json.dumps({**json.loads(before), **files, **more}))
    card = build(trained)
    settings_file.write_text(before)
    assert "acme" in measured and "acme" not in card and "/data" not in card and TOKEN not in card
    assert "| train_files | a.jsonl, b.csv |" in card and "zero.json" in card and '"deep": ["x"]' in card.replace("\\", "")
    assert str(Path.home()) not in card and str(Path(encoder_dir).parent) not in card


# -- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", list(ARCHITECTURES))
def test_every_architecture_has_a_card_that_invents_nothing(key: str, encoder_dir: str, tmp_path: Path) -> None:
    set_seed(1)
    ARCHITECTURES[key].from_encoder(encoder_dir).save_pretrained(tmp_path)
    card = build(tmp_path)
    data = ModelCard(card).data.to_dict()
    assert data["tags"] == ["zero-shot", "text-classification", "custom_code", key]
    assert data["license"] == "apache-2.0" and data["pipeline_tag"] == "zero-shot-classification"
    assert not {"model-index", "model_name", "metrics", "base_model", "datasets", "language"} & set(data)
    assert re.search(r"```text\n.*logit.* = .*\n```\n", card, flags=re.DOTALL)
    for heading, said in {
        "Training data": "Not recorded.",
        "Training curve": "Not recorded.",
        "Evaluation": "Not measured.",
        "Calibration": "Not measured",
        "Energy": "Not measured",
    }.items():
        assert card.split(f"## {heading}\n\n")[1].startswith(said), heading
    assert "groups of people or kinds of text differently: not measured" in card
    ours = card.split("## How it works")[0] + card.split("## Training data")[1]
    assert not re.search(r"\bNone\b|\{\{", ours)


@pytest.mark.parametrize(
    "content",
    ["{half", "[]", '{"sets": {}, "mean": {}}', '{"sets": {"a": {"accuracy": 1}}, "mean": {"accuracy": 1}}', '{"a": 1}'],
)
def test_a_broken_result_is_named(content: str, untold: Path) -> None:
    """A card that left it out would pass for one of a model that was never measured there."""
    write_evaluation(untold, content)
    place = re.escape(repr(str(untold / "evaluation" / "mine.json")))
    with pytest.raises(ValueError, match=rf"Expected the .* in {place}, found .*(Write it anew).*(remove)"):
        build(untold)


@pytest.mark.parametrize("name", ["run_settings.json", "trainer_state.json", "training_data.json", "speed.json"])
def test_a_broken_record_is_named(name: str, untold: Path) -> None:
    (untold / name).write_text("[1]")
    with pytest.raises(ValueError, match=rf"Expected the JSON object that .* in .*{name}', found list. Write it anew, or"):
        build(untold)


def test_the_summary_of_an_earlier_push_is_no_result(untold: Path) -> None:
    """A folder that was downloaded from the Hub holds one."""
    write_evaluation(untold, {"sets": {"a (1 rows, 2 labels)": {"accuracy": 1.0}}}, "summary")
    assert "model-index" not in ModelCard(build(untold)).data.to_dict()


@pytest.mark.parametrize(
    ("name", "key"), [("training_data.json", "sources"), ("speed.json", "texts_per_second"), ("calibration.json", "bins")]
)
def test_a_record_of_another_shape_is_named(name: str, key: str, untold: Path) -> None:
    (untold / name).write_text("{}")
    with pytest.raises(ValueError, match=rf"Expected the JSON object that .* in .*{name}', found no '{key}'. Write it anew"):
        build(untold)


@pytest.mark.parametrize("repo_id", ["a b", "a/b/c", "user/na\nme", "user/"])
def test_a_name_that_the_hub_refuses_is_refused(repo_id: str, untold: Path) -> None:
    with pytest.raises(ValueError, match="Expected a repository like user/name, found"):
        build_model_card(untold, repo_id, speed=SPEED)


# -- names from files -------------------------------------------------------------------------------------------------


def test_names_are_shown_as_they_are(untold: Path) -> None:
    """Bars would break the tables, line ends the front matter, brackets would become links."""
    labels = ["a|b", 'say "hi"', "x: [y]\nmodel-index: []", "<b>bold</b>", "---", "it's #1"]
    record = {"example_texts": ['a "quoted"\n---\n| text'], "example_labels": labels, "encoders": []}
    (untold / "training_record.json").write_text(json.dumps(record))
    source = {
        "name": "[x](http://y)|z",
        "kind": "local",
        "rows": 1,
        "labels": 1,
        "refused": 0,
        "license": None,
        "language": [],
    }
    (untold / "training_data.json").write_text(json.dumps({"sources": [source]}))
    name = "se|t\n---\nlicense: mit"
    write_evaluation(untold, {**build_result(0.5, [name]), "baselines": {"*b*|": build_result(0.75, [name])}})
    card = build(untold)
    data = ModelCard(card).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["widget"][0]["text"] == record["example_texts"][0]
    assert {one["label"] for one in data["widget"][0]["output"]} == set(labels)
    assert data["model-index"][0]["results"][0]["dataset"]["name"] == name
    assert not [count for counts in count_cells(card).values() for count in counts if count != counts[0]]
    assert r"\[x\](http://y)\|z" in card and r"\*b\*\|" in card and "se\\|t --- license: mit" in card
    assert f"labels = {json.dumps(labels)}" in card


def test_names_with_commas_are_no_candidates_of_the_widget() -> None:
    ours = choose_examples(None)
    assert choose_examples({"example_texts": ["x"], "example_labels": ["a", "b"]}) == (["x"], ["a", "b"])
    for labels in (["a, b", "c"], ["a, b", "a"], ["only"], []):
        assert choose_examples({"example_texts": ["x"], "example_labels": labels}) == ours


# -- single parts -----------------------------------------------------------------------------------------------------


def test_where_it_got_worse_is_said() -> None:
    worse, better = build_result(0.25, ["a"]), build_result(0.5, ["a"])
    lines = list_losses({"x": {**worse, "baselines": {"before": better}}, "y": {**better, "baselines": {"b": worse}}})
    assert lines == ["a: accuracy .250 against .500 (before)"]


def test_a_long_log_keeps_its_end_and_every_evaluation() -> None:
    history: list[dict[str, Any]] = [{"step": step, "epoch": step / 10, "loss": 1 / step} for step in range(1, 101)]
    history += [
        {"step": 7, "epoch": 0.7, "eval_a_mrr": 0.5, "eval_mean_mrr": 0.5, "eval_a_loss": 2.0},
        {"step": 100, "train_runtime": 3.0},
    ]
    table = show_history(history, "eval_mean_mrr") or ""
    lines = table.splitlines()
    assert lines[0] == "| step | epoch | training loss | eval_a_mrr |"
    assert lines[-1] == "| 100 | 10.00 | .010 | - |" and len(lines) <= 2 + 13
    assert any(line.startswith("| 7 | 0.70 | ") and line.endswith("| .500 |") for line in lines)
    assert show_history([{"train_runtime": 1.0}], None) is None
    two = show_history([*history, {"step": 7, "epoch": 0.7, "eval_b_mrr": 0.5}], "eval_mean_mrr") or ""
    assert two.startswith("| step | epoch | training loss | eval_a_mrr | eval_mean_mrr | eval_b_mrr |")


def test_energy_is_summed_over_runs(untold: Path) -> None:
    """A tracker writes its running sum again and again; a resumed run has a tracker of its own."""
    rows = [("a", 0.001, 1800), ("a", 0.002, 3600), ("b", 0.0005, 1800)]
    with (untold / "emissions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("run_id", "emissions", "duration", "cpu_model", "country_name"), *((*row, "c|pu", "X") for row in rows)]
        )
    card = build(untold)
    emissions = ModelCard(card).data.to_dict()["co2_eq_emissions"]
    assert (emissions["emissions"], emissions["hours_used"], emissions["hardware_used"]) == (2.5, 1.5, "c|pu")
    assert r"2.5 g of CO2 equivalent by CodeCarbon's estimate, in 1.5 hours on c\|pu." in card
    (untold / "emissions.csv").write_text("run_id,emissions\na,much\n")
    with pytest.raises(ValueError, match=r"Expected CodeCarbon's columns .*emissions.csv', found .*remove it."):
        build(untold)


def test_the_command_writes_card_speed_and_plots(
    untold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zeroshot.hub.card_files.record_speed", lambda _: SPEED)
    bins = [{"confidence": 0.1, "accuracy": 0.2, "count": 30}, {"confidence": 0.9, "accuracy": 0.8, "count": 10}]
    fitted = {"temperature": 1.5, "set": "validation", "ece_before": 0.2, "ece_after": 0.1, "bins": bins}
    (untold / "calibration.json").write_text(json.dumps(fitted))
    (untold / "trainer_state.json").write_text(
        json.dumps({"log_history": [{"step": n, "epoch": 1.0, "loss": 2.0} for n in (1, 2)]})
    )
    main(["card", str(untold), "--repo_id", "user/name", "--license", "mit"])
    names = ["speed.json", "training_curve.png", "evaluation/calibration.png", "README.md"]
    assert capsys.readouterr().out.split() == [str(untold / name) for name in names]
    card = (untold / "README.md").read_text(encoding="utf-8")
    assert ModelCard(card).data.license == "mit"
    assert "![Training curve](training_curve.png)" in card and "![Reliability of scores](evaluation/calibration.png)" in card
    assert "| .900 | .800 | 10 |" in card and "error .200 before, .100 after" in card
    assert write_model_card(untold, "user/name") == [untold / "README.md"], "what is there is not made again"
    before = sorted(path.name for path in untold.iterdir())
    assert write_model_card(untold, "user/name", output=tmp_path / "card.md") == [tmp_path / "card.md"]
    assert sorted(path.name for path in untold.iterdir()) == before


def test_building_writes_nothing(untold: Path) -> None:
    before = {path.name: path.read_bytes() for path in untold.iterdir()}
    build(untold)
    assert {path.name: path.read_bytes() for path in untold.iterdir()} == before


def test_speed_is_measured_within_the_budget(encoder_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ARCHITECTURES["biencoder"].from_encoder(encoder_dir)
    speeds = measure_speed(model, label_counts=(2, 10), least_seconds=0.0)
    assert list(speeds) == ["2", "10"] and all(value and value > 0 for value in speeds.values())
    clock = iter(range(0, 1000, 4))  # every measurement seems to take four seconds
    monkeypatch.setattr(speed_module.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(speed_module, "time_prediction", lambda *_, **__: 1.0)
    assert measure_speed(model, budget=8.0) == {"2": 1.0, "10": 1.0, "100": None, "1000": None}
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(type(model), "pays_per_pair", True)
    assert measure_speed(model, budget=8.0) == {"2": 1.0, "10": None, "100": None, "1000": None}
