"""What was measured in a run, one JSON line a record; this file is the truth, dashboards are copies of it."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, final

from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json


@final
class Records:
    """Appends records to `path`; what stands there is cut only when something new takes its place.

    A half-written last line, left by a crash, doesn't count. Raises UserError if the file can't be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._position = path, 0
        self._open()

    @property
    def position(self) -> int:
        """Bytes up to the end of the last complete record; a checkpoint keeps it for `rewind`."""
        return self._position

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the records up to `position`."""
        return self._digest.hexdigest()

    def write(self, kind: str, images: int, step: int, values: Mapping[str, object]) -> None:
        """Append a record: what it is about, when (images seen, step, Unix time in seconds) and its values.

        The line is handed to the system at once, so that a killed process loses nothing.
        """
        record = {"kind": kind, "images": images, "step": step, "time": round(time.time(), 3), "values": values}
        line = strict_json.dumps(record).encode() + b"\n"
        with self._writing():
            self._cut()
            self._file.write(line)
            self._file.flush()
        self._position += len(line)
        self._digest.update(line)

    def flush(self, fsync: bool = True) -> None:
        """Hand everything to the system and, with `fsync`, to the disk, so that a power failure loses nothing."""
        with self._writing():
            self._file.flush()
            if fsync:
                os.fsync(self._file.fileno())

    def rewind(self, position: int, sha256: str | None = None) -> None:
        """Go back to `position`, kept by a checkpoint: what stands behind it goes when the next record is written.

        Raises UserError if the file isn't the one the checkpoint was saved beside: too short, no line ends there, or
        its records don't have the hash `sha256`.
        """
        if position > self._position:
            raise UserError(
                f"{self.path} has {self._position} bytes of records, but its checkpoint was saved after {position}; "
                "put the missing records back or start in a new directory"
            )
        self._file.seek(max(position - 1, 0))
        if position and self._file.read(1) != b"\n":
            raise UserError(
                f"{self.path} has no end of a line at byte {position}: it isn't its checkpoint's file; "
                "put that one back or start in a new directory"
            )
        digest = self._hash(position)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise UserError(
                f"{self.path} has been changed since its checkpoint was saved: its first {position} bytes have another "
                "SHA-256; put the former file back or start in a new directory"
            )
        self._position, self._digest = position, digest

    def set_aside(self) -> Path:
        """Begin an empty file; the former one stays beside it under the first free name of those with a number."""
        self._file.close()
        number = next(
            n for n in itertools.count(1) if not os.path.lexists(self.path.with_name(f"{self.path.stem}-{n}.jsonl"))
        )
        kept = self.path.rename(self.path.with_name(f"{self.path.stem}-{number}.jsonl"))
        self._open()
        return kept

    def close(self) -> None:
        """Flush to the disk and close; a second call does nothing."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b")  # noqa: SIM115 - stays open as long as the run
            self._position = self._end_of_last_line()
            self._digest = self._hash(self._position)
        except OSError as error:
            raise UserError(f"cannot open {self.path}: {error.strerror or error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _cut(self) -> None:
        """Drop what stands behind `position`: records of after the checkpoint, or half a line."""
        if os.fstat(self._file.fileno()).st_size > self._position:
            self._file.truncate(self._position)

    def _hash(self, position: int) -> hashlib._Hash:
        """The hash of the first `position` bytes, to be carried on."""
        digest = hashlib.sha256()
        self._file.seek(0)
        while position > 0:
            block = self._file.read(min(position, 1 << 20))
            digest.update(block)
            position -= len(block)
        return digest

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


def read_records(path: Path, start: int = 0, stop: int | None = None) -> Iterator[dict[str, Any]]:
    """Every complete record of a file in order: kind, images, step, time, values; a torn last line is skipped.

    With `start` and `stop`, only those from that byte on, where a record must begin, and up to that byte.

    Raises UserError, naming file and line, where something else than a record stands.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            place = start
            for number, line in enumerate(file, start=1):
                place += len(line)
                if line.endswith(b"\n") and (stop is None or place <= stop):
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
    kinds = {"kind": str, "images": int, "step": int, "values": dict}
    for name, kind in kinds.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise UserError(f"{where} is not a record: {name} is {record[name]!r:.40}")
    if record["kind"] == "scores":
        for name, score in record["values"].items():
            check_score(score, f"{where} is not a record: {name}")
    return cast(dict[str, Any], record)


def check_score(score: object, where: str) -> None:
    """Raise UserError unless a score, read from a file, has its numbers: value, floor, and which way is better."""
    if not isinstance(score, dict) or not _is_number(score.get("value", "")):
        raise UserError(f"{where} has no number as value")
    for name in ("floor", "real"):
        if not _is_number(score.get(name)):
            raise UserError(f"{where} has {score[name]!r:.40} as {name}")
    if not isinstance(score.get("higher_is_better", False), bool):
        raise UserError(f"{where} has {score['higher_is_better']!r:.40} as higher_is_better")


def _is_number(value: object) -> bool:
    """Whether a value is a number, or None where there is none."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
