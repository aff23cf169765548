"""Overrides as Hydra takes them: texts that it would read as numbers, lists or nothing get quotes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gan_experiments.errors import UserError
from gan_experiments.kinds import Kind

SWEEPS = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)\Z", re.DOTALL)
PLAIN = re.compile(r"(?!(?:null|none|true|false|nan|inf)\Z)(?:\.{0,2}/|[A-Za-z_])[A-Za-z0-9_\-/.]*\Z", re.IGNORECASE)
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'\Z|"(?:[^"\\]|\\.)*"\Z""", re.DOTALL)


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
