"""Hydra's complaints about a command line or a YAML file, said in one line with the key and the cure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gan_experiments.composition import group_names, options
from gan_experiments.errors import UserError
from gan_experiments.quoting import Override
from gan_experiments.schema import schema_kind, section_keys
from gan_experiments.values import listed, near

LIBRARIES = ("hydra", "omegaconf", "antlr4", "yaml")


def composing(error: BaseException) -> bool:
    """Whether the error came up while the configuration was composed, from the command line or a YAML file."""
    if type(error).__module__.split(".")[0] in LIBRARIES:
        return True
    last = [{*LIBRARIES} & {*Path(file).parts} for file in list(files_of(error))[-8:]]
    if isinstance(error, ValueError) and not isinstance(error, UnicodeDecodeError):
        return bool(last and last[-1])
    return isinstance(error, RecursionError | UnicodeDecodeError) and any(last)


def files_of(error: BaseException) -> Iterator[str]:
    """The files of the functions in which an error came up."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next


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


def complaint(
    error: BaseException, overrides: Sequence[str], folders: list[Path], keys: Callable[[], Sequence[str]] = list
) -> UserError:
    """What a user is told of an error that came up while composing; `keys` lists those that there are."""
    for cause in causes(error):
        mark = getattr(cause, "problem_mark", None) or getattr(cause, "context_mark", None)
        if mark is not None:
            problem = getattr(cause, "problem", None) or one_line(cause)
            return UserError(f"{short(mark.name)}:{mark.line + 1}: not YAML: {problem}")
        if isinstance(cause, yaml.reader.ReaderError | UnicodeDecodeError):
            return UserError(f"{unreadable(folders)}: not YAML: it isn't text in UTF-8")
    if isinstance(error, RecursionError):
        return UserError(f"{circle(folders)}: its defaults lead back to itself; take out the entry")
    text = one_line(error)
    for pattern, say in PATTERNS:
        found = re.search(pattern, text)
        if found is not None:
            said = say(found, folders, keys)
            if said:
                return UserError(said)
    typed = getattr(error, "override", None)
    if typed is not None:
        override = Override.parse(str(typed))
        cure = f"""a text with signs in it needs quotes: {override.key}="'{override.value}'\""""
        return UserError(f"{typed}: can't be read as a value; {cure}")
    place = re.search(r" full_key: (\S+)", text)
    text = re.sub(r" full_key: .*| See https?://\S+.*", "", text)
    return UserError(f"{place[1]}: {text}" if place and place[1] not in text else text)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those beneath it."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


Say = Callable[[re.Match[str], list[Path], Callable[[], Sequence[str]]], str | None]


