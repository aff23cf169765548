"""Pseudo terminals of a given width, and what stands on their screens."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO


class PseudoTerminal:
    """A terminal of `columns` columns; what is written to `stream` (or to `slave`) is `read` afterwards."""

    def __init__(self, columns: int) -> None:
        self.master, self.slave = os.openpty()
        self.resize(columns)
        self.stream: TextIO = os.fdopen(os.dup(self.slave), "w")
        self.content = b""
        self.reader = threading.Thread(target=self._collect, daemon=True)
        self.reader.start()

    def resize(self, columns: int) -> None:
        """Make the window so wide."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def read(self) -> str:
        """All that was written; ends the terminal."""
        self.stream.close()
        os.close(self.slave)
        self.reader.join(10)
        os.close(self.master)
        return self.content.decode()

    def _collect(self) -> None:
        while True:
            try:
                found = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                return
            if not found:
                return
            self.content += found


def drawn(text: str) -> list[str]:
    """Every state that a line of the screen was in, in turn: what stands between carriage returns and newlines."""
    return [part for line in text.split("\n") for part in line.split("\r") if part.strip()]


def on_terminal(arguments: Sequence[str], columns: int, cwd: Path) -> tuple[int, str]:
    """The exit code of gan-train and all that it wrote, with stdout and stderr on a terminal."""
    terminal = PseudoTerminal(columns)
    done = subprocess.run(
        [sys.executable, "-m", "gan_experiments.cli", *arguments], stdin=subprocess.DEVNULL, stdout=terminal.slave,
        stderr=terminal.slave, cwd=cwd, timeout=120, env={**os.environ, "HOME": str(cwd)},
    )  # fmt: skip
    return done.returncode, terminal.read()
