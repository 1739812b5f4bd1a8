"""What every registered architecture promises. A new one is tested by being registered; nothing here changes."""

import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, set_seed

from zeroshot.models import ARCHITECTURES, ZeroShotPreTrainedModel, build_inputs
from zeroshot.models.configuration_zeroshot import ZeroShotConfig

from .conftest import LABELS, TEXTS, Variant

TOLERANCE = 1e-5
GOLDEN = Path(__file__).parent / "golden_logits.json"


def forward(model: ZeroShotPreTrainedModel, texts: list[str], labels: list[str]) -> torch.Tensor:
    inputs = build_inputs(model.tokenizer, texts, labels, model.config.max_tokens)
    with torch.no_grad():
        return model(**inputs).logits


def targets_of(texts: list[str], labels: list[str]) -> torch.Tensor:
    grid = torch.zeros(len(texts), len(labels), dtype=torch.long)
    for row in range(len(texts)):
        grid[row, row % len(labels)] = 1
    return grid


def remove_dropout(model: ZeroShotPreTrainedModel) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def test_logits_are_raw_finite_and_one_per_pair(model: ZeroShotPreTrainedModel) -> None:
    logits = forward(model, TEXTS, LABELS)
    assert logits.shape == (len(TEXTS), len(LABELS))
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert (logits < 0).any() or (logits > 1).any(), "probabilities instead of logits"


def test_logits_tell_texts_and_labels_apart(model: ZeroShotPreTrainedModel) -> None:
    logits = forward(model, TEXTS, LABELS)
    assert logits.std(dim=0).min() > 1e-3
    assert logits.std(dim=1).min() > 1e-3


@pytest.mark.parametrize("side", ["text", "class"])
def test_padding_changes_nothing(model: ZeroShotPreTrainedModel, side: str) -> None:
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, model.config.max_tokens)
    with torch.no_grad():
        expected = model(**inputs).logits
        prefix = "" if side == "text" else "class_"
        ids, mask = inputs[f"{prefix}input_ids"], inputs[f"{prefix}attention_mask"]
        # Padding with a real word: only the mask may keep it out.
        inputs[f"{prefix}input_ids"] = torch.nn.functional.pad(ids, (0, 7), value=40)
        inputs[f"{prefix}attention_mask"] = torch.nn.functional.pad(mask, (0, 7), value=0)
        padded = model(**inputs).logits
    torch.testing.assert_close(padded, expected, atol=TOLERANCE, rtol=0)


def test_a_tokenizer_that_pads_on_the_left_changes_nothing(model: ZeroShotPreTrainedModel) -> None:
    expected = model.predict_logits(TEXTS, LABELS)
    ranked = model.as_pipeline()(TEXTS, LABELS, batch_size=5)
    model.tokenizer.padding_side = "left"
    torch.testing.assert_close(model.predict_logits(TEXTS, LABELS), expected, atol=TOLERANCE, rtol=0)
    assert [r["labels"] for r in model.as_pipeline()(TEXTS, LABELS, batch_size=5)] == [r["labels"] for r in ranked]


def test_a_text_does_not_depend_on_its_batch(model: ZeroShotPreTrainedModel) -> None:
    together = forward(model, TEXTS, LABELS)
    alone = torch.cat([forward(model, [text], LABELS) for text in TEXTS])
    torch.testing.assert_close(alone, together, atol=TOLERANCE, rtol=0)


def test_batch_size_and_order_of_texts_change_nothing(model: ZeroShotPreTrainedModel) -> None:
    expected = model.predict_logits(TEXTS, LABELS, batch_size=64)
    for batch_size in (1, 2, 3):
        torch.testing.assert_close(
            model.predict_logits(TEXTS, LABELS, batch_size=batch_size), expected, atol=TOLERANCE, rtol=0
        )
    torch.testing.assert_close(model.predict_logits(TEXTS[::-1], LABELS).flip(0), expected, atol=TOLERANCE, rtol=0)


def test_order_of_labels_changes_only_the_order_of_scores(model: ZeroShotPreTrainedModel) -> None:
    expected = forward(model, TEXTS, LABELS)
    torch.testing.assert_close(forward(model, TEXTS, LABELS[::-1]).flip(1), expected, atol=TOLERANCE, rtol=0)


