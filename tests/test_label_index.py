"""The label index: what it finds is what the model says of all labels, and it knows when it no longer fits."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import set_seed

from zeroshot.inference import LabelIndex, RetrieveRerankPipeline, label_index
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel

from .conftest import TEXTS, WORDS

TEMPLATES = ["{}", "it is about {}."]
NAMES = [f"{one} {other}" for one in ("sports", "cooking", "music", "law", "rain") for other in WORDS[:40]]
Build = Callable[..., ZeroShotPreTrainedModel]


@pytest.fixture
def build(encoder_dir: str) -> Build:
    """Build a model of two templates whose every part matters: a second stage starts at zero, and would be no stage."""

    def build_model(architecture: str = "biencoder", **kwargs: object) -> ZeroShotPreTrainedModel:
        set_seed(1)
        # Logits near 0: far from it, the probabilities of all labels look alike.
        levels = {"logit_scale_init_value": 2.0, "logit_bias_init_value": -6.0}
        model = ARCHITECTURES[architecture].from_encoder(encoder_dir, class_templates=TEMPLATES, **levels, **kwargs)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name == "residual.weight":
                    parameter.normal_(std=5.0)
        return model

    return build_model


def check_found(found: list[list[tuple[str, float]]], logits: torch.Tensor, labels: list[str], top_k: int) -> None:
    """The highest values come back, by falling value, each with a label that has it; near ties may change places."""
    column = {label: position for position, label in enumerate(labels)}
    assert len(found) == len(logits)
    for row, values in zip(found, logits, strict=True):
        assert [value for _, value in row] == pytest.approx(values.topk(top_k).values.tolist(), abs=1e-4)
        assert [value for _, value in row] == pytest.approx([values[column[label]].item() for label, _ in row], abs=1e-4)
        assert len({label for label, _ in row}) == top_k


ABLE = [key for key, kind in ARCHITECTURES.items() if kind.compared_vectors is not None or not kind.pays_per_pair]


@pytest.mark.parametrize("architecture", ABLE)
def test_the_best_labels_are_those_of_all_and_their_logits_the_models(build: Build, architecture: str) -> None:
    """By vectors, by features or by two stages: `compared_vectors` must not promise what `score` does not keep."""
    model = build(architecture)
    index = LabelIndex.build(model, NAMES)
    probabilities = [list(result["scores"].items()) for result in index.predict(TEXTS, 5)]
    assert [result["text"] for result in index.predict(TEXTS, 5)] == TEXTS
    logits = model.predict_logits(TEXTS, NAMES)
    check_found(probabilities, logits.sigmoid(), NAMES, 5)
    if model.has_shortlist:
        parts = [model.encode_candidate_labels(NAMES, [template])["vectors"] for template in TEMPLATES]
        products = torch.stack([model.encode_texts(TEXTS)["vectors"] @ part.T for part in parts]).mean(dim=0)
        first = model.scale_logits(products).detach()
        assert (first - logits).abs().max() > 0.01
        logits = first
    check_found(index.search(TEXTS, 5), logits, NAMES, 5)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - set(ABLE)))
def test_a_model_that_keeps_nothing_of_a_label_is_refused(build: Build, architecture: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"^Expected an architecture that encodes labels by themselves \(biencoder, .*cascade\), found .*, which reads "
        r"every label together with every text\. Choose another model, or call predict with few labels\.$",
    ):
        LabelIndex.build(build(architecture), NAMES)


def test_an_architecture_with_two_stages_can_be_asked_for_more_labels_than_there_are(build: Build) -> None:
    model = build("cascade", shortlist_size=3)
    expected = model.predict(TEXTS, NAMES[:10], multi_label=True)
    for result, other in zip(LabelIndex.build(model, NAMES[:10]).predict(TEXTS, 99, batch_size=2), expected, strict=True):
        assert result["scores"] == pytest.approx(other["scores"], abs=1e-5)


def test_order_of_results_and_of_texts(build: Build) -> None:
    index = LabelIndex.build(build(), NAMES)
    found = index.search(TEXTS, 7)
    assert all(row == sorted(row, key=lambda pair: -pair[1]) for row in found)
    check_found(
        [index.search([text], 7, batch_size=1)[0] for text in TEXTS], index.model.predict_logits(TEXTS, NAMES), NAMES, 7
    )
    check_found(found, index.model.predict_logits(TEXTS, NAMES), NAMES, 7)
    assert [len(row) for row in index.search(TEXTS, 1000)] == [len(NAMES)] * len(TEXTS)
    assert index.search([]) == index.predict([]) == []


def test_beyond_the_limit_faiss_proposes_and_logits_stay_the_models(build: Build) -> None:
    model = build()
    index = LabelIndex.build(model, NAMES, exact_limit=50)
    assert index.store.approximate is not None
    column = {name: position for position, name in enumerate(NAMES)}
    logits = model.predict_logits(TEXTS, NAMES)
    for row, found in zip(logits, index.search(TEXTS, 5), strict=True):
        for label, logit in found:
            assert logit == pytest.approx(row[column[label]].item(), abs=1e-4)
    check_found(index.search(TEXTS, 5, exact=True), logits, NAMES, 5)


@pytest.mark.parametrize("architecture", ABLE)
def test_long_texts_are_read_in_windows_as_predict_reads_them(build: Build, architecture: str) -> None:
    """What a text says behind the first window counts, for the second stage too."""
    model = build(architecture, **({"shortlist_size": 3} if ARCHITECTURES[architecture].has_shortlist else {}))
    texts = [TEXTS[0], "the team scored a goal in the match. " * 10 + "bake the cake in the oven " * 20, TEXTS[1]]
    expected = model.predict(texts, NAMES, multi_label=True)
    index = LabelIndex.build(model, NAMES)
    for top_k, batch_size in ((5, 64), (1, 1)):
        found = index.predict(texts, top_k, batch_size=batch_size)
        assert [one.get("windows") for one in found] == [one.get("windows") for one in expected] == [None, 5, None]
        scores = torch.tensor([list(one["scores"].values()) for one in expected])
        check_found([list(one["scores"].items()) for one in found], scores, NAMES, top_k)
    if model.has_shortlist:
        return
    sigmoids = [[(name, torch.tensor(logit).sigmoid().item()) for name, logit in row] for row in index.search(texts, 5)]
    check_found(sigmoids, scores, NAMES, 5)


def test_faiss_proposes_for_every_window_and_logits_are_those_of_all(build: Build) -> None:
    """A label that one window proposed may have a higher logit in another."""
    model = build()
    text = "the team scored a goal in the match. " * 10 + "bake the cake in the oven " * 20
    [expected] = model.predict(text, NAMES, multi_label=True)
    index = LabelIndex.build(model, NAMES, exact_limit=50)
    propose, asked = index.store.approximate.propose, []

    def propose_few(queries: torch.Tensor, count: int) -> torch.Tensor:
        asked.append(len(queries))
        return propose(queries, 3)

    index.store.approximate.propose = propose_few
    [found] = index.search([text], 3)
    assert asked == [expected["windows"]] == [5]
    for label, logit in found:
        assert torch.tensor(logit).sigmoid().item() == pytest.approx(expected["scores"][label], abs=1e-5)
    assert [logit for _, logit in found] == sorted((logit for _, logit in found), reverse=True)
    assert len(index.search([text], 20)[0]) == 20, "fewer proposals than asked for: all are compared"


@pytest.mark.parametrize("exact_limit", [50, 1000])
@pytest.mark.parametrize("architecture", ["biencoder", "lateinteraction"])
def test_labels_come_and_go_without_encoding_the_others(
    build: Build, architecture: str, exact_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(architecture)
    if model.compared_vectors is None:
        exact_limit = 1000
    index = LabelIndex.build(model, NAMES[:150], exact_limit=exact_limit)
    encoded: list[str] = []
    encode = type(model).encode_candidate_labels

    def record(self: ZeroShotPreTrainedModel, labels: list[str], *args: object, **kwargs: object) -> dict:
        encoded.extend(labels)
        return encode(self, labels, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "encode_candidate_labels", record)
        index.remove([*NAMES[:20], NAMES[149]])
        index.add([*NAMES[150:], "election law and happy weather minister"])  # longer than all before
        index.remove([NAMES[199]])
    assert encoded == [*NAMES[150:], "election law and happy weather minister"]
    left = [*NAMES[20:149], *NAMES[150:199], "election law and happy weather minister"]
    assert len(index) == len(left) and sorted(index.labels) == sorted(left)
    check_found(index.search(TEXTS, 5, exact=True), model.predict_logits(TEXTS, left), left, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.add(["new", NAMES[0]]), f"Expected new labels, found '{NAMES[0]}', which is in the index."),
        (lambda index: index.add(["new", "new"]), "Expected distinct candidate labels, found 'new'"),
        (lambda index: index.remove(["old"]), "Expected labels of the index, found 'old', which is not there."),
        (lambda index: index.remove(index.labels), "Expected a label to stay, found all 3 to be removed."),
        (lambda index: index.search(["a"], 0), "Expected a top_k of at least 1, found 0. Raise it."),
        (lambda index: index.predict(["a"], 0), "Expected a top_k of at least 1, found 0. Raise it."),
        (lambda index: index.search(["a"], batch_size=0), "Expected a batch size of at least 1"),
        (lambda index: index.search([" "]), "Expected every text to hold words"),
    ],
)
def test_bad_requests_are_refused_and_change_nothing(build: Build, change: Callable, message: str) -> None:
    index = LabelIndex.build(build(), NAMES[:3])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        change(index)
    assert index.labels == NAMES[:3] and len(index.store) == 3


def test_too_many_labels_for_full_comparison_are_refused_before_they_are_encoded(build: Build) -> None:
    index = LabelIndex.build(build("polyencoder"), NAMES[:3], exact_limit=3)
    with pytest.raises(ValueError, match=r"^Expected at most 3 labels for PolyEncoder.*, found 4\. Choose an architecture"):
        index.add(["new"])
    with pytest.raises(ValueError, match=r"^Expected at most 3 labels for PolyEncoder"):
        LabelIndex.build(build("polyencoder"), NAMES[:4], exact_limit=3)


def test_faiss_is_missed_before_labels_are_encoded(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million labels take an hour."""
    model = build()
    index = LabelIndex.build(model, NAMES[:3], exact_limit=3)
    pipeline = RetrieveRerankPipeline(model, exact_limit=3)
    monkeypatch.setitem(sys.modules, "faiss", None)
    for name in ("encode_text", "encode_classes"):
        monkeypatch.setattr(type(model), name, None)
    for request in (
        lambda: LabelIndex.build(model, NAMES[:4], exact_limit=3),
        lambda: index.add(["new"]),
        lambda: pipeline.index_documents(TEXTS[:4]),
    ):
        with pytest.raises(ImportError, match=r'pip install "zeroshot\[index\]"'):
            request()


