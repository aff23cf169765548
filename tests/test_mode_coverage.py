"""The mode coverage script: its table from finished runs, and a run of the command itself."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gan_experiments.errors import UserError
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
    results = mode_coverage.collect(tasks, {})
    assert mode_coverage.cell(tasks, results) == expected
    assert expected in mode_coverage.table(tasks, results, 1)
    elsewhere = mode_coverage.plan(tmp_path / "elsewhere", ["recipe"], 3, 1)
    assert expected in mode_coverage.table(elsewhere, results, 1)  # a run counts by its settings, wherever it was made
    other = [replace(task, overrides=(*task.overrides, "schedule.batch_size=7")) for task in tasks]
    assert mode_coverage.cell(other, results) == "-"


def test_the_plan_has_every_method_data_set_and_seed_once(tmp_path: Path) -> None:
    tasks = mode_coverage.plan(tmp_path, ["pacgan", "bench", "recipe", "unrolled"], 2, 50)
    assert len(tasks) == len({task.directory for task in tasks}) == 2 * 2 * len(mode_coverage.METHODS)
    pack = next(task for task in tasks if task.method.startswith("packs of 3 (Pac"))
    assert {"schedule.batch_size=300", "schedule.images=15000", "trick.packing.size=3"} <= set(pack.overrides)


def test_the_command_trains_and_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "packs of 2 (PacGAN's)"
    monkeypatch.setattr(mode_coverage, "METHODS", {name: mode_coverage.METHODS[name]})
    command = ["mode_coverage.py", "--dir", str(tmp_path), "--methods", "pacgan", "--pacgan-steps", "4"]
    kept = ["--results", str(tmp_path / "results.json")]
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "1", "--jobs", "2", *kept])
    mode_coverage.main()
    said = capfd.readouterr().out
    assert said.count("(1 runs, 0 whole;") == 2
    assert "7.9±.1 / 95.6±2.0 / .07±.03" in said and f"{name} (4 of 400,000 steps)" in said
    first = mode_coverage.plan(tmp_path, ["pacgan"], 1, 4)[0].directory
    shutil.rmtree(first)
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "1", *kept])
    mode_coverage.main()
    assert capfd.readouterr().out == said and not first.exists()  # nothing is run again
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "0"])
    with pytest.raises(UserError, match="--seeds, --jobs and --pacgan-steps must be 1 or more"):
        mode_coverage.main()


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(mode_coverage.__file__).parents[2] / "src"))
