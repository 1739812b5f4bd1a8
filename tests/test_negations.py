"""Yes-or-no questions: what is asked, what an example then brings, and that nothing else is taught by a denial."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from zeroshot.data import TrainingDataset, TrainingExample, ZeroShotCollator
from zeroshot.data.negations import DENIALS, ask_question
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, build_inputs
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments
from zeroshot.training.hooks import mark_asked
from zeroshot.training.objective import BatchObjective
from zeroshot.training.teachers import Teacher

from .conftest import build_tokenizer
from .data_helpers import make_row, make_source

ROWS = [
    make_row("goal goal", ["sports"], ["cooking"]),
    make_row("cake cake", ["cooking"], ["sports"]),
    make_row("rain", ["weather"], ["sports"]),
]


def test_three_quarters_of_the_questions_are_about_what_holds_and_all_wordings_occur() -> None:
    questions = [ask_question(["rain"], ["wind", "joy"], seed=str(seed)) for seed in range(2000)]
    assert all(questions)
    asked = [question for question in questions if question is not None]
    assert all(question.holds == (question.label == "rain") for question in asked)
    assert all(question.denial in {wording.format(question.label) for wording in DENIALS} for question in asked)
    assert sum(question.holds for question in asked) == pytest.approx(1500, abs=90)  # 4.6 standard deviations
    drawn = Counter(question.denial.replace(question.label, "{}") for question in asked)
    assert drawn["not {}"] == pytest.approx(1200, abs=100) and min(drawn[wording] for wording in DENIALS) > 100


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_the_rate_is_kept_and_draws_follow_from_seed_and_epoch(rate: float) -> None:
    source = make_source([make_row(f"text {number}", ["sports"], ["cooking"]) for number in range(500)])
    datasets = [TrainingDataset([source], question_rate=rate, seed=3) for _ in range(2)]
    epochs = []
    for epoch in range(4):
        for dataset in datasets:
            dataset.set_epoch(epoch)
        epochs.append([datasets[0][position]["denials"] for position in range(500)])
        assert epochs[-1] == [datasets[1][position]["denials"] for position in range(500)]
    assert sum(bool(denials) for epoch in epochs for denials in epoch) == pytest.approx(2000 * rate, abs=60)
    assert not rate or epochs[0] != epochs[1]


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="Expected question_rate between 0 and 1, found"):
        TrainingDataset([make_source(ROWS)], question_rate=rate)


@pytest.mark.parametrize(
    "label",
    [
        "not urgent",
        "Non-fiction",
        "no answer",
        "other than rain",
        "is not urgent",
        "doesn't compile",
        "it doesn\u2019t",
        "none",
    ],
)
def test_what_denies_already_is_not_asked_about(label: str) -> None:
    assert ask_question([label], [], seed="0") is None
    asked = [ask_question([label, "a"], [label], seed=str(seed)) for seed in range(20)]
    assert {question.label for question in asked if question is not None} == {"a"}


@pytest.mark.parametrize("label", ["nothern lights", "knot", "canon", "note taking"])
def test_words_that_only_look_like_denials_are_asked_about(label: str) -> None:
    assert ask_question([label], [], seed="0") is not None


def test_names_that_are_taken_are_no_denials() -> None:
    """Measured ones, and those that a row has: what they mean elsewhere must not be hidden or turned round."""
    taken = {wording.format("spam") for wording in DENIALS}
    assert ask_question(["Spam"], [], seed="0", taken=taken) is None
    assert ask_question(["Spam"], [], seed="0", taken=taken - {"no spam"}).denial == "no Spam"  # type: ignore[union-attr]
    source = make_source([make_row("a", ["Spam"])])
    assert TrainingDataset([source], question_rate=1.0, taken={"NOT  spam", *taken})[0]["denials"] == []
    rows = [make_row("a", ["fiction"], ["non-fiction", "poetry"]), make_row("b", ["not Poetry"], ["rain"])]
    dataset = TrainingDataset([make_source(rows)], question_rate=1.0)
    for epoch in range(200):
        dataset.set_epoch(epoch)
        for position in range(2):
            assert not {"non-fiction", "not poetry", "not Poetry"} & set(dataset[position]["denials"])


def test_mined_negatives_of_free_rows_are_not_asked_about() -> None:
    """They may hold."""
    dataset = TrainingDataset([make_source([make_row("a", ["rain"])])], hard_negatives=1, question_rate=1.0)

    class Mined:
        def find(self, position: int, mining: int) -> list[str]:
            return ["maybe"]

    dataset.mined = Mined()  # type: ignore[assignment]
    examples = []
    for epoch in range(50):
        dataset.set_epoch(epoch)
        examples.append(dataset[0])
    assert all("maybe" in example["negatives"] and "maybe" not in example["denials"][0] for example in examples)


def test_an_example_brings_the_denial_of_what_holds_or_fails() -> None:
    dataset = TrainingDataset([make_source(ROWS[:1])], question_rate=1.0)
    seen = set()
    for epoch in range(20):
        dataset.set_epoch(epoch)
        example = dataset[0]
        assert example == dataset[0]
        [denial] = example["denials"]
        holds = "sports" in denial
        seen.add(holds)
        assert example["positives"] == (["sports"] if holds else [denial])
        assert example["labels"] == (["sports"] if holds else ["sports", denial])
        assert example["negatives"] == example["known_negatives"] == ([denial, "cooking"] if holds else ["cooking"])
    assert seen == {True, False}


def test_without_a_rate_nothing_is_asked() -> None:
    dataset = TrainingDataset([make_source(ROWS)])
    assert [dataset[position]["denials"] for position in range(3)] == [[], [], []]


def test_a_closed_set_without_drawn_negatives_is_asked_about_what_fails_too() -> None:
    dataset = TrainingDataset([make_source([make_row("goal", ["sports"])], ["sports", "cooking"])], question_rate=1.0)
    epochs = []
    for epoch in range(20):
        dataset.set_epoch(epoch)
        epochs.append(dataset[0])
    assert {("cooking" in example["denials"][0], *example["negatives"]) for example in epochs} >= {(True, "cooking")}
    assert any("sports" in example["denials"][0] for example in epochs)


def test_sentences_are_not_denied() -> None:
    source = make_source([make_row("a premise", ["It rains."])])
    source.labels_are_sentences = True
    assert TrainingDataset([source], question_rate=1.0)[0]["denials"] == []


def make_example(positives: list[str], negatives: list[str], denials: list[str]) -> TrainingExample:
    return {
        "text": "a",
        "positives": positives,
        "labels": positives,
        "negatives": negatives,
        "known_negatives": negatives,
        "unjudged": [],
        "denials": denials,
        "source": 0,
        "draw": "0-0-0",
    }


def test_a_denial_is_asked_of_its_own_text_only() -> None:
    examples = [make_example(["rain"], ["not rain"], ["not rain"]), make_example(["no joy"], ["joy", "rain"], ["no joy"])]
    asked = mark_asked(examples, ["rain", "not rain", "no joy", "joy"])["asked"]
    assert asked.tolist() == [[True, True, False, True], [True, False, True, True]]
    assert mark_asked([make_example(["rain"], [], [])], ["rain"]) == {}


def test_candidates_are_the_question_first_and_no_denials_of_others() -> None:
    examples = [
        make_example(["rain"], ["not rain", "a", "b", "c"], ["not rain"]),
        make_example(["no joy"], ["joy", "d", "e"], ["no joy"]),
        make_example(["wind"], [], []),
    ]
    collator = ZeroShotCollator(build_tokenizer(), 16, ["{}"], [None], candidates_per_text=2)
    classes = ["rain", "not rain", "a", "b", "c", "no joy", "joy", "d", "e", "wind"]
    chosen = collator.choose_candidates(examples, classes)
    names = [{name for name, one in zip(classes, row, strict=True) if one} for row in chosen.tolist()]
    assert names[:2] == [{"rain", "not rain"}, {"no joy", "joy"}]
    collator.candidates_per_text = 10
    chosen = collator.choose_candidates(examples, classes)
    assert [int(row.sum()) for row in chosen] == [9, 9, 8]


def test_a_teacher_is_not_asked_about_denials(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    teacher = Teacher(biencoder, tmp_path)
    pairs = teacher.list_pairs(make_example(["rain"], ["not rain", "joy"], ["not rain"]))
    assert [name for _, name, _ in pairs] == ["rain", "joy"]


@pytest.mark.parametrize("loss", ["infonce", "sigmoid", "bce"])
@pytest.mark.parametrize("candidates", [False, True])
def test_what_is_not_asked_has_no_part_in_the_loss(
    biencoder: ZeroShotPreTrainedModel, tmp_path: Path, loss: str, candidates: bool
) -> None:
    """With the margin, an unjudged pair far below what holds would be a negative."""
    args = ZeroShotTrainingArguments(
        output_dir=str(tmp_path), loss=loss, in_batch_margin=0.0, precision="fp32", report_to="none", use_cpu=True
    )
    trainer = ZeroShotTrainer(biencoder, args, train_dataset=TrainingDataset([make_source(ROWS)]))
    targets = torch.tensor([[1, 0, -100], [0, 1, -100]])
    asked = torch.tensor([[True, True, False], [True, True, True]])
    scored = torch.ones(2, 3, dtype=torch.bool) if candidates else None
    inputs = build_inputs(biencoder.tokenizer, ["goal", "cake"], ["sports", "cooking", "not rain"], 16)
    texts, classes = ((inputs[f"{side}input_ids"], inputs[f"{side}attention_mask"]) for side in ("", "class_"))
    objective = BatchObjective(args, trainer.loss)
    found = [objective(biencoder, texts, classes, targets, scored, asked=mask) for mask in (asked, None)]
    by_hand = objective(biencoder, texts, classes, targets, asked)
    assert found[0].item() == pytest.approx(by_hand.item(), abs=1e-7)
    assert abs(found[0] - found[1]) > 1e-4


def test_the_first_stage_of_a_cascade_is_asked_no_more(encoder_dir: str, tmp_path: Path) -> None:
    """It judges all labels of the batch, whatever candidates the second stage has."""
    cascade = ARCHITECTURES["cascade"].from_encoder(encoder_dir, dropout=0.0).train()
    args = ZeroShotTrainingArguments(
        output_dir=str(tmp_path), loss="infonce", in_batch_margin=-100.0, precision="fp32", report_to="none", use_cpu=True
    )
    loss = ZeroShotTrainer(cascade, args, train_dataset=TrainingDataset([make_source(ROWS)])).loss
    seen: list[torch.Tensor] = []

    def watch(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(targets)
        return loss(logits, targets, weights)

    targets = torch.tensor([[1, 0, -100], [0, 1, -100]])
    asked = torch.tensor([[True, True, False], [True, True, True]])
    inputs = build_inputs(cascade.tokenizer, ["goal", "cake"], ["sports", "cooking", "not rain"], 16)
    grids = [(inputs[f"{side}input_ids"], inputs[f"{side}attention_mask"]) for side in ("", "class_")]
    BatchObjective(args, watch)(cascade, *grids, targets, None, asked=asked)  # type: ignore[arg-type]
    assert [one.tolist() for one in seen] == [[[1, 0, -100], [0, 1, 0]]] * 2


def test_a_trained_model_tells_a_label_from_its_denial(biencoder: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    """Yes-or-no questions about labels in rows that never name a denial."""
    texts = {"sports": "goal", "cooking": "cake", "weather": "rain"}
    names = list(texts)
    rows = [make_row(f"the {texts[name]}", [name], [other for other in names if other != name]) for name in names]
    cases = [(row["text"], name, name in row["labels"]) for row in rows for name in names]

    def count_right() -> int:
        answers = [biencoder.predict([text], [name, f"not {name}"])[0]["scores"][name] > 0.5 for text, name, _ in cases]
        return sum(answer == holds for answer, (_, _, holds) in zip(answers, cases, strict=True))

    before = count_right()
    args = ZeroShotTrainingArguments(
        output_dir=str(tmp_path),
        loss="infonce",
        learning_rate=3e-3,
        max_steps=400,
        precision="fp32",
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    ZeroShotTrainer(biencoder, args, train_dataset=TrainingDataset([make_source(rows)], question_rate=1.0)).train()
    assert count_right() == 9 > before
