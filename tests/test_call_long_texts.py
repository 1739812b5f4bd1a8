"""Texts longer than the model reads: nothing is lost in silence, and short texts are as they were."""

import itertools
import logging
import pickle
import re

import pytest
import torch
from transformers import set_seed
from transformers.utils import logging as hf_logging

from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, prediction_zeroshot
from zeroshot.models.inputs_zeroshot import TextError
from zeroshot.models.prediction_zeroshot import CPU_TOKENS
from zeroshot.models.windows_zeroshot import fit_texts, pool_windows, split_tokens

from .conftest import LABELS, TEXTS

WORDS = ["goal", "team", "oven", "rain", "law", "song", "vote", "sugar", "a", "the"]  # each is one token
LONG = " ".join(WORDS[number * 7 % 10] for number in range(150))


def limits(model: ZeroShotPreTrainedModel, labels: list[str]) -> int:
    """Words of a text that fit: 64 tokens less [CLS] and [SEP]; in a pair less the label and one more [SEP]."""
    if "pair_layout" not in model.config.to_dict():
        return 62
    return 61 - max(len(model.tokenizer.tokenize(label)) for label in labels)


def cut_by_hand(text: str, size: int) -> list[str]:
    words, step = text.split(), size - size // 4
    starts = [0]
    while starts[-1] + size < len(words):
        starts.append(starts[-1] + step)
    return [" ".join(words[start : start + size]) for start in starts]


@pytest.mark.parametrize("pooling", ["max", "mean", "noisy_or"])
def test_a_long_text_is_pooled_from_its_windows(model: ZeroShotPreTrainedModel, pooling: str) -> None:
    windows = cut_by_hand(LONG, limits(model, LABELS))
    logits = model.predict_logits(windows, LABELS, multi_label=True)
    expected = {
        "max": logits.amax(dim=0).sigmoid(),
        "mean": logits.mean(dim=0).sigmoid(),
        "noisy_or": 1 - (1 - logits.sigmoid()).prod(dim=0),
    }
    [found] = model.predict(LONG, LABELS, multi_label=True, overflow_pooling=pooling)
    assert found["windows"] == len(windows) >= 3
    torch.testing.assert_close(torch.tensor(list(found["scores"].values())), expected[pooling], atol=1e-5, rtol=0)


def test_long_and_short_texts_do_not_disturb_each_other(model: ZeroShotPreTrainedModel) -> None:
    texts = [TEXTS[0], LONG, TEXTS[1], f"{LONG} {LONG}", *TEXTS[2:]]
    classifier = model.as_pipeline()
    alone = [classifier(text, LABELS) for text in texts]
    for batch_size in (1, 3, 8):
        for result, single in zip(classifier(texts, LABELS, batch_size=batch_size), alone, strict=True):
            assert result.get("windows") == single.get("windows")
            assert dict(zip(result["labels"], result["scores"], strict=True)) == pytest.approx(
                dict(zip(single["labels"], single["scores"], strict=True)), abs=1e-5
            )
    assert [one["sequence"] for one in alone if "windows" in one] == [texts[1], texts[3]]


def test_short_texts_are_the_same_whatever_is_said_of_long_ones(model: ZeroShotPreTrainedModel) -> None:
    expected = model.predict(TEXTS, LABELS)
    assert all(set(one) == {"text", "scores"} for one in expected)
    for options in ({"overflow_pooling": "mean"}, {"overflow_pooling": "noisy_or"}, {"overflow": "error"}):
        assert model.predict(TEXTS, LABELS, **options) == expected
    assert model.predict(TEXTS, LABELS, overflow="truncate") == [{**one, "truncated": 0} for one in expected]
    fits = " ".join(["goal"] * limits(model, LABELS))
    assert "windows" not in model.predict(fits, LABELS)[0]
    assert model.predict(f"{fits} goal", LABELS)[0]["windows"] == 2


