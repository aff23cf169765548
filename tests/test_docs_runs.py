"""Every training command in README.md and docs/ takes two steps."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from documented import all_commands, composed_job, runs
from gan_experiments.experiment import run
from gan_experiments.logging.status import State, read_status
from recipes import given_data, small, stand_in

RUNS = dict.fromkeys(
    overrides for typed in all_commands() if typed.words[0] == "gan-train" for overrides in runs(typed.words[1:])
)
ELSEWHERE = ("my_package", "weights: DEFAULT", "mean_distance")
"""What only users have: classes and weights."""
TEMPO = ("schedule.images=", "schedule.steps=", "schedule.batch_size=", "samples.count=", "run.objective=")
SHORT = ("schedule.steps=2", "schedule.images=null", "schedule.batch_size=8", "samples.count=4", "run.objective=null",
         "runtime.device=cpu")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_every_run_takes_two_steps(overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as its experiment says it may be; without scores and dashboard, which have tests of their own."""
    if any(thing in override for override in overrides for thing in ELSEWHERE):
        pytest.skip("needs what only users have")
    monkeypatch.chdir(tmp_path)
    stand_in(monkeypatch)
    experiment = next((line.partition("=")[2] for line in overrides if line.startswith("experiment=")), None)
    kept = (line for line in overrides if not line.startswith(TEMPO))
    config = copy.deepcopy(composed_job((*kept, *SHORT, *(small(experiment) if experiment else ()))))
    config.metric, config.extractor = {}, {}
    config.logger = {"_target_": "gan_experiments.logging.logger.NoLogger"}
    if "path" in config.dataset:
        config.dataset.update(path="???", train_folder=None, held_out_folder=None)
    run(given_data(config, tmp_path), tmp_path / "run")
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None and status.state is State.COMPLETED and status.step == 2
