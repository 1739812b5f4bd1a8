"""What lies beside the weights and tells of them: settings, records, log, results. What is not there is None or empty."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..evaluation.suites import REPORTS_FOLDER
from ..json_text import parse_json, read_text
from ..training.records import DATA_FILE, RECORD_FILE
from ..training.runs import SETTINGS_FILE
from .gate import SUMMARY_FILE

SPEED_FILE = "speed.json"
CALIBRATION_FILE = "calibration.json"
EMISSIONS_FILE = "emissions.csv"
CALIBRATION_PLOT = f"{REPORTS_FOLDER}/calibration.png"


@dataclass
class RunFiles:
    """The contents of a checkpoint folder but for the model.

    Args:
        folder: The folder.
        settings: `run_settings.json` as `train.py` writes it.
        history: The log of `trainer_state.json`, an entry per line of the log.
        data: `training_data.json`, see `training.records.DataRecord`.
        record: `training_record.json`, see `training.records.RunRecord`.
        evaluations: By name, what `zeroshot evaluate` and `train.py` wrote into `evaluation/`.
        speed: `speed.json`, see `hub.measurements.SpeedRecord`.
        calibration: `calibration.json`, see docs/model_card.md.
        emissions: The last row of each run in CodeCarbon's `emissions.csv`.
    """

    folder: Path
    settings: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] | None = None
    record: dict[str, Any] | None = None
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    speed: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    emissions: list[dict[str, str]] = field(default_factory=list)

    def find(self, name: str) -> str | None:
        """The name of a file if it is there."""
        return name if (self.folder / name).is_file() else None


def _read_object(file: Path, written_by: str, needed: Iterable[str] = ()) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = parse_json(read_text(file))
    except ValueError as error:
        content, found = None, str(error)
    else:
        found = type(content).__name__
    missing = [name for name in needed if name not in content] if isinstance(content, dict) else []
    if not isinstance(content, dict) or missing:
        found = f"no {missing[0]!r}" if missing else found
        raise ValueError(
            f"Expected the JSON object that {written_by} writes in {str(file)!r}, found {found}. "
            "Write it anew, or remove the file: the card then says that it is not known."
        )
    return content


def _is_result(content: Any) -> bool:
    """Whether something is a result as [`evaluate_model`] returns it."""
    if not isinstance(content, dict):
        return False
    sets, mean = content.get("sets"), content.get("mean")
    if not (isinstance(sets, dict) and sets and isinstance(mean, dict)):
        return False
    return all(isinstance(one, dict) and _is_figures(one) for one in [*sets.values(), {**mean, "n": 0, "labels": 0}])


def _is_figures(one: Mapping[str, Any]) -> bool:
    figures = [one.get(name) for name in ("accuracy", "macro_f1", "n", "labels")]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in figures)


def _read_evaluation(file: Path) -> dict[str, Any]:
    content = _read_object(file, "zeroshot evaluate") or {}
    baselines = content.get("baselines", {})
    if not _is_result(content) or not isinstance(baselines, dict) or not all(map(_is_result, baselines.values())):
        raise ValueError(
            f"Expected the result of a measurement in {str(file)!r}, found {', '.join(map(str, content)) or 'nothing'} "
            "without the metrics of every set. Write it anew with zeroshot evaluate MODEL --suite DIR, or remove it."
        )
    return content


def _read_emissions(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    rows = list(csv.DictReader(read_text(file).splitlines()))
    try:
        # A tracker writes its sums again and again under one run_id; a resumed run has a second one.
        last = {row["run_id"]: row for row in rows}
        for row in last.values():
            float(row["emissions"]), float(row["duration"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected CodeCarbon's columns run_id, emissions and duration in {str(file)!r}, found {error} missing or no "
            "number. Let CodeCarbon write it anew, or remove it."
        ) from error
    return list(last.values())


def read_run_files(folder: Path) -> RunFiles:
    """Read all of them.

    Raises:
        ValueError: If one is there and cannot be understood.
    """
    state = _read_object(folder / "trainer_state.json", "the Trainer") or {}
    history = state.get("log_history", [])
    reports = [file for file in sorted((folder / REPORTS_FOLDER).glob("*.json")) if file != folder / SUMMARY_FILE]
    return RunFiles(
        folder,
        settings=_read_object(folder / SETTINGS_FILE, "train.py"),
        history=[entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else [],
        data=_read_object(folder / DATA_FILE, "train.py", ("sources",)),
        record=_read_object(folder / RECORD_FILE, "train.py"),
        evaluations={file.stem: _read_evaluation(file) for file in reports},
        speed=_read_object(folder / SPEED_FILE, "zeroshot card", ("texts_per_second", "hardware", "dtype", "device")),
        calibration=_read_object(folder / CALIBRATION_FILE, "a calibration", ("bins",)),
        emissions=_read_emissions(folder / EMISSIONS_FILE),
    )
