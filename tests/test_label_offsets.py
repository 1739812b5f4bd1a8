"""Label offsets: estimated on texts without labels, added to logits, measured by halves."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeroshot.cli import main
from zeroshot.data import build_evaluation_set, load_source
from zeroshot.evaluation.metrics import METRICS
from zeroshot.evaluation.suites import add_offsets_by_halves, evaluate_model, load_suite
from zeroshot.inference.offsets import draw_texts
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel
from zeroshot.models.offsets_zeroshot import compute_label_offsets, warn_of_idle_labels
from zeroshot.models.options_zeroshot import read_options

from .command_helpers import fail, read_lines, write_set
from .conftest import LABELS, TEXTS

WORDS = ["goal", "match", "cake", "oven", "flour", "vote", "law", "song", "band", "rain", "storm", "great"]
MANY = [f"the {first} {second}" for first in WORDS for second in WORDS]  # 144 texts
TREE = {"sports": {"goal": "a goal of the team", "match": ["match", "game"]}, "music": None}


def compute_by_hand(logits: np.ndarray, nearest: int) -> np.ndarray:
    heights = np.array([np.sort(column)[::-1][:nearest].mean() for column in logits.T])
    return (heights.mean() - heights) / 2


@pytest.mark.parametrize(("texts", "nearest"), [(10, 10), (64, 10), (100, 10), (101, 11), (250, 25)])
def test_offsets_are_half_of_what_the_nearest_tenth_lies_off_the_mean(texts: int, nearest: int) -> None:
    logits = torch.randn(texts, 7, generator=torch.Generator().manual_seed(texts)) * 5
    offsets = compute_label_offsets(logits)
    assert offsets.numpy() == pytest.approx(compute_by_hand(logits.numpy(), nearest), abs=1e-5)
    assert offsets.sum().item() == pytest.approx(0, abs=1e-5)


def test_they_order_labels_as_csls_does() -> None:
    """Where ten texts are the nearest tenth: 2 z - r(x) - r(c), with the mean over all labels as r(x)."""
    logits = torch.randn(80, 6, generator=torch.Generator().manual_seed(0))
    published = 2 * logits - logits.mean(dim=1, keepdim=True) - logits.topk(10, dim=0).values.mean(dim=0)
    assert torch.equal((logits + compute_label_offsets(logits)).argsort(dim=1), published.argsort(dim=1))


def test_a_label_that_is_near_to_everything_wins_less_often() -> None:
    generator = torch.Generator().manual_seed(0)
    gold = torch.arange(200) % 4
    logits = torch.randn(200, 4, generator=generator) + 3 * torch.nn.functional.one_hot(gold, 4)
    logits[:, 0] += 2.5  # a hub
    moved = logits + compute_label_offsets(logits)
    before, after = ((one.argmax(dim=1) == gold).float().mean().item() for one in (logits, moved))
    assert (logits.argmax(dim=1) == 0).sum() > 100  # of 50 that are
    assert (moved.argmax(dim=1) == 0).sum() < 75
    assert after > before + 0.1


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(9, 3), "Expected at least 10 different texts to estimate label offsets, found 9."),
        (torch.zeros(12, 1), "Expected at least 2 labels to estimate label offsets, found 1."),
        (torch.full((12, 3), float("nan")), "Expected numbers as logits, found nan or infinity."),
    ],
)
def test_what_nothing_can_be_estimated_on_is_refused(logits: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compute_label_offsets(logits)


def test_every_architecture_estimates_and_applies_them(model: ZeroShotPreTrainedModel) -> None:
    texts = MANY[:24]
    offsets = model.estimate_label_offsets(texts, LABELS)
    logits = model.predict_logits(texts, LABELS)
    assert list(offsets) == LABELS
    assert list(offsets.values()) == pytest.approx(compute_by_hand(logits.numpy(), 10), abs=1e-4)
    moved = (model.predict_logits(TEXTS, LABELS) + torch.tensor(list(offsets.values()))).softmax(dim=1)
    results = model.predict(TEXTS, LABELS, label_offsets=offsets)
    assert [list(one["scores"].values()) for one in results] == [pytest.approx(row, abs=1e-5) for row in moved.tolist()]


def test_each_text_counts_once_in_any_order(biencoder: ZeroShotPreTrainedModel) -> None:
    offsets = biencoder.estimate_label_offsets(MANY[:30], LABELS)
    again = biencoder.estimate_label_offsets([*MANY[:30][::-1], *[MANY[0]] * 50], LABELS, batch_size=3)
    assert again == pytest.approx(offsets, abs=1e-5)


def test_pipeline_and_predict_apply_them_alike_to_labels_of_any_form(biencoder: ZeroShotPreTrainedModel) -> None:
    offsets = biencoder.estimate_label_offsets(MANY, TREE, multi_label=True)
    assert set(offsets) == {"sports", "goal", "match", "music"}  # parents of a hierarchy too
    options: dict[str, Any] = {"multi_label": True, "label_offsets": offsets, "threshold": 0.5}
    answers = biencoder.as_pipeline()(TEXTS, TREE, **options)
    for answer, result in zip(answers, biencoder.predict(TEXTS, TREE, **options), strict=True):
        assert dict(zip(answer["labels"], answer["scores"], strict=True)) == pytest.approx(result["scores"], abs=1e-6)
        assert answer["decision"] == result["decision"]


def test_labels_of_a_call_may_be_fewer_but_none_may_lack_an_offset(biencoder: ZeroShotPreTrainedModel) -> None:
    offsets = biencoder.estimate_label_offsets(MANY, LABELS)
    assert set(biencoder.predict("goal", LABELS[:2], label_offsets=offsets)[0]["scores"]) == set(LABELS[:2])
    with pytest.raises(ValueError, match="Expected an offset for every label, found none for 'rain'. Estimate them anew"):
        biencoder.predict(["goal", "cake"], [LABELS, [*LABELS, "rain"]], label_offsets=offsets)


def test_labels_of_a_hierarchy_are_compared_with_their_siblings(biencoder: ZeroShotPreTrainedModel) -> None:
    tree = {"sports": {"goal": {}, "match": {}}, "weather": {"rain": {}}, "music": None}
    offsets = biencoder.estimate_label_offsets(MANY, tree)
    assert offsets["goal"] == -offsets["match"] != 0 and offsets["rain"] == 0
    assert offsets["sports"] + offsets["weather"] + offsets["music"] == pytest.approx(0, abs=1e-5)
    assert offsets == pytest.approx(
        {"rain": 0.0}
        | biencoder.estimate_label_offsets(MANY, ["goal", "match"])
        | biencoder.estimate_label_offsets(MANY, ["sports", "weather", "music"]),
        abs=1e-5,
    )


@pytest.mark.parametrize(("texts", "labels", "winners"), [(30, 6, 3), (30, 6, 4), (12, 60, 7), (12, 60, 8)])
def test_labels_that_win_nothing_are_told(texts: int, labels: int, winners: int, caplog: pytest.LogCaptureFixture) -> None:
    logits = torch.zeros(texts, labels)
    logits[range(texts), [text % winners for text in range(texts)]] = 1
    warn_of_idle_labels(logits)
    few = winners in (3, 7)  # of six labels, of twelve texts
    assert caplog.text.count(f"Only {winners} of {labels} labels are the best of some text.") == few


def test_the_estimation_tells_of_them(biencoder: ZeroShotPreTrainedModel, caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"the goal {number}" for number in range(60)]
    winners = len(biencoder.predict_logits(texts, WORDS).argmax(dim=1).unique())
    assert winners < 8
    biencoder.estimate_label_offsets(texts, WORDS)
    assert f"Only {winners} of 12 labels are the best of some text." in caplog.text


@pytest.mark.parametrize(
    ("key", "options"), [("jointencoder", {"label_isolation": False}), ("cascade", {"shortlist_size": 2})]
)
def test_where_company_matters_all_labels_are_asked_for(key: str, options: dict[str, Any], encoder_dir: str) -> None:
    model = ARCHITECTURES[key].from_encoder(encoder_dir, **options)
    offsets = model.estimate_label_offsets(MANY[:20], LABELS)
    model.predict(TEXTS, LABELS[::-1], label_offsets=offsets)
    with pytest.raises(ValueError, match="scores a label in another way beside others, found none called 'music'."):
        model.predict(TEXTS, LABELS[:-1], label_offsets=offsets)


def test_a_single_label_beside_alternatives_has_no_rivals(encoder_dir: str) -> None:
    """Its logit is of another kind in an NLI head, where offsets of alternatives would be wrong."""
    model = ARCHITECTURES["crossencoder"].from_encoder(encoder_dir, head="nli")
    lists = [[LABELS[0]], LABELS]
    offsets = dict.fromkeys(LABELS, 0.0) | {LABELS[0]: 3.0}
    plain, moved = model.predict(TEXTS[:2], lists), model.predict(TEXTS[:2], lists, label_offsets=offsets)
    assert moved[0] == plain[0] and moved[1]["scores"][LABELS[0]] > plain[1]["scores"][LABELS[0]] + 0.05
    judged = model.predict(TEXTS[0], LABELS[:1], multi_label=True, label_offsets=offsets)
    assert judged[0]["scores"][LABELS[0]] > plain[0]["scores"][LABELS[0]] + 0.05


def test_what_is_wrong_with_texts_is_told_at_their_own_place(biencoder: ZeroShotPreTrainedModel) -> None:
    texts = [*[MANY[0]] * 30, *MANY[:20], "goal " * 100]
    with pytest.raises(ValueError, match="at position 50"):
        biencoder.estimate_label_offsets(texts, LABELS, overflow="error")
    for few in ([], [MANY[0]] * 30):
        with pytest.raises(
            ValueError, match=f"at least 10 different texts to estimate label offsets, found {len(set(few))}"
        ):
            biencoder.estimate_label_offsets(few, LABELS)
    with pytest.raises(ValueError, match="Expected label_offsets without pairwise, found both"):
        biencoder.estimate_label_offsets(MANY, LABELS, pairwise=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label_offsets": [0.5]}, TypeError, "Expected label_offsets to be a number for each label, found [0.5]."),
        ({"label_offsets": {"a": "much"}}, ValueError, "as the offset of each label, found 'much'"),
        ({"label_offsets": {"a": float("nan")}}, ValueError, "found nan for 'a'. Take what"),
        ({"label_offsets": {"label_offsets": {"a": 0.5}}}, ValueError, "or 'label_offsets' of a file that zeroshot"),
        ({"multi_label": "no"}, TypeError, "Expected multi_label to be True or False, found 'no'. Write it without quotes."),
        (
            {"label_offsets": {"a": 10**400}},
            ValueError,
            "Expected a number from -1e+06 to 1e+06 as the offset of each label",
        ),
        ({"label_offsets": {"a": -1e39}}, ValueError, "found -1e+39 for 'a'."),
        ({"label_offsets": {"a": True}}, ValueError, "found True for 'a'."),
        ({"label_offsets": {}, "calibrated": True}, ValueError, "without calibrated scores or thresholds, found both."),
        ({"label_offsets": {}, "threshold": "calibrated"}, ValueError, "leave one of the two out."),
        ({"label_offsets": {}, "pairwise": True}, ValueError, "Expected label_offsets without pairwise, found both."),
    ],
)
def test_offsets_that_cannot_be_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        read_options(options)


def test_texts_are_drawn_evenly_and_always_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "texts.jsonl"
    rows = [json.dumps({"text": f"text {number}"}) + "\n" for number in range(1000)]
    path.write_text("".join([*rows[:500], '{"id": 3}\n', "\n", *rows[500:]]), encoding="utf-8")
    drawn = [row.fields["text"] for row in draw_texts(path, 100)]
    assert drawn == [row.fields["text"] for row in draw_texts(path, 100)]
    assert len(set(drawn)) == 100
    assert 30 < sum(int(text.split()[1]) >= 500 for text in drawn) < 70
    assert [row.fields["text"] for row in draw_texts(path, 2000)] == [f"text {number}" for number in range(1000)]
    assert "1 row without a text left out." in caplog.text


@pytest.fixture
def place(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> Path:
    """A folder with a model and texts."""
    biencoder.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(MANY), encoding="utf-8")
    return tmp_path


def word_command(verb: str, place: Path) -> list[str]:
    labels = ["--labels", ",".join(LABELS)]
    return [verb, str(place / "model"), *labels, "--input", str(place / "texts.txt"), "--output"]


def run_offsets(place: Path, *words: str) -> None:
    main([*word_command("offsets", place), str(place / "offsets.json"), *words])


def list_predict_words(place: Path, *words: str) -> list[str]:
    files = [str(place / "out.jsonl"), "--label_offsets", str(place / "offsets.json")]
    return [*word_command("predict", place), *files, *words]


def test_commands_do_what_the_methods_do(
    place: Path, biencoder: ZeroShotPreTrainedModel, capsys: pytest.CaptureFixture
) -> None:
    run_offsets(place, "--multi_label", "--template", "about {}")
    said = capsys.readouterr().out
    assert "Offsets of 4 labels, estimated on 144 different texts, are in" in said and "Moved down most: '" in said
    options: dict[str, Any] = {"multi_label": True, "hypothesis_template": "about {}"}
    offsets = biencoder.estimate_label_offsets(MANY, LABELS, **options)
    stored = json.loads((place / "offsets.json").read_text(encoding="utf-8"))
    assert stored["label_offsets"] == pytest.approx(offsets, abs=1e-6) and stored["texts"] == 144
    main(list_predict_words(place, "--multi_label", "--template", "about {}"))
    expected = biencoder.predict(MANY, LABELS, label_offsets=offsets, **options)
    for line, result in zip(read_lines(place / "out.jsonl"), expected, strict=True):
        assert dict(zip(line["labels"], line["scores"], strict=True)) == pytest.approx(result["scores"], abs=1e-5)


def test_offsets_of_another_model_or_call_are_refused(place: Path, biencoder: ZeroShotPreTrainedModel) -> None:
    run_offsets(place)
    message = fail(*list_predict_words(place, "--multi_label"))
    assert "Expected label offsets for multi_label True" in message and "found those for False. Say the same" in message
    assert "for overflow 'error'" in fail(*list_predict_words(place, "--overflow", "error"))
    main(list_predict_words(place, "--overflow", "split", "--top_k", "1"))  # the default, said; and what changes no logit
    with torch.no_grad():
        biencoder.logit_bias += 1
    biencoder.save_pretrained(place / "model")
    message = fail(*list_predict_words(place))
    assert "found those of another one (weights differ). Run zeroshot offsets with this model." in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Expected a file of label offsets, found no file"),
        ("{", "Expected JSON in"),
        ('{"sports": 0.5}', "found something else without 'label_offsets'. Run zeroshot offsets anew."),
        ("[1]", "Expected JSON of the type object in"),
        (
            '{"label_offsets": [], "phrasings": {}, "texts": 9, "options": {}, "model": {}}',
            "found something else. Run zeroshot offsets anew.",
        ),
    ],
)
def test_files_that_are_none_are_refused(place: Path, content: str | None, message: str) -> None:
    if content is not None:
        (place / "offsets.json").write_text(content, encoding="utf-8")
    assert message in fail(*list_predict_words(place))


def test_what_the_command_cannot_use_is_refused(place: Path) -> None:
    words = word_command("offsets", place)
    assert "Expected a .json file to write, found" in fail(*words, str(place / "offsets.txt"))
    assert "Expected at least 1 text to read, found 0." in fail(*words, str(place / "offsets.json"), "--texts", "0")
    assert "Expected at least 10 different texts" in fail(*words, str(place / "offsets.json"), "--texts", "9")
    assert not (place / "offsets.json").exists()
    (place / "labels.json").write_text(json.dumps(LABELS), encoding="utf-8")
    assert "found something else in" in fail(*words, str(place / "labels.json"))
    assert json.loads((place / "labels.json").read_text(encoding="utf-8")) == LABELS
    (place / "texts.txt").write_text("\n \n", encoding="utf-8")
    assert "Expected texts to classify, found none." in fail(*words, str(place / "offsets.json"))
    (place / "texts.txt").write_text("\n".join([*MANY[:12], "goal " * 100]), encoding="utf-8")
    assert "in line 13." in fail(*words, str(place / "offsets.json"), "--overflow", "error")


def test_offsets_of_labels_that_said_something_else_are_refused(place: Path) -> None:
    labels = place / "labels.json"
    words = ["--labels", str(labels), "--input", str(place / "texts.txt"), "--output"]
    labels.write_text(json.dumps({"a": "the goal", "b": ["cake", "flour"], "c": "rain"}), encoding="utf-8")
    main(["offsets", str(place / "model"), *words, str(place / "offsets.json")])
    main(["offsets", str(place / "model"), *words, str(place / "offsets.json")])  # its own file may be replaced
    asked = ["predict", str(place / "model"), *words, str(place / "out.jsonl"), "--label_offsets"]
    labels.write_text(json.dumps({"c": "rain", "a": "the goal"}), encoding="utf-8")
    main([*asked, str(place / "offsets.json")])
    labels.write_text(json.dumps({"a": "the goal", "b": "cake"}), encoding="utf-8")
    message = "Expected label offsets for 'b' described as ['cake'] in"
    assert message in fail(*asked, str(place / "offsets.json"))
    assert "found no file ''" in fail(*asked, "") or "found no file '.'" in fail(*asked, "")


def test_a_half_is_moved_by_the_other_alone() -> None:
    texts = [f"text {number % 40}" for number in range(80)]  # each twice
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    moved = add_offsets_by_halves(logits, texts) - logits
    own = torch.isclose(moved, moved[0]).all(dim=1)  # the half of the first text
    assert own[:40].sum() == 20 and torch.equal(own[:40], own[40:])
    changed = logits.clone()
    changed[own] += torch.randn(5, generator=torch.Generator().manual_seed(1))
    again = add_offsets_by_halves(changed, texts) - changed
    assert torch.allclose(again[own], moved[own], atol=1e-6)
    assert not torch.allclose(again[~own], moved[~own], atol=1e-2)
    other = logits[~own][:20]
    assert moved[own][0].numpy() == pytest.approx(compute_by_hand(other.numpy(), 10), abs=1e-5)


def test_evaluation_shows_both_results(
    place: Path, biencoder: ZeroShotPreTrainedModel, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(text, [LABELS[number % len(LABELS)]]) for number, text in enumerate(MANY)]
    write_set(place / "suite" / "many", rows, LABELS)
    write_set(place / "suite" / "few", rows[:8], LABELS)
    main(["evaluate", str(place / "model"), "--suite", str(place / "suite"), "--baseline", "none", "--label_offsets"])
    report = json.loads((place / "model" / "evaluation" / "suite.json").read_text(encoding="utf-8"))
    logits = biencoder.predict_logits(MANY, LABELS)
    targets = load_suite(place / "suite")["many"].targets
    moved = add_offsets_by_halves(logits, MANY).numpy()
    assert report["sets"]["many"]["accuracy"] == pytest.approx(METRICS["accuracy"](logits.numpy(), targets), abs=0.01)
    assert report["sets"]["many"]["label_offsets"] == pytest.approx(
        {name: metric(moved, targets) for name, metric in METRICS.items()}, abs=0.01
    )
    assert "label_offsets" not in report["sets"]["few"] and "label_offsets" not in report["mean"]
    assert (
        "No label offsets for few: their rows have candidates of their own, or they have fewer than 20 different"
        in caplog.text
    )
    assert report["command"].endswith("--label_offsets")
    lines = capsys.readouterr().out.splitlines()
    plain, moved_cells = (line.strip("| ").split(" | ") for line in lines[2:])
    assert [plain[0], moved_cells[0]] == ["model", "model, label offsets"]
    assert plain[1] == moved_cells[1] and plain[2] != moved_cells[2] and plain[3] != moved_cells[3]
    mean = (report["sets"]["few"]["accuracy"] + report["sets"]["many"]["label_offsets"]["accuracy"]) / 2
    assert report["means_with_label_offsets"]["model, label offsets"]["accuracy"] == pytest.approx(mean)
    assert moved_cells[3].split(" / ")[0] == f"{mean:.3f}".removeprefix("0")


def test_rows_with_candidates_of_their_own_are_measured_as_they_are(biencoder: ZeroShotPreTrainedModel) -> None:
    source = load_source("packaged:variety/validation.jsonl")
    free = build_evaluation_set(replace(source, rows=source.rows.select(range(40)), numbers=[]))
    assert free.candidate_mask is not None
    result = evaluate_model(biencoder, {"free": free}, label_offsets=True)
    assert "label_offsets" not in result["sets"]["free"]


def test_where_nothing_can_be_estimated_the_table_says_nothing_of_it(
    place: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    write_set(place / "suite" / "single", [(text, ["sports"]) for text in MANY], ["sports"])
    main(["evaluate", str(place / "model"), "--suite", str(place / "suite"), "--baseline", "none", "--label_offsets"])
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert "No label offsets for single" in caplog.text
