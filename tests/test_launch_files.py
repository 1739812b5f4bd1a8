"""accelerate reads every launch file, and knows each of its keys."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from accelerate import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from zeroshot.models import ARCHITECTURES

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "accelerate"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("multi_gpu", "MULTI_GPU"),
        ("cpu_two_processes", "MULTI_CPU"),
        ("fsdp2", "FSDP"),
        ("deepspeed_zero2", "DEEPSPEED"),
    ],
)
def test_accelerate_reads_the_file(name: str, kind: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))  # refuses unknown keys of the upper level
    assert config.distributed_type == kind and config.num_processes == 2
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) | set(config.deepspeed_config) <= known


def test_every_file_is_tested() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {"multi_gpu", "cpu_two_processes", "fsdp2", "deepspeed_zero2"}


def test_plugins_take_what_the_files_say() -> None:
    fsdp = yaml.safe_load((FOLDER / "fsdp2.yaml").read_text())["fsdp_config"]
    named = {name if name == "fsdp_version" else name.removeprefix("fsdp_"): value for name, value in fsdp.items()}
    plugin = FullyShardedDataParallelPlugin(**named)
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    zero = yaml.safe_load((FOLDER / "deepspeed_zero2.yaml").read_text())["deepspeed_config"]
    assert {"zero_stage", "gradient_clipping"} <= set(zero)
    assert set(zero) <= {field.name for field in dataclasses.fields(DeepSpeedPlugin)}


@pytest.mark.parametrize("key", list(ARCHITECTURES))
def test_fsdp2_can_shard_every_architecture(key: str, encoder_dir: str) -> None:
    """It refuses scalars, and wraps the layers whose classes the model names."""
    model = ARCHITECTURES[key].from_encoder(encoder_dir)
    assert all(parameter.dim() > 0 for parameter in model.parameters())
    assert "BertLayer" in (model._no_split_modules or ())
