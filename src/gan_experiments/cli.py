"""gan-train: composes the configuration, runs one experiment (or a sweep), turns every user error into one line."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan_experiments.complaints import complaint, composing, one_line
from gan_experiments.composition import check_composition
from gan_experiments.config import check_nodes, conf_dir, for_hydra, known_keys, plain, register
from gan_experiments.console import INTERRUPTED, UNREAD, complain, escape_what_cannot_be_shown, hush, unread
from gan_experiments.errors import UserError
from gan_experiments.faults import out_of_memory, own_classes, own_fault
from gan_experiments.invocation import continuing
from gan_experiments.overrides import split
from gan_experiments.places import mark_failed, unwritable
from gan_experiments.schema import typed
from gan_experiments.usage import asks_help, help_text, version_text

log = logging.getLogger(__name__)
SHOWING = {"-h", "--help", "--version", "--hydra-help", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}
"""Options with which something is printed and nothing is run."""
REPLACED = {"--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn", "--hydra-help", "--version"}
"""Options with which the configuration may be another one than ours."""


class Failure:
    """The error of a single run, kept from Hydra, which would print lines of its own about it, and what was asked for:
    overrides, folders of the configuration, the configuration once it is composed, and the command to continue with."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.again = ""
        self.overrides: list[str] = []
        self.folders = [Path(conf_dir())]
        self.config: DictConfig | None = None

    def line(self, error: Exception) -> str:
        """The error in one line; users' own classes are named where they may have caused it."""
        if composing(error):
            return str(
                complaint(error, self.overrides, self.folders, partial(known_keys, self.overrides, self.folders))
            )
        if isinstance(error, UserError):
            return one_line(error)
        if (lacking := out_of_memory(error)) is not None:
            return one_line(lacking)
        classes = [] if self.config is None else own_classes(OmegaConf.to_container(self.config))
        beside = f"; it came up with your own {', '.join(dict.fromkeys(classes))}" if classes else ""
        return str(own_fault(error) or f"{type(error).__name__}: {one_line(error)}{beside}")

    def ours(self, error: Exception) -> bool:
        """Whether the error is neither the user's nor due to their code, so far as that can be told."""
        told = own_fault(error) or out_of_memory(error)
        mistaken = isinstance(error, UserError) or composing(error) or told is not None
        return not mistaken and not (self.config is not None and own_classes(OmegaConf.to_container(self.config)))


def job(config: DictConfig, failure: Failure, command: list[str]) -> float | None:
    """One run: the only place that knows Hydra's output directory. Returns the objective to a sweeper."""
    context = HydraConfig.get()
    directory, sweep = Path(os.path.relpath(context.runtime.output_dir)), context.mode is RunMode.MULTIRUN
    failure.again = continuing(command, Path(os.path.relpath(context.sweep.dir)) if sweep else directory, sweep)
    failure.config = config
    try:
        check_composition(config, context)
        plain(config)  # says what is missing, and what can't be, before torch is imported
        check_nodes(config, typed(config))
        from gan_experiments.experiment import run  # torch is imported here, after the configuration has composed

        return run(config, directory, failure.again)
    except Exception as error:
        mark_failed(directory, failure.line(error))
        if sweep:
            log.error("job %s failed: %s", context.job.num, failure.line(error))
            raise
        failure.error = error
        return None


def main() -> None:
    """The command `gan-train`; exits with 0, 1 after an error, 130 or 143 after a signal."""
    escape_what_cannot_be_shown()
    if SHOWING & {argument.partition("=")[0] for argument in sys.argv[1:]}:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as `head` that has enough ends it quietly
        if asks_help(sys.argv[1:]) or "--version" in sys.argv[1:]:
            sys.exit(say_about())
        if "--hydra-help" in sys.argv:
            sys.argv[1:] = ["--hydra-help"]  # Hydra takes no overrides beside it
    failure, status, command = Failure(), 0, list(sys.argv)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # unwinds: status, W&B's last rows
    try:
        register()
        prepare(failure)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # makes Hydra raise instead of printing pages
        task = partial(job, failure=failure, command=command)
        hydra.main(version_base="1.3", config_path=conf_dir(), config_name="config")(task)()
    except KeyboardInterrupt:
        hint = f"; to continue: {failure.again}" if failure.again else ""
        complain(f"gan-train: interrupted at once; what was saved before stays{hint}")
        status = INTERRUPTED
    except SystemExit as stop:
        if not isinstance(stop.code, int) or str(stop) == str(stop.code):
            raise
        complain(f"gan-train: {stop}")
        status = stop.code
    except Exception as error:
        failure.error = unwritable(error)
    if isinstance(failure.error, BrokenPipeError) and unread():
        status = UNREAD
    elif failure.error is not None:
        report(failure)
        status = 1
    hush()
    sys.exit(status)


def prepare(failure: Failure) -> None:
    """Check the command line and put it into the words that Hydra takes as they were meant."""
    options, failure.overrides = split(sys.argv[1:])
    failure.folders = config_folders(options)
    if not REPLACED & {option.partition("=")[0] for option in options}:
        sweep = bool({"-m", "--multirun"} & set(options))
        failure.overrides = for_hydra(failure.overrides, failure.folders, sweep)
        sys.argv[1:] = [*options, *failure.overrides]


def say_about() -> int:
    """Print the help or the version that is asked for; the exit code."""
    arguments = sys.argv[1:]
    try:
        print(help_text(config_folders(arguments), arguments) if asks_help(arguments) else version_text(), flush=True)
    except UserError as error:
        print(f"gan-train: {error}", file=sys.stderr)
        return 2
    return 0


def config_folders(arguments: list[str]) -> list[Path]:
    """Our configuration's folder, and the one that the command line adds with --config-dir (or -cd)."""
    folders = [Path(conf_dir())]
    for place, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if option in ("--config-dir", "-cd"):
            folders += [Path(text) for text in ([value] if value else arguments[place + 1 : place + 2])]
    for folder in folders:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "there is no such folder"
            raise UserError(f"--config-dir {folder}: {what}; give a folder with groups in it, such as {folder}/loss")
    return folders


def report(failure: Failure) -> None:
    """Say what is wrong in one line; with run.debug=true, or for an error of the program's own, where it happened."""
    error = failure.error
    assert error is not None
    if any(re.fullmatch(r"\+*run\.debug=[Tt]rue", argument) for argument in sys.argv[1:]):
        traceback.print_exception(error)
    elif failure.ours(error):
        print("gan-train: an error of the program's own; run.debug=true shows its traceback", file=sys.stderr)
    print(f"gan-train: {failure.line(error)}", file=sys.stderr)


if __name__ == "__main__":
    main()
