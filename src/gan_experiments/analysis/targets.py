"""What can be scored besides a run: stored images, and the data they are scored against; and which states of a run."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import final

import torch
from torch import Tensor

from gan_experiments.analysis.class_names import class_places, label_places
from gan_experiments.analysis.sweep import is_run, runs_below
from gan_experiments.checkpoint import Checkpoints
from gan_experiments.data import pictures
from gan_experiments.data.base import Dataset, Spec, Split, describe_content
from gan_experiments.data.depth import Unreadable
from gan_experiments.data.division import class_folder, find_layout
from gan_experiments.data.folder import folder
from gan_experiments.data.npz import Content, load_npz
from gan_experiments.data.picture_cache import PictureCache
from gan_experiments.data.tree import USUAL, find, shortened
from gan_experiments.errors import UserError
from gan_experiments.metrics.order import content_order, divided

log = logging.getLogger(__name__)

GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's names for kinds of image without colour."""


class Stored(ABC):
    """Images on disk, of which one can ask for a split of a given shape."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""

    @property
    @abstractmethod
    def sides(self) -> tuple[int, int]:
        """Height and width, the same for all; UserError where they differ."""

    @property
    @abstractmethod
    def flexible(self) -> bool:
        """Whether the images can be had in other sizes and numbers of channels."""

    @abstractmethod
    def split(self, shape: tuple[int, ...], cache: Path, classes: tuple[str, ...]) -> Split:
        """All images in shape (c, h, w), labelled by number if there are `classes` and the images have some of them."""

    @abstractmethod
    def dataset(self, shape: tuple[int, ...], cache: Path, held_out: float, labels: bool) -> Dataset:
        """The images as reference in shape (c, h, w), a seeded share of them held out.

        With a share of 0 all images are in both parts.
        """


@final
class Folder(Stored):
    """A tree of image files; the first folders are classes if every image lies in one and there are at least two."""

    @cached_property
    def survey(self) -> tuple[Counter[tuple[int, int]], bool]:
        """How many images there are of each (height, width), by their headers, and whether any has colour."""
        sizes: Counter[tuple[int, int]] = Counter()
        coloured = False
        for name in find(self.path):
            try:
                with pictures.opened(self.path / name) as image:
                    sizes[pictures.seen_size(image)] += 1
                    coloured |= image.mode not in GREY_MODES
            except Unreadable:
                continue  # decoding reports it by name
        if not sizes:
            raise UserError(f"{self.path}: no readable images in this folder or below it")
        return sizes, coloured

    @property
    def channels(self) -> int:
        """3 if any image has colour."""
        return 3 if self.survey[1] else 1

    @property
    def sides(self) -> tuple[int, int]:
        """The one size of all images."""
        sizes, _ = self.survey
        (usual, _), *others = sizes.most_common()
        if others:
            (height, width), count = others[0]
            raise UserError(
                f"{self.path}: images of {len(sizes)} sizes, such as {usual[1]}x{usual[0]} and {width}x{height} "
                f"({count}); --size {min(usual)} crops and resizes all of them to one"
            )
        if usual[0] != usual[1]:
            raise UserError(
                f"{self.path}: images are {usual[1]}x{usual[0]}; --size {min(usual)} scores their centre squares"
            )
        return usual

    @property
    def flexible(self) -> bool:
        """Files are decoded to any size."""
        return True

    def split(self, shape: tuple[int, ...], cache: Path, classes: tuple[str, ...]) -> Split:
        """Decoded once into the cache; UserError for class folders that aren't among the classes."""
        if self.channels > shape[0]:
            log.warning("%s: colour images, turned to grey like those they are compared with", self.path)
        array, sidecar = PictureCache(self.path, cache, shape[1], shape[0], refuse_broken=False).open()
        samples = torch.from_numpy(array)
        folders = [class_folder(PurePosixPath(name)) for name in sidecar.names]
        found = {name for name in folders if name is not None}
        labels: Tensor | None = None
        if classes and len(found) > 1:
            if None in folders:
                stray = shortened(self.path / sidecar.names[folders.index(None)])
                raise UserError(f"{stray}: lies beside {len(found)} class folders; sort it into one, or --no-labels")
            places = class_places(self.path, found, classes)
            labels = torch.tensor([places[name] for name in folders if name is not None])
        return Split(samples, labels, fingerprint=describe_content(sidecar.sha256, tuple(samples.shape), labels))

    def dataset(self, shape: tuple[int, ...], cache: Path, held_out: float, labels: bool) -> Dataset:
        """As the option dataset=folder makes it; a share that is held out follows from the pixels, not from names."""
        whole = folder(str(self.path), str(cache), shape[1], shape[0], held_out or 0.5, labels=labels)
        if held_out > 0:
            if find_layout(str(self.path), find(self.path)) is not None:
                return whole
            return divided(whole, joined(whole.train, whole.held_out), held_out)
        everything = joined(whole.train, whole.held_out)
        return replace(whole, train=everything, held_out=everything)


