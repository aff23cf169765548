"""What classes and functions take, read from their source: nothing is imported for it, torch least of all."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_experiments.kinds import ANYTHING, Kind, kind_of

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Signature:
    """The arguments of a class or function by name, and those without a default; `open` when it takes any others."""

    kinds: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    open: bool = False
    is_class: bool = False


@dataclass(frozen=True)
class Source:
    """A module's file: what it defines, and the names that it imports, as (module, name)."""

    module: str
    path: Path
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    aliases: Mapping[str, ast.expr] = field(default_factory=dict)
    imports: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@functools.cache
def signature_of(target: str) -> Signature | None:
    """What the class or function called `target` takes; None where its source doesn't tell."""
    found = find(target)
    if found is None:
        return None
    source, definition = found
    if isinstance(definition, ast.FunctionDef):
        return read(source, definition, skip=0, is_class=False)
    if is_dataclass(definition):
        return Signature(dict(fields_of(source, definition)), is_class=True)
    for owner, body in lineage(source, definition):
        made = next((part for part in body.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
        if made is not None:
            return read(owner, made, skip=1, is_class=True)
        if is_dataclass(body):
            return None
    return None


def is_dataclass(definition: ast.ClassDef) -> bool:
    """Whether the arguments of a class are its fields."""
    return any("dataclass" in ast.unparse(decorator) for decorator in definition.decorator_list)


def fields_of(source: Source, definition: ast.ClassDef) -> Iterator[tuple[str, Kind]]:
    """The fields of a dataclass with their kinds, those of classes it is based on first."""
    for owner, body in reversed(list(lineage(source, definition))):
        for part in body.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                yield part.target.id, kind_of(part.annotation, Names(owner))


def lineage(source: Source, definition: ast.ClassDef, depth: int = 0) -> Iterator[tuple[Source, ast.ClassDef]]:
    """A class and those it is based on, so far as their sources are found, in the order in which they are asked."""
    yield source, definition
    for base in definition.bases:
        above = resolve(source, ast.unparse(base)) if depth < 8 else None
        if above is not None and isinstance(above[1], ast.ClassDef):
            yield from lineage(above[0], above[1], depth + 1)


def read(source: Source, function: ast.FunctionDef, skip: int, is_class: bool) -> Signature:
    """The signature of a function without its first `skip` arguments."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    names = [argument.arg for argument in positional]
    bare = positional[: len(positional) - len(given.defaults)]
    needed = [argument.arg for argument in bare[skip:]]
    needed += [
        argument.arg for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if not default
    ]
    kinds = {
        argument.arg: ANYTHING if argument.annotation is None else kind_of(argument.annotation, Names(source))
        for argument in [*positional, *given.kwonlyargs]
        if argument.arg not in names[:skip]
    }
    return Signature(kinds, tuple(needed), given.kwarg is not None, is_class)


@dataclass(frozen=True)
class Names:
    """What names in annotations of a source stand for."""

    source: Source

    def __call__(self, name: str) -> Kind | None:
        """The kind of values that an alias stands for, or objects for a class; None for what isn't found."""
        if name.split(".")[0] in ("torch", "nn", "Tensor"):
            return Kind(objects=(name.rpartition(".")[2],))
        alias = follow(self.source, name)
        if alias is not None:
            return kind_of(alias[1], Names(alias[0]))
        found = resolve(self.source, name)
        return None if found is None else Kind(objects=(found[1].name,))


def follow(source: Source, name: str, depth: int = 0) -> tuple[Source, ast.expr] | None:
    """The expression to which a name is bound in the source, or where that has it from."""
    if name in source.aliases:
        return source, source.aliases[name]
    if name in source.imports and depth < 5:
        module, original = source.imports[name]
        there = source_of(module)
        return None if there is None else follow(there, original, depth + 1)
    return None


def find(target: str) -> tuple[Source, Definition] | None:
    """The definition that a dotted name leads to, and the source in which it stands."""
    module, _, name = target.rpartition(".")
    source = source_of(module) if module else None
    return None if source is None else resolve(source, name)


def resolve(source: Source, name: str, depth: int = 0) -> tuple[Source, Definition] | None:
    """The definition that a name has in a source, or where that has it from."""
    if name in source.definitions:
        return source, source.definitions[name]
    first, _, rest = name.partition(".")
    if first not in source.imports or depth > 5:
        return None
    module, original = source.imports[first]
    if rest:
        below, _, last = f"{module}.{original}.{rest}".strip(".").rpartition(".")
        there, wanted = source_of(below), last
    else:
        there, wanted = source_of(module), original
    return None if there is None else resolve(there, wanted, depth + 1)


@functools.cache
def source_of(module: str) -> Source | None:
    """The source of a module that Python would import by this name; None for one that isn't found or can't be read."""
    path = file_of(module)
    try:
        tree = None if path is None else ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    if path is None or tree is None:
        return None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    definitions: dict[str, Definition] = {}
    aliases: dict[str, ast.expr] = {}
    imports: dict[str, tuple[str, str]] = {}
    for part in statements(tree):
        if isinstance(part, Definition):
            definitions[part.name] = part
        elif isinstance(part, ast.Assign) and len(part.targets) == 1 and isinstance(part.targets[0], ast.Name):
            aliases[part.targets[0].id] = part.value
        elif isinstance(part, ast.ImportFrom):
            above = importlib.util.resolve_name("." * part.level + (part.module or ""), package) if part.level else ""
            imports |= {alias.asname or alias.name: (above or part.module or "", alias.name) for alias in part.names}
        elif isinstance(part, ast.Import):
            imports |= {alias.asname or alias.name.split(".")[0]: ("", alias.name if alias.asname else
                        alias.name.split(".")[0]) for alias in part.names}  # fmt: skip
    return Source(module, path, definitions, aliases, imports)


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a module, those for type checkers among them."""
    for part in tree.body:
        yield from part.body if isinstance(part, ast.If | ast.Try) else [part]


def file_of(module: str) -> Path | None:
    """The file of a module, looked for as Python does; one already imported has said where its is."""
    known: Any = getattr(sys.modules.get(module), "__file__", None)
    if known:
        return Path(known)
    parts = module.split(".")
    for folder in (Path(entry or ".") for entry in sys.path):
        place = folder.joinpath(*parts)
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                return path
    return None
