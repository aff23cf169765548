"""Which images of a folder are trained on and which are held out, and to which classes they belong."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from gan_experiments import seeding
from gan_experiments.data.natural import natural_key, readable
from gan_experiments.errors import UserError

log = logging.getLogger(__name__)

Part = dict[int, str | None]
"""Rows of images, each with its class folder or None."""

TRAIN = ("train", "training", "trn")
HELD_OUT = (
    "val", "valid", "validation", "dev", "eval", "evaluation", "heldout", "holdout", "test", "testing", "tst",
)  # fmt: skip
"""What folders of split data are called, in the order in which one of them is chosen to be held out."""

UNSORTED = "dataset.labels=false (of tools --no-labels) uses all images, without classes"


Folders = tuple[str | None, ...]
"""Names of folders; None stands for the images that lie in none."""


class Layout(NamedTuple):
    """Folders that split the images: at which depth they lie, which is trained on, which held out, which are left."""

    depth: int
    train: Folders
    held_out: Folders
    left: Folders = ()


def bare(folder: str) -> str:
    """A folder's name without capitals, digits and signs, and without words that say that it holds images."""
    letters = re.sub(r"[^a-z]", "", folder.lower())
    return re.sub(r"(set|split|data|images?|imgs?)$", "", re.sub(r"^(images?|imgs?|data)", "", letters))


def spell(folders: Folders) -> str:
    """For example `val/ and test/`."""
    return " and ".join("the images in no folder" if name is None else f"{readable(name)}/" for name in folders)


def divide(path: str, names: Sequence[str], held_out: float, seed: int, labels: bool) -> tuple[Part, Part]:
    """Training and held-out rows where no option names folders: by folders called like a split, else by share.

    With `labels` images in no class folder are left out before a share of all is held out.
    """
    if not 0 < held_out < 1:
        raise UserError(f"dataset.held_out is {held_out}; expected a share between 0 and 1, such as 0.1")
    layout = find_layout(path, names)
    if layout is None:
        warn_of_wrapping(path, names)
        rows = {row: class_folder(PurePosixPath(name)) for row, name in enumerate(names)}
        return by_share(path, rows, names, held_out, seed, labels)
    train, rest = (rows_of(names, layout, folders) for folders in (layout.train, layout.held_out))
    left = f"; not used: {spell(layout.left)}" if layout.left else ""
    if not layout.held_out:
        said = "called like a part of a split, and the only one, so a share of it is held out"
        log.warning("%s: %s is %s%s", path, spell(layout.train), said, left)
        return by_share(path, train, names, held_out, seed, labels)
    log.warning(
        "%s: recognised as split: %s trained on (%d images), %s held out (%d)%s; "
        "dataset.train_folder and dataset.held_out_folder choose others",
        path, spell(layout.train), len(train), spell(layout.held_out), len(rest), left,
    )  # fmt: skip
    return train, rest


def find_layout(path: str, names: Sequence[str]) -> Layout | None:
    """How folders called train, val, test and the like split the images; None where none do.

    They lie below `path`, or below each folder there. Raises UserError for a part to hold out among what can't be told.
    """
    parts = [PurePosixPath(name).parts[:-1] for name in names]
    if all(len(folders) > 1 for folders in parts):
        inner = layout_at(1, {folders[1] for folders in parts})
        if inner is not None and inner.train and inner.held_out and not inner.left:
            return inner
        if inner is not None and inner.held_out and len({folders[0] for folders in parts}) == 1:
            return inner
    there: set[str | None] = {folders[0] if folders else None for folders in parts}
    outer = layout_at(0, there)
    if outer is None or outer.train:
        return outer
    held_out, others = {str(name) for name in outer.held_out}, there - {*outer.held_out, *outer.left}
    if others == {None}:
        return outer._replace(train=(None,))
    if len(held_out) == len(there) == 1:
        return Layout(0, outer.held_out, ())
    if not others:
        raise UserError(
            f"{path}: {spell(outer.held_out + outer.left)} are called like parts to hold out, with none to train on; "
            "set dataset.train_folder and dataset.held_out_folder"
        )
    within = {folders[1] for folders in parts if len(folders) > 1 and folders[0] in held_out}
    cure = f"dataset.held_out_folder={spell(outer.held_out[:1]).rstrip('/')}"
    if within & others:
        raise UserError(
            f"{path}: {spell(outer.held_out)} is called like a part to hold out and holds folders called like those "
            f"beside it ({readable(str(min(within & others, key=str)))} ...); hold it out by {cure}, or move it away"
        )
    log.warning(
        "%s: %s is called like a part to hold out and is trained on; %s holds it out", path, spell(outer.held_out), cure
    )
    return None


def layout_at(depth: int, there: set[str | None]) -> Layout | None:
    """What the names of folders at a depth say; None when none of them is called like a part of a split."""
    known = [name for name in there if name is not None]
    train = tuple(sorted((name for name in known if bare(name) in TRAIN), key=natural_key))
    rest = [name for name in known if bare(name) in HELD_OUT]
    rest.sort(key=lambda name: (HELD_OUT.index(bare(name)), natural_key(name)))
    held_out = tuple(name for name in rest if bare(name) == bare(rest[0]))
    if not held_out:
        left = tuple(there - {*train})
        return Layout(depth, train, (), left) if train and set(left) <= {None} else None
    others = there - {*train, *held_out} if train else {*rest} - {*held_out}
    return Layout(depth, train, held_out, tuple(sorted(others, key=lambda name: natural_key(name or ""))))


