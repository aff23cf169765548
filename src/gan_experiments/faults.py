"""Whose code an error came up in: the user's own classes are named by file and line."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_experiments.errors import UserError
from gan_experiments.signatures import file_of, find, source_of
from gan_experiments.values import near

HERE = Path(__file__).resolve().parent


def own_fault(error: BaseException, where: str = "") -> UserError | None:
    """What a user is told of an error in code of theirs; None for one that came up elsewhere."""
    for cause in reversed(list(chain(error))):
        if isinstance(cause, UserError):
            return None
        place = place_of(cause)
        if place:
            text = (cause.msg if isinstance(cause, SyntaxError) else " ".join(str(cause).split())) or "no message"
            return UserError(f"{where}{': ' if where else ''}{place}: {type(cause).__name__}: {text}")
    return None


def out_of_memory(error: BaseException) -> UserError | None:
    """What a user is told of memory that the machine doesn't have; None for another error."""
    for cause in chain(error):
        said = str(cause)
        if isinstance(cause, MemoryError) or "out of memory" in said or "can't allocate memory" in said:
            asked = re.search(r"tried to allocate ([\d.]+ ?\w+)", said, re.IGNORECASE)
            return UserError(
                f"not enough memory{f' for {asked[1]} at once' if asked else ''}: smaller networks (latent_dim, widths "
                "in --cfg job), schedule.batch_size, samples.count or evaluation.batch_size need less"
            )
    return None


def no_target(where: str, target: str, error: BaseException) -> UserError:
    """What a user is told of a `_target_` that can't be had: no such module, a fault in it, or no such name in it."""
    key, (module, _, name) = f"{where}._target_={target}", target.rpartition(".")
    fault = own_fault(error)
    if fault is not None:
        return UserError(f"{key}: {fault}")
    if not module:
        return UserError(f"{key}: must be the full name of a class, such as package.module.{name or 'Class'}")
    source = source_of(module)
    if source is None:
        parts = module.split(".")
        there = [".".join(parts[:count]) for count in range(1, len(parts)) if file_of(".".join(parts[:count]))]
        beside = f" in {there[-1]}" if there else "; its folder must be in PYTHONPATH"
        return UserError(f"{key}: there is no module {module}{beside}")
    place = shown(str(source.path)) if foreign(str(source.path)) else module
    if name in (*source.aliases, *source.imports):
        return UserError(f"{key}: {name} of {place} is no class or function, or can't be imported")
    known = [*source.definitions, *source.aliases, *(source.imports if source.path.name == "__init__.py" else ())]
    alike = [each for each in known if each[:1].isupper() == name[:1].isupper()]
    return UserError(f"{key}: {place} defines no {name}{near(name, alike)}")


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that caused it."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def place_of(error: BaseException) -> str:
    """The last line of users' own code that an error went through, as file:line; empty where there is none."""
    if isinstance(error, SyntaxError) and error.filename and foreign(error.filename):
        return f"{shown(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return next(
        (f"{shown(frame.filename)}:{frame.lineno}" for frame in reversed(frames) if foreign(frame.filename)), ""
    )


def foreign(file: str) -> bool:
    """Whether a file is neither ours nor Python's, nor of an installed package."""
    path = Path(file)
    if file.startswith("<") or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    standard = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    ours = [HERE, HERE.parents[1] / "scripts", Path(sys.prefix), Path(sys.argv[0] or ".").resolve()]
    resolved = path.resolve()
    return not any(resolved == place or resolved.is_relative_to(place) for place in (*standard, *ours))


def own_classes(values: Any) -> list[str]:
    """The classes in a configuration that are neither ours nor an installed package's, with file and line."""
    if isinstance(values, list):
        return [name for item in values for name in own_classes(item)]
    if not isinstance(values, dict):
        return []
    names = [name for item in values.values() for name in own_classes(item)]
    found = find(str(values["_target_"])) if "_target_" in values else None
    if found is not None and foreign(str(found[0].path)):
        names.append(f"{found[1].name} ({shown(str(found[0].path))}:{found[1].lineno})")
    return names


def shown(file: str) -> str:
    """A file as it is seen from the current folder, or in full where it lies elsewhere."""
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative
