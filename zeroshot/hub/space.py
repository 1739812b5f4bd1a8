"""The files of a Space: a page in the browser on which a published model can be tried."""

import re
import string
from pathlib import Path

import yaml
from huggingface_hub.utils import validate_repo_id

from .handler_files import build_handler_files, build_requirements

APP = Path(__file__).parent / "space_app.py"
GRADIO_VERSION = "6.31.0"  # the one of constraints.txt, which the tests ran with (a test compares them)
PYTHON_VERSION = "3.11"
TEXT = """
A page for the model [{model}](https://huggingface.co/{model}): texts and label names in, scores out.

`app.py` loads the model when the Space starts. For a private model, add a token that may read it under Settings, *Variables
and secrets*, as the secret `HF_TOKEN`. The Space runs the Python files that lie beside the model's weights, with that token
in its environment: let it read this model alone, and let nobody write to the model whom you would not let into the Space.
"""


def check_title(title: str) -> str:
    """Return the title of a Space.

    Raises:
        ValueError: If it is empty or more than one line.
    """
    if not title.strip() or len(title.splitlines()) > 1:
        raise ValueError(f"Expected a title of one line, found {title!r}. Write a few words.")
    return title


def set_constant(source: str, name: str, value: str) -> str:
    """Python source in which the one line `NAME = "..."` holds another text, whatever quotes that has."""
    return re.sub(rf'^{name} = ".*"$', lambda _: f"{name} = {value!r}", source, count=1, flags=re.MULTILINE)


def build_readme(repo_id: str, title: str) -> str:
    """The Space's README: the settings that the Hub reads, then a few words to its visitors."""
    settings = {
        "title": title,
        "emoji": "🏷️",
        "colorFrom": "indigo",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": GRADIO_VERSION,
        "python_version": PYTHON_VERSION,
        "app_file": "app.py",
        "pinned": False,
        "models": [repo_id],
    }
    heading = re.sub(f"([{re.escape(string.punctuation)}])", r"\\\1", title)  # Markdown shows escaped marks as themselves
    front_matter = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False, width=1_000)
    return f"---\n{front_matter}---\n\n# {heading}\n{TEXT.format(model=repo_id)}"


def build_space_files(repo_id: str, title: str) -> dict[str, str]:
    """Content of a Gradio Space's files by name.

    Args:
        repo_id: The model on the Hub, `USER/NAME`.
        title: Heading of the page.

    Raises:
        ValueError: If `repo_id` is no such name, or the title is not one line of text.
    """
    if "/" not in repo_id:
        raise ValueError(f"Expected a model's name like 'user/model', found {repo_id!r}. Put its owner before it.")
    validate_repo_id(repo_id)
    app = APP.read_text(encoding="utf-8")
    for name, value in (("MODEL", repo_id), ("TITLE", check_title(title))):
        app = set_constant(app, name, value)
    return {
        "README.md": build_readme(repo_id, title),
        "app.py": app,
        "handler.py": build_handler_files()["handler.py"],
        "requirements.txt": build_requirements(),
    }
