"""Starts gan-train in a process of its own and tells what became of the run: shared by the scripts of this folder."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

from gan_experiments.errors import UserError
from gan_experiments.logging.status import State, read_status

TRAIN = (sys.executable, "-m", "gan_experiments.cli")


@final
@dataclass(frozen=True)
class Outcome:
    """The end of a run: its final scores by name (a record each, none if it failed), why it failed, the wall-clock
    seconds of the whole process, and the images it has seen."""

    scores: dict[str, dict[str, Any]]
    failure: str
    seconds: float
    images: int


def train(directory: Path, overrides: Sequence[str]) -> Outcome:
    """Run, continue or, if it is complete, only look up the run in `directory`; its output goes to standard error.

    Raises UserError when gan-train refuses to run (a misspelt key, a directory of another run) or was interrupted.
    """
    before = read_status(directory / "status.json")
    start = time.perf_counter()
    last = {override.partition("=")[0]: override for override in overrides}  # those of the command line come last
    code = relay([*TRAIN, *last.values(), f"run.dir={directory}"])
    seconds = time.perf_counter() - start
    status = read_status(directory / "status.json")
    if code == 0 and status is not None and status.state is State.COMPLETED:
        return Outcome({name: dict(record) for name, record in status.scores.items()}, "", seconds, status.images)
    # A refused command leaves the status as it was, so an old failure isn't taken for this command's.
    if code == 0 or status is None or status == before or status.state is not State.FAILED:
        raise UserError(f"{directory}: gan-train ended with code {code}, for the reason that it gives above")
    return Outcome({}, status.reason, seconds, status.images)


class Planned(Protocol):
    """A run that is to be: its directory and overrides of gan-train."""

    @property
    def directory(self) -> Path:
        """Where it lives."""

    @property
    def overrides(self) -> Sequence[str]:
        """What it is."""


def train_all(tasks: Sequence[Planned], jobs: int) -> list[Outcome]:
    """The outcomes of all tasks, of which `jobs` run at a time; those that fail are named on standard error."""
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        for task, outcome in zip(tasks, pool.map(lambda t: train(t.directory, t.overrides), tasks), strict=True):
            if outcome.failure:
                print(f"{task.directory}: failed: {outcome.failure}", file=sys.stderr)
            outcomes.append(outcome)
    return outcomes


def relay(command: Sequence[str]) -> int:
    """Run a command, its output on standard error, where it doesn't mix with a script's table; its exit code."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C has reached the run too, which saves a checkpoint before it ends
            raise


def check_overrides(overrides: Sequence[str], reserved: Sequence[str]) -> None:
    """UserError for what is no override of gan-train, or sets a key that the script sets itself."""
    for override in overrides:
        key, equals, _ = override.partition("=")
        if override.startswith("-") or not equals:
            raise UserError(f"{override}: neither an option of this script nor an override (key=value) of gan-train")
        if key.lstrip("+~") in reserved:
            raise UserError(f"{override}: the script sets {key.lstrip('+~')} itself; leave it out")
