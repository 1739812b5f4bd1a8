"""Recipes and command lines: every setting arrives as it was written, or is refused with its name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeroshot.training import LOSSES, parse_arguments
from zeroshot.training.arguments import DataArguments, ModelArguments, ZeroShotTrainingArguments

Write = Callable[[str | bytes], str]
CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(path for path in CONFIGS.glob("*.yaml") if path.name != "generate.yaml")  # that one trains nothing


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a recipe and return its path."""

    def write_recipe(content: str | bytes) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_recipe


def parse_field(name: str, *arguments: str) -> Any:
    """The value that a setting has after parsing."""
    for parsed in parse_arguments(arguments):
        if hasattr(parsed, name):
            return getattr(parsed, name)
    raise AssertionError(name)


# -- what arrives -----------------------------------------------------------------------------------------------------


def test_without_arguments_all_settings_have_the_defaults_of_their_classes() -> None:
    model, data, training = parse_arguments([])
    assert model == ModelArguments()
    assert data == DataArguments()
    assert training.learning_rate == ZeroShotTrainingArguments.learning_rate
    assert training.output_dir == ZeroShotTrainingArguments.output_dir


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_parse(recipe: Path) -> None:
    parse_arguments([str(recipe)])


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_registered_loss_can_be_chosen(name: str) -> None:
    assert parse_field("loss", "--loss", name) == name


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rate: 2e-5", 2e-5),
        ("learning_rate: 2E-5", 2e-5),
        ("learning_rate: 2.0e-5", 2e-5),
        ("learning_rate: '2e-5'", 2e-5),
        ("learning_rate: 1", 1.0),
        ("max_train_rows: 1_000", 1000),
        ("seed: 7", 7),
        ("loss: infonce", "infonce"),
        ("train_files: a.jsonl", "a.jsonl"),
        ("train_files: a.jsonl,b.csv", "a.jsonl,b.csv"),
        ("train_files: [a.jsonl, b.csv]", "a.jsonl,b.csv"),
        ("train_files: [a.jsonl]", "a.jsonl"),
        ("output_dir: 2024-01-01", "2024-01-01"),
        ("output_dir: 'with space: and colon'", "with space: and colon"),
        ("batch_by_source: true", True),
        ("batch_by_source: false", False),
        ("batch_by_source: no", False),
        ("eval_on_start: yes", True),
        ("max_train_rows: null", None),
        ("max_train_rows: ~", None),
        ("in_batch_margin:", None),
        ("lr_scheduler_kwargs: {num_cycles: 2}", {"num_cycles": 2}),
        ("architecture_options: {pooling: cls}", {"pooling": "cls"}),
        ("architecture_options:\n  pooling: null\n  note: שלום 🎉", {"pooling": None, "note": "שלום 🎉"}),
        ('class_templates: "{}"', ["{}"]),
        ('class_templates: ["{}", "It is {}."]', ["{}", "It is {}."]),
        ('class_templates:\n  - "{}"\n  - "a: {}, b"', ["{}", "a: {}, b"]),
        ("example_texts: []", []),
        ("example_labels: ['-5 degrees', 'שלום', '🎉 \"q\"', 'a,b', '']", ["-5 degrees", "שלום", '🎉 "q"', "a,b", ""]),
    ],
)
def test_yaml_value_arrives_with_its_type(write: Write, line: str, expected: Any) -> None:
    value = parse_field(line.partition(":")[0], write(line + "\n"))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("label", ["-ism", "--loss", "--loss=bce", "--no_batch_by_source", "-1"])
def test_a_list_item_that_looks_like_an_option_stays_an_item(write: Write, label: str) -> None:
    assert parse_field("example_labels", write(f"example_labels: ['ok', '{label}', 'end']")) == ["ok", label, "end"]


def test_an_empty_list_replaces_the_default(write: Write) -> None:
    """The empty list of templates would otherwise become the default in silence."""
    assert parse_field("class_templates", write("class_templates: []")) == []


def test_null_means_none_also_where_the_default_is_not_none(write: Write) -> None:
    assert parse_field("save_total_limit", write("save_total_limit: null")) is None


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfseed: 3\nloss: bce\n", b"seed: 3\r\nloss: bce\r\n", b"---\nseed: 3\nloss: bce"]
)
def test_byte_order_mark_and_windows_line_ends_do_no_harm(write: Write, content: bytes) -> None:
    assert (parse_field("seed", write(content)), parse_field("loss", write(content))) == (3, "bce")


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        (["--learning_rate", "1e-3"], "learning_rate", 1e-3),
        (["--learning_rate=1e-3"], "learning_rate", 1e-3),
        (["--learning-rate", "1e-3"], "learning_rate", 1e-3),
        (["--learning_rate", "5", "--learning_rate", "1e-3"], "learning_rate", 1e-3),
        (["--class_templates", "It is {}."], "class_templates", ["It is {}."]),
        (["--batch_by_source", "true"], "batch_by_source", True),
        (["--batch_by_source"], "batch_by_source", True),
        (["--loss", "infonce"], "seed", 5),
    ],
)
def test_command_line_overrides_the_recipe(write: Write, arguments: list[str], name: str, expected: Any) -> None:
    recipe = write('learning_rate: 2e-5\nseed: 5\nbatch_by_source: false\nclass_templates: ["{}", "{} text"]')
    assert parse_field(name, recipe, *arguments) == expected


