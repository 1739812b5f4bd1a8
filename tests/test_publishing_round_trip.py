"""From a folder to the Hub to a stranger's machine, by the real libraries over HTTP, each party in a process of its own."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from zeroshot.hub import publishing
from zeroshot.hub.rehearsal import check_loading
from zeroshot.hub.staging import stage_model
from zeroshot.models.loading import load_model

from . import hub_helpers
from .conftest import LABELS, TEXTS
from .hub_helpers import NAME, ROOT, build_checkpoint, fail_push, find_private, measure, run_push, stranger_script
from .hub_server import BOBS_TOKEN, TOKEN, HubServer
from .process_helpers import read_result, run_apart

hub = hub_helpers.hub


def push(hub: HubServer, home: Path, *words: object) -> "subprocess.CompletedProcess[str]":
    command = [str(ROOT / "push.py"), *map(str, words), "--repo_id", NAME]
    return run_apart(command, home, {**hub.environment, "PYTHONPATH": str(ROOT)})


def load_as_stranger(hub: HubServer, lines: str, token: str | None, home: Path) -> dict:
    """Run the lines that the command printed, where there is neither package nor cache."""
    script = home.with_suffix(".py")
    script.write_text(stranger_script(lines), encoding="utf-8")
    environment = {name: value for name, value in hub.environment.items() if name != "HF_TOKEN"}
    words = [str(script), json.dumps([TEXTS, LABELS])]
    return read_result(run_apart(words, home, {**environment, **({"HF_TOKEN": token} if token else {})}))


@pytest.mark.slow
def test_private_then_public_and_never_worse(
    hub: HubServer,
    encoder_dir: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole way: the printed lines load what was pushed, for whom it is meant and for nobody else."""
    model = build_checkpoint(tmp_path / "model", encoder_dir)
    measure(model, 0.6)
    done = push(hub, tmp_path / "pusher", model)
    assert done.returncode == 0, done.stderr
    assert HfApi(endpoint=hub.url, token=TOKEN).model_info(NAME).private
    assert find_private(hub.models[NAME].files) == [] and TOKEN not in done.stdout + done.stderr
    lines = done.stdout.split("\n\n", 1)[1]
    expected = load_model(str(model)).predict_logits(TEXTS, LABELS).tolist()
    loaded = load_as_stranger(hub, lines, TOKEN, tmp_path / "owner")
    assert loaded["logits"] == expected and loaded["module"].startswith("transformers_modules.alice.topics.")
    ours = load_model(str(model)).as_pipeline()(TEXTS, LABELS)
    assert loaded["ranked"] == [one["labels"] for one in ours]

    with pytest.raises(RepositoryNotFoundError, match="401"):
        HfApi(endpoint=hub.url, token=False).model_info(NAME)
    with pytest.raises(RepositoryNotFoundError, match="404"):
        HfApi(endpoint=hub.url, token=BOBS_TOKEN).model_info(NAME)
    with pytest.raises(HfHubHTTPError, match=r"(?s)401.*Invalid credentials"):
        HfApi(endpoint=hub.url, token="hf_" + "Nobody0No" * 3).model_info(NAME)

    shutil.rmtree(model)
    build_checkpoint(model, encoder_dir, logit_scale_init_value=1.0)
    measure(model, 0.5)
    with monkeypatch.context() as patch:  # in this process, and without another rehearsal: each costs ten seconds
        patch.setattr(publishing, "check_loading", lambda folder, staged: [])
        assert "found mean macro_f1 0.5000 against 0.6000 over" in fail_push(model, "--repo_id", NAME, "--public")
        assert hub.models[NAME].private and len(hub.models[NAME].commits) == 1
        capsys.readouterr()
        run_push(model, "--repo_id", NAME, "--public", "--force")
    worse = load_model(str(model)).predict_logits(TEXTS, LABELS).tolist()
    both = f"{lines}\nfirst = model\n{capsys.readouterr().out.split(chr(10) * 2, 1)[1]}"
    anybody = load_as_stranger(hub, both, None, tmp_path / "anybody")
    assert anybody["logits"] == worse != expected
    assert anybody["first"] == expected, "a pinned commit stays what it was"


@pytest.mark.slow
def test_files_that_load_as_another_model_are_not_published(encoder_dir: str, tmp_path: Path) -> None:
    """Code beside the weights that is not the installed one, and code that is not whole."""
    model = build_checkpoint(tmp_path / "model", encoder_dir)
    (tmp_path / "staged").mkdir()
    stage_model(model, tmp_path / "staged")
    code = tmp_path / "staged" / "modeling_zeroshot.py"
    text = code.read_text()
    code.write_text(text.replace("+ self.logit_bias.float()", "+ 0.01 + self.logit_bias.float()"))
    [problem] = check_loading(model, tmp_path / "staged")
    assert problem.startswith("Expected the same logits in a clean process, found a difference of 0.0")
    code.write_text(text.replace("import copy", "from zeroshot.models import ARCHITECTURES\nimport copy"))
    [problem] = check_loading(model, tmp_path / "staged")
    assert problem.startswith("Expected the files to load where this package is not installed, found: ")
    assert "zeroshot" in problem
