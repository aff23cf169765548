"""What is typed after gan-train, before Hydra reads it: refused where it can't be meant, texts kept as typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from gan_experiments.errors import UserError
from gan_experiments.quoting import SWEEPS, Groups, Override, alternatives, pieces, unquoted
from gan_experiments.schema import schema_kind
from gan_experiments.values import listed as in_a_row
from gan_experiments.values import near

VALUED = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
          "--experimental-rerun", "--info", "-i")  # fmt: skip
FLAGS = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
         "--shell-completion", "-sc")  # fmt: skip
NULLS = ("experiment", "optimizer")
"""Groups that have no option without being chosen from."""
FOLDERS = ("run.dir", "run.data", "dataset.path")
DASHES, QUOTES = "‐‑‒–—―−", "“”„‟‘’‚‛«»"  # noqa: RUF001


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's own options with their values, and the overrides; UserError for what is neither."""
    options: list[str] = []
    overrides: list[str] = []
    late = ""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in VALUED and not (equals and "." in name):
            known = [word] + (
                [] if equals or not rest or (name in ("--info", "-i") and "=" in rest[0]) else [rest.pop(0)]
            )
        elif word in FLAGS:
            known = [word]
        else:
            refuse_dashes(word, rest)
            refuse_pieces(word, rest)
            overrides.append(word)
            if late:
                moved = shlex.join([*options, *overrides, *rest])
                short = moved if len(moved) < 200 else f"{shlex.join(options)} {shlex.quote(overrides[0])} ..."
                raise UserError(f"{late}: options go before or after all key=value, not between: gan-train {short}")
            continue
        options += known
        late = known[0] if overrides else ""
    return options, overrides


def refuse_dashes(word: str, rest: Sequence[str]) -> None:
    """UserError for a key with dashes before it, and for an option that isn't one."""
    if word[:1] in DASHES:
        plain = word.lstrip(DASHES)
        dashes = "--" if f"--{plain}" in (*FLAGS, *VALUED) else "-"
        cure = f"write {dashes}{plain}" if f"{dashes}{plain}" in (*FLAGS, *VALUED) else f"write {plain}"
        raise UserError(f"{word}: begins with {word[0]}, which is no hyphen; {cure}")
    if not word.startswith("-") or word == "-":
        return
    bare = word.lstrip("-")
    key, equals, _ = bare.partition("=")
    if equals or "." in key:
        cure = bare if equals else f"{bare}={rest[0]}" if rest and not rest[0].startswith("-") else f"{bare}=VALUE"
        raise UserError(f"{word}: keys have no dashes before them; write {cure}")
    hint = near(word, [name for name in (*FLAGS, *VALUED) if name.startswith("--")])
    raise UserError(f"{word}: no such option of gan-train (try gan-train --help){hint}")


def refuse_pieces(word: str, rest: Sequence[str]) -> None:
    """UserError for a value in brackets that a shell has split at its spaces."""
    joined = word
    for following in rest if "=" in word else ():
        if open_brackets(joined) <= 0:
            return
        joined += f" {following}"
        if open_brackets(joined) == 0:
            raise UserError(f"{word}: a shell splits values at spaces; write it in quotes: {shlex.quote(joined)}")


def open_brackets(text: str) -> int:
    """How many brackets of a text aren't closed."""
    return sum((letter in "([{") - (letter in ")]}") for letter in text)


def check(overrides: Sequence[str], groups: Groups, sweep: bool) -> None:
    """UserError for arguments that aren't key=value, keys given twice, and several options where one is meant."""
    refuse_options_alone(overrides, groups)
    check_form(overrides)
    seen: dict[str, Override] = {}
    for override in map(Override.parse, overrides):
        former = seen.setdefault(override.key, override)
        if former is not override and str(former) != str(override):
            both = f"{former.value},{override.value}"
            cure = "give one" if sweep or None in (former.value, override.value) else \
                f"give one, or both in a sweep: gan-train -m {override.key}={both}"  # fmt: skip
            if override.key in groups.several:
                cure = f"give a list: {override.key}=[{both.replace('[', '').replace(']', '')}]"
            raise UserError(f"{former} and {override}: {override.key} is given twice; {cure}")
        if override.key in groups.options and override.value is not None:
            check_choice(override, groups, sweep)
        elif override.value is not None:
            check_single(override, sweep)


