"""A saved model loads in a process where this package does not exist, without network, and only with leave to run code."""

import json
from pathlib import Path

import pytest
import torch

from zeroshot.models import ZeroShotPreTrainedModel

from .conftest import LABELS, TEXTS
from .process_helpers import read_result, run_apart

SCRIPT = """
import json, sys
sys.path = [path for path in sys.path if path not in ("", {root!r})]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__ + repr(finder)]
try:
    import zeroshot
    sys.exit("the package must not be importable here")
except ModuleNotFoundError:
    pass
from transformers import AutoModel, AutoTokenizer, pipeline
for unsaid in ({{}}, {{"trust_remote_code": False}}):
    try:
        AutoModel.from_pretrained(sys.argv[1], **unsaid)
        sys.exit("nobody allowed the code beside the weights")
    except ValueError as error:
        assert "trust_remote_code=True" in str(error)
print()  # behind the question that nobody answered
assert not [name for name in sys.modules if name.startswith("transformers_modules.")]
texts, labels = json.loads(sys.argv[2])
model, report = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True, output_loading_info=True)
classifier = pipeline("zero-shot-classification", model=sys.argv[1], trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
if len(sys.argv) > 3:
    model.save_pretrained(sys.argv[3])
print("RESULT" + json.dumps({{
    "module": type(model).__module__,
    "pipeline": type(classifier).__name__,
    "missing": len(report["missing_keys"]) + len(report["unexpected_keys"]),
    "tokens": tokenizer(texts[0])["input_ids"],
    "logits": model.predict_logits(texts, labels).tolist(),
    "results": classifier(texts, labels, batch_size=2),
}}))
"""


def run_clean(folder: Path, home: Path, *more: str) -> dict:
    root = str(Path(__file__).resolve().parents[1])
    script = home / "script.py"
    script.write_text(SCRIPT.format(root=root))
    words = [str(script), str(folder), json.dumps([TEXTS, LABELS]), *more]
    return read_result(run_apart(words, home, {"HF_HUB_OFFLINE": "1"}))


@pytest.mark.slow
def test_model_and_pipeline_load_without_the_package(model: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    folder, home = tmp_path / "my model-v1.0", tmp_path / "home"
    home.mkdir()
    model.save_pretrained(folder)
    expected = model.predict_logits(TEXTS, LABELS)
    first = run_clean(folder, home, str(tmp_path / "again"))
    assert first["module"].startswith("transformers_modules.")
    assert first["pipeline"] == "ZeroShotPipeline"
    assert first["missing"] == 0
    assert torch.equal(torch.tensor(first["logits"]), expected)
    ours = model.as_pipeline()(TEXTS, LABELS, batch_size=2)
    assert [result["labels"] for result in first["results"]] == [result["labels"] for result in ours]
    for theirs, mine in zip(first["results"], ours, strict=True):
        assert theirs["scores"] == pytest.approx(mine["scores"], abs=1e-6)
    # Saved again from a process that only knows the remote code, it must still be whole.
    second = run_clean(tmp_path / "again", home)
    assert torch.equal(torch.tensor(second["logits"]), expected)
