"""What a node of the configuration gives to a constructor, checked against what that takes."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from gan_experiments.errors import UserError
from gan_experiments.kinds import ANYTHING, Kind, fitted
from gan_experiments.ranges import within_range
from gan_experiments.signatures import Signature, signature_of

OURS = "gan_experiments."
NUMBER = Kind(frozenset({float}), objects=("Curve",))
UNKNOWN = Signature({}, open=True)


def checked(node: DictConfig, where: str, curves: bool = False) -> DictConfig:
    """A node and those below it, with 2.0 as 2 where a constructor takes whole numbers; UserError naming the place of a
    value that it doesn't take, of one out of its range, and of a key that isn't among its arguments. With `curves` any
    number may be a curve."""
    node = copy.deepcopy(node)
    OmegaConf.set_readonly(node, False)
    target = "" if OmegaConf.is_missing(node, "_target_") else node.get("_target_")
    if target is not None and not isinstance(target, str):
        raise UserError(f"{where}._target_={target}: must be the name of a class, such as package.module.Class")
    target = target or ""
    taken = (signature_of(target) if target else None) or UNKNOWN
    names = [name for name, kind in taken.kinds.items() if kind.scalars or not kind.objects and name != "params"]
    keys: list[Any] = [key for key in node if not OmegaConf.is_missing(node, key)]
    for key in keys:
        if not str(key).startswith("_"):
            place = f"{where}.{key}"
            if curves and node[key] is None and key not in taken.kinds:
                continue  # it takes away what another optimizer had
            if not taken.open and key not in taken.kinds and key != "about":
                hint = near(key, names).replace("there is", "it takes")
                raise UserError(f"{place}: {target.rpartition('.')[2]} takes no {key}{hint}")
            kind = taken.kinds.get(key, ANYTHING)
            node[key] = checked_value(node[key], curved(kind) if curves else kind, place)
            if curves or target.startswith(OURS):
                within_range(plain_value(node[key]), str(key), place, kind.whole)
    return node


def curved(kind: Kind) -> Kind:
    """The kind with curves in place of numbers too."""
    items = None if kind.items is None else curved(kind.items)
    return replace(kind, items=items, objects=("Curve",) if float in kind.scalars else kind.objects)


def checked_value(value: Any, kind: Kind, place: str) -> Any:
    """A value, or a node or list of them, as its kind has it."""
    if isinstance(value, DictConfig):
        if "_target_" in value:
            refuse_object(value, kind, place)
            return checked(value, place)
        return fitted(checked(value, place), kind, place)
    if isinstance(value, ListConfig):
        if not any(isinstance(item, DictConfig | ListConfig) for item in value):
            return fitted(plain_value(value), kind, place)
        if kind.items is None and not kind.anything:
            fitted(plain_value(value), kind, place)
        items = kind.items or ANYTHING
        return [checked_value(item, items, f"{place}.{index}") for index, item in enumerate(value)]
    return fitted(value, kind, place)


def refuse_object(node: DictConfig, kind: Kind, place: str) -> None:
    """UserError when a node makes an object of a class where only numbers, texts or lists are taken."""
    made = signature_of(str(node.get("_target_")))
    if made is not None and made.is_class and not (kind.anything or kind.objects or kind.mappings):
        raise UserError(f"{place}: must be {kind}, not a {str(node['_target_']).rpartition('.')[2]}")


def plain_value(value: Any) -> Any:
    """Plain lists and scalars; nodes are passed over."""
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else value


def near(key: Any, known: Iterable[Any], above: str = "") -> str:
    """`; did you mean x?` where a known name is like the key, and else the names that there are, all below `above`."""
    names = [str(name) for name in known if not str(name).startswith("_")]
    found = difflib.get_close_matches(str(key), names, n=1, cutoff=0.6)
    if found:
        return f"; did you mean {f'{above}.' if above else ''}{found[0]}?"
    return f"; there is {listed(names)}" if names else "; it has none"


def listed(names: Iterable[str], width: int = 240) -> str:
    """Names in a row, cut where they are too many for a line."""
    text = ", ".join(names)
    return text if len(text) <= width else text[: text.rfind(", ", 0, width)] + ", ..."
