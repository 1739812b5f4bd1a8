"""Packed batches: the same numbers as padded ones, one pass of the encoder, no row seen by another."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig, ElectraConfig, RobertaConfig, XLMRobertaConfig, set_seed

from zeroshot.data import TrainingDataset, load_source
from zeroshot.models import ZeroShotPreTrainedModel, build_inputs, get_architecture, packing_zeroshot
from zeroshot.models.loading import build_untrained
from zeroshot.models.packing_zeroshot import PACKABLE, PACKED, TOKEN_MULTIPLE, Places, can_pack, cut_groups, encode_packed
from zeroshot.training import ModelArguments, ZeroShotTrainer, ZeroShotTrainingArguments
from zeroshot.training.runs import build_model
from zeroshot.training.speed import choose_packing

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
    "pad_token_id": 1,
}
CONFIGS = [BertConfig, RobertaConfig, XLMRobertaConfig, ElectraConfig]
TEXTS = ["the team scored a goal in this match .", "rain", "a song of the band is great", "wind and rain and sun"]
NAMES = ["sports", "music", "weather", "a law of the parliament"]
DUAL = ["biencoder", "polyencoder", "lateinteraction"]


def make_grid(lengths: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids (rows, longest) padded with 1, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 50, mask.shape, generator=generator)
    return torch.where(mask.bool(), ids, 1), mask


@pytest.mark.parametrize("config_class", CONFIGS, ids=lambda config: config.model_type)
def test_packed_states_are_those_of_padded_rows(config_class: type) -> None:
    """Positions that do not begin anew, or a row that sees its neighbour, would change them."""
    set_seed(0)
    encoder = AutoModel.from_config(config_class(**SIZES), attn_implementation="eager").eval()
    grids = [make_grid([3, 12, 11, 20, 3, 9], 0), make_grid([2, 5, 1], 1)]
    with torch.no_grad():
        padded = [encoder(input_ids=ids, attention_mask=mask).last_hidden_state for ids, mask in grids]
        encoder.set_attn_implementation(PACKED)
        packed = encode_packed(encoder, grids)
    for (_, mask), one, other in zip(grids, padded, packed, strict=True):
        torch.testing.assert_close(other, one * mask.unsqueeze(-1), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("holes", [[[1, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]], [[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]])
def test_padding_may_lie_anywhere(holes: list[list[int]]) -> None:
    set_seed(0)
    encoder = AutoModel.from_config(BertConfig(**SIZES), attn_implementation="eager").eval()
    ids, mask = make_grid([6, 6], 0)[0], torch.tensor(holes)
    with torch.no_grad():
        padded = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        encoder.set_attn_implementation(PACKED)
        [packed] = encode_packed(encoder, [(ids, mask)])
    torch.testing.assert_close(packed, padded * mask.unsqueeze(-1), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [[3, 2], [1], [8, 8, 8, 8], [8, 1]])
def test_what_fills_the_sequence_up_is_no_longer_than_the_rows(lengths: list[int]) -> None:
    """The encoder may know no more positions, and attention would pad all rows to it."""
    set_seed(0)
    encoder = AutoModel.from_config(
        BertConfig(**{**SIZES, "max_position_embeddings": 8}), attn_implementation="eager"
    ).eval()
    grid = make_grid(lengths, 0)
    with torch.no_grad():
        padded = encoder(input_ids=grid[0], attention_mask=grid[1]).last_hidden_state
        encoder.set_attn_implementation(PACKED)
        [packed] = encode_packed(encoder, [grid])
    torch.testing.assert_close(packed, padded * grid[1].unsqueeze(-1), atol=2e-5, rtol=1e-4)


def test_every_packable_encoder_is_tested_and_others_are_not_packed() -> None:
    assert {config.model_type for config in CONFIGS} == PACKABLE
    decoder = AutoModel.from_config(BertConfig(**SIZES, is_decoder=True))
    assert not can_pack(decoder)


def test_groups_cover_all_rows_and_hold_little_padding() -> None:
    lengths = sorted([3, 50, 49, 4, 4, 7, 30, 29, 8, 1], reverse=True)
    groups = cut_groups(lengths)
    assert [row for first, behind in groups for row in range(first, behind)] == list(range(len(lengths)))
    assert all(lengths[behind - 1] >= packing_zeroshot.LEAST_SHARE * lengths[first] for first, behind in groups)
    assert len(groups) < len(lengths)


def test_vectors_lie_in_their_cells_and_nothing_in_the_others() -> None:
    places = Places.build(torch.tensor([4, 0, 2]), 6)
    vectors = torch.tensor([[1.0], [2.0], [3.0]])
    cells = places.spread(vectors)
    assert cells.flatten().tolist() == [2.0, 0.0, 3.0, 0.0, 1.0, 0.0]
    assert cells.index_select(0, places.vectors).equal(vectors)


@pytest.mark.parametrize("function", [packing_zeroshot.Spread, packing_zeroshot.Gather])
def test_gradients_move_as_the_vectors_do(function: type[torch.autograd.Function]) -> None:
    """Compared with differences; an empty cell has no part in either direction."""
    places = Places.build(torch.tensor([4, 0, 2]), 6)
    size = 3 if function is packing_zeroshot.Spread else 6
    inputs = torch.randn(size, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one: function.apply(one, places), (inputs,))


def build(architecture: str, encoder_dir: str, attention: str) -> ZeroShotPreTrainedModel:
    set_seed(1)
    model = build_untrained(get_architecture(architecture), encoder_dir, ["{}"], dropout=0.0)
    model.set_attn_implementation(attention)
    return model.train()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", DUAL)
def test_a_packed_step_has_the_loss_and_gradients_of_a_padded_one(
    architecture: str, checkpointing: bool, encoder_dir: str
) -> None:
    models = [build(architecture, encoder_dir, attention) for attention in ("eager", PACKED)]
    losses = []
    for model in models:
        if checkpointing:
            model.gradient_checkpointing_enable()
        inputs = build_inputs(model.tokenizer, TEXTS, NAMES, 32)
        labels = torch.eye(4, dtype=torch.long)
        losses.append(model(**inputs, labels=labels).loss)
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
    for (name, one), (_, other) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, atol=2e-4, rtol=1e-3, msg=name)


def train(encoder_dir: str, rows_file: Path, output: Path, **settings: Any) -> tuple[ZeroShotTrainer, list[Any]]:
    """Train two steps; what each call of the encoder was given."""
    arguments = ZeroShotTrainingArguments(
        output_dir=str(output), max_steps=2, per_device_train_batch_size=4, precision="fp32", report_to="none",
        disable_tqdm=True, save_strategy="no", **settings,
    )  # fmt: skip
    model = build_model(ModelArguments(encoder=encoder_dir, dropout=0.0), arguments)
    trainer = ZeroShotTrainer(model, arguments, train_dataset=TrainingDataset([load_source(str(rows_file))]))
    calls: list[Any] = []
    model.encoder.register_forward_pre_hook(lambda _, __, given: calls.append(given), with_kwargs=True)
    trainer.train()
    return trainer, calls


def test_a_step_encodes_every_text_and_distinct_label_once(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """Labels repeat in a batch of four rows over few labels; encoding one twice would be paid for in every step."""
    rows: list[int] = []
    forward = ZeroShotPreTrainedModel.forward

    def count(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids = kwargs["class_input_ids"]
        assert len({tuple(row) for row in ids.tolist()}) == len(ids)
        rows.append(len(kwargs["input_ids"]) + len(ids))
        return forward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZeroShotPreTrainedModel, "forward", count)
        patch.setattr(packing_zeroshot, "TOKEN_MULTIPLE", 1)  # nothing is filled up, so that rows can be counted
        _, calls = train(encoder_dir, rows_file, tmp_path)
    assert len(rows) == 2
    assert [len(call["packing"].lengths) for call in calls] == rows


def test_packed_sequences_have_few_lengths(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """Each new length makes the matrix library build its kernels anew."""
    _, calls = train(encoder_dir, rows_file, tmp_path)
    assert [call["input_ids"].numel() % TOKEN_MULTIPLE for call in calls] == [0, 0]


def test_what_was_chosen_is_logged_with_its_settings(
    encoder_dir: str, rows_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("zeroshot"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="zeroshot"):
        packed, _ = train(encoder_dir, rows_file, tmp_path / "packed")
        padded, calls = train(encoder_dir, rows_file, tmp_path / "padded", pack_batches="never", batch_by_length=False)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Training on")]
    assert len(lines) == 2
    assert (
        f"attention {PACKED} (--attn_implementation), batches packed in one sequence (--pack_batches), of like" in lines[0]
    )
    assert (
        "attention eager (--attn_implementation), batches padded (--pack_batches), unsorted (--batch_by_length)" in lines[1]
    )
    assert "over 1 process(es) (--per_device_train_batch_size)" in lines[0]
    caplog.clear()
    monkeypatch.setattr(type(packed.args), "world_size", 2)
    with caplog.at_level(logging.INFO, logger="zeroshot"):
        packed._log_choices("left to the system")
    assert "over 2 process(es) that wait 1800 s for each other (--ddp_timeout) (--per_device" in caplog.text
    assert len(calls) == 4
    lengths = [trainer._get_train_sampler().lengths for trainer in (packed, padded)]
    assert len(set(lengths[0])) > 1
    assert len(set(lengths[1])) == 1


def test_a_packed_model_is_saved_and_predicts_as_any_other(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """Outside training nothing is packed, and no checkpoint asks for it."""
    trainer, _ = train(encoder_dir, rows_file, tmp_path)
    trainer.save_model()
    assert PACKED not in (tmp_path / "config.json").read_text()
    model = trainer.model.eval()
    loaded = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(model.predict_logits(TEXTS, NAMES), loaded.predict_logits(TEXTS, NAMES))


@pytest.mark.parametrize(
    ("setting", "attention", "device", "expected"),
    [
        ("auto", "auto", "cpu", True),
        ("auto", "auto", "cuda", False),  # not measured there
        ("always", "auto", "cuda", True),
        ("auto", "sdpa", "cpu", False),  # what was asked for is kept
        ("never", "auto", "cpu", False),
    ],
)
def test_packing_is_chosen_by_device_and_settings(
    encoder_dir: str, setting: str, attention: str, device: str, expected: bool
) -> None:
    assert choose_packing(setting, attention, build("biencoder", encoder_dir, "eager"), device) is expected


def test_what_cannot_be_packed_is_refused_when_asked_for(encoder_dir: str) -> None:
    model = build("crossencoder", encoder_dir, "eager")
    assert not choose_packing("auto", "auto", model, "cpu")
    with pytest.raises(
        ValueError, match=r"Expected a model that can be trained on packed batches .* Set pack_batches to auto"
    ):
        choose_packing("always", "auto", model, "cpu")
