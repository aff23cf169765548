"""Networks that grow while they learn: low resolutions first, each next one faded in (Karras et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.networks.blocks import Staged, image_shape
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.informed import Timed


class Stage(NamedTuple):
    """How many doublings have been begun, and the share to which the last one counts."""

    doublings: int
    share: float


def stage_at(images: int, total: int, doublings: int, images_per_phase: float | None) -> Stage:
    """The stage after `images` of `total` images, on the way to `doublings`.

    Phases in which all stands and phases in which a resolution fades in take turns, the first one stands. Each takes
    `images_per_phase` images; with None they and a last one share the run evenly.
    """
    length = total / (2 * doublings + 1) if images_per_phase is None else images_per_phase
    passed = images / length
    phase = int(passed)
    if phase >= 2 * doublings:
        return Stage(doublings, 1.0)
    return Stage((phase + 1) // 2, passed - phase if phase % 2 else 1.0)


class Growth(Timed):
    """The clock of a network that grows from images of side `first` to `side`; UserError for impossible settings."""

    clock: Tensor

    def __init__(self, first: int, side: int, images_per_phase: float | None, network: str) -> None:
        super().__init__()
        if first & (first - 1) or not 4 <= first <= side:
            raise UserError(f"{network}: first={first}: a power of two from 4 to the side of the data, {side}")
        if images_per_phase is not None and images_per_phase <= 0:
            raise UserError(f"{network}: images_per_phase={images_per_phase}: must be positive, or null for even parts")
        self.first, self.doublings, self.images_per_phase = first, int(math.log2(side // first)), images_per_phase
        # Whole numbers, which averages of weights copy as they are.
        self.register_buffer("clock", torch.tensor([0, 1], device="cpu"))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Growth:
        # The clock stays on the CPU: which layers run is decided there, without waiting for a GPU at each forward.
        clock = self.clock
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.clock = clock
        return self

    def at(self, images: int, total: int) -> None:
        """Set the clock."""
        self.clock.copy_(torch.tensor([images, total], device="cpu"))

    def readings(self) -> dict[str, float]:
        """The side to which images have grown, or are growing, and the share of its finest level."""
        doublings, share = self.stage
        return {"side": float(self.first * 2**doublings), "fade_in": share}

    @property
    def stage(self) -> Stage:
        """Where growth has come."""
        images, total = self.clock.tolist()
        return stage_at(images, total, self.doublings, self.images_per_phase)


def double(images: Tensor, factor: int = 2) -> Tensor:
    """Each pixel repeated: (n, c, h, w) to (n, c, factor h, factor w)."""
    return interpolate(images, scale_factor=factor) if factor > 1 else images


def halve(images: Tensor, factor: int = 2) -> Tensor:
    """Average pooling: (n, c, h, w) to (n, c, h / factor, w / factor)."""
    return avg_pool2d(images, factor) if factor > 1 else images


class GrowingGenerator(Staged):
    """Levels of which the first few run, and for each resolution that images can have a map to colours.

    The levels from number `started` on are those that grow. Images always have the data's side.
    """

    growth: Growth
    to_rgb: nn.ModuleList
    started: int

    def paint(self, start: Tensor) -> Tensor:
        """Images (n, c, side, side) of the first level's input.

        In evaluation they are the published blend, (1 - a) low + a high. In training the fine part of the new
        resolution has its full strength, and the discriminator shows itself a share `a` of that of any images:
        generated ones as published, and real ones faded alike, as they are to be.
        """
        doublings, share = self.growth.stage
        place = self.started + doublings
        h, before = start, start
        for level in self.levels[: place + 1]:
            h, before = level(h), h
        images: Tensor = self.to_rgb[doublings](h)
        if share < 1:
            images = images + (1 - share) * double(self.to_rgb[doublings - 1](before) - halve(images))
            images = images if self.training else fade(images, share)
        return double(images, 2 ** (len(self.levels) - 1 - place))


def fade(images: Tensor, share: float) -> Tensor:
    """Images of whose finest details only a share is left."""
    return torch.lerp(double(halve(images)), images, share)


class GrowingDiscriminator(Headed, Staged):
    """Levels of which the last few run, and for each resolution that images can have a map from colours.

    `from_rgb[k]` is for images that have doubled k times.
    """

    growth: Growth
    from_rgb: nn.ModuleList

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) and the outputs of the levels that run for images (n, c, side, side)."""
        doublings, share = self.growth.stage
        skipped = self.growth.doublings - doublings
        images = halve(samples, 2**skipped)
        coarse = halve(images) if share < 1 else None
        h = self.from_rgb[doublings](images if coarse is None else torch.lerp(double(coarse), images, share))
        features = []
        for place, level in enumerate(self.levels[skipped:]):
            h = level(h)
            if place == 0 and coarse is not None:
                h = torch.lerp(self.from_rgb[doublings - 1](coarse), h, share)
            features.append(h)
        return Verdict(self.head(self.pool(h)).squeeze(1), tuple(features))


def growing_sides(spec: Spec, network: str, smallest: int) -> tuple[int, list[int]]:
    """Channels of images, and the sides of levels from 4 to that of the data."""
    channels, side = image_shape(spec, network, smallest, 1024)
    return channels, [4 * 2**level for level in range(int(math.log2(side // 4)) + 1)]


def shapes_of(channels: Sequence[int], sides: Sequence[int]) -> list[tuple[int, int]]:
    """Channels and side of each level."""
    return list(zip(channels, sides, strict=True))
