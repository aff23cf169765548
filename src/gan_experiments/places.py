"""Folders that a run can't be made in, said with the key that chooses them."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path

from gan_experiments.errors import UserError
from gan_experiments.logging.status import State, Status

MAKING = ("run_job", "sweep")
"""Hydra's functions that make a run's or a sweep's folder and open the log in it."""


def unwritable(error: Exception) -> Exception:
    """A UserError that names run.dir for what the system said when Hydra made a run's folder; else the error itself."""
    cause = error.__cause__ if isinstance(error, ValueError) else error  # what logging makes of it
    if not isinstance(cause, OSError):
        return error
    frames = [(frame.f_globals.get("__name__", ""), frame.f_code.co_name)
              for frame, _ in traceback.walk_tb(error.__traceback__)]  # fmt: skip
    made = any(module.startswith("hydra.") and name in MAKING for module, name in frames)
    if not made or ("gan_experiments.cli", "job") in frames or ("__main__", "job") in frames:
        return error
    path = str(cause.filename or ".")
    shown = path if len(path) <= 160 else f"{path[:80]}...{path[-60:]}"
    why = "it is there, and not a folder" if isinstance(cause, FileExistsError) else cause.strerror or cause
    said = UserError(f"run.dir: {shown} can't be made or written: {why}; give a run.dir that can")
    said.__cause__ = error
    return said


def mark_failed(directory: Path, reason: str) -> None:
    """Say in a new run's folder that it failed before it could say so itself; nothing where anything else lies."""
    with suppress(UserError, OSError):
        if all(path.suffix == ".log" or path.name.startswith(".") for path in directory.iterdir()):
            Status(directory / "status.json").update(State.FAILED, reason=reason)
