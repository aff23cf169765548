"""Any folder of images as a data set."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset, Spec, Split, describe_content
from gan_experiments.data.division import Part, classify, divide, divide_by_folder
from gan_experiments.data.natural import readable
from gan_experiments.data.picture_cache import PictureCache
from gan_experiments.data.pictures import MODES
from gan_experiments.data.share import shared
from gan_experiments.data.tree import expanded, shortened
from gan_experiments.errors import UserError
from gan_experiments.locations import located

logger = logging.getLogger(__name__)

LARGEST = 16_384
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


@located("path", "cache", "held_out_folder", "train_folder")
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
    those in the sub-folder `train_folder`. Where neither is given and folders are called like the parts of a split
    (train, val, test ...), they are those parts, which the log says. Classes are the first folders below `path` (below
    the sub-folders) when there are at least two and most images lie in one; images beside them are then left out, with
    a warning. Otherwise, or with labels=false, there are none.
    With `share` below 1 only that share of the training images is used, drawn by `share_seed`, as large of every class.
    Raises UserError for a missing or empty folder, options out of range, and broken images with on_broken=refuse.
    """
    _check(size, channels, on_broken)
    root, path = existing(path), shortened(path)
    array, sidecar = PictureCache(root, expanded(cache), size, channels, on_broken == "refuse").open()
    names = sidecar.names
    if held_out_folder is None and train_folder is None:
        train_rows, held_out_rows = divide(path, names, held_out, seed, labels)
    else:
        train_rows, held_out_rows = divide_by_folder(path, names, held_out_folder, train_folder)
    classes: tuple[str, ...] = ()
    if labels:
        classes, train_rows, held_out_rows = classify(path, names, train_rows, held_out_rows)
    parts = train_rows, held_out_rows
    counts = (path, *map(len, parts), len(classes))
    logger.info("%s: %d images to train on, %d held out, %d classes", *counts)
    samples = torch.from_numpy(array)
    train, held_out_part = (split(samples, part, classes, sidecar.sha256) for part in parts)
    spec = Spec((channels, size, size), classes)
    whole = Dataset(readable(root.resolve().name), spec, train, held_out_part, sidecar.transform, flip)
    return shared(whole, share, share_seed)


def split(samples: Tensor, part: Part, classes: tuple[str, ...], sha256: str) -> Split:
    """The rows of one part out of all samples (n, c, h, w), whose bytes have that SHA-256, with numbers of classes."""
    rows = torch.tensor(list(part), dtype=torch.int64)
    numbers = {name: number for number, name in enumerate(classes)}
    targets = torch.tensor([numbers[name] for name in part.values() if name is not None]) if classes else None
    fingerprint = describe_content(sha256, tuple(samples.shape), targets, rows)
    return Split(samples, targets, rows=rows, fingerprint=fingerprint)


def existing(path: str) -> Path:
    """The folder at `path`; UserError when there is none, or when it can't be looked at."""
    said, advice = shortened(path), "set dataset.path to a folder of images"
    if not path.strip():
        raise UserError(f"dataset.path is empty; {advice}")
    root = expanded(path)
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{said}: no such folder; {advice}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{said}: can't be looked at ({reason}); {advice}") from error
    if not stat.S_ISDIR(mode):
        unpacked = "; unpack it" if root.suffix.lower() in ARCHIVES else ""
        raise UserError(f"{said}: is a file, not a folder{unpacked}; {advice}")
    return root


def _check(size: int, channels: int, on_broken: str) -> None:
    """Refuse options out of range."""
    if not 1 <= size <= LARGEST:
        raise UserError(f"dataset.size is {size}; expected the side of the square in pixels, 1 to {LARGEST:,}")
    if channels not in MODES:
        raise UserError(f"dataset.channels is {channels}; expected 1 (grey) or 3 (colour)")
    if on_broken not in ("skip", "refuse"):
        raise UserError(f"dataset.on_broken is {on_broken}; expected skip or refuse")
