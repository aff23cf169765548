"""Filtered doubling, halving and blurring against sums written out, and the convolutions that go with them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradgradcheck
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from gan_experiments.networks.resample import (
    BINOMIAL,
    BOX,
    blur,
    convolve_downsample,
    downsample,
    upsample,
    upsample_convolve,
)

LOPSIDED = (1.0, 2.0, 5.0, 3.0)
FILTERS = [(BINOMIAL, 2), (BOX, 2), ((1, 2, 1), 2), (LOPSIDED, 2), ((1, 4, 6, 4, 1), 2), ((3, 1, 2, 2, 5), 3), (BOX, 1)]


def image(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def filtered(x: Tensor, taps: Sequence[float], origin: int, side: int, stride: int = 1) -> Tensor:
    """y[p] = sum_k taps[k] x[stride p + origin - k] along both axes, 0 outside, a square of `side`."""
    total = sum(taps)
    result = torch.zeros(*x.shape[:2], side, side, dtype=x.dtype)
    for row in range(side):
        for column in range(side):
            for i, a in enumerate(taps):
                for j, b in enumerate(taps):
                    down, right = stride * row + origin - i, stride * column + origin - j
                    if 0 <= down < x.shape[2] and 0 <= right < x.shape[3]:
                        result[:, :, row, column] += a * b / total**2 * x[:, :, down, right]
    return result


def spread(x: Tensor, factor: int) -> Tensor:
    result = torch.zeros(*x.shape[:2], factor * x.shape[2], factor * x.shape[3], dtype=x.dtype)
    result[:, :, ::factor, ::factor] = x
    return result


@pytest.mark.parametrize(("taps", "factor"), FILTERS)
def test_upsampling_is_zeros_between_pixels_and_a_filter(taps: tuple[float, ...], factor: int) -> None:
    """The filter is centred as in Karras et al.: (taps + factor - 1) // 2 zeros before an image."""
    x = image(2, 3, 4, 4)
    origin = len(taps) - 1 - (len(taps) + factor - 1) // 2
    expected = factor**2 * filtered(spread(x, factor), taps, origin, 4 * factor)
    torch.testing.assert_close(upsample(x, taps, factor), expected)


@pytest.mark.parametrize(("taps", "factor"), FILTERS)
def test_downsampling_is_a_filter_and_every_so_manieth_pixel(taps: tuple[float, ...], factor: int) -> None:
    x = image(2, 3, 4 * factor, 4 * factor)
    origin = len(taps) - 1 - (len(taps) - factor + 1) // 2
    torch.testing.assert_close(downsample(x, taps, factor), filtered(x, taps, origin, 4, factor))


@pytest.mark.parametrize("taps", [BINOMIAL, (1, 2, 1), LOPSIDED])
def test_blur_keeps_the_size_or_pads_as_told(taps: tuple[float, ...]) -> None:
    x = image(2, 3, 5, 5)
    torch.testing.assert_close(blur(x, taps), filtered(x, taps, len(taps) - 1 - len(taps) // 2, 5))
    wider = filtered(x, taps, len(taps) - 1 - 2, 5 + 2 + 1 - len(taps) + 1)
    torch.testing.assert_close(blur(x, taps, (2, 1), gain=3.0), 3 * wider)


def test_boxes_repeat_and_average_and_filters_keep_the_mean() -> None:
    x = image(1, 2, 8, 8)
    torch.testing.assert_close(upsample(x, BOX), interpolate(x, scale_factor=2))
    torch.testing.assert_close(upsample(x, (1, 1, 1, 1), 4), interpolate(x, scale_factor=4))
    torch.testing.assert_close(downsample(x, BOX), avg_pool2d(x, 2))
    flat = torch.ones(1, 1, 8, 8)
    for result in (upsample(flat), downsample(flat), blur(flat, (1, 2, 1))):
        torch.testing.assert_close(result[:, :, 2:-2, 2:-2], torch.ones_like(result[:, :, 2:-2, 2:-2]))
    line = torch.arange(8.0).expand(1, 1, 8, 8)
    torch.testing.assert_close(upsample(line)[0, 0, 4, 1:-1], torch.arange(0.25, 7, 0.5))  # bilinear


@pytest.mark.parametrize("taps", [BOX, BINOMIAL, LOPSIDED])
def test_doubling_convolution_is_convolution_after_doubling(taps: tuple[float, ...]) -> None:
    x, weight = image(2, 3, 8, 8), image(4, 3, 3, 3) + 1
    separate = conv2d(upsample(x, taps), weight.flip(2, 3), padding=1)
    joined = upsample_convolve(x, weight, taps)
    assert joined.shape == (2, 4, 16, 16)
    edge = len(taps) - 2  # where separate steps forget what the filter gives beyond the edge
    inner = (..., slice(edge, 16 - edge), slice(edge, 16 - edge))
    torch.testing.assert_close(joined[inner], separate[inner])


@pytest.mark.parametrize("taps", [BOX, BINOMIAL, LOPSIDED])
def test_halving_convolution_is_halving_after_convolution(taps: tuple[float, ...]) -> None:
    x, weight = image(2, 3, 16, 16), image(4, 3, 3, 3) + 1
    separate = downsample(conv2d(x, weight, padding=1), taps)
    joined = convolve_downsample(x, weight, taps)
    edge = (len(taps) - 1) // 2
    inner = (..., slice(edge, 8 - edge), slice(edge, 8 - edge))
    torch.testing.assert_close(joined[inner], separate[inner])
    if taps == BOX:
        torch.testing.assert_close(joined, separate)


def test_gradients_of_gradients() -> None:
    x, weight = image(1, 2, 4, 4).requires_grad_(), image(2, 2, 3, 3).requires_grad_()
    assert gradgradcheck(lambda x: downsample(upsample(x, LOPSIDED), (1, 2, 1)).square(), (x,))
    assert gradgradcheck(lambda x, w: convolve_downsample(upsample_convolve(x, w), w).square(), (x, weight))
