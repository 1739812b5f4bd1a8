"""Labels with an encoder of their own."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, set_seed

from zeroshot.models import ARCHITECTURES, BiEncoderConfig, ZeroShotPreTrainedModel, build_inputs

from .conftest import LABELS, TEXTS, build_tokenizer

DUAL = [key for key, model_class in ARCHITECTURES.items() if model_class.takes_class_encoder]
CROSS = [key for key in ARCHITECTURES if key not in DUAL]


@pytest.fixture
def other_encoder(encoder_dir: str, tmp_path: Path) -> str:
    """Other weights of the same shape."""
    set_seed(7)
    BertModel(AutoModel.from_pretrained(encoder_dir).config).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(encoder_dir).save_pretrained(tmp_path / "other")
    return str(tmp_path / "other")


def build(architecture: str, encoder: str, **kwargs: object) -> ZeroShotPreTrainedModel:
    set_seed(1)
    return ARCHITECTURES[architecture].from_encoder(encoder, **kwargs)


@pytest.mark.parametrize("key", DUAL)
def test_labels_go_through_their_own_encoder_and_the_checkpoint_holds_both(
    key: str, encoder_dir: str, other_encoder: str, tmp_path: Path
) -> None:
    shared, same = build(key, encoder_dir), build(key, encoder_dir, class_encoder=encoder_dir)
    heads = {name: tensor for name, tensor in shared.state_dict().items() if not name.startswith("encoder.")}
    same.load_state_dict(heads, strict=False)  # what is drawn at random must not be what differs
    torch.testing.assert_close(same.predict_logits(TEXTS, LABELS), shared.predict_logits(TEXTS, LABELS))
    model = build(key, encoder_dir, class_encoder=other_encoder)
    model.load_state_dict(heads, strict=False)
    logits = model.predict_logits(TEXTS, LABELS)
    assert (logits - shared.predict_logits(TEXTS, LABELS)).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "saved")
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text(encoding="utf-8")
    torch.testing.assert_close(
        AutoModel.from_pretrained(tmp_path / "saved").predict_logits(TEXTS, LABELS), logits, atol=0, rtol=0
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_label_encoder_keeps_its_weights(frozen: bool, encoder_dir: str, other_encoder: str) -> None:
    model = build("biencoder", encoder_dir, class_encoder=other_encoder, freeze_class_encoder=frozen).train()
    before = copy.deepcopy(model.state_dict())
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, model.config.max_tokens)
    model(**inputs, labels=torch.eye(len(TEXTS), len(LABELS), dtype=torch.long)).loss.backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2).step()
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"encoder", "logit_scale", "logit_bias", *([] if frozen else ["class_encoder"])}


def test_encoders_that_do_not_fit_are_refused(encoder_dir: str, tmp_path: Path) -> None:
    narrow = BertConfig(vocab_size=len(build_tokenizer()), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    BertModel(narrow).save_pretrained(tmp_path / "narrow")
    build_tokenizer().save_pretrained(tmp_path / "narrow")
    with pytest.raises(ValueError, match="Expected encoders of one hidden size, found 32 for texts and 16 for labels"):
        build("biencoder", encoder_dir, class_encoder=str(tmp_path / "narrow"))
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["zebra"])
    BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_attention_heads=4)).save_pretrained(tmp_path / "v")
    tokenizer.save_pretrained(tmp_path / "v")
    with pytest.raises(ValueError, match="Expected a class_encoder with the text encoder's vocabulary, found another"):
        build("biencoder", encoder_dir, class_encoder=str(tmp_path / "v"))


@pytest.mark.parametrize("key", CROSS)
def test_architectures_whose_labels_see_the_text_refuse_one(key: str, encoder_dir: str) -> None:
    with pytest.raises(ValueError, match="Expected one encoder for .*, whose labels attend to the text"):
        build(key, encoder_dir, class_encoder=encoder_dir)


def test_freezing_without_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected a class_config with freeze_class_encoder, found none"):
        BiEncoderConfig(freeze_class_encoder=True)