def refuse_options_alone(overrides: Sequence[str], groups: Groups) -> None:
    """UserError for the options of a group given one after the other, without brackets."""
    for place, word in enumerate(overrides[1:]):
        before = Override.parse(overrides[place])
        if before.value and "=" not in word and word in groups.options.get(before.key, ()):
            listed = f"{before.key}=[{before.value.strip('[]')},{word}]"
            cure = listed if before.key in groups.several else f"{before.key}={word}, or -m {before}," + word
            raise UserError(f"{word}: is not key=value; write {cure}")


def check_form(overrides: Sequence[str]) -> None:
    """UserError for arguments that aren't key=value, with what they might have meant."""
    for place, word in enumerate(overrides):
        following = next((other for other in overrides[place + 1 :] if other != "="), "")
        override = Override.parse(word)
        key, value = override.key, override.value
        if value is None and override.prefix != "~":
            bare, colon, after = key.rstrip(":").partition(":")
            after = after or (following.removeprefix("=") if following and not Override.parse(following).key or
                              following and "=" not in following else "")  # fmt: skip
            raise UserError(
                f"{word}: is not key=value; write {bare or 'key'}={after.strip() or 'VALUE'}, without spaces"
            )
        if not key:
            raise UserError(f"{word}: has no key; write key=value, such as run.seed{word if value else '=3'}")
        if any(not part for part in re.split(r"[./]", key.partition("@")[0])) or key != key.strip():
            tidy = re.sub(r"[./]{2,}", ".", key.strip().strip("./"))
            raise UserError(f"{word}: {key} is no key; write {tidy}={value or 'VALUE'}")
        if value is not None and value.startswith("="):
            raise UserError(f"{word}: has = twice; write {key}={value.lstrip('=')}")
        if value and (value[0] in QUOTES or value[-1] in QUOTES[:2] + QUOTES[4:6]):
            raise UserError(f"{word}: has typographic quotes; write {key}={value.strip(QUOTES)}")
        if value == "" or (key in FOLDERS and value is not None and not value.strip("'\" ")):
            kind = schema_kind(key)
            fitting = f"must be {kind}" if kind is not None and not kind.text else f"for no text write {key}=\"''\""
            raise UserError(f"{word}: is empty; {'give a folder' if key in FOLDERS else fitting}")


def check_choice(override: Override, groups: Groups, sweep: bool) -> None:
    """UserError for several options where one is meant, for one that is chosen twice, and for one that isn't there."""
    group, value = override.key, str(override.value)
    for choice in alternatives(override, sweep, group in groups.several, group=True):
        listed = choice.startswith("[") and choice.endswith("]")
        names = [unquoted(name) for name in (pieces(choice[1:-1]) if listed else [choice])]
        if listed and group not in groups.several:
            cure = f"choose one, such as {group}={names[0] or 'NAME'}"
            if len(names) > 1:
                cure += f", or compare them in a sweep: gan-train -m {group}={','.join(names)}"
            raise UserError(f"{group}={value}: one {group} is meant, not a list; {cure}")
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise UserError(f"{group}={value}: {twice[0]} is there twice; give it once")
        if "none" in names and len(names) > 1:
            others = ",".join(name for name in names if name != "none")
            raise UserError(f"{group}={value}: none goes with no others; write {group}=none or {group}=[{others}]")
        for name in names:
            refuse_unknown(group, name, groups.options[group])


def refuse_unknown(group: str, name: str, there: Sequence[str]) -> None:
    """UserError unless the group has an option of this name."""
    if not name or name in there or "${" in name or SWEEPS.match(name):
        return
    if group in NULLS and name in ("null", "none"):
        raise UserError(f"{group}={name}: none is chosen anyhow; leave it out")
    if name == "null" and "none" in there:
        raise UserError(f"{group}=null: write {group}=none")
    hint = near(name, there)
    others = f" Available options in '{group}': {in_a_row(there)}" if "did you mean" in hint else ""
    raise UserError(f"{group}={name}: no such option{hint}{others}")


def check_single(override: Override, sweep: bool) -> None:
    """UserError for several values of a key without a sweep."""
    if not sweep:
        alternatives(override, sweep)
