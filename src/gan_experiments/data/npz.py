"""Images in one .npz file, as other programs write generated samples."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_experiments.errors import UserError

IMAGES = ("arr_0", "images", "samples")
LABELS = ("arr_1", "labels")
NAMES = ("classes",)
"""Names under which images, labels and the classes' names are looked for, in this order."""


class Content(NamedTuple):
    """Images uint8 (n, c, h, w), labels (n,) int64 and the names of the classes that they number, so far as known."""

    images: Tensor
    labels: Tensor | None
    classes: tuple[str, ...] | None = None


def load_npz(path: Path) -> Content:
    """Images of 1 or 3 channels, stored as (n, c, h, w), (n, h, w, c) or (n, h, w), with labels and names of classes.

    Raises UserError for a file that can't be read without executing what is in it, or that holds something else.
    """
    try:
        with zipfile.ZipFile(path):  # np.load would take other kinds of file for something else
            pass
        with np.load(path, allow_pickle=False) as content:
            names = list(content.files)
            image_name, label_name, class_name = (
                next((name for name in known if name in names), None) for known in (IMAGES, LABELS, NAMES)
            )
            if image_name is None:
                raise UserError(
                    f"{path}: holds {', '.join(names) or 'nothing'}; expected images as {' or '.join(IMAGES)}"
                )
            stored = read(path, content, image_name)
            labels = None if label_name is None else read(path, content, label_name)
            classes = None if class_name is None else read(path, content, class_name)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: not a whole .npz file ({error}); write it by numpy.savez") from error
    images = channels_first(path, stored)
    if labels is None:
        return Content(images, None)
    numbers = class_numbers(path, labels, len(images))
    return Content(images, numbers, None if classes is None else class_names(path, classes, numbers))


def read(path: Path, content: np.lib.npyio.NpzFile, name: str) -> NDArray[np.generic]:
    """One array; UserError for pickled objects, which could execute anything."""
    try:
        array: NDArray[np.generic] = content[name]
    except ValueError as error:
        raise UserError(f"{path}: {name} isn't a plain array of numbers ({error}); save it as uint8") from error
    return array


def channels_first(path: Path, stored: NDArray[np.generic]) -> Tensor:
    """Images as uint8 (n, c, h, w); UserError for other types and shapes, and where the layout can't be told."""
    expected = "expected uint8 of shape (n, h, w, c) or (n, c, h, w) with 1 or 3 channels"
    found = f"{path}: images are {stored.dtype} of shape {stored.shape}"
    if stored.dtype != np.uint8 or stored.ndim not in (3, 4) or 0 in stored.shape:
        raise UserError(f"{found}; {expected}")
    images = torch.from_numpy(stored)
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        raise UserError(f"{found}; {'both layouts fit' if first else expected}")
    return images if first else images.permute(0, 3, 1, 2)


def class_numbers(path: Path, labels: NDArray[np.generic], count: int) -> Tensor:
    """Labels as int64 (n,); UserError for anything but one class number an image."""
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise UserError(f"{path}: labels are {labels.dtype} of shape {labels.shape}; expected {count} integers")
    return torch.from_numpy(labels.astype(np.int64))


def class_names(path: Path, classes: NDArray[np.generic], labels: Tensor) -> tuple[str, ...]:
    """The classes' names; UserError for anything but different texts, one for each label that there is."""
    if classes.dtype.kind != "U" or classes.ndim != 1 or len(set(classes.tolist())) != len(classes):
        found = f"{classes.dtype} of shape {classes.shape}"
        raise UserError(f"{path}: classes are {found}; expected different texts, one a class")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise UserError(f"{path}: labels run from {low} to {high}, but there are names of {len(classes)} classes")
    return tuple(str(name) for name in classes)