def rows_of(names: Sequence[str], layout: Layout, folders: Folders) -> Part:
    """Rows of the images in one of the folders of a layout, each with its class folder or None."""
    rows: Part = {}
    above = [PurePosixPath(name).parts[:-1] for name in names]
    wrapped = layout.depth > 0 and len({parts[0] for parts in above}) == 1
    for row, parts in enumerate(above):
        if (parts[layout.depth] if len(parts) > layout.depth else None) in folders:
            classes = parts[layout.depth + 1 :] if wrapped else (*parts[: layout.depth], *parts[layout.depth + 1 :])
            rows[row] = readable(classes[0]) if classes else None
    return rows


def warn_of_wrapping(path: str, names: Sequence[str]) -> None:
    """Say when one folder around all others keeps those from being classes."""
    parts = [PurePosixPath(name).parts[:-1] for name in names]
    inner = {folders[1] for folders in parts if len(folders) > 1}
    if len({folders[:1] for folders in parts}) == 1 and parts[0] and len(inner) > 1:
        outer = readable(parts[0][0])
        log.warning(
            "%s: all images lie in %s/, so the %d folders in it are no classes; dataset.path=%s/%s makes them so",
            path, outer, len(inner), path, outer,
        )  # fmt: skip


def by_share(
    path: str, rows: Part, names: Sequence[str], held_out: float, seed: int, labels: bool
) -> tuple[Part, Part]:
    """Some rows without a seeded share of them, and that share.

    Each name has its own place in a seeded order, so that adding images hardly moves the others between the parts.
    """
    rows = without_strays(path, names, rows) if labels else rows
    if len(rows) < 2:
        raise UserError(f"{path}: holds one readable image; at least 2 are needed, one to train on and one held out")
    order = sorted(rows, key=lambda row: seeding.derive(seed, "held_out", readable(names[row])))
    chosen = set(order[: min(max(round(held_out * len(rows)), 1), len(rows) - 1)])
    train = {row: name for row, name in rows.items() if row not in chosen}
    return train, {row: name for row, name in rows.items() if row in chosen}


def divide_by_folder(
    path: str, names: Sequence[str], held_out_folder: str | None, train_folder: str | None
) -> tuple[Part, Part]:
    """Training and held-out rows by sub-folder, each with its class folder or None."""
    if held_out_folder is None:
        raise UserError("dataset.train_folder is set but dataset.held_out_folder is not; set both or only the latter")
    held_out = below(path, names, held_out_folder, "held_out_folder")
    if train_folder is not None:
        train = below(path, names, train_folder, "train_folder")
        if train.keys() & held_out.keys():
            raise UserError(f"{path}: train_folder {train_folder} and held_out_folder {held_out_folder} overlap")
        return train, held_out
    rest = {row: class_folder(PurePosixPath(name)) for row, name in enumerate(names) if row not in held_out}
    if not rest:
        raise UserError(
            f"{path}: all readable images lie in held_out_folder {held_out_folder}; none is left to train on"
        )
    return rest, held_out


def below(path: str, names: Sequence[str], part: str, option: str) -> Part:
    """Rows of the images in the sub-folder `part`, each with its class folder below that or None."""
    rows: Part = {}
    for row, name in enumerate(map(PurePosixPath, names)):
        if name.is_relative_to(part):
            rows[row] = class_folder(name.relative_to(part))
    if not rows:
        there = ", ".join(sorted({readable(name.split("/")[0]) for name in names if "/" in name}, key=natural_key)[:8])
        raise UserError(
            f"{path}: no readable image in dataset.{option}={part}; expected the name of a folder in {path}"
            f"{f', such as {there}' if there else ', which has none'}"
        )
    return rows


def class_folder(name: PurePosixPath) -> str | None:
    """The first folder of a relative name as text, None when the image lies in no folder."""
    return readable(name.parts[0]) if len(name.parts) > 1 else None


def classify(path: str, names: Sequence[str], train: Part, held_out: Part) -> tuple[tuple[str, ...], Part, Part]:
    """Class names in natural order and the rows that have a class; no classes, and all rows, without class folders.

    Raises UserError where a part has no image in a class folder, or when the parts share no class (a wrong layout).
    """
    both = without_strays(path, names, train | held_out)
    classes = {name for name in both.values() if name is not None}
    if len(classes) < 2:
        return (), train, held_out
    parts: list[Part] = [{row: both[row] for row in part if row in both} for part in (train, held_out)]
    for part, what in zip(parts, ("to train on", "held out"), strict=True):
        if not part:
            raise UserError(f"{path}: no image {what} lies in a class folder, others do; sort them, or {UNSORTED}")
    known, others = ({str(name) for name in part.values()} for part in parts)
    if not known & others:
        raise UserError(
            f"{path}: training and held-out images share no class folder; set dataset.train_folder or labels=false"
        )
    if missing := sorted(others - known, key=natural_key):
        counts = (path, len(missing), len(classes), missing[0])
        log.warning("%s: %d of %d classes have no image to train on, the first: %s", *counts)
    return tuple(sorted(classes, key=natural_key)), parts[0], parts[1]


def without_strays(path: str, names: Sequence[str], rows: Part) -> Part:
    """The rows that have a class where there are at least two and most rows have one, which is said if any has none.

    Where most have none there are no classes: all rows then, each with None.
    """
    strays = [row for row, name in rows.items() if name is None]
    classes = {name for name in rows.values() if name is not None}
    if len(classes) < 2 or not strays:
        return rows
    count, first = len(strays), f"{path}/{readable(names[strays[0]])}"
    what = f"{count} image{'s' * (count > 1)} (the first: {first}) beside {len(classes)} class folders"
    if 2 * count > len(rows):
        log.warning("%s, more than in them: there are no classes; sort the images into folders to have some", what)
        return dict.fromkeys(rows)
    log.warning("%s: left out; sort into folders, or %s", what, UNSORTED)
    return {row: name for row, name in rows.items() if name is not None}
