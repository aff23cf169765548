"""How exactly a StyleGAN3 generator's images move and turn with its input (Karras et al. 2021, appendix E).

Numbers are peak signal-to-noise ratios in decibels, of images whose values span 2, higher is better:
EQ = 10 log10(2^2 / E (g(t[z0]; w) - t[g(z0; w)])^2), the mean over samples, transforms t, channels and those pixels
that both images determine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.networks.stylegan3 import FourierInput

REACH = 3
"""Of Lanczos windows, in pixels."""

FINE = 4
"""Places a pixel at which a filtered image is known before it is read bilinearly."""

IDEAL = 64
"""Pixels after which the inverse transform of an ideal spectrum is cut."""

Draw = Callable[[], Tensor]
"""The generator's images (n, c, side, side), the same ones in each call but for what its input does."""


class Errors(NamedTuple):
    """Squares summed up and how many: sums of several batches can be added."""

    squares: float = 0.0
    pixels: int = 0

    def plus(self, other: Errors) -> Errors:
        """Those of both."""
        return Errors(self.squares + other.squares, self.pixels + other.pixels)

    @property
    def decibels(self) -> float:
        """The peak signal-to-noise ratio for values that span 2, up to 306; NaN for no pixel at all."""
        return -10 * math.log10(max(self.squares / self.pixels, 1e-30) / 4) if self.pixels else math.nan


@contextmanager
def moved(source: FourierInput, motions: Tensor) -> Iterator[None]:
    """Let the images be moved by `motions` (n, 3, 3), in shares of an image about its middle, x right and y down."""
    before = source.transform
    source.transform = motions.inverse().to(before)
    try:
        yield
    finally:
        source.transform = before


@torch.no_grad()
def translation(source: FourierInput, draw: Draw, random: torch.Generator, subpixel: bool = False) -> Errors:
    """EQ-T, for shifts by up to an eighth of the image to whole pixels, or EQ-T_frac, to any place, each way.

    The image made at rest is shifted by a Lanczos-windowed sinc, which for whole pixels is exact.
    """
    rest = draw()
    n, _, _, side = rest.shape
    shifts = (torch.rand(n, 2, generator=random, dtype=torch.float64) * 2 - 1) * side / 8
    shifts = shifts if subpixel else shifts.round()
    motions = torch.eye(3, dtype=torch.float64).repeat(n, 1, 1)
    motions[:, :2, 2] = shifts / side
    with moved(source, motions):
        found = draw()
    total = Errors()
    for image, expected, (x, y) in zip(found, rest, shifts.tolist(), strict=True):
        total = total.plus(errors(image.double(), *shifted(expected.double(), x, y)))
    return total


@torch.no_grad()
def rotation(source: FourierInput, draw: Draw, random: torch.Generator) -> Errors:
    """EQ-R, for turns by any angle about the middle.

    Turning an image loses what lies in the corners of its spectrum, so that what the generator made is freed of it too.
    """
    rest = draw()
    angles = torch.rand(len(rest), generator=random, dtype=torch.float64) * 2 * math.pi
    motions = torch.eye(3, dtype=torch.float64).repeat(len(rest), 1, 1)
    motions[:, :2, :2] = turns(angles)
    with moved(source, motions):
        found = draw()
    total = Errors()
    for image, expected, turn in zip(found, rest, turns(angles), strict=True):
        wanted, there = turned(expected, turn)
        freed, here = common(image, turn)
        total = total.plus(errors(freed, wanted, there & here))
    return total


def errors(found: Tensor, expected: Tensor, counts: Tensor) -> Errors:
    """Of images (c, h, w), at pixels that count (h, w)."""
    squares = (found - expected).square()[:, counts]
    return Errors(float(squares.sum()), squares.numel())


def turns(angles: Tensor) -> Tensor:
    """Rotations (n, 2, 2) from x (right) towards y (down)."""
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)


def lanczos(x: Tensor, reach: int = REACH) -> Tensor:
    """The window sinc(x / reach), 0 from reach on."""
    return torch.sinc(x / reach) * (x.abs() < reach)


