"""Layers with an equalised learning rate, and what the networks of Karras et al. put between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear
from torch.nn.utils import parametrize

from gan_experiments.game import widened
from gan_experiments.networks.heads import MinibatchStddev
from gan_experiments.networks.resample import Taps, convolve_downsample, upsample_convolve

ROOT_2 = math.sqrt(2)


class EqualLinear(nn.Linear):
    """A linear map whose weights start as N(0, 1) and are multiplied by gain/sqrt(fan in) at each use, so that an
    optimizer that sees only directions moves all layers alike (Karras et al. 2018, section 4.1).

    `lr_multiplier` m slows weights and bias: they start 1/m times as large and count m times. Where a parametrization
    (spectral norm) sets the weight's scale there is no gain, which would undo it.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        gain: float = 1.0,
        lr_multiplier: float = 1.0,
        first_bias: float = 0.0,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.gain, self.lr_multiplier = gain, lr_multiplier
        nn.init.normal_(self.weight, 0.0, 1 / lr_multiplier)
        if bias:
            nn.init.constant_(self.bias, first_bias / lr_multiplier)

    @property
    def scale(self) -> float:
        """What the weight is multiplied by."""
        if parametrize.is_parametrized(self, "weight"):
            return 1.0
        return self.gain * self.lr_multiplier / math.sqrt(self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """(n, out_features) for (n, in_features)."""
        return linear(x, self.weight * self.scale, None if self.bias is None else self.bias * self.lr_multiplier)


class EqualConv2d(nn.Conv2d):
    """A convolution that keeps the size, with an equalised learning rate as `EqualLinear` has it."""

    def __init__(self, before: int, after: int, kernel: int, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2, bias=bias)
        self.gain = gain
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def scale(self) -> float:
        """What the weight is multiplied by."""
        if parametrize.is_parametrized(self, "weight"):
            return 1.0
        return self.gain / math.sqrt(self.in_channels * self.kernel_size[0] * self.kernel_size[1])

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, h, w) for (n, before, h, w)."""
        y: Tensor = self._conv_forward(x, self.weight * self.scale, self.bias)
        return y


class UpConv2d(EqualConv2d):
    """Images doubled with a filter and convolved 3x3, in one go; taps (1, 1) repeat pixels."""

    def __init__(self, before: int, after: int, taps: Taps, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(before, after, 3, bias, gain)
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, 2h, 2w) for (n, before, h, w)."""
        y = upsample_convolve(x, self.weight * self.scale, self.taps)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


class DownConv2d(EqualConv2d):
    """Images filtered, convolved 3x3 and halved, in one go; with taps (1, 1) a convolution before average pooling."""

    def __init__(self, before: int, after: int, taps: Taps, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(before, after, 3, bias, gain)
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, h / 2, w / 2) for (n, before, h, w)."""
        y = convolve_downsample(x, self.weight * self.scale, self.taps)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


class PixelNorm(nn.Module):
    """x / sqrt(<x^2> + 1e-8), the mean over channels, for each pixel (Karras et al. 2018, section 4.2)."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, ...) for (n, c, ...); the mean in float32."""
        return x * torch.rsqrt(widened(x).square().mean(1, keepdim=True) + 1e-8).to(x.dtype)


class LeakyReLU(nn.Module):
    """`gain` times the leaky ReLU of slope 0.2, kept within +-clamp if given: half precision must not overflow."""

    def __init__(self, gain: float = 1.0, clamp: float | None = None) -> None:
        super().__init__()
        self.gain, self.clamp = gain, clamp

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y = leaky_relu(x, 0.2)
        if self.gain != 1:
            y = y * self.gain
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class StddevMap(MinibatchStddev):
    """One more map, constant on each sample: how much the samples of its group differ, averaged over all features
    (Karras et al. 2018, section 3)."""

    def forward(self, h: Tensor) -> Tensor:
        """(n, c + 1, h, w) for (n, c, h, w)."""
        spread = super().forward(h.flatten(1))[:, -1]
        return torch.cat([h, spread.view(-1, 1, 1, 1).expand(-1, 1, *h.shape[2:])], 1)


def widths(sides: list[int], channel_base: int, channel_max: int) -> list[int]:
    """How many channels feature maps of each side have: channel_base / side, up to channel_max."""
    return [max(min(channel_base // side, channel_max), 1) for side in sides]