def test_a_label_does_not_depend_on_the_other_candidates(model: ZeroShotPreTrainedModel) -> None:
    if not model.independent_of_other_candidates:
        pytest.skip("declared as dependent on the company of labels")
    alone = torch.cat([forward(model, TEXTS, [label]) for label in LABELS], dim=1)
    torch.testing.assert_close(alone, forward(model, TEXTS, LABELS), atol=TOLERANCE, rtol=0)


def test_loss_is_the_masked_binary_cross_entropy(model: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, model.config.max_tokens)
    labels = targets_of(TEXTS, LABELS)
    labels[0, 1] = labels[3, 0] = -100
    output = model(**inputs, labels=labels)
    terms = []
    for row in range(len(TEXTS)):
        for column in range(len(LABELS)):
            if labels[row, column] == -100:
                continue
            probability = output.logits[row, column].double().sigmoid()
            terms.append(-(probability if labels[row, column] == 1 else 1 - probability).log())
    assert len(terms) == len(TEXTS) * len(LABELS) - 2
    assert output.loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)


def test_masked_pairs_give_no_gradient_and_all_gradients_are_finite(model: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, model.config.max_tokens)
    labels = torch.full((len(TEXTS), len(LABELS)), -100)
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    assert loss.item() == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() and g.abs().max() == 0 for g in gradients)


def test_every_trainable_parameter_gets_a_gradient_and_moves(model: ZeroShotPreTrainedModel) -> None:
    model.train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, model.config.max_tokens)
    model(**inputs, labels=targets_of(TEXTS, LABELS)).loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient: {without}"
    optimizer.step()
    still = [name for name, p in model.named_parameters() if p.requires_grad and torch.equal(p, before[name])]
    assert not still, f"did not move: {still}"


def test_overfits_twelve_rows(model: ZeroShotPreTrainedModel, rows_file: Path) -> None:
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    texts, labels = [row["text"] for row in rows], ["sports", "cooking", "politics"]
    targets = torch.tensor([[int(label in row["labels"]) for label in labels] for row in rows])
    inputs = build_inputs(model.tokenizer, texts, labels, model.config.max_tokens)
    set_seed(0)
    model.train()
    remove_dropout(model)  # noise in which a head on a small random encoder needs hundreds of steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):  # 60 are enough for some seeds only, of every architecture
        optimizer.zero_grad()
        model(**inputs, labels=targets).loss.backward()
        optimizer.step()
    model.eval()
    assert (forward(model, texts, labels).argmax(dim=1) == targets.argmax(dim=1)).all()


def test_saved_and_loaded_it_gives_equal_logits_and_nothing_is_missing(
    model: ZeroShotPreTrainedModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(loaded.predict_logits(TEXTS, LABELS), model.predict_logits(TEXTS, LABELS), atol=0, rtol=0)


def test_checkpoint_holds_no_pickle_no_local_path_and_no_tokenizer_state(
    model: ZeroShotPreTrainedModel, tmp_path: Path, encoder_dir: str
) -> None:
    model.predict(TEXTS, LABELS)
    model.save_pretrained(tmp_path)
    files = {file.name: file for file in tmp_path.iterdir()}
    assert not [name for name in files if Path(name).suffix in (".bin", ".pt", ".pkl")]
    assert {"model.safetensors", "config.json", "tokenizer.json", "pipeline_zeroshot.py"} <= set(files)
    for name, file in files.items():
        if file.suffix in (".json", ".py"):
            assert encoder_dir not in file.read_text(encoding="utf-8"), name
    tokenizer = json.loads(files["tokenizer.json"].read_text(encoding="utf-8"))
    assert tokenizer["padding"] is None and tokenizer["truncation"] is None
    assert files["model.safetensors"].stat().st_mode == files["config.json"].stat().st_mode, "a colleague could not read it"


def test_config_round_trips(model: ZeroShotPreTrainedModel, tmp_path: Path) -> None:
    model.config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is type(model.config)
    ignored = {"_name_or_path", "architectures", "transformers_version"}
    first, second = ({k: v for k, v in c.to_dict().items() if k not in ignored} for c in (model.config, loaded))
    assert first == second


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("class_templates", ["This text is about {}."]),
        ("max_tokens", 6),
        ("logit_scale_init_value", 1.0),
        ("logit_bias_init_value", 2.0),
    ],
)
def test_each_shared_config_field_has_an_effect(architecture: str, encoder_dir: str, field: str, value: object) -> None:
    assert field in ZeroShotConfig.__init__.__kwdefaults__, "a field of the base configuration"
    set_seed(1)
    plain = ARCHITECTURES[architecture].from_encoder(encoder_dir)
    set_seed(1)
    changed = ARCHITECTURES[architecture].from_encoder(encoder_dir, **{field: value})
    difference = changed.predict_logits(TEXTS, ["sports", "music"]) - plain.predict_logits(TEXTS, ["sports", "music"])
    assert difference.abs().max() > 1e-4


