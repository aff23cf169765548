"""MS-SSIM against its formulas, window by window, at every kind of size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from gan_experiments.data.mnist import fashion10k
from gan_experiments.metrics.ms_ssim import WEIGHTS, similarity

Array = NDArray[np.float64]


def pair(channels: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two images of waves (2, c, h, w) in common and noise of their own."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.arange(height)[:, None] / 9, torch.arange(width) / 7
    waves = 60 * (torch.sin(x + y) + torch.cos(2 * y - x / 3))
    noise = torch.randn(2, 2, channels, height, width, generator=random) * torch.tensor([15.0, 40.0]).view(
        1, 2, 1, 1, 1
    )
    first, second = (128 + waves + noise).clamp(0, 255).to(torch.uint8)
    return first, second


def windows(x: Array, y: Array) -> tuple[float, float]:
    """Mean contrast-structure and mean SSIM of images (h, w) over all places of a whole window, one after the other."""
    size = min(11, *x.shape)
    offsets = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (1.5 * size / 11) ** 2))
    weights /= weights.sum()
    contrasts, wholes = [], []
    for top in range(x.shape[0] - size + 1):
        for left in range(x.shape[1] - size + 1):
            a, b = (image[top : top + size, left : left + size] for image in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            contrasts.append((2 * both + 7.65**2) / (var_a + var_b + 7.65**2))
            wholes.append(contrasts[-1] * (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2))
    return float(np.mean(contrasts)), float(np.mean(wholes))


def directly(first: Tensor, second: Tensor) -> float:
    """MS-SSIM of one pair of images (c, h, w)."""
    x, y = first.double(), second.double()
    levels = sum(min(x.shape[1:]) >= 11 * 2**level for level in range(5)) or 1
    weights = np.array(WEIGHTS[:levels]) / sum(WEIGHTS[:levels])
    result = 1.0
    for level, weight in enumerate(weights):
        means = np.mean([windows(a.numpy(), b.numpy()) for a, b in zip(x, y, strict=True)], axis=0)
        result *= max(0.0, means[int(level == levels - 1)]) ** weight
        if level < levels - 1:
            x, y = avg_pool2d(x[None], 2)[0], avg_pool2d(y[None], 2)[0]
    return float(result)


@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (3, 9, 14), (1, 11, 11), (1, 21, 40), (1, 22, 22), (3, 28, 28), (1, 32, 32), (3, 32, 48), (1, 44, 45),
     (1, 64, 64), (1, 90, 88)],
)  # fmt: skip
def test_similarity_meets_the_formulas(shape: tuple[int, int, int]) -> None:
    first, second = pair(*shape)
    expected = [directly(a, b) for a, b in zip(first, second, strict=True)]
    assert similarity(first, second).tolist() == pytest.approx(expected, rel=1e-9)
    assert 0 <= expected[1] < expected[0] < 0.999


@pytest.mark.parametrize(("side", "count"), [(64, 3), (128, 4), (176, 5), (256, 5)])
def test_similarity_meets_torchmetrics_inside(side: int, count: int) -> None:
    """Theirs but for the coarsest scale, where they count windows over the mirrored border: that one by their SSIM,
    five pixels from it."""
    first, second = pair(1, side, side)
    weights = np.array(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    theirs = multiscale_structural_similarity_index_measure(
        first.double(), second.double(), data_range=255.0, betas=tuple(weights), reduction="none", normalize="relu"
    )
    x, y = first.double(), second.double()
    for _ in range(count - 1):
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    settings = {"data_range": 255.0, "reduction": "none"}
    mirrored, full = structural_similarity_index_measure(x, y, return_full_image=True, **settings)  # type: ignore[arg-type]
    inside = full[..., 5:-5, 5:-5].mean((1, 2, 3))
    expected = theirs * (inside / mirrored) ** weights[-1]
    assert torch.allclose(similarity(first, second), expected, rtol=1e-5)


def test_borders_are_no_picture() -> None:
    """Of clothes of one kind at 32x32: what lies beyond the border would make pairs more alike than they are."""
    data = fashion10k()
    assert data.train.labels is not None
    shirts = data.train.raw(0, 400)[data.train.labels[:400] == 6][:30]
    first, second = shirts[::2], shirts[1::2]
    weights = np.array(WEIGHTS[:2]) / sum(WEIGHTS[:2])
    theirs = multiscale_structural_similarity_index_measure(
        first.double(), second.double(), data_range=255.0, betas=tuple(weights), reduction="none", normalize="relu"
    )
    assert float(similarity(first, second).mean()) < float(theirs.mean()) - 0.03
