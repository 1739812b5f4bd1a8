"""Any Hugging Face encoder: families with their own position tables, poolers and attention."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, set_seed

from zeroshot.models import ARCHITECTURES
from zeroshot.models.encoder_zeroshot import count_positions

from .conftest import LABELS, TEXTS, build_tokenizer

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES = {
    "bert": {},
    "roberta": {"max_position_embeddings": 66, "pad_token_id": 0},
    "xlm-roberta": {"max_position_embeddings": 66, "pad_token_id": 0},
    "mpnet": {"max_position_embeddings": 66, "pad_token_id": 0},
    "electra": {"embedding_size": 32},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    "deberta-v2": {"position_buckets": 16, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "modernbert": {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
}
# They compute attention by themselves, so that architectures which replace it refuse them.
OWN_ATTENTION = ("mpnet", "deberta-v2")


@pytest.mark.parametrize("family", list(FAMILIES))
def test_family_trains_saves_and_loads_equal(architecture: str, family: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    set_seed(0)
    options = {"max_position_embeddings": 64, **SMALL, **FAMILIES[family]}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **options)
    AutoModel.from_config(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    if family in OWN_ATTENTION and ARCHITECTURES[architecture].needs_attention_interface:
        with pytest.raises(ValueError, match="whose attention goes through transformers' AttentionInterface"):
            ARCHITECTURES[architecture].from_encoder(str(tmp_path / "encoder"))
        return
    model = ARCHITECTURES[architecture].from_encoder(str(tmp_path / "encoder"))
    longest = "goal " * 500
    expected = model.predict_logits([*TEXTS, longest], LABELS)
    assert expected.isfinite().all()
    model.save_pretrained(tmp_path / "model")
    loaded, report = AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(loaded.predict_logits([*TEXTS, longest], LABELS), expected)


def test_encoder_weights_come_from_a_checkpoint_with_a_task_prefix(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    config = AutoConfig.for_model("bert", vocab_size=len(tokenizer), max_position_embeddings=64, **SMALL)
    masked = AutoModelForMaskedLM.from_config(config)
    masked.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = ARCHITECTURES["biencoder"].from_encoder(str(tmp_path))
    expected = masked.bert.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.encoder.state_dict().items())


def test_dropout_setting_reaches_every_dropout(encoder_dir: str) -> None:
    model = ARCHITECTURES["biencoder"].from_encoder(encoder_dir, dropout=0.25)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}


def test_more_tokens_than_the_encoder_has_positions_are_refused(encoder_dir: str) -> None:
    with pytest.raises(ValueError, match="Expected max_tokens of at most 64, the limit of .*, found 65. Lower it."):
        ARCHITECTURES["biencoder"].from_encoder(encoder_dir, max_tokens=65)


def test_an_encoder_without_any_limit_gets_512_tokens() -> None:
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = int(1e30)
    config = AutoConfig.for_model("t5", vocab_size=len(tokenizer), d_model=32, num_layers=1, num_heads=2, d_ff=32, d_kv=16)
    assert count_positions(config, tokenizer) == 512
