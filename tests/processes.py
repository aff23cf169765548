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
import atexit, gc, json, os, runpy, sys, traceback
import gan_experiments.experiment

def child(command):
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, command["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                              (2, command["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(path, how), number)
    os.makedirs(command["cwd"], exist_ok=True)
    os.chdir(command["cwd"])
    os.environ.update(command["environment"])
    sys.argv = command["arguments"]
    exec(command["prelude"], globals())
    if sys.argv[0] == "gan-train":
        from gan_experiments.cli import main
        main()
    sys.path.insert(0, os.path.dirname(sys.argv[0]))  # as python does
    runpy.run_path(sys.argv[0], run_name="__main__")

gc.freeze()  # else a child's first collection copies everything
for line in sys.stdin:
    command = json.loads(line)
    number = os.fork()
    if number == 0:
        code = 0
        try:
            child(command)
        except SystemExit as stop:
            code = 1 if isinstance(stop.code, str) else stop.code or 0
            print(stop.code if isinstance(stop.code, str) else "", end="", file=sys.stderr)
        except BaseException:
            code = 1
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)  # to take torch apart again lasts a second
    print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)
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
    threads = [] if any(line.startswith("runtime.threads=") for line in arguments) else ["runtime.threads=1"]
    return Command(["gan-train", *arguments, *threads], cwd, prelude)


def script(name: str, *arguments: str | Path, cwd: Path) -> Command:
    """A script of the checkout."""
    return Command([str(SCRIPTS / name), *map(str, arguments)], cwd)


class Workshop:
    """A process that has imported everything and runs commands one after the other, each in a child of its own.

    `home` is their HOME and holds what they print; `environment` is added to theirs.
    """

    def __init__(self, home: Path, **environment: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.environment, self.count = home, environment, 0
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        own = {"HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCES), "NETRC": str(home / "netrc")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home,
            env=kept | own | environment,
        )  # fmt: skip

    def run(self, command: Command, **environment: str) -> Done:
        """What became of the command."""
        self.count += 1
        out, err = (self.home / f"{self.count}.{stream}" for stream in ("out", "err"))
        sent = asdict(command) | {"cwd": str(command.cwd), "out": str(out), "err": str(err), "environment": environment}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(sent) + "\n")
        self._process.stdin.flush()
        code = self._process.stdout.readline()
        assert code, f"the process that runs commands ended with {self._process.wait()}"
        return Done(int(code), *(path.read_text(errors="backslashreplace") for path in (out, err)))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def run_in_turn(commands: Mapping[str, Command], home: Path, **environment: str) -> dict[str, Done]:
    """What became of the commands, which run one after the other with `home` as HOME and with nothing on stdin."""
    workshop = Workshop(home, **environment)
    try:
        return {name: workshop.run(command) for name, command in commands.items()}
    finally:
        workshop.close()
