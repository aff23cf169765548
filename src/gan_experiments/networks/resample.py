"""Doubling, halving and blurring of images with separable filters, and the convolutions that go with them.

A filter is a sequence of taps, the same along both axes; taps are divided by their sum. Outside of an image all is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

Taps = Sequence[float]
BOX: Taps = (1, 1)
BINOMIAL: Taps = (1, 3, 3, 1)


@cache
def _kernel(taps: tuple[float, ...], total: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Kept, because making it on a GPU would wait for it each time; usable in training even if first made for sampling.
    with torch.inference_mode(False):
        line = torch.tensor(taps, dtype=torch.float64)
        line = line / line.sum()
        return (total * line[:, None] * line[None, :]).to(dtype=dtype, device=device)


def _depthwise(x: Tensor, taps: Taps, total: float, turned: bool) -> Tensor:
    kernel = _kernel(tuple(reversed(taps)) if turned else tuple(taps), total, x.dtype, x.device)
    return kernel.expand(x.shape[1], 1, -1, -1)


def blur(x: Tensor, taps: Taps, pads: tuple[int, int] | None = None, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Images (n, c, h, w) convolved with the filter, times `gain`, every `stride`-th pixel of the result.

    `pads` are zeros before and after each axis; by default as many as keep the size with stride 1.
    """
    before, after = pads if pads is not None else (len(taps) // 2, (len(taps) - 1) // 2)
    least = max(min(before, after), 0)
    if before != after or before < 0:
        x = pad(x, (before - least, after - least, before - least, after - least))
    kernel = _depthwise(x, taps, gain, turned=True)  # conv2d correlates
    return conv2d(x, kernel, stride=stride, padding=least, groups=x.shape[1])


def upsample(x: Tensor, taps: Taps = BINOMIAL, factor: int = 2) -> Tensor:
    """Images (n, c, h, w) to (n, c, factor h, factor w): zeros between pixels, then the filter, keeping the mean.

    Needs at least `factor` taps; `factor` ones repeat pixels (nearest), (1, 3, 3, 1) is bilinear at factor 2.
    """
    excess = len(taps) - factor
    front, back = (excess // 2, excess - excess // 2)
    kernel = _depthwise(x, taps, factor**2, turned=False)
    y = conv_transpose2d(x, kernel, stride=factor, padding=front, groups=x.shape[1])
    return y if front == back else y[:, :, : -(back - front), : -(back - front)]


def downsample(x: Tensor, taps: Taps = BINOMIAL, factor: int = 2) -> Tensor:
    """Images (n, c, h, w) to (n, c, h / factor, w / factor): the filter, then every factor-th pixel.

    Sizes must be multiples of the factor; `factor` ones are average pooling.
    """
    excess = len(taps) - factor
    return blur(x, taps, ((excess + 1) // 2, excess // 2), stride=factor)


def upsample_convolve(x: Tensor, weight: Tensor, taps: Taps = BINOMIAL) -> Tensor:
    """Images (n, c, h, w) to (n, d, 2h, 2w): zeros between pixels, a 3x3 convolution, the filter (Karras et al. 2020).

    `weight` (d, c, 3, 3) is that of a transposed convolution, turned by half a turn against one of images that had
    been upsampled first; apart from edges the results are the same, at a quarter of the price.
    """
    y = conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    excess = len(taps) - 2
    return blur(y, taps, ((excess + 1) // 2, excess // 2), gain=4.0)


def convolve_downsample(x: Tensor, weight: Tensor, taps: Taps = BINOMIAL) -> Tensor:
    """Images (n, c, h, w) to (n, d, h / 2, w / 2): the filter, then a 3x3 convolution (d, c, 3, 3) of stride 2.

    With taps (1, 1) it equals a convolution followed by average pooling.
    """
    excess = len(taps) - 2
    return conv2d(blur(x, taps, ((excess + 1) // 2 + 1, excess // 2 + 1)), weight, stride=2)
