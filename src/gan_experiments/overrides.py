"""What is typed after gan-train, before Hydra reads it: refused where it can't be meant, texts kept as typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gan_experiments.errors import UserError
from gan_experiments.kinds import Kind
from gan_experiments.values import listed as in_a_row
from gan_experiments.values import near

VALUED = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
          "--experimental-rerun", "--info", "-i")  # fmt: skip
FLAGS = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
         "--shell-completion", "-sc")  # fmt: skip
NULLS = ("experiment", "optimizer")
"""Groups that null leaves without an option."""
SWEEPS = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)\Z", re.DOTALL)
PLAIN = re.compile(r"(?!(?:null|none|true|false|nan|inf)\Z)(?:\.{0,2}/|[A-Za-z_])[A-Za-z0-9_\-/.]*\Z", re.IGNORECASE)
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'\Z|"(?:[^"\\]|\\.)*"\Z""", re.DOTALL)
DASHES, QUOTES = "‐‑‒–—―−", "“”„‟‘’‚‛«»"  # noqa: RUF001


@dataclass(frozen=True)
class Override:
    """One argument: a prefix such as `+`, the key and the value as typed; None without `=`."""

    prefix: str
    key: str
    value: str | None

    @classmethod
    def parse(cls, argument: str) -> Override:
        """The parts of an argument."""
        key, equals, value = argument.partition("=")
        name = key.lstrip("+~")
        return cls(key[: len(key) - len(name)], name, value if equals else None)

    def __str__(self) -> str:
        """As it was typed."""
        return f"{self.prefix}{self.key}" + ("" if self.value is None else f"={self.value}")


@dataclass(frozen=True)
class Groups:
    """The groups that there are, with their options, and those of which a list may be chosen."""

    options: dict[str, list[str]]
    several: Sequence[str]


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


def check(overrides: Sequence[str], groups: Groups, sweep: bool) -> None:
    """UserError for arguments that aren't key=value, keys given twice, and several options where one is meant."""
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
        if value == "" or (key == "run.dir" and value is not None and not value.strip("'\" ")):
            cure = "it names a folder" if key == "run.dir" else f"or {key}=\"''\" for an empty text"
            raise UserError(f"{word}: is empty; give a value, {cure}")


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
    if not name or name in there or "${" in name or SWEEPS.match(name) or (group in NULLS and name == "null"):
        return
    if name == "null" and "none" in there:
        raise UserError(f"{group}=null: write {group}=none")
    hint = near(name, there)
    others = f" Available options in '{group}': {in_a_row(there)}" if "did you mean" in hint else ""
    raise UserError(f"{group}={name}: no such option{hint}{others}")


def check_single(override: Override, sweep: bool) -> None:
    """UserError for several values of a key without a sweep."""
    if not sweep:
        alternatives(override, sweep)


def alternatives(override: Override, sweep: bool, listed: bool = False, group: bool = False) -> list[str]:
    """The values that a sweep runs one after the other; UserError for several without one."""
    value = str(override.value)
    parts = [value] if QUOTED.match(value) or "${" in value else pieces(value)
    if len(parts) > 1 and not sweep:
        cure = f"for a list write {override.key}=[{value}]; " if listed else ""
        quotes = "" if group else f"""; a comma in a text needs quotes: {override.key}="'{value}'\""""
        raise UserError(
            f"{override}: {cure}several values need -m (a sweep): gan-train -m {override.key}={value}{quotes}"
        )
    return parts


def as_typed(override: Override, kind: Kind, sweep: bool) -> str:
    """The override for Hydra, with quotes around what it would take for a number or the like where text is expected."""
    value = override.value
    if value is None or "${" in value:
        return str(override)
    parts = alternatives(override, sweep)
    head = f"{override.prefix}{override.key}="
    if kind.text:
        return head + ",".join(quoted(part, override, kind, sweep) for part in parts)
    if kind.items is not None and kind.items.text and not kind.scalars:
        return head + ",".join(quoted_list(part, override, kind.items) for part in parts)
    if kind.scalars == {int}:
        return head + ",".join(map(whole, parts))
    return str(override)


def quoted(text: str, override: Override, kind: Kind, sweep: bool = False) -> str:
    """The text as Hydra takes it for one; UserError for what may be meant otherwise."""
    bare = text.strip()
    if QUOTED.match(bare) or (sweep and SWEEPS.match(bare)) or PLAIN.match(text):
        return text
    if bare.lower() in ("null", "none"):
        if kind.none and bare.lower() == "null":
            return bare
        meant = f"for none write {override.key}=null, " if kind.none else "it can't be null; "
        raise UserError(f"""{override}: is text or none? {meant}for the text {override.key}="'{bare}'\"""")
    if text.startswith("~"):
        raise UserError(
            f"{override}: ~ means home to a shell only where a word begins; write {override.key}=$HOME{text[1:]}"
        )
    return quote(text)


def quoted_list(text: str, override: Override, kind: Kind) -> str:
    """The items of a list of texts in quotes where they need them."""
    bare = text.strip()
    if not (bare.startswith("[") and bare.endswith("]")):
        return text
    return "[" + ",".join(quoted(item, override, kind) for item in pieces(bare[1:-1]) if item) + "]"


def quote(text: str) -> str:
    """The text between single quotes, as Hydra's grammar has it."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def unquoted(text: str) -> str:
    """The text without quotes around it."""
    bare = text.strip()
    return bare[1:-1] if QUOTED.match(bare) else bare


def whole(text: str) -> str:
    """1e6 as 1000000; what is no whole number as it is."""
    if re.fullmatch(r"[+-]?[\d_]*\.?[\d_]*([eE]\+?\d{1,2})?", text.strip()) and re.search(r"[.eE]", text):
        try:
            number = float(text)
        except ValueError:
            return text
        return str(int(number)) if number.is_integer() else text
    return text


def pieces(text: str) -> list[str]:
    """The parts of a text between commas that are in no brackets or quotes."""
    parts, depth, inside, escaped = [""], 0, "", False
    for letter in text:
        if not escaped and letter in "'\"" and inside in ("", letter):
            inside = "" if inside else letter
        elif not inside:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not inside and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
        escaped = letter == "\\" and not escaped
    return [part.strip() for part in parts]


def rewritten(overrides: Sequence[str], groups: Groups, kinds: Callable[[str], Kind], sweep: bool) -> list[str]:
    """All overrides for Hydra, texts as they were typed; `kinds` says what a key takes."""
    result = []
    for override in map(Override.parse, overrides):
        if override.value is None or override.prefix == "~" or PLAIN.match(override.value):
            result.append(str(override))
        elif override.key in groups.options:
            names = [quoted_choice(choice, groups.options[override.key]) for choice in pieces(override.value)]
            result.append(f"{override.prefix}{override.key}={','.join(names)}")
        else:
            result.append(as_typed(override, kinds(override.key), sweep))
    return result


def quoted_choice(choice: str, there: Sequence[str]) -> str:
    """A choice from a group, in quotes where the option's name looks like a number."""
    if choice.startswith("[") and choice.endswith("]"):
        return "[" + ",".join(quoted_choice(name, there) for name in pieces(choice[1:-1])) + "]"
    return quote(choice) if choice in there and not PLAIN.match(choice) and choice != "none" else choice
