"""The Space: its files, what its page answers, and what a visitor reads when something is wrong."""

import ast
import re
import string
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from zeroshot.hub import space_app
from zeroshot.hub.handler import EndpointHandler
from zeroshot.hub.handler_files import build_handler_files
from zeroshot.hub.space import GRADIO_VERSION, build_space_files
from zeroshot.models import ZeroShotPreTrainedModel

from .conftest import LABELS, TEXTS
from .process_helpers import read_result, run_apart

ROOT = Path(__file__).resolve().parents[1]
AWKWARD_TITLE = """Mails' "labels": {0} \\1 # <b>&amp; | 'x'; import os --- 🏷️"""
PAGE = """
import json, sys
sys.path = [path for path in sys.path if path != sys.argv[2]]
sys.path.insert(0, ".")
import app
from gradio_client import Client

page = app.build_page(app.load_model(sys.argv[1]))
_, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
client = Client(url, verbose=False)
answer = client.predict("the team scored a goal", "sports, cooking", False, None, api_name="/classify")  # never opened
refused = []
for words in (["", "sports", False, ""], ["rain", "a,a", False, ""], ["rain", "a", True, "no place"]):
    try:
        client.predict(*words, api_name="/classify")
    except Exception as error:
        refused.append(str(error))
page.close()
config = page.get_config_file()
app.load_model = lambda _: (_ for _ in ()).throw(OSError("401 <Unauthorized>"))
notice = []
import gradio
gradio.Blocks.launch = lambda blocks: notice.append(blocks.get_config_file())
app.main()
shown = [component["props"].get("value") for component in notice[0]["components"]]
print("RESULT" + json.dumps({
    "answer": answer,
    "refused": refused,
    "title": [config["title"], notice[0]["title"]],
    "texts": [component["props"].get("value") for component in config["components"]],
    "notice": [text for text in shown if isinstance(text, str)],
}))
"""


def constants_of(source: str) -> dict[str, Any]:
    """The constants of a Python file, without running it."""
    assignments = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments if node.targets[0].id.isupper()}  # type: ignore[attr-defined]


