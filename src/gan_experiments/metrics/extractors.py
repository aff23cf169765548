"""Frozen networks that turn images into what metrics compare: feature vectors and class logits."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.needs import require_package
from gan_experiments.metrics.weights_file import OFFLINE


class Features(NamedTuple):
    """What metrics are told of n samples; what isn't known is None.

    An extractor gives float32 `features` (n, d) and `logits` (n, k). The evaluator adds the `samples` themselves, uint8
    images (n, c, h, w) or float points (n, d), and `labels` (n,): the reals' own, the classes fakes were asked for.
    """

    features: Tensor
    logits: Tensor | None = None
    samples: Tensor | None = None
    labels: Tensor | None = None


class Extractor(nn.Module, ABC):
    """A frozen feature extractor, always in evaluation mode: uint8 images (n, c, h, w) to Features in float32.

    `name`, `sha256` (of its weights' file) and `resize` (how images became bytes, and what is done to other sizes)
    identify its scores: only scores of the same three compare. `num_classes` is 0 where there are no logits.
    """

    def __init__(self, name: str, sha256: str, num_features: int, num_classes: int, resize: str) -> None:
        """An extractor of that identity."""
        super().__init__()
        self.name = name
        self.sha256 = sha256
        self.num_features = num_features
        self.num_classes = num_classes
        self.resize = resize

    def freeze(self) -> Self:
        """Itself, in evaluation mode and without gradients for its parameters."""
        return self.train(False).requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Features of uint8 images (n, c, h, w), in float32 even under autocast; UserError for anything else."""
        if images.dtype != torch.uint8 or images.ndim != 4:
            found = f"{images.dtype} of shape {tuple(images.shape)}"
            raise UserError(f"extractor {self.name}: got {found}, expected uint8 images (n, c, h, w)")
        with torch.autocast(images.device.type, enabled=False):
            return self.extract(images)

    @abstractmethod
    def extract(self, images: Tensor) -> Features:
        """Features of valid uint8 images (n, c, h, w)."""


class ExtractorSource(ABC):
    """Where an extractor for a data set comes from: what the options of the config group `extractor` name."""

    @abstractmethod
    def build(self, dataset: Dataset) -> Extractor:
        """The extractor for these samples; UserError when there can't be one."""


class Pixels(Extractor):
    """The pixels themselves, divided by 255: features (n, c*h*w)."""

    def __init__(self, num_features: int) -> None:
        """Features of images with that many values."""
        super().__init__("pixels", hashlib.sha256(b"").hexdigest(), num_features, 0, "none")

    def extract(self, images: Tensor) -> Features:
        """The flattened images in [0, 1]."""
        return Features(images.flatten(1).float() / 255)


class PixelsSource(ExtractorSource):
    """The option extractor=pixels."""

    def build(self, dataset: Dataset) -> Pixels:
        """Pixels of this size of image; UserError for points."""
        channels, height, width = image_shape("pixels", dataset)
        return Pixels(channels * height * width).freeze()


def picks(size: int, count: int, seed: int) -> Tensor:
    """Ascending, seeded indices of `count` of `size` samples; random, as even steps may meet a period of the labels."""
    order = torch.randperm(size, generator=seeding.generator(seed, "picks"))
    return order[:count].sort().values


def require_extra(extractor: str, module: str, package: str, extra: str) -> None:
    """UserError, with the command that installs it and what works without, when a package isn't there."""
    try:
        require_package(f"extractor {extractor}", module, package, extra)
    except UserError as error:
        raise UserError(f"{error}; {OFFLINE}") from error


def image_shape(extractor: str, dataset: Dataset, rgb: bool = True) -> tuple[int, int, int]:
    """Shape (c, h, w) of the images, of 1 or 3 channels if `rgb`; UserError naming the extractor for anything else."""
    if not dataset.spec.is_image:
        raise UserError(f"extractor {extractor} reads images, but {dataset.name} holds points; set extractor=none")
    channels, height, width = dataset.spec.shape
    if rgb and channels not in (1, 3):
        raise UserError(f"extractor {extractor} reads 1 or 3 channels, but data set {dataset.name} has {channels}")
    return channels, height, width
