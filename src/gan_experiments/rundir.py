"""What a run leaves behind, and the rules for coming back to it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

from gan_experiments.checkpoint import Checkpoints, differences
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.locations import locations
from gan_experiments.logging import lock, provenance, strict_json
from gan_experiments.logging.atomic import remove_dead, write_atomic
from gan_experiments.logging.records import Records
from gan_experiments.logging.status import RunStatus, State, Status, read_status

log = logging.getLogger(__name__)

# A run and its data may move to another place, be watched from another dashboard, say more when it fails, and keep
# another best.
FREE_KEYS = ("run.dir", "run.data", "run.debug", "logger", "evaluation.cache", "checkpoint.best")
FILES = (
    lock.NAME, "config.json", "run_id", "status.json", "metrics.jsonl", "generator.pt", "best.pt", provenance.NAME,
)  # fmt: skip
SHOWN = 12
"""Of the keys that differ, so many are named."""
FOLDERS = ("checkpoints", "samples")


class RunDirectory:
    """The files of one run; entering it locks them for this process and makes sure that the configuration fits.

    Nothing that is there is changed before it is known to belong to this run. Raises UserError when another process
    runs here, when the directory belongs to a run with another configuration (the differing keys are named), when it
    has records but nothing to go on from, or when it can't be written.
    """

    def __init__(self, path: Path, config: dict[str, Any], keep: int) -> None:
        self.path, self.config = path, config
        self.checkpoints = Checkpoints(path / "checkpoints", keep)
        self.samples = path / "samples"
        self.generator, self.best = path / "generator.pt", path / "best.pt"

    def __enter__(self) -> RunDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"run.dir={self.path}: can't be written: {error.strerror}") from error
        check_kinds(self.path)
        self._lock = lock.Lock(self.path)
        try:
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.records.close()
        finally:
            self._lock.release()

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
        again = f" (to try again all the same, remove {self.path / 'status.json'})" if self.checkpoints.paths() else ""
        raise UserError(
            f"run.dir={self.path}: this run failed and would fail again: {former.reason}; start with that changed "
            f"elsewhere, e.g. run.dir={free}{again}"
        )

    def begin_anew(self) -> None:
        """Keep the records of a start that was cut off before its first checkpoint, under another name."""
        if self.records.position > 0:
            kept = self.records.set_aside()
            if self.best.exists():
                self.best.rename(self.path / f"{kept.stem.replace('metrics', 'best')}.pt")
            text = "%s was cut off before its first checkpoint and begins anew; its records are in %s"
            log.warning(text, self.path, kept)

    def _read(self) -> None:
        """What is there, refused unless this run can go on from it."""
        self.former: RunStatus | None = read_status(self.path / "status.json")
        self._compare()
        if not self.completed:
            self._require_start()
        self.run_id = self._identity()
        self.status = Status(self.path / "status.json")
        provenance.read_starts(self.path)
        self.records = Records(self.path / "metrics.jsonl")
        if removed := sum(remove_dead(folder, alone=True) for folder in (self.path, self.checkpoints.folder)):
            log.info("%s: removed %s bytes that a killed process had left unfinished", self.path, f"{removed:,}")
        remove_dead(self.samples)
        if self.former is not None and self.former.state is State.RUNNING:
            text = "%s: the process that ran here ended without a word, after %s images"
            log.info(text, self.path, f"{self.former.images:,}")

    @property
    def _recorded(self) -> bool:
        path = self.path / "metrics.jsonl"
        return path.exists() and path.stat().st_size > 0

    def _compare(self) -> None:
        """Refuse a directory that holds work of another configuration; one without any is given this configuration."""
        path = self.path / "config.json"
        worked = bool(self.checkpoints.paths()) or self._recorded or self.generator.exists() or self.best.exists()
        if worked and not path.exists():
            raise UserError(f"run.dir={self.path}: has records but no config.json; choose another run.dir")
        if path.exists():
            former = read_config(self.path)
            if not {"run", "schedule"} <= former.keys():
                raise UserError(f"{path}: not the configuration of a run; choose another run.dir")
            if worked:
                refuse_changes(former, self.config, self.path)
        if not worked:
            write_atomic(path, json.dumps(self.config, indent=2) + "\n")

    def _require_start(self) -> None:
        """Refuse records without a checkpoint, unless the run was cut off before its first one."""
        if self.checkpoints.paths() or not (self._recorded or self.generator.exists() or self.best.exists()):
            return
        if self.former is not None and self.former.saved == 0 and not self.generator.exists():
            return
        images = "" if self.former is None else f" of {self.former.images:,} images"
        raise UserError(
            f"run.dir={self.path}: holds what a run{images} left, but no checkpoint to go on from; put its "
            f"step-*.pt back into {self.checkpoints.folder}, or start afresh in another run.dir (or move this one away)"
        )

    def settle(self) -> None:
        """Let config.json say where things are now; to be called once it is known that they are the same things."""
        if read_config(self.path) != json.loads(json.dumps(self.config)):
            write_atomic(self.path / "config.json", json.dumps(self.config, indent=2) + "\n")

    def _identity(self) -> str:
        """The run's name for dashboards, the same each time it is continued."""
        path = self.path / "run_id"
        if not path.exists():
            write_atomic(path, secrets.token_hex(4) + "\n")
        text = path.read_bytes().strip().decode("ascii", errors="replace")
        if not re.fullmatch(r"[\w.-]{1,128}", text, re.ASCII):
            raise UserError(f"{path}: not the name of a run ({text!r:.40}); delete it, and the run gets another one")
        return text


def check_kinds(directory: Path) -> None:
    """UserError where a run's directory has a folder for a file, a file for a folder, or what can't be written."""
    for name in (*FILES, *FOLDERS):
        path, folder = directory / name, name in FOLDERS
        if not os.path.lexists(path):
            continue
        if not path.exists():
            raise UserError(f"{path}: a link to nothing; remove it, or choose another run.dir")
        if path.is_dir() != folder:
            found, wanted = ("a file", "a folder") if folder else ("a folder", "a file")
            raise UserError(f"{path}: is {found} where a run keeps {wanted}; move it away, or choose another run.dir")
        if not os.access(path, os.W_OK | (os.X_OK if folder else os.R_OK)):
            raise UserError(f"{path}: can't be written; change its permissions, or choose another run.dir")


def read_config(directory: Path) -> dict[str, Any]:
    """The resolved configuration of the run in `directory`; UserError when there is none."""
    path = directory / "config.json"
    advice = "put the run's own back, or give another run directory"
    try:
        content = strict_json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{directory}: not a run directory (no config.json); give one that gan-train wrote") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); {advice}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a configuration; {advice}")
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
        shown = changed if len(changed) <= SHOWN else [*changed[:SHOWN], f"and {len(changed) - SHOWN} more"]
        raise UserError(
            f"run.dir={where}: holds a run with another configuration ({'; '.join(shown)}); "
            "give the same values to continue it, or another run.dir"
        )