@pytest.fixture
def classify(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> EndpointHandler:
    """What the page asks for scores, over a tiny model."""
    biencoder.save_pretrained(tmp_path)
    return EndpointHandler(tmp_path)


@pytest.mark.parametrize("title", ["Mail topics", AWKWARD_TITLE, "2: 3", "- item", "_x_", "'", '"""'])
def test_values_with_quotes_stay_values(title: str) -> None:
    """A title is text in Python, YAML and Markdown, whatever marks it holds, and changes nothing else."""
    files = build_space_files("user/model-1.0_x", title)
    assert set(files) == {"README.md", "app.py", "handler.py", "requirements.txt"}
    plain = constants_of(Path(space_app.__file__).read_text(encoding="utf-8"))
    assert constants_of(files["app.py"]) == {**plain, "MODEL": "user/model-1.0_x", "TITLE": title}
    _, front_matter, text = files["README.md"].split("---\n", 2)
    settings = yaml.safe_load(front_matter)
    assert (settings["title"], settings["models"]) == (title, ["user/model-1.0_x"])
    [heading] = [line for line in text.splitlines() if line.startswith("# ")]
    marks = re.escape(string.punctuation)
    assert re.sub(rf"\\([{marks}])", r"\1", heading[2:]) == title
    assert not re.search(f"[{marks}]", re.sub(rf"\\[{marks}]", "", heading[2:])), "a mark that Markdown would read"


def test_settings_are_what_the_hub_reads() -> None:
    """The SDK in a version that the tests ran with, and the file that it starts."""
    settings = yaml.safe_load(build_space_files("user/model", "Topics")["README.md"].split("---\n")[1])
    assert (settings["sdk"], settings["sdk_version"], settings["app_file"]) == ("gradio", GRADIO_VERSION, "app.py")
    assert isinstance(settings["sdk_version"], str) and isinstance(settings["python_version"], str)
    assert f"gradio=={GRADIO_VERSION}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_space_refuses_what_the_endpoint_refuses() -> None:
    files = build_space_files("user/model", "Topics")
    assert {name: files[name] for name in build_handler_files()} == build_handler_files()


@pytest.mark.parametrize(
    ("repo_id", "title", "message"),
    [
        ("model", "Topics", "Expected a model's name like 'user/model', found 'model'. Put its owner before it."),
        ('user/"; import os', "Topics", "Repo id must use alphanumeric chars"),
        ("user/model", " ", "Expected a title of one line, found ' '. Write a few words."),
        ("user/model", "Topics\n---\nsdk: docker", r"Expected a title of one line, found 'Topics\\n---"),
    ],
)
def test_refuses_names_and_titles_that_are_none(repo_id: str, title: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_space_files(repo_id, title)


def test_scores_are_the_pipelines(classify: EndpointHandler, biencoder: ZeroShotPreTrainedModel) -> None:
    """Labels by commas or lines, the model's own template where none is given, the highest score first."""
    labels = ", ".join(LABELS[:2]) + ",\n" + "\n".join(LABELS[2:])
    for options in ({"multi_label": False}, {"multi_label": True, "hypothesis_template": "about {}"}):
        expected = biencoder.as_pipeline()(TEXTS[0], LABELS, **options)
        template = str(options.get("hypothesis_template", " "))
        scores = space_app.score_labels(classify, TEXTS[0], labels, bool(options["multi_label"]), template)
        assert list(scores) == expected["labels"]
        assert list(scores.values()) == pytest.approx(expected["scores"], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "labels", "template", "message"),
    [
        (" ", "a", "", "Expected a text, found an empty box. Type or paste one."),
        ("rain", " , \n", "", "Expected at least one label, found none. Type names with commas between them."),
        ("rain", "a, b, a", "", "Expected distinct candidate labels, found 'a' at positions 0 and 2."),
        ("rain", "a", "about", "exactly one placeholder {} for the label name, found 'about'"),
        ("a" * 100_001, "a", "", "Expected texts of at most 100000 characters, found 100001 at position 0."),
    ],
)
def test_bad_input_gets_words(classify: EndpointHandler, text: str, labels: str, template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_app.score_labels(classify, text, labels, False, template)


def test_every_example_is_answered(classify: EndpointHandler) -> None:
    for text, labels in space_app.EXAMPLES:
        assert len(space_app.score_labels(classify, text, labels, False)) == len(labels.split(",")) == 3


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed (the extra app)")
def test_the_page_answers_and_shows_errors_as_words(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """The Space's own files, served and asked over HTTP; a model that cannot be loaded leaves a page that says why."""
    model, space = tmp_path / "model", tmp_path / "space"
    biencoder.save_pretrained(model)
    space.mkdir()
    for name, content in build_space_files("user/model", AWKWARD_TITLE).items():
        (space / name).write_text(content, encoding="utf-8")
    words = ["-c", PAGE, str(model), str(ROOT)]
    done = run_apart(words, tmp_path / "home", {"GRADIO_ANALYTICS_ENABLED": "False"}, space)
    result = read_result(done)
    expected = biencoder.as_pipeline()("the team scored a goal", ["sports", "cooking"])
    assert result["answer"]["label"] == expected["labels"][0]
    shown = {one["label"]: one["confidence"] for one in result["answer"]["confidences"]}
    assert shown == pytest.approx(dict(zip(expected["labels"], expected["scores"], strict=True)), abs=1e-5)
    messages = ("Expected a text, found an empty box", "Expected distinct candidate labels", "exactly one placeholder")
    for message, words in zip(messages, result["refused"], strict=True):
        assert message in words
    assert "Traceback" not in done.stderr
    assert result["title"] == [AWKWARD_TITLE] * 2
    assert any("&lt;b&gt;&amp;amp;" in str(text) for text in result["texts"])
    [notice] = result["notice"]
    assert "The model user/model could not be loaded" in notice and "HF_TOKEN" in notice
    assert "401 &lt;Unauthorized&gt;" in notice and "<b>" not in notice
