"""The one line that shows how far a run, or a long tool, is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO, final

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from gan_experiments.logging.line import Moment

WIDTH = 80
"""Columns of a terminal that doesn't know its own."""


@final
class Progress:
    """Images seen of `total_images` (or another `unit`), rate, time left, losses, a score; nothing before `start`.

    On a terminal a live line that fits it, with log messages above; elsewhere one whole line at most every `interval`
    seconds. Of several scores `objective` is shown, else the first.
    """

    def __init__(
        self,
        total_images: int,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        unit: str = "images",
        label: str = "",
        objective: str | None = None,
    ) -> None:
        self.total_images, self.images = total_images, 0
        self._stream = sys.stderr if stream is None else stream
        self._interval, self._clock = interval, clock
        self._unit, self._label, self._objective = unit, label, objective
        self._first = self._shown_images = 0
        self._started = self._shown = clock()
        self._losses: dict[str, float] = {}
        self._score: tuple[str, float] | None = None
        self._rate: float | None = None
        self._closing = ExitStack()
        self._bar: tqdm[Any] | None = None

    def start(self, images: int = 0) -> None:
        """Begin to show, at `images` images where a run is continued."""
        self.images = self._first = self._shown_images = images
        self._started = self._shown = self._clock()
        if self._stream.isatty():
            self._bar = LiveLine(self)
            self._closing.callback(self._bar.close)
            self._closing.enter_context(logging_redirect_tqdm())

    def update(self, images: int) -> None:
        """Tell how many images the run has seen by now, in all."""
        self.images = images
        if self._bar is not None:
            self._bar.update(images - self._bar.n)
        elif self._clock() - self._shown >= self._interval:
            self._write_line()

    def show(
        self, losses: Mapping[str, float], scores: Mapping[str, float] | None = None, rate: float | None = None
    ) -> None:
        """Show these numbers from now on; names not given keep their last number. `rate` is that of training alone,
        which the live line shows once it is known: its own falls with every evaluation."""
        self._losses.update(losses)
        self._rate = self._rate if rate is None else rate
        if scores:
            wanted = self._objective
            name = wanted if wanted is not None and wanted in scores else next(iter(scores))
            self._score = (name, scores[name])

    def close(self, leave: bool = True) -> None:
        """Leave the last state standing, or on a terminal nothing; a second call does nothing."""
        if self._bar is not None:
            self._bar.leave = leave
        elif self.images != self._shown_images and leave:
            self._write_line()
        self._closing.close()

    def moment(self, rate: float | None) -> Moment:
        """What is to be shown now: the present rate, and the time left by the whole session with its evaluations."""
        seconds, left = self._clock() - self._started, None
        if self.images > self._first and seconds > 0:
            left = max(self.total_images - self.images, 0) * seconds / (self.images - self._first)
        return Moment(
            self.images, self.total_images, self._unit, rate, left, self._losses, self._score, self._label
        )  # fmt: skip

    @property
    def rate(self) -> float | None:
        """The rate of training alone, if it has been told."""
        return self._rate

    def stream(self) -> TextIO:
        """Where the line goes."""
        return self._stream

    def _write_line(self) -> None:
        now, rate = self._clock(), None
        if self.images > self._first and now > self._started:
            rate = (self.images - self._shown_images) / max(now - self._shown, 1e-9)
        try:
            self._stream.write(self.moment(rate).plain() + "\n")
            self._stream.flush()
        except BrokenPipeError:  # nobody reads; who started the run is told by its end
            pass
        self._shown, self._shown_images = now, self.images


class LiveLine(tqdm):  # type: ignore[type-arg]
    """tqdm's line, in our words and never wider than the terminal."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        super().__init__(
            total=progress.total_images, initial=progress.images, file=progress.stream(), dynamic_ncols=True
        )

    def __str__(self) -> str:
        """The line for the terminal as wide as it is now."""
        facts = self.format_dict
        moment = self.progress.moment(self.progress.rate or facts["rate"] or self.overall(facts))
        columns = facts["ncols"] or 0  # 0 or less of a terminal that doesn't know
        return moment.fitted((columns if columns > 1 else WIDTH) - 1)

    @staticmethod
    def overall(facts: Mapping[str, Any]) -> float | None:
        """The rate since the start, while there is no newer one."""
        done = facts["n"] - facts["initial"]
        return done / facts["elapsed"] if done and facts["elapsed"] > 0 else None


@contextmanager
def stages(unit: str = "images", stream: TextIO | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Shows how far a long tool is, which says `(what, done, total)`: another line for each thing it does."""
    shown: Progress | None = None
    label = ""

    def tell(what: str, done: int, total: int) -> None:
        nonlocal shown, label
        if shown is None or what != label or done < shown.images or total != shown.total_images:
            if shown is not None:
                shown.close(leave=False)
            shown, label = Progress(total, stream, unit=unit, label=what), what
            shown.start()
        shown.update(done)

    try:
        yield tell
    finally:
        if shown is not None:
            shown.close(leave=False)
