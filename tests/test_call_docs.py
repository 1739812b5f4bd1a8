"""The page about calls: its examples run, in the order in which they stand there."""

import re
from pathlib import Path

from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.models.options_zeroshot import CHOICES, OPTION_NAMES

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "inference.md").read_text(encoding="utf-8")


def test_the_examples_run(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    biencoder.save_pretrained(tmp_path / "model")
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) >= 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("outputs/quickstart", str(tmp_path / "model")), names)
    assert set(names["result"]["hierarchy"]) == {"sports", "kitchen"}  # type: ignore[index]


def test_every_option_stands_on_the_page() -> None:
    for name in (*OPTION_NAMES, *(choice for choices in CHOICES.values() for choice in choices)):
        assert re.search(rf"\b{name}\b", PAGE), name
