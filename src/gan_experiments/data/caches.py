"""Where files that can be made again are kept when the folder meant for them can't be written."""

from __future__ import annotations

import atexit
import errno
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gan_experiments.data.tree import shortened
from gan_experiments.logging.atomic import temporary_of

log = logging.getLogger(__name__)

FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a folder that this user may not write: the data are somebody else's, so their caches belong elsewhere."""


def own_folder() -> Path:
    """This user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "gan-experiments"


@functools.cache
def passing_folder() -> Path:
    """A folder that vanishes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="gan-experiments-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def places(folder: Path) -> Iterator[Path]:
    """The folder and those to take in its place, one after the other."""
    yield folder
    yield own_folder() / folder.name
    yield passing_folder() / folder.name


def place_for(path: Path, key: str) -> Path:
    """`path` if it is there or can be written, else the same name in the user's own folder; `key` sets its folder."""
    for candidate in (path, own_folder() / path.parent.name / path.name):
        if readable_file(candidate):
            return candidate
    for folder in places(path.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            if error.errno not in FORBIDDEN:
                return folder / path.name  # writing it will say what is wrong
            continue
        if folder != path.parent:
            say_elsewhere(key, path.parent, folder)
        return folder / path.name
    return path


def readable_file(path: Path) -> bool:
    """Whether a file is there and may be read."""
    return os.path.isfile(path) and os.access(path, os.R_OK)


@functools.cache
def say_elsewhere(key: str, wanted: Path, taken: Path) -> None:
    """Say once where files go instead."""
    lasting = "until this command ends" if taken.is_relative_to(passing_folder()) else "instead"
    log.warning("%s=%s: can't be written; its files are kept in %s %s", key, shortened(wanted), taken, lasting)


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` in one step when the block ends well, and vanishes when it doesn't."""
    temporary = temporary_of(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
