"""W processes with batch b train like one with batch W * b: two real processes against one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import set_seed

from zeroshot.data import TrainingExample, ZeroShotCollator
from zeroshot.data.collation import list_share
from zeroshot.models import ARCHITECTURES

from .conftest import build_tokenizer
from .distributed_helpers import CASES, STEPS, Case, train_case

SCRIPT = Path(__file__).resolve().with_name("distributed_helpers.py")


def launch(job: str, encoder: str, rows: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Two processes of torchrun on gloo; `accelerate launch --cpu` would start one."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    return subprocess.run(
        [*command, job, encoder, str(rows), str(output)], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def rows(encoder_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed label set of three, twelve rows; beside it three rows and one row that are labelled freely; a teacher."""
    folder = tmp_path_factory.mktemp("rows")
    set_seed(5)
    ARCHITECTURES["biencoder"].from_encoder(encoder_dir).save_pretrained(folder / "teacher")
    topics = {
        "sports": "goal player team match",
        "cooking": "cake oven sugar flour",
        "politics": "law vote election minister",
    }
    closed = [{"text": f"the {word} of the text", "labels": [name]} for name in topics for word in topics[name].split()]
    free = [
        {"text": "rain and wind, the storm is bad", "labels": ["weather", "sad"], "negatives": ["music"]},
        {"text": "the song", "labels": ["music"]},
        {"text": "joy! great band", "labels": ["joy", "music"], "negatives": ["anger"]},
    ]
    files = {"closed/train": closed, "three": free, "one": [{"text": "the storm", "labels": ["weather"]}]}
    (folder / "closed").mkdir()
    for name, content in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    (folder / "closed" / "labels.json").write_text(json.dumps(list(topics)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def together(encoder_dir: str, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave: results of all cases, a finished run, and one that was killed on the way."""
    output = tmp_path_factory.mktemp("together")
    finished = launch("train", encoder_dir, rows, output)
    assert finished.returncode != 0 and (output / "whole" / "model.safetensors").is_file(), finished.stderr[-3000:]
    assert not (output / "cut" / "model.safetensors").exists()
    return output


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_train_like_one(case: Case, encoder_dir: str, rows: Path, together: Path, tmp_path: Path) -> None:
    """Losses of every batch and weights after five steps, a last batch of three texts or one among them."""
    alone = train_case(case, encoder_dir, rows, tmp_path, processes=1)
    first, second = (torch.load(together / f"results_{rank}.pt")[str(case)] for rank in (0, 1))
    assert (alone["processes"], first["processes"], second["processes"]) == (1, 2, 2)
    assert alone["moved"] > 1e-3 and len(alone["losses"]) >= STEPS
    tolerance = 2e-2 if "bf16" in case.arguments else 1e-5
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=tolerance, abs=tolerance)
    for name, tensor in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        torch.testing.assert_close(first["weights"][name], tensor, rtol=tolerance, atol=tolerance, msg=name)


def test_a_killed_run_of_two_processes_ends_with_the_same_weights(encoder_dir: str, rows: Path, together: Path) -> None:
    """Dropout on: each process goes on from its own state of random numbers."""
    finished = launch("resume", encoder_dir, rows, together)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "Going on from" in finished.stderr
    whole, cut = (load_file(together / name / "model.safetensors") for name in ("whole", "cut"))
    different = [name for name in whole if not torch.equal(whole[name], cut[name])]
    assert not different, different


@pytest.mark.parametrize(("total", "processes"), [(8, 2), (5, 3), (1, 4), (4, 1), (9, 8)])
def test_shares_are_of_one_size_and_miss_no_row(total: int, processes: int) -> None:
    shares = [list_share(total, process, processes) for process in range(processes)]
    assert len({len(share) for share in shares}) == 1
    together = [row for share in shares for row in share]
    assert together[:total] == list(range(total)) and set(together[total:]) <= {total - 1}


def test_processes_share_labels_and_agree_on_the_rest() -> None:
    """No label is tokenised by two processes, their wordings are those of one process, and so is the grid."""
    tokenizer = build_tokenizer()
    names = ["goal", "cake", "vote", "song", "rain"]
    examples: list[TrainingExample] = [
        {
            "text": f"the {name}",
            "positives": [name],
            "labels": [name],
            "negatives": [],
            "known_negatives": [],
            "unjudged": [],
            "denials": [],
            "source": 0,
            "draw": f"0-0-{row}",
        }
        for row, name in enumerate(names)
    ]

    def collate(share: tuple[int, int]) -> Any:
        return ZeroShotCollator(tokenizer, 16, ["{}", "about {}", "this is {}"], [names], 2, share=share)(examples)

    def read(batches: list[Any], field: str) -> list[str]:
        return [text for batch in batches for text in tokenizer.batch_decode(batch[field], skip_special_tokens=True)]

    alone, shares = collate((0, 1)), [collate((process, 2)) for process in range(2)]
    for field in ("input_ids", "class_input_ids"):
        assert read(shares, field) == [*read([alone], field), read([alone], field)[-1]]
    for field in ("labels", "candidate_mask"):
        assert torch.equal(shares[0][field], alone[field]) and torch.equal(shares[1][field], alone[field])


def test_the_log_tells_the_batch_of_all_processes(together: Path) -> None:
    [log, *_] = [result["log"] for result in torch.load(together / "results_0.pt").values()]
    assert "8 texts a batch over 2 process(es)" in log


@pytest.mark.parametrize("case", [case for case in CASES if case.taught], ids=str)
def test_processes_share_the_questions_to_a_teacher(
    case: Case, together: Path, encoder_dir: str, rows: Path, tmp_path: Path
) -> None:
    """Were one to ask for all, the others would wait until ddp_timeout ends the run."""
    first, second = (torch.load(together / f"results_{rank}.pt")[str(case)]["asked"] for rank in (0, 1))
    alone = train_case(case, encoder_dir, rows, tmp_path, processes=1)["asked"]
    assert first and second and first + second == alone
