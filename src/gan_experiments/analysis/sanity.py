"""Sets of images whose quality is known, to see whether metrics move as their definitions say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Split
from gan_experiments.errors import UserError
from gan_experiments.metrics.order import content_order


@final
class Bench:
    """A labelled data set cut into reals, held-out images and fresh ones, and sets of `count` images made of these.

    Reals are `count` random ones of the training images, by content and seed, fresh ones are the other training images:
    what a perfect generator would make. Raises UserError when there are too few of them, or no classes.
    """

    def __init__(self, data: Dataset, count: int, seed: int = 0) -> None:
        """A bench of `count` images a side."""
        classes, labels = len(data.spec.classes), data.train.labels
        if len(data.train) < 4 * count or classes < 2 or labels is None or not data.spec.is_image:
            raise UserError(
                f"{data.name}: a bench of {count} images a side needs labelled images, and {4 * count} of them to "
                f"train on (there are {len(data.train)}); take fewer, or dataset fashion_mnist"
            )
        self.count, self.classes = count, classes
        order = content_order(data.train, seed)
        self.random = seeding.generator(seed, "sanity")
        self.reals = cut(data.train, order[:count])
        self.fresh = cut(data.train, order[count:])
        self.data = replace(data, train=self.reals)

    def sets(self) -> dict[str, Split]:
        """The sets by name, each `count` images with labels."""
        return {
            "fresh real images": cut(self.fresh, torch.arange(self.count)),
            "training images": self.reals,
            "training images, faintly noisy": self.altered(self.reals, self.noisy),
            "blurred": self.altered(cut(self.fresh, torch.arange(self.count)), blurred),
            "half the classes": self.half(),
            "one image repeated": cut(self.fresh, torch.zeros(self.count, dtype=torch.long)),
            "uniform noise": self.altered(self.reals, self.random_bytes),
        }

    def half(self) -> Split:
        """Fresh images of the first half of the classes only."""
        labels = self.fresh.labels
        assert labels is not None
        return cut(self.fresh, (labels < self.classes // 2).nonzero().squeeze(1)[: self.count])

    def altered(self, split: Split, change: Callable[[Tensor], Tensor]) -> Split:
        """The images of a split, changed, with their labels."""
        return Split(change(split.raw(0, len(split))), split.labels)

    def noisy(self, images: Tensor) -> Tensor:
        """Normal noise of two grey levels added: copies that no comparison byte by byte would find."""
        noise = torch.randn(images.shape, generator=self.random)
        return (images + 2 * noise).round().clamp(0, 255).to(torch.uint8)

    def random_bytes(self, images: Tensor) -> Tensor:
        """Every byte random."""
        return torch.randint(0, 256, images.shape, generator=self.random, dtype=torch.uint8)


def cut(split: Split, rows: Tensor) -> Split:
    """The samples and labels of a split at some rows."""
    return Split(split.gather(rows), None if split.labels is None else split.labels[rows])


def blurred(images: Tensor, sigma: float = 1.0) -> Tensor:
    """Images (n, c, h, w) under a Gaussian of `sigma` pixels, edges repeated."""
    reach = round(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    weights /= weights.sum()
    channels = images.shape[1]
    x = F.pad(images.float(), (reach,) * 4, mode="replicate")
    x = F.conv2d(x, weights.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
    x = F.conv2d(x, weights.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return x.round().clamp(0, 255).to(torch.uint8)
