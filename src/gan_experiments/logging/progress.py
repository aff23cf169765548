"""The one line that shows how far a run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, TextIO, final

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


@final
class Progress:
    """Images seen of `total_images`, images/s, time left, losses and scores; shows nothing before `start`.

    On a terminal a live line, with log messages above it; elsewhere one whole line at most every `interval` seconds.
    """

    def __init__(
        self,
        total_images: int,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_images, self.images = total_images, 0
        self._stream = sys.stderr if stream is None else stream
        self._interval, self._clock = interval, clock
        self._first = self._shown_images = 0
        self._started = self._shown = clock()
        self._values: dict[str, float] = {}
        self._closing = ExitStack()
        self._bar: tqdm[Any] | None = None

    def start(self, images: int = 0) -> None:
        """Begin to show, at `images` images where a run is continued."""
        self.images = self._first = self._shown_images = images
        self._started = self._shown = self._clock()
        if self._stream.isatty():
            self._bar = self._live_line()

    def update(self, images: int) -> None:
        """Tell how many images the run has seen by now, in all."""
        self.images = images
        if self._bar is not None:
            self._bar.update(images - self._bar.n)
        elif self._clock() - self._shown >= self._interval:
            self._write_line()

    def show(self, losses: Mapping[str, float], scores: Mapping[str, float] | None = None) -> None:
        """Show these numbers from now on; names not given keep their last number."""
        self._values.update(losses)
        self._values.update(scores or {})
        if self._bar is not None:
            self._bar.set_postfix_str(self._numbers(), refresh=False)

    def close(self) -> None:
        """Leave the last state standing; a second call does nothing."""
        if self._bar is None and self.images != self._shown_images:
            self._write_line()
        self._closing.close()

    def _live_line(self) -> tqdm[Any]:
        bar: tqdm[Any] = tqdm(
            total=self.total_images,
            initial=self.images,
            file=self._stream,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
        )
        self._closing.callback(bar.close)
        self._closing.enter_context(logging_redirect_tqdm())
        return bar

    def _write_line(self) -> None:
        now = self._clock()
        share = 100 * self.images // max(self.total_images, 1)
        parts = [f"{self.images:,}/{self.total_images:,} images ({share}%)"]
        if self.images > self._first and now > self._started:
            # the latest interval tells the present speed, the whole session (with evaluations) the time left
            latest = (self.images - self._shown_images) / max(now - self._shown, 1e-9)
            overall = (self.images - self._first) / (now - self._started)
            left = timedelta(seconds=round(max(self.total_images - self.images, 0) / overall))
            parts += [f"{latest:,.0f} images/s", f"{left} left"]
        self._stream.write(", ".join([*parts, self._numbers()]).removesuffix(", ") + "\n")
        self._stream.flush()
        self._shown, self._shown_images = now, self.images

    def _numbers(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self._values.items())
