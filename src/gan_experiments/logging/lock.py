"""Who works in a run directory: a lock while a run is under way, and what became of one that ended without a word."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import final

from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import is_alive
from gan_experiments.logging.provenance import read_starts
from gan_experiments.logging.status import RunStatus, State, read_status

log = logging.getLogger(__name__)

NAME = ".lock"
ATTEMPTS, PAUSE = 5, 0.05
"""A reader that looks whether somebody runs holds the lock for a moment, so a run tries a few times."""
SILENCE = timedelta(hours=6)
"""A run on another machine, where locks may not reach, counts as lost when it has said nothing for so long."""


@final
class Lock:
    """Holds a run directory for this process until `release`; the system lets go of it when the process ends.

    Raises UserError when another process has it, or when it can't be made. Where the file system knows no locks, a
    warning is all there is.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / NAME
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"run.dir={directory}: can't be written: {path}: {error.strerror}") from error
        for attempt in range(ATTEMPTS):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if attempt == ATTEMPTS - 1:
                    self.release()
                    text = f"run.dir={directory}: another process is running here; choose another run.dir"
                    raise UserError(text) from error
                time.sleep(PAUSE)
            except OSError as error:
                log.warning("%s can't be locked (%s): see that no other process runs here", directory, error.strerror)
                return

    def release(self) -> None:
        """Let go; files stay."""
        os.close(self._file)


def is_held(directory: Path) -> bool | None:
    """Whether a process of this machine holds the directory; None where that can't be told."""
    try:
        file = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)


def read_standing(directory: Path) -> RunStatus | None:
    """The status of the run in a directory, LOST in the place of RUNNING where its process has ended; None for none.

    Raises UserError as `read_status` does.
    """
    status = read_status(directory / "status.json")
    if status is None or status.state is not State.RUNNING or not _ended(directory, status):
        return status
    where = f" on {status.host}" if status.host else ""
    reason = f"process {status.pid}{where} ended without a word; to continue: {_again(directory)}"
    return replace(status, state=State.LOST, reason=reason)


def _again(directory: Path) -> str:
    """The command that continues a run, as it was noted at its last start."""
    starts = read_starts(directory)
    again = str(starts[-1].get("again") or "") if starts else ""
    return again or f"the same command with run.dir={directory}"


def _ended(directory: Path, status: RunStatus) -> bool:
    """Whether the process that last wrote a status is gone, as far as this machine can tell."""
    held = is_held(directory)
    if held:
        return False
    if status.host in ("", socket.gethostname()):
        return held is False or not is_alive(status.pid)
    return datetime.now(UTC) - datetime.fromisoformat(status.updated) > SILENCE
