"""Filters and the filtered non-linearity that keep a network's signals free of aliasing (Karras et al. 2021)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Band(NamedTuple):
    """What maps of `side` pixels hold: a signal of `rate` pixels a unit length, the middle of the map in its origin.

    Frequencies, in cycles a unit length, pass up to `cutoff` and are gone from cutoff + half_width on.
    """

    rate: int
    side: int
    cutoff: float
    half_width: float


def kaiser_beta(taps: int, width: float) -> float:
    """The shape of a Kaiser window of `taps` for a transition band of `width`, a share of half the sampling rate.

    By way of the attenuation it reaches, 2.285 (taps - 1) pi width + 7.95 decibels (Kaiser 1974; Karras et al. 2021,
    appendix C.1).
    """
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return float(0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21))
    return 0.0


def kaiser_window(taps: int, half_width: float, rate: float) -> Tensor:
    """A symmetric window (taps,), float64, for a transition band `half_width` wide on either side of the cutoff."""
    beta = kaiser_beta(taps, 2 * half_width / (rate / 2))
    return torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64, device="cpu")


def places(taps: int, rate: float) -> Tensor:
    """Where the taps (taps,) lie about the origin, float64."""
    return (torch.arange(taps, dtype=torch.float64, device="cpu") - (taps - 1) / 2) / rate


def lowpass(taps: int, cutoff: float, half_width: float, rate: float) -> Tensor:
    """A lowpass filter (taps,) for each axis, float64, of sum 1: a sinc under a Kaiser window (appendix C.1)."""
    kernel = torch.sinc(2 * cutoff * places(taps, rate)) * kaiser_window(taps, half_width, rate)
    return kernel / kernel.sum()


def radial_lowpass(taps: int, cutoff: float, half_width: float, rate: float) -> Tensor:
    """A lowpass filter (taps, taps) alike in all directions, float64, of sum 1 (appendix C.2): the jinc J1(2 pi f r)/r
    under the product of two Kaiser windows. `taps` is even: no tap lies in the origin."""
    radius = torch.hypot(*torch.meshgrid(places(taps, rate), places(taps, rate), indexing="ij"))
    window = kaiser_window(taps, half_width, rate)
    kernel: Tensor = torch.special.bessel_j1(2 * math.pi * cutoff * radius) / radius * torch.outer(window, window)
    return kernel / kernel.sum()


def by_axis(kernel: Tensor, factor: int) -> list[tuple[Tensor, tuple[int, int]]]:
    """Kernels (h, w) and strides of a filter (taps,), one for each axis, or of one (taps, taps)."""
    if kernel.ndim == 2:
        return [(kernel, (factor, factor))]
    return [(kernel[:, None], (factor, 1)), (kernel[None], (1, factor))]


def spread(x: Tensor, kernel: Tensor, factor: int) -> Tensor:
    """(n, c, h, w) at `factor` times the rate: zeros put between pixels, then filtered; all that is not zero.

    The sum of a filter along an axis must be `factor` for signals to keep their strength.
    """
    channels = x.shape[1]
    for part, stride in by_axis(kernel.to(x.dtype), factor):
        x = F.conv_transpose2d(x, part.expand(channels, 1, -1, -1), stride=stride, groups=channels)
    return x


def gather(x: Tensor, kernel: Tensor, factor: int = 1) -> Tensor:
    """(n, c, h, w) filtered, where the filter lies wholly inside, and of that each `factor`-th pixel."""
    channels = x.shape[1]
    for part, stride in by_axis(kernel.to(x.dtype), factor):
        x = F.conv2d(x, part.expand(channels, 1, -1, -1), stride=stride, groups=channels)
    return x


class FilteredLeakyReLU(nn.Module):
    """sqrt(2) leaky_relu(x) as if applied to the continuous signals that maps hold (section 3.2, appendix D.3).

    Frequencies that the kink adds are filtered off at `oversampling` times the higher of both rates, before they can
    fold. Maps in are `extra` pixels larger than `before` says (a convolution that pads). Filters have `taps` taps a
    pixel of the lower rate; the second is alike in all directions with `radial`. Outputs stay within +-`clamp`.
    """

    def __init__(
        self,
        before: Band,
        after: Band,
        extra: int,
        radial: bool,
        taps: int = 6,
        oversampling: int = 2,
        clamp: float = 256.0,
    ) -> None:
        super().__init__()
        rate = oversampling * max(before.rate, after.rate)
        self.up, self.down, self.clamp = rate // before.rate, rate // after.rate, clamp
        first = self.up * lowpass(taps * self.up, before.cutoff, before.half_width, rate)
        design = radial_lowpass if radial else lowpass
        second = design(taps * self.down, after.cutoff, after.half_width, rate)
        made = (before.side + extra - 1) * self.up + len(first)
        wanted = (after.side - 1) * self.down + len(second)
        self.rim = (made - wanted) // 2  # both share their middle, and differ by an even number as all else is even
        self.first: Tensor
        self.second: Tensor
        self.register_buffer("first", first.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("second", second.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, after.side, after.side) for (n, c, before.side + extra, before.side + extra)."""
        x = F.pad(spread(x, self.first, self.up), [-self.rim] * 4)
        x = (F.leaky_relu(x, 0.2) * math.sqrt(2)).clamp(-self.clamp, self.clamp)
        return gather(x, self.second, self.down)
