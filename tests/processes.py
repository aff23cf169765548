"""Runs commands in processes of their own that share the seconds which importing torch and torchmetrics takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import gan_experiments

SOURCES = Path(gan_experiments.__file__).parents[1]
SCRIPTS = SOURCES.parent / "scripts"

# Parent of the commands: imports once, then forks for each, so that every one has its own state, output and exit code.
PARENT = """
import atexit, gc, json, os, runpy, sys
import gan_experiments.experiment

gc.freeze()  # else a child's first collection copies everything
for command in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, command["out"], os.O_WRONLY | os.O_CREAT),
                                  (2, command["err"], os.O_WRONLY | os.O_CREAT)):
            os.dup2(os.open(path, how), number)
        os.makedirs(command["cwd"], exist_ok=True)
        os.chdir(command["cwd"])
        sys.argv = command["arguments"]
        exec(command["prelude"])
        if sys.argv[0] == "gan-train":
            from gan_experiments.cli import main
            main()
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stop:
            code = 1 if isinstance(stop.code, str) else stop.code or 0
            print(stop.code if isinstance(stop.code, str) else "", end="", file=sys.stderr)
        else:
            code = 0
        atexit._run_exitfuncs()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)  # to take torch apart again lasts a second
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Command:
    """`gan-train` or the path of a script with its arguments, begun in `cwd` after the statements of `prelude`."""

    arguments: Sequence[str]
    cwd: Path
    prelude: str = ""


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit code (a signal's number negated)."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines on stderr."""
        return self.err.splitlines()


def gan_train(*arguments: str, cwd: Path, prelude: str = "") -> Command:
    """The command gan-train, on one thread."""
    return Command(["gan-train", *arguments, "runtime.threads=1"], cwd, prelude)


def script(name: str, *arguments: str | Path, cwd: Path) -> Command:
    """A script of the checkout."""
    return Command([str(SCRIPTS / name), *map(str, arguments)], cwd)


def run_in_turn(commands: Mapping[str, Command], home: Path, **environment: str) -> dict[str, Done]:
    """What became of the commands, which run one after the other with `home` as HOME and with nothing on stdin."""
    home.mkdir(parents=True, exist_ok=True)
    files = {name: (home / f"{name}.out", home / f"{name}.err") for name in commands}
    todo = [
        asdict(command) | {"cwd": str(command.cwd), "out": str(files[name][0]), "err": str(files[name][1])}
        for name, command in commands.items()
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    own = {"HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCES), "NETRC": str(home / "netrc")}
    done = subprocess.run(
        [sys.executable, "-c", PARENT], input=json.dumps(todo), env=kept | own | environment, cwd=home,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes = map(int, done.stdout.split())
    return {
        name: Done(code, files[name][0].read_text(), files[name][1].read_text())
        for name, code in zip(commands, codes, strict=True)
    }