@pytest.mark.parametrize("arguments", [["--batch_by_source", "false"], ["--batch_by_source=0"], ["--no_batch_by_source"]])
def test_a_default_of_true_can_be_switched_off(arguments: list[str]) -> None:
    """`type=bool` would read the word false as true."""
    assert parse_field("batch_by_source", *arguments) is False


def test_architecture_options_on_the_command_line_are_json() -> None:
    assert parse_field("architecture_options", "--architecture_options", '{"pooling": "cls"}') == {"pooling": "cls"}


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "mend"),
    [
        ("learning_rat", "Did you mean 'learning_rate'?"),
        ("train_file", "Did you mean 'train_files'?"),
        ("class_template", "Did you mean 'class_templates'?"),
        ("zzz", "python train.py --help lists all keys."),
    ],
)
def test_unknown_key_names_the_nearest(write: Write, key: str, mend: str) -> None:
    recipe = write(f"seed: 1\n{key}: 1")
    with pytest.raises(ValueError, match=re.escape(f"Expected a known setting in {recipe}, found {key!r}. {mend}")):
        parse_arguments([recipe])
    message = re.escape(f"Expected a known setting in the command line, found {key!r}. {mend}")
    for arguments in ([f"--{key}", "1"], [f"--{key}=1"], [f"--{key.replace('_', '-')}", "1"], [f"--{key}"]):
        with pytest.raises(ValueError, match=message):
            parse_arguments(arguments)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_steps", "many"], "Expected max_steps in the command line to be a whole number, found 'many'. python"),
        (["--batch_by_source", "maybe"], "to be true or false, found 'maybe'. python train.py --help"),
        (["--learning_rate", "'fast'"], "to be a number, found 'fast'. python"),
        (["--hub_strategy", "never"], "found 'never'. python"),
    ],
)
def test_a_value_of_another_type_is_shown_as_it_was_given(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_arguments(words)


def test_quotes_are_advised_where_text_may_stand(write: Write) -> None:
    with pytest.raises(ValueError, match=r"found 3\.5\. Write it so\.$"):
        parse_arguments([write("max_steps: 3.5")])
    with pytest.raises(ValueError, match=r"found False\. Write it so; text that YAML reads .* needs quotes\.$"):
        parse_arguments([write("encoder: no")])


@pytest.mark.parametrize("key", ["1", "null", "true"])
def test_a_key_that_is_no_text_is_unknown_too(write: Write, key: str) -> None:
    with pytest.raises(ValueError, match="Expected a known setting in"):
        parse_arguments([write(f"{key}: 1")])


@pytest.mark.parametrize("word", ["--learning_r", "--learn", "--output", "--los", "--arch"])
def test_keys_are_not_abbreviated(word: str) -> None:
    """An abbreviation would change its meaning when a setting is added."""
    with pytest.raises(ValueError, match=re.escape(f"Expected a known setting in the command line, found {word[2:]!r}.")):
        parse_arguments([word, "1"])


def test_missing_recipe_lists_the_recipes_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=re.escape("found no file 'no.yaml'. Recipes here: none in ./configs or beside it.")
    ):
        parse_arguments(["no.yaml"])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quick.yaml").touch()
    message = f"Expected a recipe, found no file 'configs'. Recipes here: {Path('configs', 'quick.yaml')}."
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        parse_arguments(["configs"])


@pytest.mark.parametrize(
    ("content", "found"),
    [("- a\n- b", "list"), ("hello", "str"), ("", "nothing"), ("# nothing\n", "nothing"), ("3", "int")],
)
def test_a_recipe_that_is_no_mapping_is_refused(write: Write, content: str, found: str) -> None:
    recipe = write(content)
    with pytest.raises(ValueError, match=re.escape(f"Expected 'key: value' lines in {recipe!r}, found {found}. Write")):
        parse_arguments([recipe])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("seed: 1\na: b: c", "line 2"),
        ("loss: [a", "line 1"),
        ("seed: 1\n\tloss: bce", "line 2"),
        ("seed: 3\x00", "special characters are not allowed"),
        (b"seed: 3 # \xe9", "0xe9"),
        ("seed: 3".encode("utf-16"), "0xff"),
        ("seed: 1\n---\nseed: 2", "expected a single document"),
        ("seed: !!python/object:os.system 1", "could not determine a constructor"),
    ],
)
def test_broken_yaml_says_where(write: Write, content: str | bytes, found: str) -> None:
    recipe = write(content)
    with pytest.raises(ValueError, match=re.escape(f"Expected YAML in {recipe!r}, found a mistake: ")) as caught:
        parse_arguments([recipe])
    assert found in str(caught.value) and "<unicode string>" not in str(caught.value)


def test_a_key_that_stands_there_twice_is_refused(write: Write) -> None:
    """YAML keeps the last one in silence."""
    with pytest.raises(ValueError, match="learning_rate"):
        parse_arguments([write("learning_rate: 1e-5\nseed: 1\nlearning_rate: 2e-5\n")])


def test_a_recipe_after_an_option_is_told_its_place(write: Write) -> None:
    with pytest.raises(ValueError, match="recipe.* first"):
        parse_arguments(["--seed", "1", write("loss: bce")])


def test_a_file_of_arguments_beside_the_script_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers' parser would take settings from train.args unasked."""
    (tmp_path / "train.args").write_text("--seed 9", encoding="utf-8")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "train.py")])
    assert parse_field("seed") != 9


def test_help_lists_all_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in ("--encoder", "--train_files", "--loss", "--learning_rate"):
        assert name in text
