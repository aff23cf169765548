"""From uint8 images to what a network reads: size, scale and channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.errors import UserError


class Resizer(ABC):
    """A change of size of float32 images (n, c, h, w) in [0, 255]."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Images (n, c, height, width) of the size wanted."""

    @abstractmethod
    def describe(self) -> str:
        """Method and size in a few words, as scores record them."""


@final
class Unchanged(Resizer):
    """Images of their own size."""

    def __call__(self, images: Tensor) -> Tensor:
        """The images."""
        return images

    def describe(self) -> str:
        """None."""
        return "none"


@final
class Antialiased(Resizer):
    """PIL's resampling of float images, channel by channel, clamped to [0, 255]: support grows when shrinking.

    Equal to PIL's mode F to 1e-4 of 255 steps. `rounded` gives whole numbers, as images read and resized by PIL are.
    Other than square images lose their proportions.
    """

    def __init__(self, filter: str, size: int, rounded: bool = False, label: str = "") -> None:
        """To size x size pixels; UserError unless the filter is bilinear or bicubic and the size positive."""
        if filter not in ("bilinear", "bicubic") or size < 1:
            raise UserError(f"resizing: {filter} to {size} pixels; expected bilinear or bicubic, and at least 1 pixel")
        self.filter, self.size, self.rounded, self.label = filter, size, rounded, label

    def __call__(self, images: Tensor) -> Tensor:
        """Images (n, c, size, size)."""
        height, width = images.shape[-2:]
        rows = resampling(self.filter, height, self.size).to(images.device)
        columns = resampling(self.filter, width, self.size).to(images.device)
        resized = (rows @ images @ columns.T).clamp(0, 255)
        return resized.round() if self.rounded else resized

    def describe(self) -> str:
        """Such as "clean (bicubic, antialiased, float) to 299x299"."""
        how = f"antialiased, {'rounded' if self.rounded else 'float'}"
        method = f"{self.label} ({self.filter}, {how})" if self.label else f"{self.filter} ({how})"
        return f"{method} to {self.size}x{self.size}"


@lru_cache(maxsize=32)
def resampling(filter: str, before: int, after: int) -> Tensor:
    """The matrix (after, before), float32, that resamples a line of pixels, antialiased; rows add up to 1.

    It is what float64 resampling makes of the unit vectors: float32 weights would be off by 4e-3 of 255 steps.
    """
    if before == after:
        return torch.eye(before)
    units = torch.eye(before, dtype=torch.float64)[None, None]
    return F.interpolate(units, (after, before), mode=filter, antialias=True)[0, 0].float()


@final
class Preparation(nn.Module):
    """uint8 images (n, c, h, w) to float32 (n, c, height, width): resized, then (x - shift) / scale, x in [0, 255].

    `shift` and `scale` have one value for all channels or one for each of three; with `rgb` grey is repeated to three.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, resizer: Resizer, shift: Sequence[float], scale: Sequence[float], rgb: bool = True) -> None:
        """That change of size, then of values."""
        super().__init__()
        self.resizer, self.rgb = resizer, rgb
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    @classmethod
    def standardised(cls, resizer: Resizer, mean: Sequence[float], std: Sequence[float]) -> Preparation:
        """(x / 255 - mean) / std of RGB images, the means and deviations being those of values in [0, 1]."""
        return cls(resizer, [255 * value for value in mean], [255 * value for value in std])

    @classmethod
    def between(cls, resizer: Resizer, low: float, high: float, rgb: bool) -> Preparation:
        """Bytes 0 to 255 as values from low to high; UserError unless low < high."""
        if not low < high:
            raise UserError(f"low={low}, high={high}: expected low < high, the range of values that the network reads")
        scale = 255 / (high - low)
        return cls(resizer, [-low * scale], [scale], rgb)

    def forward(self, images: Tensor) -> Tensor:
        """What the network reads, float32 (n, 3, height, width), or (n, c, height, width) without `rgb`."""
        # Grey is repeated after resizing, which then costs a third.
        prepared: Tensor = (self.resizer(images.float()) - self.shift) / self.scale
        return prepared.expand(-1, 3, -1, -1) if self.rgb else prepared

    def describe(self) -> str:
        """Quantisation, method and size, as scores record them."""
        return self.resizer.describe()
