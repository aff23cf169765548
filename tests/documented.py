"""What README.md and docs/ say to type, and ways to try it without running it: composing and parsing."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from gan_experiments.composition import check_composition
from gan_experiments.config import conf_dir, plain, register
from gan_experiments.schema import typed
from gan_experiments.usage import asks_help, help_text

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
SCRIPTS = ROOT / "scripts"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("gan-train", "python", "make")


@dataclass(frozen=True)
class Typed:
    """A command as a page has it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def all_commands() -> list[Typed]:
    """The commands of all pages, each once."""
    found = {command.words: command for page, text in TEXTS.items() for command in commands(page, text)}
    return list(found.values())


def commands(page: str, text: str) -> Iterator[Typed]:
    """The commands of a page: every line of its blocks without a language, and code in sentences that is a command.

    Blocks marked ```shell are set-up, and those of other languages aren't for the shell.
    """
    for language, content in BLOCK.findall(text):
        lines = content.replace("\\\n", " ").splitlines()
        if not language:
            yield from (Typed(page, tuple(shlex.split(line, comments=True))) for line in lines)
        elif language not in ("shell", "yaml", "python"):
            assert not [line for line in lines if line.split()[:1] in ([name] for name in PROGRAMS)], content
    for code in re.findall(r"`([^`]+)`", BLOCK.sub("", text)):
        if code.split()[0] in PROGRAMS and len(code.split()) > 1:
            yield Typed(page, tuple(shlex.split(code)))


def try_out(words: Sequence[str]) -> None:
    """Whether the command would begin: AssertionError, UserError or an error of Hydra's if not."""
    program, *arguments = words
    if program == "gan-train":
        try_training(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert [word for word in arguments if "=" not in word][0] in targets, f"no target {arguments[0]}"
    else:
        assert program == "python" and arguments[0].startswith("scripts/"), f"not a command of ours: {words}"
        try_script(ROOT / arguments[0], arguments[1:])


def try_training(arguments: Sequence[str]) -> None:
    """Compose every job of a command of gan-train, or look up what it asks for help on."""
    if asks_help(arguments):
        assert help_text([Path(conf_dir())], arguments)
    for overrides in runs(arguments):
        composed_job(overrides)


def runs(arguments: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The overrides of every run that a command of gan-train makes, seeds apart."""
    if asks_help(arguments) or "--version" in arguments:
        return
    with patch("argparse.ArgumentParser.exit", refuse):
        found = get_args_parser().parse_args(list(arguments))
    yield from map(tuple, jobs(found.overrides) if found.multirun else [found.overrides])


def jobs(overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of each run of a sweep; of seeds, which can't fail to compose, the first."""
    choices = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        if override.is_sweep_override():
            values = [f"{key}={value}" for value in override.sweep_string_iterator()]
            choices.append(values[:1] if key == "run.seed" else values)
        else:
            choices.append([override.input_line or ""])
    return map(list, product(*choices))


@functools.cache
def composed_job(overrides: tuple[str, ...]) -> DictConfig:
    """The configuration of one run, checked as gan-train checks it before it imports torch."""
    register()
    GlobalHydra.instance().clear()
    own = [] if any(override.startswith("run.dir=") for override in overrides) else ["run.dir=unused"]
    with initialize_config_dir(config_dir=conf_dir(), version_base="1.3"):
        config = compose("config", [*own, *overrides], return_hydra_config=True)
    check_composition(config, config.hydra)
    with open_dict(config):
        del config["hydra"]
    plain(config)
    typed(config)
    return config


def try_script(path: Path, arguments: Sequence[str]) -> None:
    """Let a script parse its arguments, and compose with what it would pass on to gan-train."""
    found, rest = parsed(script(path), [str(path), *arguments])
    overrides = [*(getattr(found, "overrides", None) or []), *rest]
    strange = [word for word in overrides if word.startswith("-") or "=" not in word]
    assert not strange, f"{path.name} takes no {' '.join(strange)}"
    names = {
        group: value for group in ("dataset", "metric", "extractor", "logger") if (value := getattr(found, group, None))
    }
    composed_job((*(f"{group}={listed(value)}" for group, value in names.items()), *overrides))


def listed(value: str | Sequence[str]) -> str:
    """One option, or several, as an override has them."""
    return value if isinstance(value, str) else f"[{','.join(value)}]"


@functools.cache
def script(path: Path) -> ModuleType:
    """A script as a module."""
    sys.path[:0] = [folder for folder in (str(SCRIPTS), str(path.parent)) if folder not in sys.path]
    spec = importlib.util.spec_from_file_location(f"documented_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


class Parsed(Exception):
    """What the outermost parser found."""


def parsed(module: Any, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """What a script's parser makes of a command line, and what it leaves over."""
    depth = 0

    def outermost(name: str) -> Any:
        real = getattr(argparse.ArgumentParser, name)

        def parse(parser: argparse.ArgumentParser, *given: Any, **named: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                result = real(parser, *given, **named)
            finally:
                depth -= 1
            if depth or hasattr(module, "parse"):
                return result
            raise Parsed(*(result if isinstance(result, tuple) else (result, [])))

        return patch(f"argparse.ArgumentParser.{name}", parse)

    with patch("sys.argv", list(argv)), patch("argparse.ArgumentParser.exit", refuse), outermost("parse_args"), \
         outermost("parse_known_args"):  # fmt: skip
        try:
            if hasattr(module, "parse"):
                found = module.parse()
                getattr(module, "check", lambda _: None)(found)
                return found, []
            module.main()
        except Parsed as end:
            found, rest = end.args
            return found, rest
    raise AssertionError(f"{argv[0]} parses nothing")


def refuse(parser: argparse.ArgumentParser, status: int = 0, message: str | None = None) -> None:
    """In place of leaving."""
    raise AssertionError(message)
