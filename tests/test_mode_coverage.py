"""The mode coverage script: its table from finished runs, and a run of the command itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gan_experiments.logging.status import State, Status

SCRIPTS = Path(__file__).parents[1] / "scripts" / "reproduce"
sys.path.insert(0, str(SCRIPTS))

import mode_coverage  # noqa: E402


def finished(directory: Path, modes: float, quality: float, kl: float, seconds: float = 2.0) -> None:
    directory.mkdir(parents=True)
    scores = dict(zip(mode_coverage.SCORES, ({"value": v} for v in (modes, quality, kl)), strict=True))
    Status(directory / "status.json").update(State.RUNNING, scores=scores)
    Status(directory / "status.json").update(State.COMPLETED)
    lines = [json.dumps({"time": 100.0}), json.dumps({"time": 100.0 + seconds})]
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_a_cell_is_mean_and_standard_error_over_runs(tmp_path: Path) -> None:
    tasks = [task for task in mode_coverage.plan(tmp_path, ["recipe"], 3, 1) if task.data == "grid"]
    finished(tasks[0].directory, 25, 0.95, 0.01)
    finished(tasks[1].directory, 24, 0.93, 0.03, 4.0)
    tasks[2].directory.mkdir()
    Status(tasks[2].directory / "status.json").update(State.FAILED, reason="NaN")
    # deviations 0.7071, 1.414 and 0.01414, each over the root of 2
    expected = "24.5±0.5 / 94.0±1.0 / 0.020±0.010 (2 runs, 1 failed, 1 whole; 3 s)"
    assert mode_coverage.cell(tasks) == expected
    assert expected in mode_coverage.table(tasks, 1)


def test_the_plan_has_every_method_data_set_and_seed_once(tmp_path: Path) -> None:
    tasks = mode_coverage.plan(tmp_path, ["pacgan", "bench", "recipe", "unrolled"], 2, 50)
    assert len(tasks) == len({task.directory for task in tasks}) == 2 * 2 * len(mode_coverage.METHODS)
    pack = next(task for task in tasks if task.method.startswith("packs of 3 (Pac"))
    assert {"schedule.batch_size=300", "schedule.images=15000", "trick.packing.size=3"} <= set(pack.overrides)


def test_the_command_trains_and_prints(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "mode_coverage.py"), "--dir", str(tmp_path), "--methods", "pacgan"]
    again = [*command, "--seeds", "1", "--pacgan-steps", "4"]
    done = subprocess.run([*again, "--jobs", "2"], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.count("(1 runs, 0 whole;") == 6
    assert "6.3±.5 / 98.2±.2 / .45±.09" in done.stdout and "(4 of 400,000 steps)" in done.stdout
    table = subprocess.run([*again, "--table"], capture_output=True, text=True, check=True, timeout=100)
    assert table.stdout == done.stdout
    wrong = subprocess.run([*command, "--seeds", "0"], capture_output=True, text=True, timeout=100, check=False)
    assert wrong.returncode == 1 and "--seeds, --jobs and --pacgan-steps must be 1 or more" in wrong.stderr


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(mode_coverage.__file__).parents[2] / "src"))
