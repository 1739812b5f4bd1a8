"""A page that scores texts against labels which its visitors choose. `python app.py` starts it."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

MODEL = "user/model"
TITLE = "Zero-shot text classification"
EXAMPLES = [  # two columns: more are too wide for a phone
    ["The keeper tipped it over the bar in the last minute.", "sports, cooking, politics"],
    ["My parcel says delivered, but nothing is here.", "lost delivery, refund, praise"],
    ["She said yes! I have not stopped smiling since.", "engagement news, football, rent regulation"],
]

Classify = Callable[[dict[str, Any]], Any]  # a request as Inference Endpoints take it, and its answer


def load_model(model: str) -> Classify:
    """Load a model from the Hub, or from a folder.

    A private model needs the Space's secret `HF_TOKEN`, which huggingface_hub reads from the environment.
    """
    from handler import EndpointHandler  # the file beside this one: the Space refuses what an endpoint refuses

    return EndpointHandler(model if Path(model).is_dir() else snapshot_download(model))


def split_labels(labels: str) -> list[str]:
    """Label names from a text box: between commas or line breaks."""
    return [label.strip() for label in re.split(r"[,\n]", labels) if label.strip()]


def score_labels(classify: Classify, text: str, labels: str, multi_label: bool, template: str = "") -> dict[str, float]:
    """Scores between 0 and 1 by label, the highest first.

    Args:
        classify: What `load_model` returned.
        text: The text.
        labels: Label names with commas or line breaks between them.
        multi_label: Whether every label is judged by itself; otherwise the scores share 1.
        template: A wording with one `{}` for the label; the model's own when it is empty.

    Raises:
        ValueError: If text or labels are missing, or the model refuses them; the message says how to mend it.
    """
    names = split_labels(labels)
    if not text.strip():
        raise ValueError("Expected a text, found an empty box. Type or paste one.")
    if not names:
        raise ValueError("Expected at least one label, found none. Type names with commas between them.")
    parameters = {"candidate_labels": names, "multi_label": multi_label, "hypothesis_template": template.strip() or None}
    return {one["label"]: one["score"] for one in classify({"inputs": text, "parameters": parameters})}


def build_page(classify: Classify, title: str = TITLE) -> Any:
    """The page of a loaded model, a `gradio.Blocks`."""
    import gradio

    def answer(text: str | None, labels: str | None, multi_label: bool, template: str | None) -> dict[str, float]:
        try:  # a box that was never opened, as that of the template, holds None
            return score_labels(classify, text or "", labels or "", multi_label, template or "")
        except ValueError as error:  # words for the visitor; gradio shows them above the page
            raise gradio.Error(str(error), duration=None, print_exception=False) from error

    with gradio.Blocks(title=title) as page:
        gradio.HTML(f"<h1>{html.escape(title)}</h1>")
        with gradio.Row():  # its columns stand below each other on a narrow screen
            with gradio.Column(min_width=320):
                text = gradio.Textbox(label="Text", lines=4, autofocus=True)
                labels = gradio.Textbox(label="Labels", info="Any names, with commas between them.", lines=2)
                multi_label = gradio.Checkbox(label="Several labels may hold")
                with gradio.Accordion("More", open=False):
                    template = gradio.Textbox(
                        label="Template", info="A wording of the label, like: This text is about {}. Empty: the model's own."
                    )
                button = gradio.Button("Classify", variant="primary")
            with gradio.Column(min_width=320):
                scores = gradio.Label(label="Scores")
        gradio.Examples(EXAMPLES, [text, labels])
        inputs = [text, labels, multi_label, template]
        gradio.on([button.click, labels.submit, template.submit], answer, inputs, scores, api_name="classify")
    return page


def build_notice(error: Exception, title: str = TITLE) -> Any:
    """The page of a model that could not be loaded: what was found, and how to mend it."""
    import gradio

    with gradio.Blocks(title=title) as page:
        gradio.HTML(
            f"<h1>{html.escape(title)}</h1><p>The model {html.escape(MODEL)} could not be loaded. If it is private, the "
            "owner of this Space adds a token that may read it under Settings, Variables and secrets, as the secret "
            f"HF_TOKEN, and restarts the Space.</p><pre style='white-space: pre-wrap'>{html.escape(str(error))}</pre>"
        )
    return page


def main() -> None:
    """Load the model and serve the page."""
    try:
        page = build_page(load_model(MODEL))
    except (OSError, ValueError) as error:  # not there, not reachable, not ours
        page = build_notice(error)
    page.launch()


if __name__ == "__main__":
    main()
