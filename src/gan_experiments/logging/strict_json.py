"""JSON that every parser accepts: numbers that JSON lacks are the strings "NaN", "Infinity" and "-Infinity"."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dumps(value: object, indent: int | None = None) -> str:
    """`value` (mappings, lists, tuples, strings, numbers, None) as strict JSON.

    Raises TypeError for anything else, such as a tensor, which the caller must turn into a number first.
    """
    return json.dumps(_plain(value), allow_nan=False, indent=indent)


def loads(text: str | bytes) -> object:
    """The value `dumps` was given, tuples as lists; raises ValueError if `text` is not strict JSON."""
    try:
        return _special(json.loads(text, parse_constant=_refuse))
    except RecursionError as error:
        raise ValueError("lists or objects within one another without end") from error


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else str(number).replace("inf", "Infinity").replace("nan", "NaN")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"can't be written as JSON: {type(value).__name__}")


def _special(value: object) -> object:
    if isinstance(value, str):
        return _SPECIAL.get(value, value)
    if isinstance(value, dict):
        return {key: _special(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_special(item) for item in value]
    return value


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")
