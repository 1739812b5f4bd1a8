"""Whatever the Hub or the network does: a clear word, the checkpoint as it was, and the same command again completes."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from zeroshot.hub import client

from . import hub_helpers
from .hub_helpers import CALIBRATION, NAME, PNG, fail_push, hash_folder, run_push
from .hub_server import READ_TOKEN, TOKEN, HubServer

hub, checkpoint = hub_helpers.hub, hub_helpers.checkpoint
AGAIN = "Give the same command again: what the Hub has already is not sent twice."
PICTURE = f"PUT /lfs/{hashlib.sha256(PNG).hexdigest()}"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(client.time, "sleep", waited.append)
    assert _http.time is client.time
    return waited


def weights_request(checkpoint: Path) -> str:
    return f"PUT /lfs/{hashlib.sha256((checkpoint / 'model.safetensors').read_bytes()).hexdigest()}"


def test_a_connection_cut_in_an_upload_is_taken_up_again(hub: HubServer, checkpoint: Path) -> None:
    """Once is nothing; for good is an error, and the next push sends only what is missing."""
    before = hash_folder(checkpoint)
    weights = weights_request(checkpoint)
    hub.fail(weights, times=10_000)
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert f"Expected the Hub to take '{NAME}', found: " in said
    assert f"Check the network. {AGAIN} The checkpoint in {checkpoint} is as it was." in said
    assert hash_folder(checkpoint) == before
    assert not hub.models[NAME].files and hub.count(PICTURE) == 1
    hub.faults.clear()
    hub.fail(weights, times=1)
    cuts = hub.count(weights)
    run_push(checkpoint, "--repo_id", NAME)
    assert hub.models[NAME].files["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    assert hub.count(weights) == cuts + 2
    assert hub.count(PICTURE) == 1, "it was there already"


def test_a_server_in_trouble_is_waited_for(hub: HubServer, checkpoint: Path, waits: list[float]) -> None:
    """The client itself does not repeat a commit; a commit that never succeeds leaves the large files for the next try."""
    hub.fail("POST .*/commit/main", times=2, status=500)
    run_push(checkpoint, "--repo_id", NAME)
    assert len(hub.models[NAME].commits) == 1 and waits == [1.0, 4.0]
    assert hub.count(weights_request(checkpoint)) == 1
    hub.fail("POST .*/commit/main", times=10_000, status=503, message="Under repair")
    (checkpoint / "calibration.json").write_text(CALIBRATION)
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert "Under repair" in said and AGAIN in said and "503" in said
    hub.faults.clear()
    run_push(checkpoint, "--repo_id", NAME)
    assert "calibration.json" in hub.models[NAME].files
    assert hub.count("PUT /lfs/") == 2, "weights and picture, each once"


def test_a_lost_answer_to_a_commit_makes_no_second_one(hub: HubServer, checkpoint: Path) -> None:
    """The commit was made, the connection died before the answer: the next attempt finds nothing to do."""
    answer = hub._commit

    def commit_and_fall_silent(*arguments):
        done = answer(*arguments)
        hub._commit = answer  # type: ignore[method-assign]
        return done._replace(status=502)

    hub._commit = commit_and_fall_silent  # type: ignore[method-assign]
    run_push(checkpoint, "--repo_id", NAME)
    assert len(hub.models[NAME].commits) == 1


@pytest.mark.parametrize(
    ("pattern", "status", "message", "mend"),
    [
        ("POST .*/commit/main", 403, "Private repository storage limit reached", "Your storage there is full"),
        ("POST .*/objects/batch", 413, "Payload too large", "Your storage there is full, or the file too large"),
        ("PUT /lfs/", 507, "No room left in your plan", "Your storage there is full"),
        ("POST .*/commit/main", 409, "Conflict with another commit", "Another push may be under way."),
        ("POST .*/preupload/", 404, "Gone", "that 'alice' is your name or an organisation of yours"),
    ],
)
def test_a_refusal_says_what_to_mend(
    pattern: str, status: int, message: str, mend: str, hub: HubServer, checkpoint: Path, waits: list[float]
) -> None:
    """Such a fault does not pass: it is told at once, with the server's own words."""
    hub.fail(pattern, times=10_000, status=status, message=message)
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert f"Expected the Hub to take '{NAME}', found: " in said
    assert message in said and mend in said and str(status) in said and TOKEN not in said
    assert waits == []
    hub.faults.clear()
    run_push(checkpoint, "--repo_id", NAME)
    assert len(hub.models[NAME].commits) == 1


def test_names_tokens_and_branches_of_others(hub: HubServer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's name, a token that may only read, one that is no more, none at all, a branch that is locked."""
    said = fail_push(checkpoint, "--repo_id", "bob/topics")
    assert "403" in said and "You don't have the rights" in said and "that 'bob' is your name or an organisation" in said
    run_push(checkpoint, "--repo_id", NAME)
    hub.models[NAME].locked.add("main")
    (checkpoint / "calibration.json").write_text(CALIBRATION)
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert "main cannot be written to" in said and "that the branch 'main' is not protected." in said
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    said = fail_push(checkpoint, "--repo_id", "alice/other")
    assert "403" in said and "Check HF_TOKEN, its right to write" in said
    monkeypatch.setenv("HF_TOKEN", "hf_" + "Expired0Ex" * 3)
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert "Check HF_TOKEN: it is wrong or has expired. Set a new one, or log in anew with 'hf auth login'." in said
    assert "hf_Exp" not in said
    monkeypatch.delenv("HF_TOKEN")
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert said == (
        "ValueError: Expected a token of the Hub, found none. Set HF_TOKEN to one with the right to write, or log in with "
        "'hf auth login'."
    )


def test_without_a_network(hub: HubServer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = fail_push(checkpoint, "--repo_id", NAME)
    assert f"Expected the Hub to take '{NAME}', found: " in said and "HF_HUB_OFFLINE is set: unset it" in said
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert f"Check the network. {AGAIN}" in fail_push(checkpoint, "--repo_id", NAME)
    assert hub.requests == []


def test_a_token_of_the_store_will_do(hub: HubServer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hf auth login` leaves it in a file."""
    monkeypatch.delenv("HF_TOKEN")
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    run_push(checkpoint, "--repo_id", NAME)
    assert len(hub.models[NAME].commits) == 1
