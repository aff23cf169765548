"""What was measured in a run, one JSON line a record; this file is the truth, dashboards are copies of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, final

from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json


@final
class Records:
    """Appends records to `path`; a half-written last line, left by a crash, is dropped when the file is opened.

    Raises UserError if the file can't be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 - stays open as long as the run
        except OSError as error:
            raise UserError(f"cannot open {path}: {error.strerror}") from error
        self._position = self._end_of_last_line()
        self._file.truncate(self._position)

    @property
    def position(self) -> int:
        """Bytes up to the end of the last complete record; a checkpoint keeps it for `truncate`."""
        return self._position

    def write(self, kind: str, images: int, step: int, values: Mapping[str, object]) -> None:
        """Append a record: what it is about, when (images seen, step, Unix time in seconds) and its values.

        The line is handed to the system at once, so that a killed process loses nothing.
        """
        record = {"kind": kind, "images": images, "step": step, "time": round(time.time(), 3), "values": values}
        line = strict_json.dumps(record).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        self._position += len(line)

    def flush(self, fsync: bool = True) -> None:
        """Hand everything to the system and, with `fsync`, to the disk, so that a power failure loses nothing."""
        self._file.flush()
        if fsync:
            os.fsync(self._file.fileno())

    def truncate(self, position: int) -> None:
        """Drop what was written after a checkpoint that kept `position`.

        Raises UserError if the file isn't the one the checkpoint was saved beside: too short, or no line ends there.
        """
        if position > self._position:
            raise UserError(
                f"{self.path} has {self._position} bytes of records, but its checkpoint was saved after {position}; "
                "put the missing records back or start in a new directory"
            )
        self._file.seek(max(position - 1, 0))
        if position and self._file.read(1) != b"\n":
            raise UserError(f"{self.path} has no end of a line at byte {position}: it isn't its checkpoint's file")
        self._file.truncate(position)
        self._position = position
        self.flush()

    def close(self) -> None:
        """Flush to the disk and close; a second call does nothing."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def _end_of_last_line(self, block: int = 1 << 16) -> int:
        end = self._file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(end - block, 0)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0


def read_records(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """Every complete record of a file in order: kind, images, step, time, values; a torn last line is skipped.

    With `start`, only those from that byte on, where a record must begin.

    Raises UserError, naming file and line, where something else than a record stands.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield _parse(
                        line, f"{path}:{number}" if start == 0 else f"{path}, line {number} after byte {start}"
                    )
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = strict_json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not a record: {error}") from error
    if not isinstance(record, dict) or not {"kind", "images", "step", "values"} <= record.keys():
        raise UserError(f"{where} is not a record: expected an object with kind, images, step and values")
    return cast(dict[str, Any], record)
