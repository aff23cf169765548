"""How a run is doing, in one small file that scripts and sweepers read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, final

from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import write_atomic


class State(StrEnum):
    """What became of a run: under way, at its end, interrupted on purpose, or broken."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@final
@dataclass(frozen=True)
class RunStatus:
    """The content of a status file; times are ISO 8601 in UTC, `objective` is what a sweeper minimises or maximises.

    `diagnosis` lists what is wrong with the training now: name, sentence, numbers, images (when last seen) and since.
    """

    state: State = State.RUNNING
    reason: str = ""
    images: int = 0
    step: int = 0
    scores: Mapping[str, Any] = field(default_factory=dict)
    objective: float | None = None
    started: str = field(default_factory=_now)
    updated: str = field(default_factory=_now)
    pid: int = field(default_factory=os.getpid)
    diagnosis: Sequence[Mapping[str, Any]] = field(default_factory=list)


@final
class Status:
    """Keeps the status file at `path`: every update replaces the whole file at once.

    A resumed run takes over images, step, scores and the time of its first start.
    Raises UserError if the file can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        former = read_status(path)
        fresh = RunStatus()
        self.current = fresh if former is None else replace(former, state=State.RUNNING, reason="", pid=fresh.pid)

    def update(
        self,
        state: State | None = None,
        *,
        reason: str | None = None,
        images: int | None = None,
        step: int | None = None,
        scores: Mapping[str, Any] | None = None,
        diagnosis: Sequence[Mapping[str, Any]] | None = None,
        objective: float | None = None,
    ) -> None:
        """Change what is given, keep the rest, and write the file; a reason is folded into one line."""
        given = {
            "state": state, "images": images, "step": step, "scores": scores, "diagnosis": diagnosis,
            "objective": objective,
        }  # fmt: skip
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if reason is not None:
            changes["reason"] = " ".join(reason.split())
        self.current = replace(self.current, **changes, updated=_now())
        write_atomic(self.path, strict_json.dumps(asdict(self.current), indent=2) + "\n")


def read_status(path: Path) -> RunStatus | None:
    """The status in the file at `path`, or None if there is no such file.

    Raises UserError, naming the file, if it holds something else.
    """
    try:
        content = strict_json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; remove it to start afresh") from error
    expected = {item.name for item in fields(RunStatus)}
    # status files of runs from before there were diagnoses have none
    if not isinstance(content, dict) or not expected - {"diagnosis"} <= content.keys() <= expected:
        raise UserError(f"{path} is not a status file: expected the keys {', '.join(sorted(expected))}")
    try:
        return RunStatus(**content | {"state": State(content["state"])})
    except ValueError as error:
        raise UserError(f"{path}: {error}; expected one of {', '.join(State)}") from error