def wrong_value(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str | None:
    """A value of another type than the schema's, from the command line."""
    override = Override.parse(found[1])
    if override.prefix == "~":
        return f"{override}: can't be left out; set another value"
    said = wrong_at(str(override), override.key)
    if said is None and "Cannot merge" in found.string:
        return f"{override}: what is there has keys; write a number, or set one of its keys"
    return said


def wrong_at(said: str, key: str) -> str | None:
    """What the schema has at a key, for a value that isn't such."""
    kind, above = schema_kind(key), schema_kind(key.rpartition(".")[0]) if "." in key else None
    if kind is None:
        return None if above is None or above.objects else f"{said}: {key.rpartition('.')[0]} is {above}, without keys"
    if kind.objects:
        return f"{said}: {key} has keys; set one of them: {', '.join(f'{key}.{name}' for name in section_keys(key))}"
    return f"{said}: must be {kind}"


def wrong_in_file(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str | None:
    """A value or key that the schema refuses, from a YAML file."""
    where, text, key = found[1].replace("/", "=", 1), found[2], found[3]
    if key == where.partition("=")[0] == "experiment":
        return f"{where}: its first line must be: # @package _global_"
    if re.search(r"Key '\S+' (is )?not in", text):
        return f"{where}: {key}: no such key{near_key(key, section_keys(key.rpartition('.')[0]))}"
    value = re.search(r"Value '(.*)' of type", text) or re.search(r"Value '(.*)' is not", text)
    said = wrong_at(f"{where}: {key}={value[1]}" if value else f"{where}: {key}", key)
    if value and said and re.fullmatch(r"\d+\.0", value[1]):
        said += f"; write it as {value[1].removesuffix('.0')}"
    return said


def no_section(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str | None:
    """A file that gives a section a single value."""
    section = next((name for name in section_keys("") if name == found[2].lower()), None)
    return None if section is None else wrong_at(f"{found[1].replace('/', '=', 1)}: {section}", section)


def no_key(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str:
    """A key that isn't there, with the nearest that is."""
    key = found[1]
    first = key.partition(".")[0]
    roots = [*group_names(folders), *section_keys("")]
    if first not in roots:
        return f"{key}: there is no group or section {first}{near(first, sorted(set(roots)))}"
    siblings = section_keys(key.rpartition(".")[0]) if "." in key else []
    return f"{key}: no such key{near_key(key, siblings, keys())}"


def near_key(key: str, siblings: Sequence[str], known: Sequence[str] = ()) -> str:
    """`; did you mean run.seed?`, or the names beside it."""
    above, _, name = key.rpartition(".")
    siblings = siblings or [each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == above]
    hint = near(name, siblings)
    if "did you mean" in hint:
        return hint.replace("did you mean ", f"did you mean {above}." if above else "did you mean ")
    elsewhere = [each for each in known if each.rpartition(".")[2] == name and not name.startswith("_")]
    return f"; did you mean {' or '.join(elsewhere[:3])}?" if elsewhere else hint


def no_option(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str:
    """An option that a file names and that isn't there."""
    group, name = found[1], found[2]
    known = options(folders, group)
    source = re.search(r"In '(\S+)':", found.string)
    where = f"{source[1].replace('/', '=', 1)}: " if source else ""
    if not known:
        return f"{where}{group}={name}: there is no group {group}{near(group, group_names(folders))}"
    return f"{where}{group}={name}: no such option{near(name, known)} Available options in '{group}': {listed(known)}"


def already(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str:
    """A group that is in the defaults list and is added once more."""
    return f"+{found[1]}: {found[1]} is chosen already; write {found[1]}=NAME without +"


def not_chosen(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str:
    """An option to be left out that isn't chosen."""
    return f"~{found[1]}={found[2]}: {found[1]} is another one; write ~{found[1]}, or nothing"


def missing(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str:
    """A value that has to be given."""
    return f"{found[1]}: has no value yet; give it: {found[1]}=VALUE"


def dangling(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str:
    """An interpolation of a key that isn't there."""
    return f"{found[2]}: ${{{found[1]}}} names no key; a text with a dollar sign is written \\${{{found[1]}}}"


def no_variable(found: re.Match[str], folders: list[Path], keys: Callable[[], Sequence[str]]) -> str:
    """An environment variable that isn't set."""
    return (
        f"{found[2]}: the environment variable {found[1]} is not set; set it, or write ${{oc.env:{found[1]},DEFAULT}}"
    )


PATTERNS: Sequence[tuple[str, Say]] = (
    (r"Error merging override (.+?) \| ", wrong_value),
    (r"In '(\S+)': .* is not a subclass of (\w+)Config\.", no_section),
    (r"In '(\S+)': \w+ raised while composing config: (.*?) full_key: (\S+)", wrong_in_file),
    (r"Could not override '\+*([^']+)'", no_key),
    (r"Could not delete '([^=']+)=([^']+)'", not_chosen),
    (r"Could not (?:find|load) '([\w-]+)/([^']+)'", no_option),
    (r"Multiple values for (\S+?)\. ", already),
    (r"Missing mandatory value: \S+ full_key: (\S+)", missing),
    (r"Interpolation key '([^']+)' not found full_key: (\S+)", dangling),
    (r"Environment variable '([^']+)' not found.* full_key: (\S+)", no_variable),
)


def unreadable(folders: list[Path]) -> str:
    """The first YAML file that isn't text in UTF-8."""
    for path in yaml_files(folders):
        try:
            list(yaml.scan(path.read_text(encoding="utf-8")))
        except (UnicodeDecodeError, yaml.reader.ReaderError):
            return short(path)
        except yaml.YAMLError:
            continue
    return "a file of the configuration"


def circle(folders: list[Path]) -> str:
    """The first YAML file whose defaults lead back to it."""
    wanted = {f"{path.parent.name}/{path.stem}": path for path in yaml_files(folders)}

    def leads(name: str, goal: str, seen: set[str]) -> bool:
        below = set(bases(wanted[name])) if name in wanted else set()
        return goal in below or any(leads(base, goal, seen | below) for base in below - seen)

    return next((short(path) for name, path in wanted.items() if leads(name, name, {name})), "a defaults list")


def bases(path: Path) -> Iterator[str]:
    """The options that a file's defaults list names, as group/option."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return
    entries = content.get("defaults") if isinstance(content, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        pairs = entry.items() if isinstance(entry, dict) else [("", entry)]
        for group, names in pairs:
            place = str(group).removeprefix("override ").removeprefix("optional ").strip("/") or path.parent.name
            for name in names if isinstance(names, list) else [names]:
                yield name.strip("/") if isinstance(name, str) and name.startswith("/") else f"{place}/{name}"


def yaml_files(folders: list[Path]) -> Iterator[Path]:
    """All YAML files, those of users' folders first."""
    for folder in reversed(folders):
        yield from sorted(folder.glob("*/*.yaml"))
        yield from sorted(folder.glob("*.yaml"))


def short(path: Path | str) -> str:
    """A path as a user would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
