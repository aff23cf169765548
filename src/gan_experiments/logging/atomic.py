"""Files that are either the old one or the new one, never half of each."""

from __future__ import annotations

import os
import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gan_experiments.errors import UserError

TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)(?:-(?P<host>[0-9a-f]{8}))?\.tmp")
SILENT_SECONDS = 600
"""A writer of another machine, whose process can't be looked at, is dead when its file has not grown for so long."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Raises UserError if the folder can't be written to or the disk is full; `path` is then as it was.
    """
    temporary = temporary_of(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; the former file, if any, is kept") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path` by way of a temporary file beside it; raises as `replacing` does."""
    with replacing(path) as file:
        file.write(content.encode(errors="surrogateescape") if isinstance(content, str) else content)


def remove_dead(folder: Path, alone: bool = False) -> int:
    """Delete what killed writers left unfinished in a folder; how many bytes that were.

    With `alone`, nobody else writes on this machine: process ids, which are given again, are not asked.
    """
    total = 0
    for path in folder.glob(".*.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        with suppress(OSError):  # another process may be tidying up too
            if found is not None and _dead(path, int(found["pid"]), found["host"], alone):
                size = path.stat().st_size
                path.unlink()
                total += size
    return total


def temporary_of(path: Path) -> Path:
    """Where the coming content of `path` is written: beside it, named by this process and machine."""
    name = os.fsdecode(os.fsencode(path.name)[:200])  # file systems allow 255 bytes
    return path.with_name(f".{name}.{os.getpid()}-{_host()}.tmp")


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _dead(path: Path, pid: int, host: str | None, alone: bool) -> bool:
    """Whether the process that wrote an unfinished file is gone."""
    if host is not None and host != _host():
        return time.time() - path.stat().st_mtime > SILENT_SECONDS
    return alone or not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make a renaming in `folder` last through a power failure, where folders can be opened (not on Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
