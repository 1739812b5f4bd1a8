"""What a call can say beyond scores, as words of `zeroshot predict`: what is written to files, and what no file can hold."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from transformers import set_seed

from zeroshot.cli import main
from zeroshot.inference import predict_file, prediction
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .command_helpers import fail, read_lines
from .conftest import LABELS, TEXTS
from .test_call_command import TREE, read

EXTRAS = ["--explain", "2", "--return_embeddings", "--return_hierarchical", "--phrasing_reduction", "mean"]
OPTIONS = {"explain": 2, "return_embeddings": True, "return_hierarchical": True, "phrasing_reduction": "mean"}


@pytest.fixture
def place(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> Path:
    """A folder with a model, labels in a hierarchy, and texts."""
    biencoder.save_pretrained(tmp_path / "model")
    (tmp_path / "labels.json").write_text(json.dumps(TREE), encoding="utf-8")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    return tmp_path


def predict(place: Path, target: str, *words: str) -> list[str]:
    files = ["--labels", str(place / "labels.json"), "--input", str(place / "texts.txt"), "--output", str(place / target)]
    return ["predict", str(place / "model"), *files, *words]


def test_words_are_the_options_of_a_call() -> None:
    assert read(*EXTRAS, "--multi_label") == {**OPTIONS, "multi_label": True}
    assert read("--explain", "--pairwise") == {"explain": 1, "pairwise": True}


def test_files_hold_what_the_pipeline_says(place: Path, biencoder: ZeroShotPreTrainedModel) -> None:
    """Nested in JSON Lines; in Parquet a vector for the embedding, and JSON for what has no columns."""
    expected = json.loads(json.dumps(biencoder.as_pipeline()(TEXTS, TREE, batch_size=64, **OPTIONS)))
    main(predict(place, "out.jsonl", *EXTRAS))
    lines = read_lines(place / "out.jsonl")
    for line, other in zip(lines, expected, strict=True):
        assert line["embedding"] == pytest.approx(other["embedding"], abs=1e-6)
        assert line["hierarchy"].keys() == TREE.keys()
        assert line["hierarchy"]["sports"]["score"] == pytest.approx(other["hierarchy"]["sports"]["score"], abs=1e-6)
        assert line["explanation"].keys() == other["explanation"].keys() == set(line["labels"][:2])
        for label, words in line["explanation"].items():
            assert [word for word, _ in words] == line["sequence"].split()
            assert [weight for _, weight in words] == pytest.approx([w for _, w in other["explanation"][label]], abs=1e-4)
    main(predict(place, "out.parquet", *EXTRAS))
    table = pyarrow.parquet.read_table(place / "out.parquet")
    assert str(table.schema.field("embedding").type) == "list<element: float>"
    rows = table.to_pylist()
    assert [row["embedding"] for row in rows] == [line["embedding"] for line in lines]
    for name in ("explanation", "hierarchy"):
        assert [json.loads(row[name]) for row in rows] == [line[name] for line in lines]


def test_a_long_text_in_a_file_is_explained_too(place: Path, biencoder: ZeroShotPreTrainedModel) -> None:
    """As in Python; the others of the file are as they were without it."""
    long = " ".join(["rain team goal"] * 60)
    (place / "texts.txt").write_text("\n".join([*TEXTS[:2], long, *TEXTS[2:]]), encoding="utf-8")
    main(predict(place, "out.jsonl", "--explain"))
    lines = read_lines(place / "out.jsonl")
    [expected] = json.loads(json.dumps(biencoder.predict(long, TREE, explain=True)))
    assert [line["sequence"] for line in lines] == [*TEXTS[:2], long, *TEXTS[2:]]
    assert ["explained_spans" in line for line in lines] == [False, False, True, False, False, False]
    assert lines[2]["explained_spans"] == expected["explained_spans"]
    [(name, weights)] = lines[2]["explanation"].items()
    assert [word for word, _ in weights] == [word for word, _ in expected["explanation"][name]]
    assert [weight for _, weight in weights] == pytest.approx([w for _, w in expected["explanation"][name]], abs=1e-4)
    main(predict(place, "out.parquet", "--explain"))
    spans = [row["explained_spans"] for row in pyarrow.parquet.read_table(place / "out.parquet").to_pylist()]
    assert [span and json.loads(span) for span in spans] == [line.get("explained_spans") for line in lines]


@pytest.mark.parametrize("target", ["out.jsonl", None])
def test_a_text_that_is_refused_is_named_by_its_line(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, target: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its place among the texts of a window: there is one before it, and lines without a text."""
    monkeypatch.setattr(prediction, "WINDOW", 4)
    lines = ["rain", "", "goal", "cake", "", "song", "goal " * 90, "rain"]
    (tmp_path / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"^Expected texts of at most 64 tokens .*, found 92 in line 7\. Shorten it"):
        predict_file(biencoder, LABELS, tmp_path / "texts.txt", target and tmp_path / target, options={"overflow": "error"})


@pytest.mark.parametrize(
    ("option", "value", "added"),
    [
        ("explain", "1", "explanation"),
        ("return_embeddings", None, "embedding"),
        ("return_hierarchical", None, "hierarchy"),
    ],
)
def test_csv_is_refused_where_no_cell_can_show_it(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, option: str, value: str | None, added: str
) -> None:
    """Before the model is loaded, and in Python too."""
    target = tmp_path / "out.CSV"
    message = (
        f"Expected a result of the type .jsonl or .parquet with {option}, found {str(target)!r}. No cell of CSV can show "
        f"the {added} of a text; name the result 'out.jsonl'."
    )
    words = [f"--{option}", *([value] if value else [])]
    said = fail("predict", "no/such/model", "--labels", "a,b", "--input", "texts.txt", "--output", target, *words)
    assert said == f"ValueError: {message}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        predict_file(biencoder, LABELS, tmp_path / "texts.txt", target, options={option: True})
    assert not list(tmp_path.iterdir())


def test_pairwise_in_files(place: Path, encoder_dir: str) -> None:
    """As the same call in Python; refused where it would change nothing."""
    set_seed(3)
    model = ARCHITECTURES["jointencoder"].from_encoder(encoder_dir, label_isolation=False)
    model.save_pretrained(place / "model")
    (place / "labels.json").write_text(json.dumps(LABELS), encoding="utf-8")

    def ask(**options: Any) -> list[dict]:
        return [one["scores"] for one in model.predict(TEXTS, LABELS, **options)]

    main(predict(place, "out.jsonl", "--pairwise"))
    found = [dict(zip(line["labels"], line["scores"], strict=True)) for line in read_lines(place / "out.jsonl")]
    assert found == [pytest.approx(one, abs=1e-6) for one in ask(pairwise=True)]
    assert ask(pairwise=True) != ask()


def test_pairwise_is_refused_where_it_cannot_be(place: Path) -> None:
    """With labels judged one by one before a model is loaded; for a bi-encoder by the model, and nothing is left behind."""
    assert fail("predict", "no/such/model", "--labels", "a,b", "--pairwise", "--multi_label") == (
        "ValueError: Expected pairwise without multi_label, found both. Labels that are judged one by one have no rivals; "
        "leave one of the two out."
    )
    assert fail(*predict(place, "out.jsonl", "--pairwise")) == (
        "ValueError: Expected a model in which the company of labels changes their scores for pairwise, found "
        "BiEncoderForZeroShotClassification, which would give the same order two at a time. Leave pairwise out."
    )
    assert not list(place.glob("out*"))
