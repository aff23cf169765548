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
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gan_experiments.composition import check_composition, options
from gan_experiments.config import conf_dir, plain, register
from gan_experiments.console import INTERRUPTED, UNREAD, complain, hush, unread
from gan_experiments.errors import UserError
from gan_experiments.invocation import continuing
from gan_experiments.places import mark_failed, unwritable
from gan_experiments.schema import typed
from gan_experiments.usage import asks_help, help_text, version_text

log = logging.getLogger(__name__)
SHOWING = {"-h", "--help", "--version", "--hydra-help", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}
"""Options with which something is printed and nothing is run."""


class Failure:
    """The error of a single run, kept from Hydra, which would print lines of its own about it, and the command that
    continues the run, or its sweep."""

    error: Exception | None = None
    again: str = ""


def job(config: DictConfig, failure: Failure, command: list[str]) -> float | None:
    """One run: the only place that knows Hydra's output directory. Returns the objective to a sweeper."""
    context = HydraConfig.get()
    directory, sweep = Path(os.path.relpath(context.runtime.output_dir)), context.mode is RunMode.MULTIRUN
    failure.again = continuing(command, Path(os.path.relpath(context.sweep.dir)) if sweep else directory, sweep)
    try:
        check_composition(config, context)
        plain(config)  # says what is missing, and what can't be, before torch is imported
        typed(config)
        from gan_experiments.experiment import run  # torch is imported here, after the configuration has composed

        return run(config, directory, failure.again)
    except Exception as error:
        mark_failed(directory, one_line(error))
        if sweep:
            log.error("job %s failed: %s", context.job.num, one_line(error))
            raise
        failure.error = error
        return None


def main() -> None:
    """The command `gan-train`; exits with 0, 1 after an error, 130 or 143 after a signal."""
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
        report(failure.error)
        status = 1
    hush()
    sys.exit(status)


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
    return folders


def report(error: Exception) -> None:
    """Say what is wrong in one line; with run.debug=true, or for an error of the program's own, where it happened."""
    if any(re.fullmatch(r"\+*run\.debug=[Tt]rue", argument) for argument in sys.argv[1:]):
        traceback.print_exception(error)
    elif not isinstance(error, UserError) and not composing(error):
        print("gan-train: an error of the program's own; run.debug=true shows its traceback", file=sys.stderr)
    print(f"gan-train: {with_options(one_line(error))}", file=sys.stderr)


def with_options(text: str) -> str:
    """The text, naming the options that there are where Hydra names none: for one of several from a group."""
    found = re.search(r"Could not load '(\w+)/[^']+'\.", text)
    known = options(config_folders(sys.argv[1:]), found[1]) if found else []
    if found is None or not known:
        return text
    return f"{text[: found.end()]} Available options in '{found[1]}': {' '.join(known)}{text[found.end() :]}"


def composing(error: BaseException) -> bool:
    """Whether the error is Hydra's or OmegaConf's own complaint about the command line or a YAML file."""
    return type(error).__module__.split(".")[0] in ("hydra", "omegaconf", "antlr4", "yaml")


def one_line(error: BaseException) -> str:
    """The error's text in one line, with the causes that Hydra hides beneath its own."""
    texts: list[str] = []
    current: Any = error
    while current is not None and len(texts) < 4:
        text = re.sub(r"\s+", " ", str(current)).strip() or type(current).__name__
        if not any(text in seen for seen in texts):
            texts.append(text)
        current = None if isinstance(current, UserError) else current.__cause__
    return " | ".join(texts)


if __name__ == "__main__":
    main()
