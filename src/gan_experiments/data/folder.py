"""Any folder of images as a data set."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Spec, Split, describe_content
from gan_experiments.data.picture_cache import PictureCache
from gan_experiments.data.pictures import MODES
from gan_experiments.data.share import shared
from gan_experiments.errors import UserError

logger = logging.getLogger(__name__)


def folder(
    path: str,
    cache: str,
    size: int = 64,
    channels: int = 3,
    held_out: float = 0.1,
    held_out_folder: str | None = None,
    train_folder: str | None = None,
    labels: bool = True,
    on_broken: str = "skip",
    flip: bool = False,
    seed: int = 0,
    share: float = 1.0,
    share_seed: int = 0,
) -> Dataset:
    """All images below `path`, cropped to their centre square and resized, decoded once into the folder `cache`.

    Held out is a seeded share of the images, or the sub-folder `held_out_folder`; training images are the others, or
    those in the sub-folder `train_folder`. Classes are the first folders below `path` (below the sub-folders, where
    given) when every image lies in one and there are at least two; otherwise, or with labels=false, there are none.
    With `share` below 1 only that share of the training images is used, drawn by `share_seed`, as large of every class.
    Raises UserError for a missing or empty folder, options out of range, and broken images with on_broken=refuse.
    """
    _check(path, size, channels, on_broken)
    array, sidecar = PictureCache(Path(path), Path(cache), size, channels, on_broken == "refuse").open()
    if held_out_folder is None and train_folder is None:
        parts = divide_by_share(path, sidecar.names, held_out, seed)
    else:
        parts = divide_by_folder(path, sidecar.names, held_out_folder, train_folder)
    classes = common_classes(path, *parts) if labels else ()
    counts = (path, *map(len, parts), len(classes))
    logger.info("%s: %d images to train on, %d held out, %d classes", *counts)
    samples = torch.from_numpy(array)
    train, held_out_part = (split(samples, part, classes, sidecar.sha256) for part in parts)
    spec = Spec((channels, size, size), classes)
    whole = Dataset(Path(path).resolve().name, spec, train, held_out_part, sidecar.transform, flip)
    return shared(whole, share, share_seed)


def split(samples: Tensor, part: dict[int, str | None], classes: tuple[str, ...], sha256: str) -> Split:
    """The rows of one part out of all samples (n, c, h, w), whose bytes have that SHA-256, with numbers of classes."""
    rows = torch.tensor(list(part))
    numbers = {name: number for number, name in enumerate(classes)}
    targets = torch.tensor([numbers[name] for name in part.values() if name is not None]) if classes else None
    fingerprint = describe_content(sha256, tuple(samples.shape), targets, rows)
    return Split(samples, targets, rows=rows, fingerprint=fingerprint)


def divide_by_share(
    path: str, names: list[str], held_out: float, seed: int
) -> tuple[dict[int, str | None], dict[int, str | None]]:
    """Training and held-out rows, each with its class folder or None.

    Each name has its own place in a seeded order, so that adding images hardly moves the others between the parts.
    """
    if not 0 < held_out < 1:
        raise UserError(f"dataset.held_out is {held_out}; expected a share between 0 and 1, such as 0.1")
    if len(names) < 2:
        raise UserError(f"{path}: holds one readable image; at least 2 are needed, one to train on and one held out")
    order = sorted(range(len(names)), key=lambda row: seeding.derive(seed, "held_out", names[row]))
    count = min(max(round(held_out * len(names)), 1), len(names) - 1)
    chosen = set(order[:count])
    classes = {row: class_folder(PurePosixPath(name)) for row, name in enumerate(names)}
    train = {row: name for row, name in classes.items() if row not in chosen}
    return train, {row: name for row, name in classes.items() if row in chosen}


def divide_by_folder(
    path: str, names: list[str], held_out_folder: str | None, train_folder: str | None
) -> tuple[dict[int, str | None], dict[int, str | None]]:
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


def below(path: str, names: list[str], part: str, option: str) -> dict[int, str | None]:
    """Rows of the images in the sub-folder `part`, each with its class folder below that or None."""
    rows = {}
    for row, name in enumerate(map(PurePosixPath, names)):
        if name.is_relative_to(part):
            rows[row] = class_folder(name.relative_to(part))
    if not rows:
        raise UserError(
            f"{path}: no readable image in dataset.{option}={part}; expected the name of a folder in {path}"
        )
    return rows


def class_folder(name: PurePosixPath) -> str | None:
    """The first folder of a relative name, None when the image lies in no folder."""
    return name.parts[0] if len(name.parts) > 1 else None


def common_classes(path: str, train: dict[int, str | None], held_out: dict[int, str | None]) -> tuple[str, ...]:
    """Sorted names of the class folders, empty unless every image has one and there are at least two.

    Raises UserError when no class of the held-out images occurs in training, which a wrong folder layout causes.
    """
    names = {name for name in (*train.values(), *held_out.values()) if name is not None}
    if None in train.values() or None in held_out.values() or len(names) < 2:
        return ()
    if not set(train.values()) & set(held_out.values()):
        raise UserError(
            f"{path}: training and held-out images share no class folder; set dataset.train_folder or labels=false"
        )
    return tuple(sorted(names))


def _check(path: str, size: int, channels: int, on_broken: str) -> None:
    """Refuse options out of range, and a `path` that isn't a folder."""
    if not Path(path).exists():
        raise UserError(f"{path}: no such folder; set dataset.path to a folder of images")
    if not Path(path).is_dir():
        raise UserError(f"{path}: is a file, not a folder; set dataset.path to a folder of images")
    if size < 1:
        raise UserError(f"dataset.size is {size}; expected the side of the square in pixels, at least 1")
    if channels not in MODES:
        raise UserError(f"dataset.channels is {channels}; expected 1 (grey) or 3 (colour)")
    if on_broken not in ("skip", "refuse"):
        raise UserError(f"dataset.on_broken is {on_broken}; expected skip or refuse")
