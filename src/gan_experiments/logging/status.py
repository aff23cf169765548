"""How a run is doing, in one small file that scripts and sweepers read."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, final

from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.logging.records import check_score


class State(StrEnum):
    """What became of a run: under way, at its end, interrupted on purpose, broken, or ended without a word.

    LOST is never written: it is what a reader finds where RUNNING stands and nobody runs.
    """

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


LATER = frozenset({"diagnosis", "host", "saved"})
"""Keys that status files of earlier versions lack."""

TYPES: Mapping[str, Any] = {
    "state": str, "reason": str, "images": int, "step": int, "scores": dict, "objective": int | float | None,
    "started": str, "updated": str, "pid": int, "diagnosis": list, "host": str, "saved": int | None,
}  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@final
@dataclass(frozen=True)
class RunStatus:
    """The content of a status file; times are ISO 8601 in UTC, `objective` is what a sweeper minimises or maximises.

    `diagnosis` lists what is wrong with the training now: name, sentence, numbers, images (when last seen) and since.
    `saved` are the images of the newest checkpoint, 0 before the first, None where it isn't known (earlier versions).
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
    host: str = ""
    saved: int | None = None


@final
class Status:
    """Keeps the status file at `path`: every update replaces the whole file at once.

    A resumed run takes over images, step, scores and the time of its first start.
    Raises UserError if the file can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        former = read_status(path)
        begun = RunStatus() if former is None else replace(former, state=State.RUNNING, reason="")
        self.current = replace(begun, pid=os.getpid(), host=socket.gethostname())

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
        saved: int | None = None,
    ) -> None:
        """Change what is given, keep the rest, and write the file; a reason is folded into one line."""
        given = {
            "state": state, "images": images, "step": step, "scores": scores, "diagnosis": diagnosis,
            "objective": objective, "saved": saved,
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
        raise UserError(f"cannot read {path}: {error}; remove it, the checkpoints stay") from error
    names = {item.name for item in fields(RunStatus)}
    if not isinstance(content, dict) or not names - LATER <= content.keys() <= names:
        raise UserError(f"{path} is not a status file: expected the keys {', '.join(sorted(names))}")
    for name in ("reason", "host"):  # a text may be the word NaN
        if isinstance(content.get(name), float):
            content[name] = json.loads(strict_json.dumps(content[name]))
    for name, value in content.items():
        if isinstance(value, bool) or not isinstance(value, TYPES[name]):
            raise UserError(f"{path} is not a status file: {name} is {value!r:.40}; remove it, the checkpoints stay")
    _check_contents(content, path)
    return RunStatus(**content | {"state": State(content["state"])})


def _check_contents(content: Mapping[str, Any], path: Path) -> None:
    """UserError for a state, time or score that is none."""
    try:
        State(content["state"])
        for name in ("started", "updated"):
            if datetime.fromisoformat(content[name]).tzinfo is None:
                raise ValueError(f"{name} has no time zone")
        if not all(isinstance(found, dict) for found in content.get("diagnosis", [])):
            raise ValueError("diagnosis holds something else than objects")
    except ValueError as error:
        raise UserError(
            f"{path}: {error}; expected a state of {', '.join(State)}, times in ISO 8601 with a zone; "
            "remove it, the checkpoints stay"
        ) from error
    for name, score in content["scores"].items():
        check_score(score, f"{path} is not a status file: score {name}")
