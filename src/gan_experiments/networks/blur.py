"""A blur that fades out as training goes on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.networks.informed import Timed


class FadingBlur(Timed):
    """A Gaussian blur of deviation `sigma` pixels at first, and in proportion less up to none after `fade` images.

    Beyond the border is 0; the Gaussian ends at 3 sigma. UserError for negative numbers.
    """

    def __init__(self, sigma: float, fade: int) -> None:
        super().__init__()
        if sigma < 0 or fade < 0:
            raise UserError(f"blur={sigma}, blur_fade={fade}: take pixels and images, 0 or more of both")
        self.sigma, self.fade = sigma, fade
        self.reach = math.floor(3 * sigma)
        self.taps: Tensor
        self.register_buffer("taps", torch.empty(2 * self.reach + 1))
        self.at(0, 1)

    def gaussian(self, sigma: float) -> Tensor:
        """The blur along an axis (taps,), of sum 1."""
        places = torch.arange(-self.reach, self.reach + 1.0, device=self.taps.device)
        if sigma == 0:
            return (places == 0).float()
        taps = torch.exp(-0.5 * (places / sigma).square()) * (places.abs() <= 3 * sigma)
        return taps / taps.sum()

    def at(self, images: int, total: int) -> None:
        """Be as after `images`."""
        left = max(1 - images / self.fade, 0.0) if self.fade else 0.0
        self.now = self.sigma * left
        self.taps.copy_(self.gaussian(self.now))

    def readings(self) -> dict[str, float]:
        """The deviation in pixels."""
        return {"blur": self.now}

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        channels = images.shape[1]
        taps = self.taps.to(images.dtype).expand(channels, 1, -1)
        images = F.conv2d(images, taps[..., None], padding=(self.reach, 0), groups=channels)
        return F.conv2d(images, taps[:, :, None], padding=(0, self.reach), groups=channels)
