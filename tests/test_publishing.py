"""What is published and what is not, and what is said before anything is sent."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from datasets import load_dataset

from zeroshot.hub.leaks import PERSONAL, SECRETS, find_leaks
from zeroshot.hub.staging import stage_model
from zeroshot.models.loading import load_model

from . import hub_helpers
from .hub_helpers import CALIBRATION, HOME, NAME, fail_push, find_private, hash_folder, measure, run_push
from .hub_server import TOKEN, HubServer, Repository

hub, checkpoint = hub_helpers.hub, hub_helpers.checkpoint
PUBLISHED = {
    *("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "evaluation/curve.png"),
    *("configuration_biencoder.py", "configuration_zeroshot.py", "modeling_biencoder.py", "modeling_zeroshot.py"),
    *("features_zeroshot.py", "inputs_zeroshot.py", "prediction_zeroshot.py", "pipeline_zeroshot.py"),
    *("options_zeroshot.py", "candidates_zeroshot.py", "scoring_zeroshot.py", "windows_zeroshot.py", "calls_zeroshot.py"),
    *("decisions_zeroshot.py", "offsets_zeroshot.py", "pairwise_zeroshot.py", "explain_zeroshot.py"),
    *("calibration_zeroshot.py", "encoder_zeroshot.py", "packing_zeroshot.py", "precision_zeroshot.py"),
}


def test_only_what_makes_the_model_is_published(hub: HubServer, checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    """A run leaves pickles, paths, logs and settings beside the model; they stay, as does everything else."""
    measure(checkpoint, 0.6)
    (checkpoint / "calibration.json").write_text(CALIBRATION)
    before = hash_folder(checkpoint)
    assert find_private({name: Path(name).read_bytes() for name in before}), "the search finds what is planted"
    run_push(checkpoint, "--repo_id", NAME)
    repository = hub.models[NAME]
    assert repository.private and len(repository.commits) == 1
    assert set(repository.files) == PUBLISHED | {"evaluation/report.json", "evaluation/summary.json", "calibration.json"}
    assert find_private(repository.files) == []
    report = json.loads(repository.files["evaluation/report.json"])
    assert report["command"] == "zeroshot evaluate model --suite sets --rows 1500"
    assert report["sets"]["news"]["macro_f1"] == 0.6
    assert hash_folder(checkpoint) == before
    out = capsys.readouterr().out
    oid = repository.commits[0].oid
    assert f"{hub.url}/{NAME} (private), commit {oid}" in out and "set HF_TOKEN" in out and TOKEN not in out
    assert f"revision='{oid}', trust_remote_code=True" in out


def test_everything_wrong_is_told_at_once_and_nothing_is_sent(hub: HubServer, checkpoint: Path) -> None:
    """One upload should not take ten attempts."""
    torch.save([1], checkpoint / "evaluation" / "curve.png")
    (checkpoint / "modeling_biencoder.py").write_bytes(pickle.dumps([1]))
    (checkpoint / "calibration.json").write_text("{1}")
    config = json.loads((checkpoint / "config.json").read_text())
    config["text_config"]["_name_or_path"] = "/data/encoders/mine"
    (checkpoint / "config.json").write_text(json.dumps(config))
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({**settings, "name": f"{HOME}/encoder"}))
    (checkpoint / "training_log.csv").write_text("step\n1\nrun by,ada@lovelace.name\n")
    measure(checkpoint, 0.6, name="a")
    measure(checkpoint, 0.5, ("news",), name="b")
    secret = "hf_" + "Zz9Yy8Xx7W" * 3
    card = f"---\nlibrary_name: transformers\nlicense: mit\n---\n# Mine\n{TOKEN[3:]} {secret} {TOKEN}\n![curve](curve.png)\n"
    (checkpoint / "README.md").write_text(card)
    said = fail_push(checkpoint, "--repo_id", NAME)
    problems = [line.removeprefix("- ") for line in said.splitlines()[1:]]
    assert said.startswith(
        "ValueError: Expected a model fit to be published, found 12 problems; nothing was sent. Mend each:"
    )
    assert sorted(problems) == sorted(
        [
            "Expected one outcome on news (1 rows, 2 labels), found two in a.json and b.json. Remove the file that is not "
            "of these weights.",
            "Expected a PNG picture in evaluation/curve.png, found a zip file, as torch.save writes. Only such files are "
            "published; save it anew.",
            "Expected Python in modeling_biencoder.py, found a pickle. Only such files are published; save it anew.",
            "Expected JSON in calibration.json, found something else. Only such files are published; save it anew.",
            "Expected nothing private in README.md, found the value of HF_TOKEN ('hf_Rw5...', line 6). Remove it.",
            "Expected nothing private in README.md, found a token of the Hub ('hf_Zz9...', line 6). Remove it.",
            "Expected nothing private in tokenizer_config.json, found a home directory "
            f"('{HOME[:6]}...', line 1). Remove it.",
            f"Expected no path of this machine in tokenizer_config.json, found name '{HOME}/encoder'. Set it to \"\" there.",
            "Expected nothing private in training_log.csv, found an e-mail address ('ada@lo...', line 3). Remove it.",
            "Expected no path of this machine in config.json, found text_config._name_or_path '/data/encoders/mine'. Set it "
            'to "" there.',
            "Expected pipeline_tag in the front matter of README.md, found none. Write it between the two lines ---.",
            "Expected the pictures of README.md among the published files, found none called curve.png. Remove the picture, "
            "or put it under evaluation/.",
        ]
    ), said
    assert not hub.models


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{model}", "--repo_id", NAME, "--token", TOKEN], "Expected no token among the arguments, found --token."),
        (["--repo_id", NAME], "Expected a checkpoint or --dataset, found neither. Push one at a time"),
        (["{model}", "--repo_id", NAME, "--dataset", "rows"], "Expected a checkpoint or --dataset, found both."),
        (["--repo_id", NAME, "--dataset", "rows", "--space"], "Expected a checkpoint with --space, found --dataset."),
        (["{model}", "--repo_id", "topics"], "Expected a name on the Hub as user/name, found 'topics'. Write the user"),
        (["{model}", "--repo_id", "alice/my model"], "Expected a name on the Hub as user/name, found 'alice/my model'."),
        (["{model}", "--repo_id", "alice/a--b"], "Expected a name on the Hub as user/name, found 'alice/a--b'."),
        (["{model}/nothing", "--repo_id", NAME], "Expected the folder of a checkpoint, found no folder"),
        (["{model}/evaluation", "--repo_id", NAME], "Expected the folder of a checkpoint, found no config.json in"),
        (["--dataset", "{model}", "--repo_id", NAME], "Expected train.jsonl, validation.jsonl, test.jsonl in"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], said: str, hub: HubServer, checkpoint: Path) -> None:
    found = fail_push(*(word.format(model=checkpoint) for word in words))
    assert said in found and TOKEN not in found
    assert not hub.models and not hub.datasets


def test_a_folder_that_is_no_checkpoint_of_ours_is_told(hub: HubServer, encoder_dir: str, tmp_path: Path) -> None:
    """An encoder, a run that did not end, and a checkpoint that lost a file."""
    assert "found a model of type 'bert'" in fail_push(encoder_dir, "--repo_id", NAME)
    (tmp_path / "run" / "checkpoint-7").mkdir(parents=True)
    said = fail_push(tmp_path / "run", "--repo_id", NAME)
    assert "Inside is checkpoint-7; the run did not end." in said
    model = hub_helpers.build_checkpoint(tmp_path / "model", encoder_dir)
    (model / "features_zeroshot.py").unlink()
    said = fail_push(model, "--repo_id", NAME)
    assert "Expected the model's code beside its weights, found no features_zeroshot.py" in said
    (model / "model.safetensors").unlink()
    assert "Expected weights (model.safetensors)" in fail_push(model, "--repo_id", NAME)
    assert not hub.models


def test_a_dry_run_checks_and_sends_nothing(hub: HubServer, checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    run_push(checkpoint, "--repo_id", NAME, "--dry_run")
    out = capsys.readouterr().out
    assert f"Would publish to {NAME} (private), {len(PUBLISHED)} files" in out and "modeling_biencoder.py" in out
    assert hub.requests == []
    (checkpoint / "training_log.csv").write_text("ada@lovelace.name")
    assert "an e-mail address" in fail_push(checkpoint, "--repo_id", NAME, "--dry_run")


# -- the gate --------------------------------------------------------------------------------------------------------


def test_a_worse_model_needs_force(hub: HubServer, checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The mean over the sets that both are measured on decides; sets that one lacks do not."""
    run_push(checkpoint, "--repo_id", NAME)
    assert "Nothing is measured of this model" in caplog.text
    caplog.clear()
    measure(checkpoint, 0.6)
    run_push(checkpoint, "--repo_id", NAME)
    assert "The published model has no measurements to compare with" in caplog.text
    (checkpoint / "evaluation" / "report.json").unlink()
    measure(checkpoint, 0.5, ("news",), "one")
    measure(checkpoint, 0.99, ("chats",), "two")
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert (
        "Expected a model no worse than the published one, found mean macro_f1 0.5000 against 0.6000 over news (1 rows, 2 "
        "labels)." in said
    )
    assert len(hub.models[NAME].commits) == 2
    run_push(checkpoint, "--repo_id", NAME, "--force")
    assert "0.5000 against 0.6000" in caplog.text
    files = hub.models[NAME].files
    assert "evaluation/report.json" not in files, "it would speak of weights that are gone"
    assert set(json.loads(files["evaluation/summary.json"])["sets"]) == {
        "news (1 rows, 2 labels)",
        "chats (1 rows, 2 labels)",
    }


