"""The model card."""

import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData


def build_model_card(folder: Path, repo_id: str) -> str:
    """The content of README.md.

    Args:
        folder: A checkpoint.
        repo_id: Its name on the Hub.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="zero-shot-classification",
        tags=["zero-shot", "text-classification", config["model_type"]],
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {repo_id.rsplit('/', maxsplit=1)[-1]}\n"))
