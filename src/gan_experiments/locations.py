"""Which arguments only say where something is: runs may go on when it has moved, since its content decides."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pydoc import ErrorDuringImport, locate
from typing import Any, TypeVar

LOCATIONS = "LOCATIONS"
TARGET = "_target_"

Made = TypeVar("Made", bound=Callable[..., Any])


def located(*names: str) -> Callable[[Made], Made]:
    """Declare arguments of a function or class that say where files are and are checked by content, not by name."""

    def mark(made: Made) -> Made:
        setattr(made, LOCATIONS, names)
        return made

    return mark


def locations(config: Any, where: str = "") -> Iterator[str]:
    """The dotted keys of all values in a configuration that the classes of their nodes declare as locations."""
    if isinstance(config, Mapping):
        names = declared(str(config[TARGET])) if TARGET in config else ()
        for key, value in config.items():
            place = f"{where}.{key}" if where else str(key)
            if key in names:
                yield place
            else:
                yield from locations(value, place)
    elif isinstance(config, list | tuple):
        for number, value in enumerate(config):
            yield from locations(value, f"{where}.{number}")


def declared(target: str) -> tuple[str, ...]:
    """What the class or function of that name declares; nothing for one that isn't here."""
    try:
        made = locate(target)
    except ErrorDuringImport:
        return ()
    return tuple(getattr(made, LOCATIONS, ()))


def with_places(config: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the locations of another one, where that has the same keys."""
    changed = copy.deepcopy(dict(config))
    for key in locations(config):
        value, target = other, changed
        *above, last = key.split(".")
        try:
            for word in above:
                value, target = value[word], target[word]
            target[last] = value[last]
        except (KeyError, TypeError):  # below a list, or in another option's place
            continue
    return changed


def moved(config: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """A configuration with all locations in the folder `old` in `new` instead."""
    changed = copy.deepcopy(dict(config))
    for key in ("run.data", "evaluation.cache", *locations(config)):
        target: Any = changed
        *above, last = key.split(".")
        try:
            for word in above:
                target = target[word]
            value = target[last]
        except (KeyError, TypeError):
            continue
        if isinstance(value, str) and (value == old or value.startswith(f"{old.rstrip('/')}/")):
            target[last] = f"{new.rstrip('/')}{value[len(old.rstrip('/')) :]}"
    return changed
