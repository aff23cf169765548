"""Ctrl-C, SIGTERM, a closed terminal or pipe: finish the step, save, and say how to continue."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gan_experiments.console import unread
from gan_experiments.trainer import Trainer

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


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
    """While this lasts, the first of these signals asks the trainer to stop; a second one takes its usual way.

    SIGPIPE counts where nobody reads stdout or stderr any more (`gan-train 2>&1 | head`), not for other pipes; SIGHUP,
    of a terminal that is closed, unless it is ignored (nohup); SIGINT unless a shell has its commands with & ignore it.
    """
    caught = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread only
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in (signal.SIGHUP, signal.SIGINT):
        if before[number] is signal.SIG_IGN:
            del before[number]

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGPIPE and not unread():
            return
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
