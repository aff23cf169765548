"""Which class of a data set a folder or a label means: by name where names are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_experiments.data.natural import natural_key, numbered, whole_number
from gan_experiments.errors import UserError


def class_places(path: Path, folders: set[str], classes: Sequence[str], what: str = "folder") -> dict[str, int]:
    """The class number of each folder: by name, with - for the / that no folder can have, else by number.

    Numbers are compared by value (01 is 1), with the classes' names where all of those are numbers, with their places
    where none is. Raises UserError for a folder that is no class.
    """
    named = {name.replace("/", "-"): number for number, name in enumerate(classes)}
    named |= {name: number for number, name in enumerate(classes)}
    if folders <= named.keys():
        return named
    values, wanted = numbered(classes), {name: whole_number(name) for name in folders}
    known = {name: values[value] for name, value in wanted.items() if value is not None and value in values}
    if len(set(known.values())) == len(folders):
        return known
    strange = min(folders - (known or named).keys() or folders, key=natural_key)
    raise UserError(
        f"{path}: {what} {strange} isn't a class of the reference, which has "
        f"{spell([name.replace('/', '-') for name in classes])}; --no-labels ignores them"
    )


def label_places(path: Path, labels: Tensor, names: Sequence[str] | None, classes: Sequence[str]) -> Tensor:
    """Labels (n,) as numbers of the classes: by the names that the file has for them, or else by number.

    Raises UserError for labels that mean no class.
    """
    used = sorted(set(labels.tolist()))
    if names is not None:
        places = class_places(path, {names[label] for label in used}, classes, "class")
        table = {label: places[names[label]] for label in used}
    else:
        values = numbered(classes)
        if strange := [label for label in used if label not in values]:
            raise UserError(
                f"{path}: labels run from {used[0]} to {used[-1]}, but the reference has {len(classes)} classes, "
                f"{spell(classes)}, and none for {strange[0]}; save the classes' names as `classes` beside the labels, "
                "or --no-labels ignores them"
            )
        table = {label: values[label] for label in used}
    return torch.tensor([table[label] for label in labels.tolist()], dtype=torch.int64)


def spell(classes: Sequence[str]) -> str:
    """The first classes."""
    return f"{', '.join(classes[:10])}{' ...' if len(classes) > 10 else ''}"
