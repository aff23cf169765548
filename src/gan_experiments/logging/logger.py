"""What a run tells a dashboard; the records in metrics.jsonl are complete without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


class Logger(ABC):
    """A dashboard for one run at a time: `open`, then any of the others, then `close`; `remember` may come first.

    Only the first of several ranks opens a logger that leaves the machine; the others use `NoLogger`.
    """

    @abstractmethod
    def open(self, config: Mapping[str, Any], directory: Path, run_id: str) -> None:
        """Begin the run `run_id`, or continue it, with its whole configuration; files go under `directory`."""

    @abstractmethod
    def log(self, values: Mapping[str, float], images: int) -> None:
        """Add one row of numbers at `images` images seen; call it once an interval."""

    @abstractmethod
    def log_images(self, key: str, pixels: NDArray[np.uint8], images: int, caption: str = "") -> None:
        """Add one picture, uint8 (h, w, 3) or (h, w, 1); raises ValueError for anything else."""

    @abstractmethod
    def scores(self, records: Mapping[str, Mapping[str, Any]], images: int) -> None:
        """Add scores: each name's record holds value, floor (None: not finite), higher_is_better and provenance."""

    @abstractmethod
    def remember(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of scores logged before the run was resumed, so that "best" means best of the whole run."""

    @abstractmethod
    def summary(self, values: Mapping[str, Any]) -> None:
        """Set numbers or texts that describe the run as a whole."""

    @abstractmethod
    def close(self, exit_code: int, reason: str) -> None:
        """End the run with a process exit code and one line that says why; belongs into a `finally`."""


@final
class NoLogger(Logger):
    """Tells nobody; metrics.jsonl is written all the same."""

    def open(self, config: Mapping[str, Any], directory: Path, run_id: str) -> None:
        """Do nothing."""

    def log(self, values: Mapping[str, float], images: int) -> None:
        """Do nothing."""

    def log_images(self, key: str, pixels: NDArray[np.uint8], images: int, caption: str = "") -> None:
        """Do nothing."""

    def scores(self, records: Mapping[str, Mapping[str, Any]], images: int) -> None:
        """Do nothing."""

    def remember(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Do nothing."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def close(self, exit_code: int, reason: str) -> None:
        """Do nothing."""