def test_truncation_is_reported_with_the_number_of_tokens(
    model: ZeroShotPreTrainedModel, caplog: pytest.LogCaptureFixture
) -> None:
    hf_logging.enable_propagation()
    short, cut = model.as_pipeline()([TEXTS[0], LONG], LABELS, overflow="truncate", batch_size=2)
    assert (short["truncated"], cut["truncated"]) == (0, 150 - limits(model, LABELS))
    assert "were cut" in caplog.text and "has 152" in caplog.text
    [expected] = model.predict_logits([LONG], LABELS).softmax(dim=1)
    found = dict(zip(cut["labels"], cut["scores"], strict=True))
    assert [found[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-6)


def test_splitting_says_nothing_in_the_log(model: ZeroShotPreTrainedModel, caplog: pytest.LogCaptureFixture) -> None:
    hf_logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        model.as_pipeline()(LONG, LABELS)
    assert not caplog.records


def test_long_texts_can_be_refused(model: ZeroShotPreTrainedModel) -> None:
    with pytest.raises(ValueError, match=r"tokens beside their labels, found 152 at position 1\. Shorten it, or pass over"):
        model.predict([TEXTS[0], LONG], LABELS, overflow="error")


def test_the_one_that_is_refused_is_named_among_all(biencoder: ZeroShotPreTrainedModel) -> None:
    """A text with one label is scored apart from those with several; and a worker elsewhere can say which it was."""
    labels = [["sports"], ["sports", "music"], ["music"]]
    with pytest.raises(TextError, match=r"found 152 at position 2\. Shorten it") as caught:
        biencoder.predict([*TEXTS[:2], LONG], labels, overflow="error")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def note_passes(model: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A list that gets the rows and tokens of every pass of texts."""
    sizes, encode = [], model.encode_text

    def note(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(tuple(input_ids.shape))
        return encode(input_ids, attention_mask)

    monkeypatch.setattr(model, "encode_text", note)
    return sizes


def test_fifty_thousand_tokens_are_read_in_bounded_memory(
    model: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pass holds more than a batch of windows, and every token is in one."""
    sizes = note_passes(model, monkeypatch)
    text = " ".join(["goal"] * 50_000)
    [result] = model.predict(text, ["sports", "music"], batch_size=16)
    assert result["windows"] == len(cut_by_hand(text, limits(model, ["sports", "music"])))
    assert sum(rows for rows, _ in sizes) == result["windows"]
    assert max(rows for rows, _ in sizes) <= 16 and max(tokens for _, tokens in sizes) <= 64
    assert 256 < max(rows * tokens for rows, tokens in sizes) <= CPU_TOKENS
    assert sum(result["scores"].values()) == pytest.approx(1)


@pytest.mark.parametrize("batch_size", [4, 64])
def test_a_pass_on_a_cpu_stays_within_its_caches(
    biencoder: ZeroShotPreTrainedModel, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Passes of thousands of tokens took twice the time of small ones; `batch_size` holds where it asks for fewer."""
    sizes = note_passes(biencoder, monkeypatch)
    texts = [" ".join(["goal"] * (1 + number % 40)) for number in range(200)]
    logits = biencoder.predict_logits(texts, LABELS, batch_size=batch_size)
    assert sum(rows for rows, _ in sizes) == 200 and max(rows for rows, _ in sizes) <= batch_size
    assert max(rows * tokens for rows, tokens in sizes) <= CPU_TOKENS
    monkeypatch.setattr(prediction_zeroshot, "CPU_TOKENS", 10**9)
    torch.testing.assert_close(logits, biencoder.predict_logits(texts, LABELS, batch_size=batch_size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 62])
def test_windows_hold_every_token_and_overlap(size: int) -> None:
    for length in (0, 1, size - 1, size, size + 1, 5 * size + 3):
        windows = [list(range(*place)) for place in split_tokens(length, size)]
        assert {token for window in windows for token in window} == set(range(length))
        assert all(len(window) <= size for window in windows)
        for window, after in itertools.pairwise(windows):
            assert len(window) == size and window[0] < after[0] <= window[-1] + 1
            assert after[0] <= window[-1] or size < 4, "a quarter of the window is shared"
            assert after[-1] > window[-1], "a window that brings nothing new"


def test_noisy_or_keeps_its_digits_far_from_an_even_chance() -> None:
    """Sixty windows at logit -40, and two at +40: neither 0 nor 1 in float32, and no NaN at the ends."""
    low = pool_windows(torch.full((60, 1), -40.0), "noisy_or")
    assert low.item() == pytest.approx(-40 + torch.tensor(60.0).log().item(), abs=1e-4)
    assert pool_windows(torch.full((2, 1), 40.0), "noisy_or").item() == pytest.approx(80, abs=1e-3)
    assert pool_windows(torch.tensor([[-1e6], [-1e6]]), "noisy_or").isfinite().all()
    assert pool_windows(torch.tensor([[1e6], [-1e6]]), "noisy_or").item() == pytest.approx(1e6)


def test_a_text_is_cut_where_the_tokenizer_cuts(biencoder: ZeroShotPreTrainedModel) -> None:
    for side in ("right", "left"):
        biencoder.tokenizer.truncation_side = side
        [ids] = biencoder.tokenizer([LONG], verbose=False)["input_ids"]
        expected = biencoder.tokenizer(LONG, truncation=True, max_length=64)["input_ids"]
        assert fit_texts(biencoder.tokenizer, [ids], [64], 64, "truncate").token_ids == [expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overflow": "cut"}, "Expected overflow to be one of split, error, truncate, found 'cut'. Choose one of them."),
        ({"overflow_pooling": "sum"}, "Expected overflow_pooling to be one of max, mean, noisy_or, found 'sum'."),
    ],
)
def test_unknown_choices_are_refused(biencoder: ZeroShotPreTrainedModel, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        biencoder.as_pipeline()(TEXTS[0], LABELS, **options)


def test_a_text_has_windows_of_its_own_labels_room(encoder_dir: str) -> None:
    """In a cross-encoder a long label leaves little room; it must not narrow the windows of texts with other labels."""
    set_seed(1)
    model = ARCHITECTURES["crossencoder"].from_encoder(encoder_dir)
    labels = [["sports", "music"], ["sports cooking politics law music " * 4, "rain"]]
    together = model.predict([LONG, LONG], labels)
    single = [model.predict(LONG, own)[0] for own in labels]
    assert [one["windows"] for one in together] == [one["windows"] for one in single] == [3, 5]
    for one, other in zip(together, single, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
