"""What `gan-train --help` says: a page to begin with, and one for each group, option and section of keys."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gan_experiments import __version__
from gan_experiments.composition import SEVERAL
from gan_experiments.errors import UserError

WIDTH = 79
LONG = 170
"""Letters of a sentence on an option."""
HELP = ("-h", "--help")
TAKE_A_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c",
                "--info", "-i", "--experimental-rerun")  # fmt: skip

ABOUT = {
    "model": "networks, and the game they play", "loss": "adversarial losses", "dataset": "data",
    "regularizer": "penalties and further terms", "trick": "tricks", "metric": "scores",
    "conditioning": "how classes reach the networks", "extractor": "networks whose features are scored",
    "schedule": "length, batches, rates", "optimizer": "in place of the schedule's",
    "experiment": "recipes, most of them published",
    "logger": "dashboards", "runtime": "device, precision, threads",
}  # fmt: skip

TEXT = """\
gan-train: GAN experiments from the command line

  gan-train [group=option ...] [key=value ...]

First commands
  gan-train                                clothes in minutes, on any machine
  gan-train loss=hinge schedule=ttur run.seed=1
  gan-train experiment=grid                a recipe: 25 Gaussians, two minutes
  gan-train dataset=folder dataset.path=photos dataset.size=64 \\
            extractor=efficientnet_lite0 metric=[fid]
  gan-train -m loss=nonsaturating,hinge run.seed=0,1,2 run.dir=outputs/losses
                                           a sweep: -m, and values with commas

Groups, with how many options each has and what is chosen unless you do
{groups}
  Lists may be chosen where it says [...]: trick=[label_smoothing,packing]

Keys
  run.dir=outputs/mine       names the run; the same command again continues it
  schedule.images=1000000    the length in real images (or schedule.steps)
  schedule.generator.optimizer.lr=2e-4    regularizer.r1.weight=5

More
  gan-train --help loss        the options of a group, with a sentence each
  gan-train --help loss=hinge  an option's keys with what they are by default
  gan-train --help run         {sections}
  gan-train --cfg job          all keys, as the rest of the command sets them
  gan-train --version          --hydra-help: switches, such as --config-dir
  eval "$(gan-train -sc install=bash)"     lets the shell complete options"""


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether help is asked for."""
    return any(argument in HELP or argument.startswith("--help=") for argument in arguments)


def version_text() -> str:
    """Our version and those of what numbers depend on."""
    names = [f"Python {sys.version.split()[0]}"]
    for package in ("torch", "hydra-core", "numpy"):
        with suppress(PackageNotFoundError):
            names.append(f"{package} {version(package)}")
    return f"gan-experiments {__version__} ({', '.join(names)})"


def help_text(folders: Sequence[Path], arguments: Sequence[str] = ()) -> str:
    """The first page or, for topics among the arguments, theirs; UserError for a topic that there isn't."""
    pages = [page(folders, *topic) for topic in topics(folders, arguments)]
    return "\n\n\n".join(pages) if pages else first_page(folders)


def first_page(folders: Sequence[Path]) -> str:
    """What to type first, the groups, the most wanted keys."""
    groups, chosen = options(folders), defaults(folders)
    wide = max(map(len, groups))
    lines = [
        f"  {name:<{wide}} {len(groups[name]):>3}  {ABOUT.get(name, 'your own'):<34} {chosen.get(name, '')}".rstrip()
        for name in sorted(groups, key=lambda name: ([*ABOUT, name].index(name), name))
    ]
    return TEXT.replace("{groups}", "\n".join(lines)).replace("{sections}", f"keys: {', '.join(sections(folders))}")


