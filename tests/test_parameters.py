"""Which parameters training moves: frozen parts, layer-wise rates, adapters."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, set_seed

import train
from zeroshot.data import TrainingDataset, load_source
from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel
from zeroshot.training import ZeroShotTrainer, ZeroShotTrainingArguments
from zeroshot.training.lora import TRAINED_FILE, add_adapters, list_merged, merge_adapters
from zeroshot.training.parameters import assign_rates, describe_trained, find_layers, freeze_parameters, number_parameters

from .conftest import LABELS, TEXTS, build_tokenizer
from .test_encoders import FAMILIES, SMALL
from .test_training import assert_equal_weights, settings


def train_some(model: ZeroShotPreTrainedModel, rows: Path, output: Path, **options: object) -> set[str]:
    """Train for two steps and return the names of the parameters that moved."""
    args = ZeroShotTrainingArguments(
        output_dir=str(output), max_steps=2, per_device_train_batch_size=6, learning_rate=1e-2, head_learning_rate=1e-2,
        warmup_steps=0, precision="fp32", save_strategy="no", disable_tqdm=True, **options,
    )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ZeroShotTrainer(model, args, train_dataset=TrainingDataset([load_source(str(rows))], num_negatives=2)).train()
    after = {name: tensor for name, tensor in model.state_dict().items() if name in before}
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def names_of(model: ZeroShotPreTrainedModel, *prefixes: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize("key", list(ARCHITECTURES))
def test_exactly_the_head_moves_when_the_encoder_is_frozen(
    key: str, encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    """What cannot move in two steps is no part of the pretrained one either."""
    set_seed(1)
    model = ARCHITECTURES[key].from_encoder(encoder_dir)
    pretrained = {id(parameter) for part in model.backbones for parameter in part.parameters()}
    head = {name for name, parameter in model.named_parameters() if id(parameter) not in pretrained}
    moved = train_some(model, rows_file, tmp_path, freeze=["encoder"])
    assert moved and moved <= head
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == head


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({"freeze": ["head"]}, ("logit_",)),
        ({"freeze": ["embeddings"]}, ("encoder.embeddings.",)),
        ({"freeze_layers": 1}, ("encoder.encoder.layer.0.",)),
        (
            {"freeze": ["embeddings", "head"], "freeze_layers": 1},
            ("encoder.embeddings.", "encoder.encoder.layer.0.", "logit_"),
        ),
    ],
    ids=["head", "embeddings", "lowest layer", "all but the highest layer"],
)
def test_exactly_the_named_parts_stay(
    options: dict, frozen: tuple[str, ...], biencoder: ZeroShotPreTrainedModel, rows_file: Path, tmp_path: Path
) -> None:
    moved = train_some(biencoder, rows_file, tmp_path, **options)
    everything = {name for name, _ in biencoder.named_parameters()}
    # No gradient reaches what only shifts every query alike, and words that no batch holds.
    assert moved & names_of(biencoder, *frozen) == set()
    assert everything - names_of(biencoder, *frozen) - moved <= {
        f"encoder.encoder.layer.{layer}.attention.self.key.bias" for layer in (0, 1)
    }


@pytest.mark.parametrize(("part", "moving"), [("encoder", "class_encoder"), ("class_encoder", "encoder")])
def test_either_side_of_two_encoders_can_be_frozen(
    part: str, moving: str, encoder_dir: str, rows_file: Path, tmp_path: Path
) -> None:
    set_seed(0)
    model = ARCHITECTURES["biencoder"].from_encoder(encoder_dir, class_encoder=encoder_dir)
    moved = train_some(model, rows_file, tmp_path, freeze=[part])
    assert {name.split(".")[0] for name in moved} == {moving, "logit_scale", "logit_bias"}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_layers_of_every_family_are_found(family: str) -> None:
    options = {"max_position_embeddings": 64, **SMALL, **FAMILIES[family]}
    with torch.device("meta"):
        encoder = AutoModel.from_config(AutoConfig.for_model(family, vocab_size=99, **options))
    heights = number_parameters(encoder)
    assert set(heights.values()) == {0, 1, 2} and len(find_layers(encoder)[1]) == 2
    lowest = {name for name, height in heights.items() if height == 0}
    assert lowest and all("embeddings" in name for name in lowest)
    layers = [name for name in heights if ".0." in name or ".1." in name]
    assert all(heights[name] == (1 if ".0." in name else 2) for name in layers)


def test_an_encoder_of_shared_layers_is_refused() -> None:
    with torch.device("meta"):
        encoder = AutoModel.from_config(AutoConfig.for_model("albert", vocab_size=99, embedding_size=32, **SMALL))
    with pytest.raises(ValueError, match="holds its 2 layers in one ModuleList, found AlbertModel, which does not"):
        find_layers(encoder)


@pytest.mark.parametrize(
    ("parts", "layers", "message"),
    [
        (["pooler"], 0, "Expected freeze to name some of encoder, class_encoder, embeddings, head, found 'pooler'"),
        (["class_encoder"], 0, "Expected a model whose labels have an encoder of their own"),
        ([], 3, "Expected freeze_layers of at most 2, the layers there are, found 3. Lower it."),
        (["encoder", "head"], 0, "Expected something to train, found all of it frozen by encoder, head. Freeze less."),
    ],
)
def test_what_cannot_be_frozen_is_refused(
    parts: list[str], layers: int, message: str, biencoder: ZeroShotPreTrainedModel
) -> None:
    with pytest.raises(ValueError, match=message):
        freeze_parameters(biencoder, parts, layers)


def test_rates_fall_from_layer_to_layer(biencoder: ZeroShotPreTrainedModel) -> None:
    optimizer = torch.optim.AdamW(biencoder.parameters(), lr=0.1)
    assign_rates(optimizer, biencoder, head_rate=0.5, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(biencoder.parameters()))
    for name, parameter in biencoder.named_parameters():
        prefixes = {"encoder.embeddings.": 0.025, "encoder.encoder.layer.0.": 0.05, "encoder.encoder.layer.1.": 0.1}
        [expected] = [rate for prefix, rate in {**prefixes, "logit_": 0.5}.items() if name.startswith(prefix)]
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_a_recipe_sets_the_rates_of_layers(encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    """With next to no rate left the embeddings stay, the highest layer moves."""
    options = {"max_steps": 2, "dropout": 0.0}
    for name, decay in (("even", 1.0), ("steep", 1e-12)):
        train.main(settings(encoder_dir, rows_file, tmp_path / name, layer_decay=decay, **options))
    initial = AutoModel.from_pretrained(encoder_dir).state_dict()
    far = {
        name: {
            key: (tensor - initial[key]).abs().max()
            for key, tensor in AutoModel.from_pretrained(tmp_path / name).encoder.state_dict().items()
        }
        for name in ("even", "steep")
    }
    words, query = "embeddings.word_embeddings.weight", "encoder.layer.1.attention.self.query.weight"
    assert far["even"][words] > 1e-5 and far["steep"][words] < 1e-9
    assert far["steep"][query] > 1e-5


# -- LoRA -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _peft() -> None:
    pytest.importorskip("peft")


@pytest.mark.usefixtures("_peft")
@pytest.mark.parametrize("family", list(FAMILIES))
def test_adapters_fit_every_family_and_merge_into_the_same_logits(family: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    set_seed(0)
    options = {"max_position_embeddings": 64, **SMALL, **FAMILIES[family]}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **options)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = ARCHITECTURES["biencoder"].from_encoder(str(tmp_path))
    names = list(model.state_dict())
    before = model.predict_logits(TEXTS, LABELS)
    add_adapters(model, rank=2, alpha=None)
    torch.testing.assert_close(model.predict_logits(TEXTS, LABELS), before)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (".lora_" in name or name.startswith("logit_")), name
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    changed = model.predict_logits(TEXTS, LABELS)
    assert (changed - before).abs().max() > 1e-3
    state = list_merged(model)
    merge_adapters(model)
    assert list(model.state_dict()) == names == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(model.predict_logits(TEXTS, LABELS), changed, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("_peft")
@pytest.mark.parametrize("key", list(ARCHITECTURES))
def test_every_architecture_trains_with_adapters(key: str, encoder_dir: str, rows_file: Path, tmp_path: Path) -> None:
    set_seed(1)
    model = ARCHITECTURES[key].from_encoder(encoder_dir)
    before = set(model.state_dict())
    moved = train_some(model, rows_file, tmp_path, lora_rank=2)
    pretrained = {name for part in model.backbones for name, _ in part.named_parameters()}
    assert moved and not {name for name in moved if name.removeprefix("encoder.") in pretrained}
    [up, *_] = [parameter for name, parameter in model.named_parameters() if ".lora_B" in name]
    assert up.abs().max() > 0
    merge_adapters(model)
    assert set(model.state_dict()) == before


@pytest.mark.usefixtures("_peft")
def test_a_run_with_adapters_goes_on_and_leaves_a_plain_model(
    encoder_dir: str, rows_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"lora_rank": 2, "lora_targets": "query", "max_steps": 5, "save_steps": 2, "initial_weight_share": 0.25}
    for name in ("whole", "cut"):
        with caplog.at_level("INFO", logger="zeroshot"):
            train.main(settings(encoder_dir, rows_file, tmp_path / name, **options))
    assert "258 of 23,266 parameters (1.11%) (--freeze, --freeze_layers, --lora_rank)" in caplog.text
    for folder in (tmp_path / "cut" / "checkpoint-4", tmp_path / "cut"):
        _, report = AutoModel.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
    state = json.loads((tmp_path / "cut" / "run_settings.json").read_text())
    (tmp_path / "cut" / "run_settings.json").write_text(json.dumps({**state, "finished": False}))
    (tmp_path / "cut" / "model.safetensors").unlink()
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    train.main(settings(encoder_dir, rows_file, tmp_path / "cut", **options))  # finished: the report of a plain model
    initial = AutoModel.from_pretrained(encoder_dir).state_dict()
    final = AutoModel.from_pretrained(tmp_path / "cut").encoder.state_dict()
    moved = {name for name, tensor in final.items() if not torch.allclose(tensor, initial[name], atol=1e-7)}
    assert moved == {f"encoder.layer.{layer}.attention.self.query.weight" for layer in (0, 1)}
    checkpoint = tmp_path / "cut" / "checkpoint-4"
    modes = {(checkpoint / name).stat().st_mode for name in (TRAINED_FILE, "config.json")}
    assert len(modes) == 1, "a colleague reads it too"
    (checkpoint / TRAINED_FILE).unlink()
    torn = {**options, "resume_from_checkpoint": checkpoint}
    with pytest.raises(ValueError, match=r"Expected the 6 trained parameters of this recipe in .*, found 0 that are not"):
        train.main(settings(encoder_dir, rows_file, tmp_path / "new", **torn))


@pytest.mark.usefixtures("_peft")
def test_targets_that_are_not_there_are_refused(biencoder: ZeroShotPreTrainedModel) -> None:
    with pytest.raises(ValueError, match=r"Expected lora_targets among attention.self.query, .*, found 'q_proj'. Choose"):
        add_adapters(biencoder, rank=2, alpha=None, targets=["q_proj"])


@pytest.mark.usefixtures("_peft")
def test_nothing_to_adapt_is_refused(biencoder: ZeroShotPreTrainedModel) -> None:
    freeze_parameters(biencoder, ["encoder"])
    with pytest.raises(ValueError, match="Expected linear maps to adapt by lora_rank, found all of them frozen."):
        add_adapters(biencoder, rank=2, alpha=None)


def test_settings_of_adapters_need_a_rank(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected lora_rank with lora_alpha or lora_targets, found none."):
        ZeroShotTrainingArguments(output_dir=str(tmp_path), lora_alpha=4)


def test_the_share_of_trained_parameters_is_told() -> None:
    model = BertModel(
        BertConfig(vocab_size=10, num_hidden_layers=1, hidden_size=4, num_attention_heads=2, intermediate_size=4)
    )
    model.requires_grad_(False)
    model.embeddings.LayerNorm.requires_grad_(True)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert describe_trained(model) == f"8 of {total:,} parameters ({8 / total:.2%})"
