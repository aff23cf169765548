"""Ctrl-C and SIGTERM: finish the step, save, and say how to continue."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gan_experiments.trainer import Trainer


class Interrupted(SystemExit):
    """A run was stopped from outside after saving its state; ends a sweep too, with the shell's code for the signal."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(128 + number)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Caught:
    """Which signal came, if one did."""

    number: int | None = None


@contextmanager
def stopping_on_signals(trainer: Trainer) -> Iterator[Caught]:
    """While this lasts, the first SIGINT or SIGTERM asks the trainer to stop; a second one takes its usual way."""
    caught = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread only
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        caught.number = number
        trainer.stop_requested = True
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