def test_models_without_a_common_set_need_force(hub: HubServer, checkpoint: Path) -> None:
    """The same name over other rows is another set, and a model that is not measured has none."""
    measure(checkpoint, 0.6, ("news",))
    run_push(checkpoint, "--repo_id", NAME)
    report = checkpoint / "evaluation" / "report.json"
    content = json.loads(report.read_text())
    content["sets"]["news"]["n"] = 500
    report.write_text(json.dumps(content))
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert (
        "Expected a set that both models are measured on, found news (1 rows, 2 labels) for the published one and news (500 "
        "rows, 2 labels) for this." in said
    )
    report.unlink()
    assert "and none for this. Measure this model" in fail_push(checkpoint, "--repo_id", NAME)
    run_push(checkpoint, "--repo_id", NAME, "--force")
    assert len(hub.models[NAME].commits) == 2


# -- visibility, branches, tags --------------------------------------------------------------------------------------


def test_public_only_where_asked(hub: HubServer, checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    run_push(checkpoint, "--repo_id", NAME)
    run_push(checkpoint, "--repo_id", NAME, "--public")
    assert not hub.models[NAME].private
    assert "set HF_TOKEN" not in capsys.readouterr().out.split("(public)")[1]
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert f"Expected a private repository '{NAME}', found a public one. Add --public if a model may be public" in said
    assert len(hub.models[NAME].commits) == 1, "nothing had changed"


def test_branches_and_tags(hub: HubServer, checkpoint: Path) -> None:
    """A tag stands for one commit for good; a branch is made where there is none."""
    run_push(checkpoint, "--repo_id", NAME, "--tag", "v1", "--message", "First words")
    repository = hub.models[NAME]
    first = repository.commits[0]
    assert repository.tags == {"v1": first.oid} and first.summary == "First words"
    (checkpoint / "calibration.json").write_text(CALIBRATION)
    run_push(checkpoint, "--repo_id", NAME, "--revision", "trial")
    assert repository.branches["main"] == first.oid
    assert "calibration.json" in repository.trees[repository.branches["trial"]]
    assert "Expected a new --tag, found 'v1'" in fail_push(checkpoint, "--repo_id", NAME, "--tag", "v1")
    for wanted in ("v1", first.oid):
        said = fail_push(checkpoint, "--repo_id", NAME, "--revision", wanted)
        assert f"Expected a branch as --revision, found '{wanted}'" in said
    assert len(repository.commits) == 2


def test_weights_of_an_earlier_push_do_not_stay_beside_the_new_ones(hub: HubServer, checkpoint: Path) -> None:
    """A loader prefers model.safetensors to shards: it would load the old weights under the new card."""
    run_push(checkpoint, "--repo_id", NAME)
    model = load_model(str(checkpoint))
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="20KB")
    run_push(checkpoint, "--repo_id", NAME)
    files = hub.models[NAME].files
    shards = [name for name in files if name.startswith("model-")]
    assert len(shards) > 1 and "model.safetensors.index.json" in files and "model.safetensors" not in files


