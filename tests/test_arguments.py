"""Values of settings: what does not fit is refused when parsing, by name, before anything is loaded."""

import dataclasses
import re
from pathlib import Path

import pytest

from zeroshot.training import arguments as arguments_module
from zeroshot.training import parse_arguments
from zeroshot.training.arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments


def write_recipe(folder: Path, content: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", "abc"),
        ("learning_rate", "1,5"),
        ("num_negatives", "1.5"),
        ("max_train_rows", "many"),
        ("loss", "softmax"),
        ("label_expansion", "row"),
        ("precision", "fp16"),
        ("batch_by_source", "maybe"),
        ("batch_by_source", "2"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_key(tmp_path: Path, key: str, value: str) -> None:
    for arguments in ([write_recipe(tmp_path, f"{key}: {value}")], [f"--{key}", value], [f"--{key}={value}"]):
        with pytest.raises(ValueError, match=key) as caught:
            parse_arguments(arguments)
        assert value in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "learning_rate: [1, 2]",
        "learning_rate: {a: 1}",
        "learning_rate: true",
        "num_negatives: true",
        "train_files: {a: b}",
        "train_files: [[a], b]",
        "example_labels: {a: b}",
        "learning_rate: null",
        "loss: null",
    ],
)
def test_yaml_of_the_wrong_shape_is_refused_with_its_key(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=line.partition(":")[0]):
        parse_arguments([write_recipe(tmp_path, line)])


@pytest.mark.parametrize(
    "line",
    [
        "example_labels: [yes, no]",
        "example_labels: [on, off]",
        "example_labels: [12:30, late]",
        "example_labels: [null, b]",
        "output_dir: on",
        "eval_strategy: no",
    ],
)
def test_words_that_yaml_takes_for_something_else_must_be_quoted(tmp_path: Path, line: str) -> None:
    """YAML reads yes as true and 12:30 as 750: the labels True and 750 would be asked for in silence."""
    with pytest.raises(ValueError, match=rf"{line.partition(':')[0]}.*quot"):
        parse_arguments([write_recipe(tmp_path, line)])


@pytest.mark.parametrize("key", ["learning_rate", "train_files", "class_templates"])
def test_a_key_without_its_value_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        parse_arguments([f"--{key}", "--seed", "1"])


@pytest.mark.parametrize("value", ["1,2", "[1, 2]", "high"])
def test_a_list_of_numbers_says_how_it_is_written_on_the_command_line(value: str) -> None:
    """Files are joined by commas, so that people join numbers by them too."""
    message = "source_weights in the command line to be a list of numbers with spaces between them"
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--source_weights", value])


@pytest.mark.parametrize("value", ["{pooling: cls}", "cls", "[1]", "3", '"cls"', ""])
def test_architecture_options_that_are_no_json_object_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"Expected .*architecture_options"):
        parse_arguments([f"--architecture_options={value}"])


@pytest.mark.parametrize("value", ["-0.1", "1", "1.5", "nan"])
def test_share_of_initial_weights_is_checked(value: str) -> None:
    message = f"Expected initial_weight_share from 0 to below 1, found {float(value)}."
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_arguments(["--initial_weight_share", value])


def test_a_negative_share_of_initial_weights_is_not_told_to_be_lowered() -> None:
    with pytest.raises(ValueError, match="Expected initial_weight_share") as caught:
        parse_arguments(["--initial_weight_share", "-0.1"])
    assert "Lower it" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dropout", "1.5"),
        ("dropout", "-0.1"),
        ("validation_share", "1.5"),
        ("validation_share", "-0.5"),
        ("zero_shot_label_share", "1.5"),
        ("zero_shot_label_share", "-0.1"),
        ("num_negatives", "-1"),
        ("max_train_rows", "0"),
        ("max_train_rows", "-3"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_key(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"Expected .*{key}"):
        parse_arguments([f"--{key}={value}"])


@pytest.mark.parametrize("line", ["remove_unused_columns: true", "label_names: [target]"])
def test_fixed_settings_cannot_be_changed(tmp_path: Path, line: str) -> None:
    """With unused columns removed the collator would get empty rows."""
    with pytest.raises(ValueError, match=line.partition(":")[0]):
        parse_arguments([write_recipe(tmp_path, line)])


@pytest.mark.parametrize(
    ("arguments", "hardware", "expected"),
    [
        ([], True, True),
        ([], False, False),
        (["--precision", "fp32"], True, False),
        (["--precision", "bf16"], False, True),
        (["--precision", "auto", "--fp16", "true"], True, False),
    ],
)
def test_precision_decides_on_bfloat16(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], hardware: bool, expected: bool
) -> None:
    monkeypatch.setattr(arguments_module, "supports_bfloat16", lambda: hardware)
    assert parse_arguments(arguments)[2].bf16 is expected


def test_precision_and_bf16_may_not_contradict_each_other() -> None:
    """fp32 would train in bfloat16 in silence."""
    with pytest.raises(ValueError, match="precision"):
        parse_arguments(["--precision", "fp32", "--bf16", "true"])


def test_early_stopping_needs_the_best_model() -> None:
    words = ["--early_stopping_patience", "2", "--eval_strategy", "epoch", "--save_strategy", "epoch"]
    with pytest.raises(ValueError, match="Expected load_best_model_at_end with early_stopping_patience, found it off"):
        parse_arguments(words)
    assert parse_arguments([*words, "--load_best_model_at_end"])[2].early_stopping_patience == 2


@pytest.mark.parametrize("argument_class", [ModelArguments, DataArguments, ZeroShotTrainingArguments])
def test_every_setting_has_a_help_text(argument_class: type) -> None:
    own = argument_class.__annotations__
    assert all(field.metadata.get("help") for field in dataclasses.fields(argument_class) if field.name in own)


def test_lists_are_not_shared_between_runs() -> None:
    ModelArguments().class_templates.append("x")
    assert ModelArguments().class_templates == ["{}"]
