"""The command that was typed, and those to type next: spelled so that a shell takes them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def continuing(typed: Sequence[str], directory: Path, sweep: bool) -> str:
    """The command as typed (program and arguments), with the run's or the sweep's directory pinned."""
    own = ("hydra.sweep.dir", "hydra.run.dir")[not sweep]
    arguments = list(typed[1:])
    key = own if any(key_of(argument) == own for argument in arguments) else "run.dir"
    given = [argument for argument in arguments if key_of(argument) == key]
    if not given or not same(given[-1].partition("=")[2], directory):
        arguments = [argument for argument in arguments if argument not in given] + [f"{key}={directory}"]
    return shlex.join([*program(typed[0]), *arguments])


def key_of(argument: str) -> str:
    """The key that an override sets."""
    return argument.partition("=")[0].lstrip("+")


def same(text: str, directory: Path) -> bool:
    """Whether a value, as it is typed, is that directory."""
    return os.path.abspath(text.strip("'\"")) == os.path.abspath(directory)


def program(typed: str) -> list[str]:
    """How gan-train was called: by its name, by its path, or as a module of Python."""
    if Path(typed).suffix == ".py":
        return [python(), "-m", "gan_experiments.cli"]
    found = shutil.which(Path(typed).name)
    return [Path(typed).name if found and same(found, Path(typed)) else nearby(typed)]


def script(name: str, *arguments: str | Path) -> str | None:
    """The command that calls a script of the checkout; None where there is no checkout."""
    path = SCRIPTS / name
    if not path.is_file():
        return None
    return shlex.join([python(), nearby(str(path)), *map(str, arguments)])


def python() -> str:
    """This interpreter: `python` where the shell finds this one by that name."""
    found = shutil.which("python")
    return "python" if found and same(found, Path(sys.executable)) else nearby(sys.executable)


def nearby(path: str) -> str:
    """A path from the current folder if it is below that, else the whole one."""
    relative = os.path.relpath(path)
    return os.path.abspath(path) if relative.startswith("..") else relative
