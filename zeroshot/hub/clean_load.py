"""Run as a program, in a folder of its own: load a model as a stranger would, and print what it says of some texts.

Nothing of this package may be imported here, and nothing of it can be: that is the point. Arguments: the folder of the
model, and JSON with two lists, texts and labels. The last line of the output is JSON after `RESULT`.
"""

import json
import sys


class _Blocker:
    """A finder that comes first and denies that this package is installed."""

    def find_spec(self, name, path=None, target=None):
        """Refuse our package, leave all others to the next finder."""
        if name.split(".")[0] == "zeroshot":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(folder: str, probe: str) -> None:
    """Load the model and the pipeline and print logits and labels."""
    from transformers import AutoModel, pipeline

    texts, labels = json.loads(probe)
    model, report = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    classifier = pipeline("zero-shot-classification", model=folder, trust_remote_code=True)
    result = {
        "module": type(model).__module__,
        "pipeline": type(classifier).__name__,
        "missing": sorted(report["missing_keys"]),
        "unexpected": sorted(report["unexpected_keys"]),
        "logits": model.eval().predict_logits(texts, labels).tolist(),
        "best": [one["labels"][0] for one in classifier(texts, labels)],
    }
    sys.stdout.write(f"RESULT{json.dumps(result)}\n")


if __name__ == "__main__":
    sys.meta_path.insert(0, _Blocker())
    main(sys.argv[1], sys.argv[2])