# -- rows, Spaces, endpoints -----------------------------------------------------------------------------------------


def write_rows(folder: Path, text: str = "the team scored") -> Path:
    """Three splits, two of them in the folder, one below, and files that stay at home."""
    (folder / "hard").mkdir(parents=True)
    rows = [{"text": text, "labels": ["sports"], "negatives": []}, {"text": "vote", "labels": [], "score": 1}]
    for name in ("train.jsonl", "test.jsonl", "hard/test.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("journal.jsonl", "rejected_rows.jsonl", "notes.txt"):
        (folder / name).write_text(f'{{"path": "{HOME}"}}\n')
    return folder


def test_a_folder_of_rows_becomes_a_data_set(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """What arrives is loaded by `datasets` with its splits, and nothing else of the folder arrives."""
    run_push("--dataset", write_rows(tmp_path / "rows"), "--repo_id", NAME)
    repository = hub.datasets[NAME]
    assert repository.private and set(repository.files) == {"README.md", "train.jsonl", "test.jsonl", "hard/test.jsonl"}
    assert f"{hub.url}/datasets/{NAME}" in capsys.readouterr().out
    for name, content in repository.files.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    loaded = load_dataset(str(tmp_path / "copy"), "default", cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 2, "test": 2}
    assert loaded["train"][0] == {"text": "the team scored", "labels": ["sports"], "negatives": [], "score": None}
    hard = load_dataset(str(tmp_path / "copy"), "hard", cache_dir=str(tmp_path / "cache"))
    assert list(hard) == ["test"]


def test_rows_with_addresses_need_force_and_rows_with_keys_have_no_way(hub: HubServer, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows", "write to ada@lovelace.name")
    said = fail_push("--dataset", rows, "--repo_id", NAME)
    assert (
        "Expected rows without addresses of people, found an e-mail address ('ada@lo...', line 1) in hard/test.jsonl" in said
    )
    run_push("--dataset", rows, "--repo_id", NAME, "--force")
    assert len(hub.datasets[NAME].commits) == 1
    rows = write_rows(tmp_path / "more", "hf_" + "Zz9Yy8Xx7W" * 3)
    assert "found a token of the Hub" in fail_push("--dataset", rows, "--repo_id", NAME, "--force")
    (rows / "train.jsonl").write_text('{"text": "a"}\n{"text": 1}\n')
    said = fail_push("--dataset", rows, "--repo_id", NAME, "--force")
    assert "Expected one type of 'text' in every row, found int64 in line 2 of train.jsonl and string before it." in said


def test_a_space_and_an_endpoint_come_with_the_model(
    hub: HubServer, checkpoint: Path, capsys: pytest.CaptureFixture
) -> None:
    run_push(checkpoint, "--repo_id", NAME, "--space", "--handler")
    assert set(hub.models[NAME].files) == PUBLISHED | {"handler.py", "requirements.txt"}
    space = hub.spaces[NAME]
    assert space.private and space.sdk == "gradio" and {"README.md", "app.py"} <= set(space.files)
    assert NAME.encode() in b"".join(space.files.values())
    out = capsys.readouterr().out
    assert f"Published {hub.url}/spaces/{NAME} (private). Give it a secret HF_TOKEN" in out
    assert not [one for one in hub.requests if "secret" in one]


# -- what counts as private ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("token hf_" + "aB3" * 10, "a token of the Hub ('hf_aB3...', line 1)"),
        ("\nkey: sk-" + "proj-Ab3_" * 4, "a key of an API ('sk-pro...', line 2)"),
        ("AKIA" + "ABCDEFGH12345678", "a key of AWS ('AKIAAB...', line 1)"),
        ("gh" + "p_" + "a1" * 18, "a token of GitHub ('ghp_a1...', line 1)"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "a private key ('-----B...', line 1)"),
        ("x = '/" + "home/ada/x'", "a home directory ('/home/...', line 1)"),
        ("/" + "Users/ada", "a home directory ('/Users...', line 1)"),
        (r"C:\\Users\\ada", "a home directory ('C:\\\\\\\\Us...', line 1)"),
        ("<ada@lovelace.name>", "an e-mail address ('ada@lo...', line 1)"),
        ("git@github.com:a/b, ada@example.org, @property, https://x.org/home/page, risk-" + "a" * 30, None),
    ],
)
def test_leaks_are_found_and_not_repeated(text: str, found: str | None) -> None:
    assert find_leaks(text, {}, [SECRETS, PERSONAL]) == ([] if found is None else [found])


def test_a_link_out_of_the_folder_is_not_followed(checkpoint: Path, tmp_path: Path) -> None:
    """A checkpoint from elsewhere must not make its reader publish a file of his own."""
    (tmp_path / "private.csv").write_text("mine")
    (checkpoint / "training_log.csv").symlink_to(tmp_path / "private.csv")
    stage_model(checkpoint, tmp_path / "staged")
    assert not (tmp_path / "staged" / "training_log.csv").exists()


def test_a_public_place_is_not_written_without_public(hub: HubServer, checkpoint: Path) -> None:
    hub.models[NAME] = Repository(private=False)
    assert "Add --public" in fail_push(checkpoint, "--repo_id", NAME)
    assert not hub.models[NAME].files
