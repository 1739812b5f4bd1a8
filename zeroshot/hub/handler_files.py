"""The files that let Inference Endpoints serve a model: put beside its weights, they need nothing of this package."""

from pathlib import Path

HANDLER = Path(__file__).parent / "handler.py"
# What the code of a model imports, with the versions of setup.cfg (a test compares them); the rest comes along with these.
REQUIREMENTS = ("torch>=2.6", "transformers>=5.20,<6")


def build_requirements() -> str:
    """Content of a `requirements.txt` with which a model's own code runs."""
    return "".join(f"{line}\n" for line in REQUIREMENTS)


def build_handler_files() -> dict[str, str]:
    """Content of `handler.py` and `requirements.txt` by name."""
    return {"handler.py": HANDLER.read_text(encoding="utf-8"), "requirements.txt": build_requirements()}