@pytest.mark.parametrize("architecture", ["biencoder", "lateinteraction"])
def test_a_saved_index_finds_its_model_and_answers_alike(build: Build, architecture: str, tmp_path: Path) -> None:
    build(architecture).save_pretrained(tmp_path / "a" / "model")
    model = type(build(architecture)).from_pretrained(tmp_path / "a" / "model")
    index = LabelIndex.build(model, NAMES, exact_limit=200)
    index.save(tmp_path / "a" / "index")
    (tmp_path / "a").rename(tmp_path / "b")  # both move together
    loaded = LabelIndex.load(tmp_path / "b" / "index")
    assert loaded.labels == NAMES and loaded.search(TEXTS, 5) == index.search(TEXTS, 5)
    assert {path.name for path in (tmp_path / "b" / "index").iterdir()} == {
        "features.safetensors",
        "index.json",
        "labels.json",
    }
    assert str(tmp_path) not in (tmp_path / "b" / "index" / "index.json").read_text(encoding="utf-8")


def test_a_large_index_comes_back_with_its_lists(build: Build, tmp_path: Path) -> None:
    model = build()
    index = LabelIndex.build(model, NAMES, exact_limit=50)
    index.save(tmp_path)
    loaded = LabelIndex.load(tmp_path, model)
    assert loaded.store.approximate is not None and loaded.store.exact_limit == 50
    assert loaded.search(TEXTS, 5) == index.search(TEXTS, 5)
    index.remove(NAMES[50:])
    index.save(tmp_path)
    assert not (tmp_path / "vectors.faiss").exists()
    assert LabelIndex.load(tmp_path, model).labels == NAMES[:50]