def shifted(image: Tensor, x: float, y: float, reach: int = REACH) -> tuple[Tensor, Tensor]:
    """An image (c, h, w) shifted by x pixels to the right and y down, and where (h, w) it is known."""
    across, known_across = shift_weights(image.shape[2], x, reach)
    down, known_down = shift_weights(image.shape[1], y, reach)
    moved_image = down.to(image) @ image @ across.to(image).t()
    return moved_image, (known_down[:, None] & known_across).to(image.device)


def shift_weights(side: int, by: float, reach: int) -> tuple[Tensor, Tensor]:
    """Weights (side, side) of pixels in those of a row shifted by `by`, and which (side,) need none from beyond."""
    rim = math.ceil(abs(by)) + reach
    distance = torch.arange(side)[:, None] - by - torch.arange(-rim, side + rim)
    weights = torch.sinc(distance.double()) * lanczos(distance.double(), reach)
    beyond = weights[:, :rim].abs().sum(1) + weights[:, -rim:].abs().sum(1)
    return weights[:, rim:-rim], beyond < 1e-9


def common_filter(turn: Tensor) -> Tensor:
    """A filter of FINE taps a pixel (taps, taps) for frequencies that the pixel grid and the grid seen by `turn` (2, 2)
    both hold: the product of two ideal spectra, under two Lanczos windows; of each phase, the taps add up to 1."""
    reach = math.ceil(REACH * (1 + math.sqrt(2))) * FINE  # two windows reach no further
    ideal = seen_twice(torch.sinc, turn, IDEAL * FINE, reach)
    kernel = F.pad(ideal * seen_twice(lanczos, turn, reach, reach), (0, FINE - 1, 0, FINE - 1))
    phases = kernel.view(len(kernel) // FINE, FINE, -1, FINE)
    return (phases / phases.sum((0, 2), keepdim=True)).view_as(kernel)[: 2 * reach + 1, : 2 * reach + 1]


def seen_twice(profile: Callable[[Tensor], Tensor], turn: Tensor, extent: int, reach: int) -> Tensor:
    """profile(x) profile(y) convolved with itself as seen by `turn`: the middle (2 reach + 1)^2, known to `extent`."""
    ticks = torch.arange(-extent, extent + 1, dtype=torch.float64) / FINE
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    turned_x, turned_y = turn[0, 0] * x + turn[0, 1] * y, turn[1, 0] * x + turn[1, 1] * y
    # Large enough that what wraps around stays out of the middle, and quick to transform.
    size = (64 * math.ceil((2 * extent + 1 + reach) / 64),) * 2
    parts = (profile(x) * profile(y), profile(turned_x) * profile(turned_y))
    one, other = (torch.fft.rfft2(part, size) for part in parts)
    found: Tensor = torch.fft.irfft2(one * other, size)
    middle = slice(2 * extent - reach, 2 * extent + reach + 1)
    return found[middle, middle]


def turned(image: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """An image (c, side, side), of what can be turned, turned about its middle, and where (side, side) it is known."""
    side = image.shape[1]
    kernel = common_filter(turn).to(image)
    taps = len(kernel) // FINE + 1
    phases = F.pad(kernel, (0, FINE - 1, 0, FINE - 1)).view(taps, FINE, taps, FINE).permute(1, 3, 0, 2).flip(2, 3)
    filtered = F.conv2d(image.unsqueeze(1), phases.reshape(FINE**2, 1, taps, taps), padding=taps - 1)
    fine = F.pixel_shuffle(filtered, FINE).transpose(0, 1)
    places = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    back = torch.stack([x, y], 2) @ turn.inverse().t() + (side - 1) / 2
    rim = (taps - 1) / 2
    grid = 2 * (back + rim) * FINE / (fine.shape[3] - 1) - 1
    values = F.grid_sample(fine, grid[None].to(image), mode="bilinear", align_corners=True)[0]
    known = ((back >= rim) & (back <= side - 1 - rim)).all(2)
    return values, known.to(image.device)


def common(image: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """An image (c, side, side) without what no image turned by `turn` holds, and where (side, side) it is known."""
    kernel = common_filter(turn.inverse())[::FINE, ::FINE].to(image)
    reach = (len(kernel) - 1) // 2
    values = F.conv2d(image.unsqueeze(1), kernel[None, None], padding=reach).squeeze(1)
    known = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    known[reach : len(known) - reach, reach : len(known) - reach] = True
    return values, known
