"""Runs on Weights & Biases: online, offline for a later `wandb sync`, and never in the way of the training."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from gan_experiments.errors import UserError
from gan_experiments.logging.logger import Logger

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

IMAGES = "progress/images"
Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "run": "online",  # what WANDB_MODE may say besides
    "shared": "online",
    "dryrun": "offline",
}


@final
class WandbLogger(Logger):
    """One W&B run, whose x axis is the number of real images seen.

    `mode` auto: as WANDB_MODE says, else online. An online run without an API key, or one that can't start within
    `init_timeout` seconds, becomes an offline one; `finish_timeout` bounds the upload at the end, in seconds.
    `directory` is a folder for the runs of a whole sweep; by default WANDB_DIR, else each run's own.
    Raises UserError for a mode, project, tag or run id that W&B does not take, and if wandb isn't installed.
    """

    def __init__(
        self,
        project: str = "gan-experiments",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        name: str | None = None,
        job_type: str | None = None,
        mode: str = "auto",
        directory: str | Path | None = None,
        init_timeout: float = 15,
        finish_timeout: float = 60,
    ) -> None:
        self.project, self.entity, self.group, self.name, self.job_type = project, entity, group, name, job_type
        self.tags = [str(tag) for tag in tags]
        self.directory = directory
        self.init_timeout, self.finish_timeout = init_timeout, finish_timeout
        self._mode = _asked_mode(mode)
        self._run: wandb.Run | None = None
        self._best: dict[str, float] = {}
        _check_names(project, self.tags)
        if self._mode != "disabled" and importlib.util.find_spec("wandb") is None:
            raise UserError("logger=wandb needs the package wandb: pip install wandb, or choose logger=none")

    def open(self, config: Mapping[str, Any], directory: Path, run_id: str) -> None:
        """Begin or continue the run `run_id`; says in one line where it can be seen or how it is synced later."""
        if not run_id or set(run_id) & set(":;,#?/'"):
            raise UserError(f"run id {run_id!r}: W&B wants at least one character and none of : ; , # ? / '")
        if self._run is not None:
            self.close(1, "never closed")
        if self._mode == "disabled":
            return
        # wandb reads its environment once, when first used, so this must come before anything else asks it.
        os.environ.setdefault("WANDB_SILENT", "true")
        folder = Path(self.directory or os.environ.get("WANDB_DIR") or directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"logger.directory={folder} cannot be created: {error.strerror}") from error
        arguments = self._arguments(config, folder, run_id)
        obstacle = self._start_online(arguments) if self._mode == "online" else "as asked"
        if obstacle:
            self._start_offline(arguments, obstacle)
        self.summary(self._best_scores())

    def log(self, values: Mapping[str, float], images: int) -> None:
        """Add one row of numbers at `images` images seen."""
        self._tell(lambda run: run.log({**values, IMAGES: images}))

    def log_images(self, key: str, pixels: NDArray[np.uint8], images: int, caption: str = "") -> None:
        """Add one picture, uint8 (h, w, 3) or (h, w, 1), as a PNG with exactly these pixels."""
        # wandb casts floats to uint8 without scaling or warning, which makes a black picture.
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
            raise ValueError(f"{key}: expected uint8 (h, w, 3) or (h, w, 1), got {pixels.dtype} {pixels.shape}")

        def tell(run: wandb.Run) -> None:
            from wandb import Image

            run.log({key: Image(pixels, caption=caption or None, file_type="png"), IMAGES: images})

        self._tell(tell)

    def scores(self, records: Mapping[str, Mapping[str, Any]], images: int) -> None:
        """Add score/<name> and its floor to the history; best, last, both counts and all else on it to the summary."""
        row: dict[str, float] = {IMAGES: images}
        summary: dict[str, Any] = {}
        for name, record in records.items():
            key = f"score/{name}"
            row[key] = summary[f"{key}_last"] = _number(record["value"])
            if record.get("floor") is not None:
                row[f"{key}_floor"] = record["floor"]
                summary[f"{key}_floor_n"] = record.get("n_floor", 0)
            summary[f"{key}_n"] = record.get("n_fake", 0)
            if self._is_best(name, record):
                summary[f"{key}_best"] = record["value"]
                summary[f"{key}_best_images"] = images
            summary[f"{key}_record"] = dict(record)

        def tell(run: wandb.Run) -> None:
            run.log(row)
            run.summary.update(summary)

        self._tell(tell)

    def remember(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of earlier scores, before or after `open`; a new offline run gets the best ones in its summary."""
        for name, record in records.items():
            self._is_best(name, record)
        self.summary(self._best_scores())

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set numbers or texts in the run's summary."""
        self._tell(lambda run: run.summary.update(dict(values)))

    def close(self, exit_code: int, reason: str) -> None:
        """End the run with its exit code and reason; an upload that isn't done in time is left for `wandb sync`."""
        self.summary({"reason": reason})
        self._best = {}
        run, self._run = self._run, None
        if run is None:
            return
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:  # a dashboard that doesn't answer must not turn a finished run into a failed one
            log.warning("W&B: not everything arrived (%s); later: wandb sync %s", _line(error), Path(run.dir).parent)

    def _arguments(self, config: Mapping[str, Any], folder: Path, run_id: str) -> dict[str, Any]:
        tricks = [str(name) for kind in ("conditioning", "trick") for name in config.get(kind) or {}]
        named = f"{' + '.join(tricks)}, seed {(config.get('run') or {}).get('seed')}" if tricks else None
        return {
            "project": self.project,
            "entity": self.entity,
            "group": self.group,
            "tags": [*self.tags, *(trick for trick in tricks if trick not in self.tags)] or None,
            "name": self.name or named,
            "job_type": self.job_type,
            "config": dict(config),
            "allow_val_change": True,
            "dir": str(folder),
            "id": run_id,
            "resume": "allow",
            # by default a second run in one process is silently merged with an open first one
            "reinit": "create_new",
        }

    def _start_online(self, arguments: Mapping[str, Any]) -> str:
        """Why the run can't be online; empty if it is."""
        import wandb

        try:
            # without prompt and verification this neither asks nor waits for a network
            if not wandb.login(prompt=False, verify=False):
                return "no API key; `wandb login` stores one"
            self._start(arguments, "online")
        except Exception as error:  # whatever ails the service, the training is worth more
            # the failed attempt keeps hold of the run's id until the service ends
            with suppress(Exception):
                wandb.teardown()
            return f"online failed: {_line(error)}"
        log.info("W&B: %s", self._run.url if self._run else "")
        return ""

    def _start_offline(self, arguments: Mapping[str, Any], reason: str) -> None:
        # offline, error reporting is the only thing that looks for a network: 10 s at exit where packets are dropped
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            self._start(arguments, "offline")
        except Exception as error:
            self._lose(error)
            return
        if self._run is not None:
            log.info("W&B: offline (%s); to upload later: wandb sync %s", reason, Path(self._run.dir).parent)

    def _start(self, arguments: Mapping[str, Any], mode: Mode) -> None:
        import wandb

        settings = wandb.Settings(
            console="off",
            init_timeout=self.init_timeout,
            finish_timeout=self.finish_timeout,
            finish_timeout_raises=True,
        )
        run = wandb.init(mode=mode, settings=settings, **arguments)
        run.define_metric(IMAGES, hidden=True)
        run.define_metric("*", step_metric=IMAGES)
        self._run = run

    def _is_best(self, name: str, record: Mapping[str, Any]) -> bool:
        value, sign = _number(record["value"]), -1.0 if record["higher_is_better"] else 1.0
        if math.isnan(value) or sign * value >= sign * self._best.get(name, sign * math.inf):
            return False
        self._best[name] = value
        return True

    def _best_scores(self) -> dict[str, float]:
        return {f"score/{name}_best": value for name, value in self._best.items()}

    def _tell(self, message: Callable[[wandb.Run], object]) -> None:
        if self._run is None:
            return
        try:
            message(self._run)
        except Exception as error:  # wandb's service may die at any time, and then every call raises
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Give up W&B for the rest of this run, say so once, and leave wandb fit for the next run."""
        import wandb

        run, self._run = self._run, None
        log.warning("W&B: lost (%s); training goes on, metrics.jsonl has every number", _line(error))
        if run is not None:
            with suppress(Exception):
                run.finish(exit_code=1)
        with suppress(Exception):
            wandb.teardown()


def _asked_mode(mode: str) -> Mode:
    """The mode that logger.mode or, if that is auto, WANDB_MODE asks for; online unless either says otherwise."""
    where, asked = "logger.mode", mode
    if mode == "auto":
        where, asked = "WANDB_MODE", os.environ.get("WANDB_MODE") or "online"
    if asked not in MODES:
        raise UserError(f"{where}={asked} is not a W&B mode: expected auto, online, offline or disabled")
    return MODES[asked]


def _check_names(project: str, tags: Sequence[str]) -> None:
    """W&B's own rules, checked before the run starts since a dashboard may not stop one later."""
    if not 0 < len(project) <= 128 or set(project) & set("/\\#?%:"):
        raise UserError(f"logger.project={project!r}: W&B wants 1 to 128 characters and none of / \\ # ? % :")
    for tag in tags:
        if not 0 < len(tag) <= 64:
            raise UserError(f"logger.tags: {tag!r} has {len(tag)} characters, W&B takes 1 to 64")


def _number(value: float | None) -> float:
    """A score's value, which its record leaves out when it isn't finite."""
    return math.nan if value is None else float(value)


def _line(error: Exception) -> str:
    """The first line of an error's text, or its type's name if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
