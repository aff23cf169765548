"""What a run leaves behind, and the rules for coming back to it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

from gan_experiments.checkpoint import Checkpoints, differences
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.locations import locations
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.logging.records import Records
from gan_experiments.logging.status import RunStatus, State, Status, read_status

# A run and its data may move to another place, be watched from another dashboard, and say more when it fails.
FREE_KEYS = ("run.dir", "run.data", "run.debug", "logger", "evaluation.cache")


class RunDirectory:
    """The files of one run; entering it locks them for this process and makes sure that the configuration fits.

    Raises UserError when another process runs here, when the directory belongs to a run with another
    configuration (the differing keys are named), or when it can't be written.
    """

    def __init__(self, path: Path, config: dict[str, Any], keep: int) -> None:
        self.path, self.config = path, config
        self.checkpoints = Checkpoints(path / "checkpoints", keep)
        self.samples = path / "samples"
        self.generator = path / "generator.pt"

    def __enter__(self) -> RunDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"run.dir={self.path}: can't be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise UserError(f"run.dir={self.path}: another process is running here; choose another run.dir") from error
        try:
            self._compare()
            self.run_id = self._identity()
            self.former: RunStatus | None = read_status(self.path / "status.json")
            self.status = Status(self.path / "status.json")
            self.records = Records(self.path / "metrics.jsonl")
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.records.close()
        os.close(self._lock)

    @property
    def completed(self) -> bool:
        """Whether the run has reached its end before."""
        return self.former is not None and self.former.state is State.COMPLETED

    def refuse_repetition(self) -> None:
        """UserError where a run has ended in numbers that weren't finite: continued, it would end the same."""
        former = self.former
        if former is None or former.state is not State.FAILED or NonFinite.SAID not in former.reason:
            return
        places = (self.path.with_name(f"{self.path.name}-{number}") for number in itertools.count(2))
        free = next(place for place in places if not place.exists())
        raise UserError(
            f"run.dir={self.path}: this run failed and would fail again: {former.reason}; start with that changed "
            f"elsewhere, e.g. run.dir={free} (to try again all the same, remove {self.path / 'status.json'})"
        )

    def _compare(self) -> None:
        """Refuse a directory that holds work of another configuration; one without any is given this configuration."""
        path, records = self.path / "config.json", self.path / "metrics.jsonl"
        worked = bool(self.checkpoints.paths()) or (records.exists() and records.stat().st_size > 0)
        if not worked:
            write_atomic(path, json.dumps(self.config, indent=2) + "\n")
        elif not path.exists():
            raise UserError(f"run.dir={self.path}: has records but no config.json; choose another run.dir")
        refuse_changes(read_config(self.path), self.config, self.path)

    def settle(self) -> None:
        """Let config.json say where things are now; to be called once it is known that they are the same things."""
        if read_config(self.path) != json.loads(json.dumps(self.config)):
            write_atomic(self.path / "config.json", json.dumps(self.config, indent=2) + "\n")

    def _identity(self) -> str:
        """The run's name for dashboards, the same each time it is continued."""
        path = self.path / "run_id"
        if not path.exists():
            write_atomic(path, secrets.token_hex(4) + "\n")
        return path.read_text().strip()


def read_config(directory: Path) -> dict[str, Any]:
    """The resolved configuration of the run in `directory`; UserError when there is none."""
    path = directory / "config.json"
    try:
        content = strict_json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{directory}: not a run directory (no config.json); give one that gan-train wrote") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a configuration")
    return content


def refuse_changes(old: dict[str, Any], new: dict[str, Any], where: Path) -> None:
    """Raise a UserError that names every differing key, unless only free ones and places of files differ.

    What lies in those places is compared by its content, once it has been read.
    """
    free = (*FREE_KEYS, *locations(old), *locations(new))
    changed = [
        line for line in differences(old, json.loads(json.dumps(new)))
        if not any(line.startswith((f"{key}:", f"{key}.")) for key in free)
    ]  # fmt: skip
    if changed:
        raise UserError(
            f"run.dir={where}: holds a run with another configuration ({'; '.join(changed)}); "
            "give the same values to continue it, or another run.dir"
        )
