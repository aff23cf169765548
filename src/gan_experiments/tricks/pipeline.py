"""ADA's augmentations: blits, geometric and colour transformations (Karras et al. 2020, appendix B), differentiable.

Each happens to an image by one coin of its own, a shift along both axes by the same one. Pixels are interpolated
bilinearly, where the paper filters with a wavelet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHIFT_WHOLE, SCALE_STD, ROTATE_MAX, ANISOTROPY_STD, SHIFT_STD = 0.125, 0.2, 1.0, 0.2, 0.125
BRIGHTNESS_STD, CONTRAST_STD, HUE_MAX, SATURATION_STD = 0.2, 0.5, 1.0, 1.0


class Dice:
    """Draws for n samples: whether something happens to each, and how much."""

    def __init__(self, n: int, probability: Tensor, random: torch.Generator) -> None:
        self.n, self.probability, self.random = n, probability, random

    def happens(self, probability: Tensor | None = None) -> Tensor:
        """Bool (n,)."""
        p = self.probability if probability is None else probability
        return torch.rand(self.n, generator=self.random, device=p.device) < p

    def uniform(self) -> Tensor:
        """(n,) in [-1, 1)."""
        return 2 * torch.rand(self.n, generator=self.random, device=self.probability.device) - 1

    def normal(self) -> Tensor:
        """(n,) from N(0, 1)."""
        return torch.randn(self.n, generator=self.random, device=self.probability.device)

    def maybe(self, value: Tensor, otherwise: float, probability: Tensor | None = None) -> Tensor:
        """`value` (n,) where it happens, else `otherwise`."""
        return torch.where(self.happens(probability), value, otherwise)

    def shift(self, x: Tensor, y: Tensor) -> Tensor:
        """Matrices (n, 3, 3) that shift by `x` and `y` (n,), both or neither."""
        happens = self.happens()
        x, y = (torch.where(happens, amount, 0.0) for amount in (x, y))
        return matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]], x)


def matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    """Stack numbers and (n,) tensors to matrices (n, r, c)."""
    return torch.stack([torch.stack([torch.zeros_like(like) + x for x in row], -1) for row in rows], -2)


def rotation(angle: Tensor) -> Tensor:
    """Matrices (n, 3, 3) that turn by `angle` (n,)."""
    cos, sin = angle.cos(), angle.sin()
    return matrix([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], angle)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Matrices (n, 3, 3) that scale by `x` and `y` (n,)."""
    return matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]], x)


def blit_matrices(dice: Dice, height: int, width: int) -> Tensor:
    """Mirroring, quarter turns and whole-pixel shifts: (n, 3, 3) from output to input positions, in pixels.

    A mirroring that happens does so by a coin, a turn is by 0 to 3 quarters.
    """
    flip = dice.maybe(torch.where(dice.uniform() < 0, -1.0, 1.0), 1.0)
    quarter = dice.maybe(torch.floor(2 * (dice.uniform() + 1)), 0.0) * (math.pi / 2)
    shift = dice.shift(*((dice.uniform() * SHIFT_WHOLE * side).round() for side in (width, height)))
    return scaling(flip, torch.ones_like(flip)) @ rotation(quarter).round() @ shift


def geometric_matrices(dice: Dice, height: int, width: int) -> Tensor:
    """Scaling, rotation before and after unequal scaling, fractional shifts: (n, 3, 3), in pixels."""
    scale = dice.maybe(torch.exp2(dice.normal() * SCALE_STD), 1.0)
    # Two chances to rotate, each such that one of them happens with the probability.
    once = 1 - torch.sqrt((1 - dice.probability).clamp(0, 1))
    before = dice.maybe(dice.uniform() * math.pi * ROTATE_MAX, 0.0, once)
    stretch = dice.maybe(torch.exp2(dice.normal() * ANISOTROPY_STD), 1.0)
    after = dice.maybe(dice.uniform() * math.pi * ROTATE_MAX, 0.0, once)
    shift = dice.shift(*(dice.normal() * SHIFT_STD * side for side in (width, height)))
    return scaling(scale, scale) @ rotation(before) @ scaling(stretch, 1 / stretch) @ rotation(after) @ shift


def warp(images: Tensor, probability: Tensor, random: torch.Generator, blit: bool, geometry: bool) -> Tensor:
    """Images (n, c, h, w) after blits and geometric transformations, mirrored beyond their edges."""
    n, _, height, width = images.shape
    dice = Dice(n, probability, random)
    transform = torch.eye(3, device=images.device).expand(n, 3, 3)
    if blit:
        transform = transform @ blit_matrices(dice, height, width)
    if geometry:
        transform = transform @ geometric_matrices(dice, height, width)
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    positions = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones_like(x).repeat(height)])
    sources = transform[:, :2] @ positions
    return interpolate(images, sources[:, 0] + (width - 1) / 2, sources[:, 1] + (height - 1) / 2)


def interpolate(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values of images (n, c, h, w) at pixel positions x, y (n, h w).

    Gathers rather than grid_sample, whose gradient can't be differentiated again as slope penalties must.
    """
    n, channels, height, width = images.shape
    flat = images.reshape(n, channels, -1)
    left, top = x.floor(), y.floor()
    result = torch.zeros_like(flat)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        share = (1 - (x - column).abs()) * (1 - (y - row).abs())
        index = mirrored(row, height) * width + mirrored(column, width)
        result = result + share[:, None] * flat.gather(2, index[:, None].expand(-1, channels, -1))
    return result.view(images.shape)


def mirrored(position: Tensor, size: int) -> Tensor:
    """Whole positions reflected into [0, size), edges not repeated."""
    period = max(2 * (size - 1), 1)
    folded = position.remainder(period)
    return torch.minimum(folded, period - folded).long().clamp(0, size - 1)


def recolor(images: Tensor, probability: Tensor, random: torch.Generator) -> Tensor:
    """Images (n, c, h, w) of one or three channels after brightness, contrast, luma flip, hue and saturation."""
    n, channels = images.shape[:2]
    dice = Dice(n, probability, random)
    brightness = dice.maybe(dice.normal() * BRIGHTNESS_STD, 0.0)
    contrast = dice.maybe(torch.exp2(dice.normal() * CONTRAST_STD), 1.0)
    luma = dice.maybe((dice.uniform() > 0).float(), 0.0)
    hue = dice.maybe(dice.uniform() * math.pi * HUE_MAX, 0.0)
    saturation = dice.maybe(torch.exp2(dice.normal() * SATURATION_STD), 1.0)
    shape = (-1, 1, 1, 1)
    images = (images + brightness.view(shape)) * contrast.view(shape)
    if channels != 3:  # grey: reflecting the luma is a change of sign, hue and saturation have nothing to change
        return images * (1 - 2 * luma.view(shape))
    mixed: Tensor = torch.einsum("nij,njhw->nihw", colour_matrices(luma, hue, saturation), images)
    return mixed


def colour_matrices(luma: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """(n, 3, 3): luma mirrored where `luma` is 1, then a turn of `hue` about the grey axis, then colour scaled."""
    identity = torch.eye(3, device=hue.device)
    grey = torch.full((3, 3), 1 / 3, device=hue.device)  # the projection on the grey axis
    flip = identity - 2 * luma.view(-1, 1, 1) * grey
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=hue.device) / math.sqrt(3)
    cos, sin = hue.cos().view(-1, 1, 1), hue.sin().view(-1, 1, 1)
    turn = cos * identity + sin * cross + (1 - cos) * grey
    return (grey + (identity - grey) * saturation.view(-1, 1, 1)) @ turn @ flip