def change_weights(model: ZeroShotPreTrainedModel) -> None:
    with torch.no_grad():
        next(model.encoder.parameters())[0, 0] += 1e-3


def change_tokenizer(model: ZeroShotPreTrainedModel) -> None:
    model.tokenizer.add_tokens(["goalkeeping"])


def change_templates(model: ZeroShotPreTrainedModel) -> None:
    model.config.class_templates = ["{}"]


def change_configuration(model: ZeroShotPreTrainedModel) -> None:
    model.config.pooling = "max"


CHANGES = [change_weights, change_tokenizer, change_templates, change_configuration]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_stale_index_says_which_part_has_changed(build: Build, tmp_path: Path, change: Callable) -> None:
    model = build()
    index = LabelIndex.build(model, NAMES[:3])
    index.save(tmp_path)
    part = change.__name__.removeprefix("change_")
    change(model)
    message = (
        f"Expected the model and the rows that the index was built from, found that its {part} changed since. "
        "Build the index anew, or bring back what it was built from."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LabelIndex.load(tmp_path, model)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        index.add(["new"])


def test_a_calibration_leaves_an_index_valid(build: Build, tmp_path: Path) -> None:
    """It changes no vector; a million labels would be encoded anew for nothing."""
    model = build()
    index = LabelIndex.build(model, NAMES[:3])
    index.save(tmp_path / "index")
    pipeline = RetrieveRerankPipeline(model)
    pipeline.index_documents(TEXTS)
    pipeline.save(tmp_path / "documents")
    model.config.calibration = {"temperature": 2.0}
    index.add(["new"])
    assert LabelIndex.load(tmp_path / "index", model).labels == NAMES[:3]
    assert len(RetrieveRerankPipeline.load(tmp_path / "documents", model)) == len(TEXTS)


def test_edited_labels_and_several_changes_are_named(build: Build, tmp_path: Path) -> None:
    model = build()
    LabelIndex.build(model, NAMES[:3]).save(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps([NAMES[1], NAMES[0], NAMES[2]]), encoding="utf-8")
    with pytest.raises(ValueError, match="found that its labels changed since"):
        LabelIndex.load(tmp_path, model)
    change_templates(model)
    with pytest.raises(ValueError, match="found that its templates and labels changed since"):
        LabelIndex.load(tmp_path, model)


def test_saving_loading_and_predicting_leave_the_fingerprint(build: Build, tmp_path: Path) -> None:
    model = build()
    index = LabelIndex.build(model, NAMES[:3])
    model.predict(["a text that sets padding and cutting " * 20], ["sports"])
    model.save_pretrained(tmp_path / "model")
    index.save(tmp_path / "index")
    LabelIndex.load(tmp_path / "index", type(model).from_pretrained(tmp_path / "model"))
    model.tokenizer.backend_tokenizer.enable_padding(length=8)  # as published tokenizers do; the next call resets it
    model.tokenizer.backend_tokenizer.enable_truncation(8)
    LabelIndex.load(tmp_path / "index", model)


def test_a_folder_that_is_no_whole_index_is_refused(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    index = LabelIndex.build(model, NAMES[:3])
    index.save(tmp_path)
    settings = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    for content, message in [
        ("[", "Expected JSON in .*index.json"),
        ("[]", "Expected JSON of the type object in .*found list"),
        (json.dumps({**settings, "format": 2}), r"Expected format 1 in .*, found 2\. Build the index anew"),
        (
            json.dumps({name: value for name, value in settings.items() if name != "fingerprint"}),
            r"Expected 'fingerprint' in .*, found nothing under that name\. Build the index anew",
        ),
    ]:
        (tmp_path / "index.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            LabelIndex.load(tmp_path, model)
    (tmp_path / "index.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"Expected the name of a model .* Pass the model, on the command line as --model\."
    ):
        LabelIndex.load(tmp_path)

    def break_off(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(label_index, "fingerprint_strings", break_off)
    with pytest.raises(OSError, match="no space"):
        index.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Expected the folder of an index, found no file .*index\.json"):
        LabelIndex.load(tmp_path, model)
