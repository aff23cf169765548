"""Kinds of values: what an annotation such as `float | Curve` lets through, and how that is said."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gan_experiments.errors import UserError

LISTS = ("Sequence", "list", "List", "Iterable", "Collection", "set", "frozenset", "tuple", "Tuple")
MAPPINGS = ("Mapping", "dict", "Dict", "MutableMapping")
OBJECTS = {"Curve": "a curve", "Callable": "a node with _target_"}
TEXTS = ("str", "Path", "PathLike")


@dataclass(frozen=True)
class Kind:
    """Values that fit: any of `scalars` (types), of `choices` (a Literal's), null, lists of `items`, and so on.

    `lengths` is how many items a list has, where that is fixed; `objects` names classes of which a node
    with `_target_` makes one. With `anything` all fits.
    """

    scalars: frozenset[type] = frozenset()
    choices: tuple[Any, ...] = ()
    none: bool = False
    items: Kind | None = None
    length: int | None = None
    mappings: bool = False
    objects: tuple[str, ...] = ()
    anything: bool = False

    def __or__(self, other: Kind) -> Kind:
        """What fits one of both."""
        return Kind(
            self.scalars | other.scalars, self.choices + other.choices, self.none or other.none,
            self.items or other.items, self.length if self.items else other.length, self.mappings or other.mappings,
            self.objects + other.objects, self.anything or other.anything,
        )  # fmt: skip

    @property
    def whole(self) -> bool:
        """Whether whole numbers are asked for, or lists of them."""
        inner = self.items is not None and self.items.whole
        return (int in self.scalars and float not in self.scalars) or (inner and not self.scalars)

    @property
    def text(self) -> bool:
        """Whether text is asked for, and nothing that is spelled like other values."""
        texts = all(isinstance(choice, str) for choice in self.choices)
        return not self.anything and texts and (self.scalars == {str} or (not self.scalars and bool(self.choices)))

    def __str__(self) -> str:
        """What fits, for example `a whole number or null`."""
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        said = [name for kind, name in names.items() if kind in self.scalars and not (kind is int and float in
                self.scalars)]  # fmt: skip
        said += [f"one of {', '.join(map(str, self.choices))}"] if self.choices else []
        if self.items is not None:
            said.append(f"a list of {'' if self.length is None else f'{self.length} '}{self.items.plural()}")
        said += ["a mapping"] if self.mappings else []
        said += [OBJECTS.get(name, f"a {name} (a node with _target_)") for name in self.objects if name != "Tensor"]
        said += ["null"] if self.none else []
        return " or ".join(said)

    def plural(self) -> str:
        """The same of several."""
        names = {int: "whole numbers", float: "numbers", bool: "true or false", str: "texts"}
        said = [name for kind, name in names.items() if kind in self.scalars and not (kind is int and float in
                self.scalars)]  # fmt: skip
        said += ["curves"] if "Curve" in self.objects else []
        return " or ".join(said) or "values"


ANYTHING = Kind(anything=True)


def kind_of(annotation: ast.expr, names: Callable[[str], Kind | None]) -> Kind:
    """The kind that an annotation describes; `names` knows what classes and aliases stand for."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return kind_of(left, names) | kind_of(right, names)
        case ast.Constant(value=None):
            return Kind(none=True)
        case ast.Constant(value=str(text)):
            return kind_of(ast.parse(text, mode="eval").body, names)
        case ast.Subscript(value=outer, slice=inner):
            return parametrised(ast.unparse(outer).rpartition(".")[2], inner, names)
        case ast.Name() | ast.Attribute():
            return named(ast.unparse(annotation), names)
    return ANYTHING


def named(name: str, names: Callable[[str], Kind | None]) -> Kind:
    """The kind of a bare name."""
    last = name.rpartition(".")[2]
    scalars: Mapping[str, type] = {"int": int, "float": float, "bool": bool, **dict.fromkeys(TEXTS, str)}
    if last in scalars:
        return Kind(frozenset({scalars[last]}))
    if last in LISTS:
        return Kind(items=ANYTHING)
    if last in MAPPINGS:
        return Kind(mappings=True)
    if last == "Callable":
        return Kind(objects=("Callable",))
    return (None if last in ("Any", "object") else names(name)) or ANYTHING


def parametrised(outer: str, inner: ast.expr, names: Callable[[str], Kind | None]) -> Kind:
    """The kind of `outer[inner]`."""
    parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    if outer == "Optional":
        return kind_of(inner, names) | Kind(none=True)
    if outer == "Union":
        kind = Kind()
        for part in parts:
            kind |= kind_of(part, names)
        return kind
    if outer == "Literal":
        return Kind(choices=tuple(ast.literal_eval(part) for part in parts))
    if outer in ("Annotated", "Final", "ClassVar"):
        return kind_of(parts[0], names)
    if outer in ("tuple", "Tuple") and not (len(parts) == 2 and ast.unparse(parts[1]) == "..."):
        return Kind(items=kind_of(parts[0], names), length=len(parts))
    if outer in LISTS:
        return Kind(items=kind_of(parts[0], names))
    if outer in MAPPINGS:
        return Kind(mappings=True)
    return Kind(objects=("Callable",)) if outer in ("Callable", "type", "Type") else ANYTHING


def fitted(value: Any, kind: Kind, place: str) -> Any:
    """The plain value as the kind has it, 2.0 as 2 for whole numbers; UserError naming the place for one that isn't."""
    if kind.anything or kind == Kind():
        return value
    if value is None:
        if kind.none:
            return value
        raise UserError(f"{place}=null: must be {kind}")
    if isinstance(value, list):
        return fitted_list(value, kind, place)
    if isinstance(value, Mapping):
        if kind.mappings or kind.objects:
            return value
        raise UserError(f"{place}: must be {kind}, got {_short(dict(value))}")
    if value in kind.choices and not isinstance(value, bool):
        return value
    return fitted_scalar(value, kind, place)


def fitted_scalar(value: Any, kind: Kind, place: str) -> Any:
    """The same for numbers, texts, true and false."""
    if isinstance(value, bool | str):
        if type(value) in kind.scalars:
            return value
        empty = isinstance(value, str) and not value
        raise UserError(f"{place}={value}: {'is empty; ' if empty else ''}must be {kind}")
    if not isinstance(value, int | float) or (float in kind.scalars and type(value) is float):
        return value
    if int in kind.scalars and math.isfinite(value) and value == int(value):
        return int(value)
    if float in kind.scalars:
        return value
    hint = ""
    if kind.text or kind.scalars >= {str}:
        hint = f'; in quotes it is: {place.rpartition(".")[2]}: "{value}" in a file, {place}=\'"{value}"\' in a shell'
    raise UserError(f"{place}={value}: must be {kind}{hint}")


def fitted_list(value: list[Any], kind: Kind, place: str) -> list[Any]:
    """The same for lists, item by item."""
    if kind.items is None:
        raise UserError(f"{place}={_short(value)}: must be {kind}, not a list")
    if kind.length is not None and len(value) != kind.length:
        raise UserError(f"{place}={_short(value)}: must be {kind}")
    return [fitted(item, kind.items, f"{place}.{index}") for index, item in enumerate(value)]


def _short(value: Any) -> str:
    text = str(value).replace("'", "")
    return text if len(text) <= 60 else text[:57] + "..."