def options(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The options of every group in these folders."""
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.glob("*/*.yaml"):
            groups.setdefault(path.parent.name, set()).add(path.stem)
    return {name: sorted(found) for name, found in groups.items()}


def defaults(folders: Sequence[Path]) -> dict[str, str]:
    """What is chosen from each group unless the command says otherwise, a list in brackets."""
    entries = OmegaConf.load(folders[0] / "config.yaml").defaults
    plain = [OmegaConf.to_container(entry) for entry in entries if isinstance(entry, DictConfig)]
    pairs = [pair for entry in plain if isinstance(entry, dict) for pair in entry.items()]
    return {
        str(group): f"[{','.join(option)}]" if isinstance(option, list) else str(option)
        for group, option in pairs
        if option is not None
    }


def topics(folders: Sequence[Path], arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The groups (or sections) that help is asked for, each with an option or with none."""
    groups, places = options(folders), sections(folders)
    rest = iter(arguments)
    last = ""
    for argument in rest:
        if argument in TAKE_A_VALUE:
            next(rest, None)
            continue
        word = argument.removeprefix("--help=").lstrip("+~")
        if word.startswith("-"):
            continue
        group, equals, values = word.partition("=")
        owners = [name for name, names in groups.items() if word in names]
        if equals and group in groups:
            yield from ((group, name) for name in re.findall(r"[^\[\],\s]+", values))
        elif word in groups or word in places:
            last = word
            following = next((name for name in arguments[arguments.index(argument) + 1 :]), "")
            if following not in groups.get(word, ()):  # `--help loss hinge` is about hinge
                yield word, ""
        elif not equals and word in groups.get(last, ()):
            yield last, word
        elif not equals and owners:
            yield from ((name, word) for name in owners)
        elif not equals and word.partition(".")[0] in {*groups, *places}:
            yield word.partition(".")[0], ""
        elif not (equals and re.search(r"[./]", group)):  # a.b=c sets a key, hydra/x=y is Hydra's own
            raise UserError(
                f"--help {word}: no such group; there is {', '.join(sorted(groups))}, and {', '.join(places)}"
            )


def page(folders: Sequence[Path], name: str, option: str) -> str:
    """The page on a section of keys, on a group, or on an option of a group."""
    groups = options(folders)
    if name not in groups:
        return sections(folders)[name]
    if not option:
        return group_page(folders, name)
    if option not in groups[name]:
        raise UserError(f"--help {name}={option}: no such option; there is {', '.join(groups[name])}")
    return option_page(folders, name, option)


def group_page(folders: Sequence[Path], name: str) -> str:
    """A sentence on each option of a group."""
    found = options(folders)[name]
    several = [f"{name}=[{','.join(found[:2])}] takes both."] if name in SEVERAL and len(found) > 1 else []
    chosen = defaults(folders).get(name)
    lines = [f"{name}: {ABOUT.get(name, 'your own')}" + (f" ({chosen} unless you choose)" if chosen else ""), ""]
    wide = min(max(map(len, found)), 22)
    for option in found:
        indent = " " * (wide + 4)
        said = textwrap.fill(sentence(find(folders, name, option)), WIDTH, initial_indent=indent,
                             subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)  # fmt: skip
        label = f"  {option:<{wide}}"
        lines += [f"{label}  {said.lstrip()}"] if len(option) <= wide else [label, said]
    return "\n".join([*lines, "", *several, f"gan-train --help {name}={found[0]} shows the keys of one."])


def option_page(folders: Sequence[Path], name: str, option: str) -> str:
    """All that the comment at the top of an option's file says, and its keys with their values."""
    path = find(folders, name, option)
    comment, keys, package = parts(path)
    where = "" if package == "_global_" else f" below {package or name}"
    body = [f"  {line}".rstrip() for line in keys]
    return "\n".join([f"{name}={option}", "", *comment, "", f"Keys{where}, as {path.name} has them:", *body]).rstrip()


def parts(path: Path) -> tuple[list[str], list[str], str]:
    """The comment at the top of an option's file without its marks, the lines below, and the package that it names."""
    lines = path.read_text(encoding="utf-8").splitlines()
    top = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = [line.removeprefix("#").removeprefix(" ") for line in lines[:top] if "@package" not in line]
    packages = re.findall(r"^# @package (\S+)", "\n".join(lines[:top]), re.MULTILINE)
    return comment, lines[top:], packages[0] if packages else ""


def find(folders: Sequence[Path], group: str, option: str) -> Path:
    """The option's file in the first folder that has it, as Hydra takes it."""
    return next(path for folder in folders if (path := folder / group / f"{option}.yaml").is_file())


def sentence(path: Path) -> str:
    """The first sentence of the comment at the top of a YAML file, without the option's name before it; of a long one
    the first clauses."""
    words: list[str] = []
    named = rf"#? ?(\w+=)?{re.escape(path.stem)}( \S+=\S+)?: "
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or (words and re.match(r"#  |# gan-train|#$", line)):
            break
        if re.match(named, " ".join(words)) and line[2:3].isupper():  # `# name: ...` is a line without a full stop
            break
        if "@package" not in line:
            words += line.lstrip("# ").split()
    text = re.sub(named, "", " ".join(words), count=1)
    text = re.split(r"(?<!\bal)(?<!\be\.g)(?<!\bcf)(?<!\bvs)\.(?:\s|$)", text)[0].rstrip(".:;, ")
    ends = [end.start() for end in re.finditer(r"[;:,] ", text[:LONG]) if text.count("(", 0, end.start()) == text.count(
        ")", 0, end.start())]  # fmt: skip
    return (text[: ends[-1]] if len(text) > LONG and ends else text) or f"(no comment at the top of {path.name})"


def sections(folders: Sequence[Path]) -> dict[str, str]:
    """The parts of config.yaml that are no groups, with their comments, by name."""
    found: dict[str, str] = {}
    name = ""
    for line in (folders[0] / "config.yaml").read_text(encoding="utf-8").splitlines():
        if top := re.match(r"(\w+):", line):
            name = "" if top[1] in ("defaults", "hydra") else top[1]
        if name and not line.startswith("#"):
            found[name] = f"{found[name]}\n{line}".rstrip() if name in found else line
    return found
