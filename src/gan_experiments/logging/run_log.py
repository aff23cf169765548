"""The log in a run's directory."""

from __future__ import annotations

import logging
import sys
from typing import final


@final
class RunLog(logging.FileHandler):
    """A log file whose failure, such as a full disk, is one line on stderr, once; messages stay on the terminal."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        """Say that the file can't be written, unless that has been said."""
        if not self.failed:
            self.failed = True
            print(f"{self.baseFilename}: can't be written ({sys.exception()}); messages are here only", file=sys.stderr)