@final
class Archive(Stored):
    """Images in an .npz file; classes are named as it says, or by their numbers."""

    @cached_property
    def content(self) -> Content:
        """Images uint8 (n, c, h, w), labels (n,) or None, and the classes' names or None."""
        return load_npz(self.path)

    @property
    def channels(self) -> int:
        """Those of the array."""
        return self.content.images.shape[1]

    @property
    def sides(self) -> tuple[int, int]:
        """Those of the array."""
        height, width = self.content.images.shape[2:]
        return height, width

    @property
    def flexible(self) -> bool:
        """An array is what it is."""
        return False

    def split(self, shape: tuple[int, ...], cache: Path, classes: tuple[str, ...]) -> Split:
        """The array; UserError for another shape, and for labels that are none of the classes."""
        images, labels, names = self._fitting(shape)
        if not classes or labels is None:
            return Split(images)
        return Split(images, label_places(self.path, labels, names, classes))

    def dataset(self, shape: tuple[int, ...], cache: Path, held_out: float, labels: bool) -> Dataset:
        """What is held out follows from the pixels, not from places in the file."""
        images, numbers, names = self._fitting(shape)
        if numbers is not None and int(numbers.min()) < 0:
            raise UserError(f"{self.path}: labels go down to {int(numbers.min())}; expected class numbers from 0 on")
        if not labels or numbers is None or int(numbers.max()) == 0:
            numbers = None
        known = () if numbers is None else names or tuple(str(number) for number in range(int(numbers.max()) + 1))
        count = round(held_out * len(images))
        if held_out > 0 and not 0 < count < len(images):
            raise UserError(f"{self.path}: a share of {held_out:g} of its {len(images)} images leaves a part empty")
        order = content_order(Split(images, numbers), 0)
        parts = [order[count:].sort().values, order[:count].sort().values] if count else [torch.arange(len(images))] * 2
        train, rest = (Split(images[part], None if numbers is None else numbers[part]) for part in parts)
        return Dataset(self.path.name, Spec(shape, known), train, rest, "as stored")

    def _fitting(self, shape: tuple[int, ...]) -> Content:
        """The content if it has this shape."""
        images = self.content.images
        if tuple(images.shape[1:]) != tuple(shape):
            raise UserError(
                f"{self.path}: images of shape (channels, height, width) {tuple(images.shape[1:])} are compared with "
                f"{tuple(shape)}; an array isn't resized, so give its images as a folder, or a reference of its shape"
            )
        return self.content


def joined(first: Split, second: Split) -> Split:
    """All samples of two splits of one store, in the store's order."""
    assert first.rows is not None and second.rows is not None
    rows, order = torch.cat((first.rows, second.rows)).sort()
    labels = None
    if first.labels is not None and second.labels is not None:
        labels = torch.cat((first.labels, second.labels))[order]
    content = describe_content(first.fingerprint, tuple(first.samples.shape), labels, rows)
    return Split(first.samples, labels, rows=rows, fingerprint=content)


def identify(path: Path) -> Stored | list[Path]:
    """What is at `path`: stored images, or the directories of a run or of all runs of a sweep.

    Raises UserError for anything else.
    """
    try:
        there = path.exists()
    except OSError as error:
        raise UserError(f"{shortened(path)}: can't be looked at ({error.strerror})") from error
    if not there:
        raise UserError(f"{shortened(path)}: no such file or folder")
    if path.is_file():
        if path.suffix != ".npz":
            raise UserError(f"{path}: expected a run, a folder of runs, a folder of images, or an .npz file")
        return Archive(path)
    if is_run(path):
        return [path]
    if runs := sorted(runs_below(path)):
        return runs
    if not find(path):
        raise UserError(f"{path}: holds neither runs of gan-train nor images ({USUAL} ...)")
    return Folder(path)


def stored(path: Path) -> Stored:
    """The images at `path`; UserError where there are none."""
    found = identify(path)
    if isinstance(found, list):
        raise UserError(f"{path}: holds runs, not images")
    return found


def common_shape(target: Stored, reference: Stored, size: int | None) -> tuple[int, int, int]:
    """The shape (c, h, w) in which a target is compared with a reference: `size`, or the target's own sides.

    Grey only if both are; a file's array decides where the other can follow it.
    """
    rigid = [images for images in (target, reference) if not images.flexible]
    channels = rigid[0].channels if rigid else max(target.channels, reference.channels)
    height, width = target.sides if size is None or not target.flexible else (size, size)
    if reference.flexible and height != width:
        raise UserError(f"{target.path}: images are {width}x{height}; a reference folder is cropped to squares only")
    return channels, height, width


def fitting_split(target: Stored, dataset: Dataset, size: int | None, cache: Path, labels: bool) -> Split:
    """A target's images for comparison with a data set; resized only if `size` says so.

    Raises UserError where the sizes differ, naming what would make them equal.
    """
    shape = dataset.spec.shape
    if not dataset.spec.is_image:
        raise UserError(f"{target.path}: images can't be compared with {dataset.name}, which holds points")
    if target.flexible:
        sides = target.sides if size is None else (size, size)
        if sides != shape[1:]:
            own, wanted = (f"{w}x{h}" for h, w in (sides, shape[1:]))
            raise UserError(f"{target.path}: images are {own}, but {dataset.name} has {wanted}; set --size {shape[1]}")
    return target.split(shape, cache, dataset.spec.classes if labels else ())


def checkpoints(run: Path, choice: str) -> list[Path]:
    """The checkpoints of a run that `all` or FROM:TO (in steps, both inclusive, either may be left out) names."""
    paths = {int(path.stem.removeprefix("step-")): path for path in Checkpoints(run / "checkpoints").paths()}
    if choice == "all":
        low, high = "", ""
    else:
        low, colon, high = choice.partition(":")
        if not colon or not all(end == "" or end.isdecimal() for end in (low, high)):
            raise UserError(f"--checkpoints {choice}: expected all, or FROM:TO in steps, such as 1000:5000 or 1000:")
    chosen = [path for step, path in paths.items() if int(low or 0) <= step and (not high or step <= int(high))]
    if not chosen:
        there = ", ".join(map(str, paths)) or "none"
        raise UserError(f"{run}: no checkpoint in {choice}; there is {there} (steps; checkpoint.keep says how many)")
    return chosen