def test_every_shared_config_field_is_tested_above() -> None:
    tested = {"class_templates", "max_tokens", "logit_scale_init_value", "logit_bias_init_value"}
    tested |= {"class_config", "freeze_class_encoder"}  # in tests/test_class_encoder.py
    tested |= {"calibration"}  # in tests/test_call_decisions.py
    assert set(ZeroShotConfig.__init__.__kwdefaults__) == tested


def test_no_argument_config_can_be_built(architecture: str) -> None:
    assert ARCHITECTURES[architecture].config_class().model_type == f"zeroshot-{architecture}"


def test_evaluation_is_deterministic_and_restores_the_mode(model: ZeroShotPreTrainedModel) -> None:
    model.train()
    first, second = model.predict_logits(TEXTS, LABELS), model.predict_logits(TEXTS, LABELS)
    assert torch.equal(first, second)
    assert model.training


def test_bfloat16_is_finite_and_close(model: ZeroShotPreTrainedModel) -> None:
    expected = model.predict_logits(TEXTS, LABELS)
    logits = copy.deepcopy(model).to(torch.bfloat16).predict_logits(TEXTS, LABELS)
    assert logits.isfinite().all()
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_gradient_checkpointing_gives_the_same_loss_and_gradients(model: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, model.config.max_tokens)
    gradients = []
    for checkpointing in (False, True):
        one = copy.deepcopy(model).train()
        remove_dropout(one)
        if checkpointing:
            # The name of older versions, on which Python 3.10 has to rely.
            new = hasattr(one, "activation_checkpointing_enable")
            (one.activation_checkpointing_enable if new else one.gradient_checkpointing_enable)()
        one(**inputs, labels=targets_of(TEXTS, LABELS)).loss.backward()
        gradients.append({name: p.grad for name, p in one.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_an_encoder_stored_in_half_precision_is_trained_in_full(architecture: str, encoder_dir: str, tmp_path: Path) -> None:
    """A bias of -9 in bfloat16 does not move by steps of 1e-3."""
    encoder = AutoModel.from_pretrained(encoder_dir, dtype=torch.bfloat16)
    encoder.save_pretrained(tmp_path)
    ARCHITECTURES[architecture].from_encoder(encoder_dir).tokenizer.save_pretrained(tmp_path)
    model = ARCHITECTURES[architecture].from_encoder(str(tmp_path))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_several_templates_average_their_logits(model: ZeroShotPreTrainedModel) -> None:
    if not model.independent_of_other_candidates:
        pytest.skip("wordings see each other too")
    templates = ["{}", "This text is about {}."]
    both = model.predict_logits(TEXTS, LABELS, class_templates=templates)
    each = [model.predict_logits(TEXTS, LABELS, class_templates=[template]) for template in templates]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2, atol=TOLERANCE, rtol=0)


def test_predict_takes_one_label_list_or_one_per_text(model: ZeroShotPreTrainedModel) -> None:
    shared = model.predict(TEXTS[:2], LABELS)
    assert [result["text"] for result in shared] == TEXTS[:2]
    assert all(list(result["scores"]) == LABELS for result in shared)
    assert all(sum(result["scores"].values()) == pytest.approx(1) for result in shared)
    own = model.predict(TEXTS[:2], [["sports", "music"], ["cooking"]], multi_label=True)
    assert [list(result["scores"]) for result in own] == [["sports", "music"], ["cooking"]]
    if not model.independent_of_other_candidates:
        return
    logits = model.predict_logits(TEXTS[:1], ["music"])
    assert own[0]["scores"]["music"] == pytest.approx(logits.sigmoid().item(), abs=1e-6)


def test_a_hundred_labels_and_odd_texts_all_come_back(model: ZeroShotPreTrainedModel) -> None:
    labels = [f"label {number}" for number in range(100)]
    texts = ["word " * 500, "🙂 emoji", "שלום עולם", "nul \x00 inside", "a\nb\tc", "ﷺ\u200f", "x"]
    results = model.predict(texts, labels)
    assert [result["text"] for result in results] == texts
    assert all(len(result["scores"]) == 100 for result in results)


def test_texts_beyond_the_limit_are_reported(model: ZeroShotPreTrainedModel, caplog: pytest.LogCaptureFixture) -> None:
    from transformers.utils import logging

    logging.enable_propagation()
    model.predict(["short", "goal " * 500], LABELS, overflow="truncate")
    assert (
        "1 of 2 texts are longer than the model's 64 tokens and were cut (the first, at position 1, has 502)" in caplog.text
    )


@pytest.mark.parametrize(
    ("texts", "labels", "error", "message"),
    [
        (["a", " \n"], LABELS, ValueError, r"Expected every text to hold words, found ' \n' at position 1"),
        (["a", None], LABELS, TypeError, "found NoneType at position 1: None"),
        (["a"], [], ValueError, "Expected at least one candidate label, found none"),
        (["a"], "", ValueError, "Expected at least one candidate label, found none"),
        (["a"], ["x", " "], ValueError, "found ' ' at position 1"),
        (["a"], ["x", "y", "x"], ValueError, "Expected distinct candidate labels, found 'x' at positions 0 and 2"),
        (["a", "b"], [["x"]], ValueError, "Expected one list of candidate labels per text, found 1 lists for 2 texts"),
        (["a"], [["x", "x"]], ValueError, "Candidate labels of text 0: Expected distinct candidate labels"),
        (["a"], ["goal " * 100], ValueError, "Expected labels of at most 64 tokens, found one of 102"),
        (["a"], ["x [SEP] y"], ValueError, "Expected label names without the tokenizer's reserved tokens, found '[SEP]'"),
    ],
)
def test_bad_input_gets_the_documented_error(
    model: ZeroShotPreTrainedModel, texts: list, labels: list, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        model.predict(texts, labels)
    assert message.replace(r"\n", "\\n") in str(caught.value)


def test_a_template_without_placeholder_is_refused(model: ZeroShotPreTrainedModel) -> None:
    with pytest.raises(ValueError, match="Expected a template with exactly one placeholder"):
        model.predict(TEXTS, LABELS, class_templates=["no placeholder"])


def test_forward_without_labels_of_the_right_shape_is_refused(model: ZeroShotPreTrainedModel) -> None:
    inputs = build_inputs(model.tokenizer, TEXTS, LABELS, model.config.max_tokens)
    with pytest.raises(ValueError, match=r"Expected labels of shape \(texts, candidate labels\) \(5, 4\), found \(5, 3\)"):
        model(**inputs, labels=torch.zeros(5, 3))
    with pytest.raises(ValueError, match="Expected class_input_ids"):
        model(inputs["input_ids"], inputs["attention_mask"])


def test_golden_logits(variant: Variant, model: ZeroShotPreTrainedModel) -> None:
    """A change of the mathematics shows here. Renew: delete the architecture's entry and run the test once."""
    architecture = str(variant)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    logits = model.predict_logits(TEXTS, LABELS)
    if architecture not in golden:
        golden[architecture] = [[round(value, 5) for value in row] for row in logits.tolist()]
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
        pytest.fail(f"wrote new golden logits for {architecture}: look at them and commit {GOLDEN.name}")
    torch.testing.assert_close(logits, torch.tensor(golden[architecture]), atol=2e-4, rtol=0)


def test_labels_for_each_text_give_what_each_text_alone_would_get(model: ZeroShotPreTrainedModel) -> None:
    """Where pairs cost, only these are computed; where company counts, only these are company."""
    labels = [["sports", "music"], ["cooking", "politics law", "music"], ["music", "sports"]]
    together = model.predict(TEXTS[:3], labels)
    for text, own, result in zip(TEXTS[:3], labels, together, strict=True):
        [alone] = model.predict([text], [own])
        assert list(result["scores"]) == own
        assert list(result["scores"].values()) == pytest.approx(list(alone["scores"].values()), abs=1e-5)


def test_a_candidate_mask_of_another_shape_is_refused(model: ZeroShotPreTrainedModel) -> None:
    with pytest.raises(ValueError, match=r"Expected a candidate_mask of shape .* \(5, 4\), found \(4, 5\)"):
        model.predict_logits(TEXTS, LABELS, candidate_mask=torch.ones(4, 5, dtype=torch.bool))
