"""Stacked sets: three random grey images of ten classes as channels of one, hence 1,000 modes (Metz et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import DEVICE_LIMIT, Dataset, Spec, Split, describe_content
from gan_experiments.errors import UserError

CHANNELS = 3
CLASSES = 10
MODES = CLASSES**CHANNELS


class StackedSplit(Split):
    """Images (n, 3, h, w) stacked when asked for, from the grey images of `base` that `triples` (n, 3) number.

    A label is the number whose digits are the three classes, that of the first channel first: 0 to 999.
    """

    def __init__(self, base: Split, triples: Tensor, labels: Tensor) -> None:
        self.base, self.triples = base, triples
        super().__init__(base.samples, labels, device=base.device)

    @classmethod
    def of_random_images(cls, base: Split, count: int, random: torch.Generator) -> StackedSplit:
        """`count` stacked images, each channel any image of `base`, whose labels are 0 to 9; UserError without them."""
        if base.labels is None:
            raise UserError("images are stacked by their labels, but the base set has none")
        triples = torch.randint(len(base), (count, CHANNELS), generator=random)
        digits = base.labels.cpu()[triples]
        return cls(base, triples, (digits * torch.tensor([CLASSES**2, CLASSES, 1])).sum(1))

    def __len__(self) -> int:
        """Number of stacked images."""
        return len(self.triples)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (3, h, w)."""
        return (CHANNELS, *self.base.shape[1:])

    def to(self, device: torch.device | str, limit: int = DEVICE_LIMIT) -> StackedSplit:
        """This split for `device`; only the base's images are moved, which are few."""
        base = self.base.to(device, limit)
        if base is self.base:
            return self
        assert self.labels is not None
        return StackedSplit(base, self.triples.to(base.samples.device), self.labels)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the base's content and of which images are stacked."""
        if self._fingerprint is None:
            shape = (len(self), *self.shape)
            self._fingerprint = describe_content(self.base.fingerprint, shape, None, self.triples)
        return self._fingerprint

    def _stored(self, start: int, stop: int) -> Tensor:
        """Stacked images start to stop."""
        return self.gather(torch.arange(len(self))[start:stop])

    def gather(self, indices: Tensor) -> Tensor:
        """The stacked images at `indices` (n,), on the split's device."""
        triples = self.triples[indices.to(self.triples.device)]
        return self.base.gather(triples.flatten()).view(len(triples), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class StackedDataset(Dataset):
    """A stacked set, with the grey set that its channels come from."""

    base: Dataset


def stacked(base: Dataset, train_images: int = 128_000, held_out_images: int = 26_000, seed: int = 0) -> StackedDataset:
    """Fixed random triples of `base`'s images: training ones of training images, held-out ones of held-out images.

    Raises UserError when the base isn't grey with ten classes, or a number isn't positive.
    """
    name = f"stacked_{base.name}"
    if not base.spec.is_image or base.spec.shape[0] != 1 or len(base.spec.classes) != CLASSES:
        found = f"shape {base.spec.shape} and {len(base.spec.classes)} classes"
        raise UserError(
            f"dataset {name}: the base set has {found}; expected grey images (1, h, w) of {CLASSES} classes"
        )
    if train_images < 1 or held_out_images < 1:
        counts = f"train_images={train_images}, held_out_images={held_out_images}"
        raise UserError(f"dataset {name}: {counts}; both must be at least 1")

    def draw(split: Split, count: int, part: str) -> StackedSplit:
        return StackedSplit.of_random_images(split, count, seeding.generator(seed, "stacked", base.name, part))

    names = tuple(", ".join(triple) for triple in product(base.spec.classes, repeat=CHANNELS))
    spec = Spec((CHANNELS, *base.spec.shape[1:]), names)
    parts = draw(base.train, train_images, "train"), draw(base.held_out, held_out_images, "held_out")
    return StackedDataset(name, spec, *parts, f"{base.transform}; three on three channels", base.flip, base=base)
