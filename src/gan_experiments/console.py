"""What all commands share: errors in one line, a quiet end when nobody reads on, output places tried first."""

from __future__ import annotations

import argparse
import io
import os
import select
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic

INTERRUPTED, UNREAD = 130, 141
"""A shell's exit codes for SIGINT and SIGPIPE."""


class Parser(argparse.ArgumentParser):
    """argparse's, which keeps the lines of its description and says in one line what is wrong."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line."""
        self.exit(2, f"{self.prog.split()[0]}: {' '.join(message.split())}\n")


def run_command(main: Callable[[], int | None], interrupted: str = "interrupted") -> NoReturn:
    """Run a script's `main` and end the process: with its exit code, 1 after an error of the user's, 130 after Ctrl-C
    (when it says `interrupted`), 141 where the reader of a pipe has gone."""
    name = Path(sys.argv[0]).name
    escape_what_cannot_be_shown()
    try:
        code = exit_code(main)
        sys.stdout.flush()
    except UserError as error:
        code = complain(f"{name}: {error}")
    except KeyboardInterrupt:
        complain(f"{name}: {interrupted}")
        code = INTERRUPTED
    except BrokenPipeError:
        if not unread():
            raise
        code = UNREAD
    except OSError as error:
        if error.filename is None:
            raise
        code = complain(f"{name}: {os.fsdecode(error.filename)}: {error.strerror}")
    hush()
    sys.exit(code)


def escape_what_cannot_be_shown() -> None:
    """Let stdout and stderr spell as escapes what their encoding lacks: a terminal may know ASCII or latin-1 alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_code(main: Callable[[], int | None]) -> int:
    """What `main` returns or exits with."""
    try:
        return main() or 0
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        return complain(str(stop.code))


def complain(text: str) -> int:
    """Say it on stderr, if anybody reads that; the exit code 1."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # the pipe or the terminal has gone
        hush()
    return 1


def unread() -> list[int]:
    """Those of stdout and stderr that are pipes whose reader has gone."""
    found = []
    for stream in (sys.stdout, sys.stderr):
        try:
            number = stream.fileno()
        except (AttributeError, OSError, ValueError):  # none, or not a file
            continue
        poll = select.poll()
        poll.register(number, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            found.append(number)
    return found


def hush() -> None:
    """Let what is still to be written to a pipe without a reader vanish: Python would complain of it at its end."""
    for number in unread():
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


def check_file(path: Path | None, option: str) -> None:
    """UserError, naming the option, unless a file can be written to `path`; folders that are missing will be made."""
    if path is None:
        return
    try:
        if path.is_dir():
            raise UserError(f"{option} {path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            raise UserError(f"{option} {path}: is neither a file nor a folder; give another name")
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}; give another name") from error
    check_folder(path.parent, option, path)


def check_folder(path: Path | None, option: str, file: Path | None = None) -> None:
    """UserError, naming the option, unless files can be written to the folder `path`, which need not be there yet."""
    if path is None:
        return
    given, nearest = file or path, path
    try:
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise UserError(f"{option} {given}: {nearest} is a file; give a folder")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UserError(f"{option} {given}: can't be written ({error.strerror}); give another place") from error


def write_file(path: Path, text: str) -> None:
    """Write a text to a file, whole or not at all, with the folders above it; UserError where that can't be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    write_atomic(path, text)
