"""A training run that pushes: every push loads, a failed one costs the run nothing, the end insists."""

import shutil
import threading
from pathlib import Path

import pytest

import train
from zeroshot.hub import card, client, publishing, rehearsal, runs
from zeroshot.hub.runs import RunPublisher
from zeroshot.training import ZeroShotTrainingArguments

from . import hub_helpers
from .hub_helpers import NAME, SPEED, find_private
from .hub_server import HubServer
from .test_training import settings, weights

hub = hub_helpers.hub
CODE = {"modeling_biencoder.py", "modeling_zeroshot.py", "configuration_biencoder.py", "pipeline_zeroshot.py"}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "check_loading", lambda folder, staged: [])
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(card, "record_speed", lambda model: SPEED)


def run(encoder: str, rows: Path, output: Path, **more: object) -> None:
    options = {"push_to_hub": True, "hub_model_id": NAME, "save_steps": 4, "hub_always_push": True, "save_total_limit": 1}
    train.main(settings(encoder, rows, output, **{**options, **more}))


def test_each_save_and_the_end_push_a_model_that_loads(
    encoder_dir: str, rows_file: Path, hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stock push sends neither the code nor anything without a pickle until the end."""
    run(encoder_dir, rows_file, tmp_path / "run")
    repository = hub.models[NAME]
    assert repository.private
    assert [one.summary for one in repository.commits] == [
        "Training in progress, step 4",
        "Training in progress, step 8",
        "Publish model",
    ]
    for commit in repository.commits:
        assert CODE | {"config.json", "tokenizer.json", "README.md"} < set(commit.files)
        assert find_private(commit.files) == []
        assert not [name for name in commit.files if name.endswith((".bin", ".pt", ".pth")) or "state" in name]
    first, second, final = (one.files["model.safetensors"] for one in repository.commits)
    assert first != second and final == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert b"Step 4 of a training run that was under way" in repository.commits[0].files["README.md"]
    out = capsys.readouterr().out
    assert f"commit {repository.commits[-1].oid}" in out and out.index("The model is in") < out.index("Published")
    folder = tmp_path / "checkpoint"
    for name, content in repository.commits[0].files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert rehearsal.check_loading(folder, folder) == []


def test_a_failed_push_does_not_stop_the_run(
    encoder_dir: str, rows_file: Path, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Warned of, tried again at the next save; the same weights as without a Hub."""
    hub.fail("POST .*/commit/main", times=4, status=500)
    run(encoder_dir, rows_file, tmp_path / "run")
    assert "The checkpoint of step 4 is not on the Hub; the next save tries again. Expected the Hub to take" in caplog.text
    assert [one.summary for one in hub.models[NAME].commits] == ["Training in progress, step 8", "Publish model"]
    train.main(settings(encoder_dir, rows_file, tmp_path / "alone", save_steps=4))
    ours, alone = weights(tmp_path / "run"), weights(tmp_path / "alone")
    assert all(bool((ours[name] == alone[name]).all()) for name in alone)


def test_the_end_insists_and_the_same_command_tries_again(
    encoder_dir: str, rows_file: Path, hub: HubServer, tmp_path: Path
) -> None:
    hub.fail("POST .*/commit/main", times=10_000, status=503)
    with pytest.raises(ValueError, match="503") as caught:
        run(encoder_dir, rows_file, tmp_path / "run", hub_strategy="end")
    said = str(caught.value)
    assert f"its model is in {tmp_path / 'run'}. The same command tries the push again, as does: python push.py" in said
    saved = (tmp_path / "run" / "model.safetensors").read_bytes()
    hub.faults.clear()
    run(encoder_dir, rows_file, tmp_path / "run", hub_strategy="end")
    [commit] = hub.models[NAME].commits
    assert commit.summary == "Publish model" and commit.files["model.safetensors"] == saved


def test_checkpoints_do_not_replace_a_measured_model(
    encoder_dir: str, rows_file: Path, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The finished model is compared with it; what is on the way there cannot be."""
    model = hub_helpers.build_checkpoint(tmp_path / "model", encoder_dir)
    hub_helpers.measure(model, 0.6)
    hub_helpers.run_push(model, "--repo_id", NAME)
    with pytest.raises(ValueError, match="Expected a set that both models are measured on"):
        run(encoder_dir, rows_file, tmp_path / "run")
    assert "holds a measured model, which no checkpoint replaces" in caplog.text
    assert len(hub.models[NAME].commits) == 1


def test_a_run_that_may_not_push_ends_before_it_begins(
    encoder_dir: str, rows_file: Path, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours later would be late."""
    with pytest.raises(ValueError, match="You don't have the rights"):
        run(encoder_dir, rows_file, tmp_path / "run", hub_model_id="bob/topics")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match="Expected a token of the Hub, found none"):
        run(encoder_dir, rows_file, tmp_path / "run")
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_save_during_a_push_is_passed_over(
    encoder_dir: str, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow line must not pile up checkpoints; one that is being sent may be removed meanwhile."""
    model = hub_helpers.build_checkpoint(tmp_path / "model", encoder_dir)
    publisher, go_on = RunPublisher(NAME), threading.Event()
    send = runs.send

    def send_later(*arguments, **options):
        assert go_on.wait(60)
        return send(*arguments, **options)

    monkeypatch.setattr(runs, "send", send_later)
    publisher.push_checkpoint(model, 4)
    publisher.push_checkpoint(model, 8)
    shutil.rmtree(model)
    go_on.set()
    hub_helpers.build_checkpoint(model, encoder_dir)
    publisher.finish(model)
    assert [one.summary for one in hub.models[NAME].commits] == ["Training in progress, step 4", "Publish model"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"push_to_hub": True}, "Expected hub_model_id as user/name with push_to_hub, found None. Say where to push."),
        ({"hub_strategy": "checkpoint"}, "Expected hub_strategy every_save or end, found 'checkpoint'."),
        ({"hub_token": "hf_x"}, "Expected hub_token to stay None, found"),
    ],
)
def test_settings_that_would_send_the_wrong_thing(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said.split(",", maxsplit=1)[0]) as caught:
        ZeroShotTrainingArguments(**given)  # type: ignore[arg-type]
    assert said in str(caught.value)
