"""Yes-or-no questions: what is asked, what an example then brings, and that nothing else is taught by a denial."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from zeroshot.data import TrainingDataset
from zeroshot.data.negations import DENIALS, ask_question
from zeroshot.models import ZeroShotPreTrainedModel
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments
from zeroshot.training.hooks import mark_asked
from zeroshot.training.objective import BatchObjective

from .data_helpers import make_row, make_source

ROWS = [
    make_row("goal goal", ["sports"], ["cooking"]),
    make_row("cake cake", ["cooking"], ["sports"]),
    make_row("rain", ["weather"], ["sports"]),
]


def test_three_quarters_of_the_questions_are_about_what_holds_and_all_wordings_occur() -> None:
    questions = [ask_question(["rain"], ["wind", "joy"], rate=1.0, seed=str(seed)) for seed in range(2000)]
    assert all(questions)
    asked = [question for question in questions if question is not None]
    assert all(question.holds == (question.label == "rain") for question in asked)
    assert all(question.denial in {wording.format(question.label) for wording in DENIALS} for question in asked)
    assert sum(question.holds for question in asked) == pytest.approx(1500, abs=90)  # 4.6 standard deviations
    drawn = Counter(question.denial.replace(question.label, "{}") for question in asked)
    assert drawn["not {}"] == pytest.approx(1200, abs=100) and min(drawn[wording] for wording in DENIALS) > 100


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_the_rate_is_kept_and_draws_follow_from_the_seed(rate: float) -> None:
    questions = [ask_question(["a"], ["b"], rate=rate, seed=str(seed)) for seed in range(2000)]
    assert sum(question is not None for question in questions) == pytest.approx(2000 * rate, abs=60)
    assert questions == [ask_question(["a"], ["b"], rate=rate, seed=str(seed)) for seed in range(2000)]


@pytest.mark.parametrize("label", ["not urgent", "Non-fiction", "no answer", "other than rain"])
def test_what_denies_already_is_not_asked_about(label: str) -> None:
    assert ask_question([label], [], rate=1.0, seed="0") is None
    assert {ask_question([label, "a"], [label], rate=1.0, seed=str(seed)).label for seed in range(20)} == {"a"}  # type: ignore[union-attr]


def test_a_name_that_is_measured_is_no_denial() -> None:
    taken = {wording.format("spam") for wording in DENIALS}
    assert ask_question(["Spam"], [], rate=1.0, seed="0", taken=taken) is None
    dataset = TrainingDataset([make_source([make_row("a", ["Spam"])])], question_rate=1.0, taken={"NOT  spam", *taken})
    assert dataset[0]["denials"] == []


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
        assert example["negatives"] == example["known_negatives"] == (["cooking", denial] if holds else ["cooking"])
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


def test_a_denial_is_asked_of_its_own_text_only() -> None:
    dataset = TrainingDataset([make_source(ROWS)], question_rate=1.0)
    examples = [dataset[position] for position in range(3)]
    classes = list(dict.fromkeys(name for example in examples for name in example["positives"] + example["negatives"]))
    asked = mark_asked(examples, classes)["asked"]
    for row, example in enumerate(examples):
        for column, name in enumerate(classes):
            foreign = any(name in other["denials"] for other in examples) and name not in example["denials"]
            assert asked[row, column] == (not foreign)
    plain = TrainingDataset([make_source(ROWS)])
    assert mark_asked([plain[0]], ["sports"]) == {}


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
    grids = [
        tuple(biencoder.tokenizer(texts, padding=True, return_tensors="pt").values())
        for texts in (["goal", "cake"], ["sports", "cooking", "not rain"])
    ]
    ids, masks = zip(*((grid[0], grid[-1]) for grid in grids), strict=True)
    objective = BatchObjective(args, trainer.loss)
    found = [
        objective(biencoder, (ids[0], masks[0]), (ids[1], masks[1]), targets, scored, asked=mask) for mask in (asked, None)
    ]
    by_hand = objective(
        biencoder, (ids[0], masks[0]), (ids[1], masks[1]), targets, asked if scored is None else scored & asked
    )
    assert found[0].item() == pytest.approx(by_hand.item(), abs=1e-7)
    assert abs(found[0] - found[1]) > 1e-4


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
