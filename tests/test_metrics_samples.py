"""Inception Score, mode coverage and sliced Wasserstein distances against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.inception_score import InceptionScore
from gan_experiments.metrics.modes import WITHIN, ModeCoverage
from gan_experiments.metrics.sliced_wasserstein import SlicedWasserstein


def normal(n: int, d: int, seed: int) -> Tensor:
    """Standard normal points (n, d)."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score(logits: Tensor, splits: int = 1) -> dict[str, float]:
    """Inception Score and its factors by name."""
    metric = InceptionScore(splits)
    metric.update(Features(logits, logits), False)
    return {reading.name: reading.value for reading in metric.compute()}


def one_hot(classes: Tensor, k: int) -> Tensor:
    """Logits that are certain of the given classes."""
    return torch.nn.functional.one_hot(classes, k).float() * 1000


def test_inception_score_limits() -> None:
    """Certain and balanced: the number of classes; constant: 1; certain, over two classes: 2."""
    balanced = score(one_hot(torch.arange(100) % 10, 10))
    assert balanced[""] == pytest.approx(10)
    assert (balanced["sharpness"], balanced["diversity"]) == pytest.approx((1, 10))
    constant = score(torch.zeros(50, 10))
    assert constant[""] == pytest.approx(1)
    assert (constant["sharpness"], constant["diversity"]) == pytest.approx((0.1, 10))
    collapsed = score(one_hot(torch.full((50,), 3), 10))
    assert (collapsed[""], collapsed["sharpness"], collapsed["diversity"]) == pytest.approx((1, 1, 1))
    assert score(one_hot(torch.arange(60) % 2, 10))[""] == pytest.approx(2)


def test_inception_score_is_the_product_of_its_factors() -> None:
    """With one split, and equal to exp of the mean divergence computed directly."""
    logits = 3 * normal(200, 7, 0)
    p = logits.softmax(1)
    direct = float((p * (p / p.mean(0)).log()).sum(1).mean().exp())
    result = score(logits)
    assert result[""] == pytest.approx(direct, rel=1e-10)
    assert result["sharpness"] * result["diversity"] == pytest.approx(direct, rel=1e-10)


def test_inception_score_splits() -> None:
    """Bounds i*N//S, marginals inside each split, mean and population standard deviation."""
    logits = 3 * normal(23, 5, 1)
    parts = [score(logits[a:b])[""] for a, b in ((0, 5), (5, 11), (11, 17), (17, 23))]
    metric = InceptionScore(4)
    for start in range(0, 23, 10):
        metric.update(Features(logits[start : start + 10], logits[start : start + 10]), False)
    reading = metric.compute()[0]
    assert reading.value == pytest.approx(np.mean(parts), rel=1e-10)
    assert reading.error == pytest.approx(np.std(parts), rel=1e-10)


def test_inception_score_refusals() -> None:
    """No logits, fewer samples than splits, no splits."""
    with pytest.raises(UserError, match="logits"):
        InceptionScore().update(Features(torch.zeros(2, 2)), False)
    with pytest.raises(UserError, match="3 samples"):
        score(torch.zeros(3, 2), splits=10)
    with pytest.raises(UserError, match="splits=0"):
        InceptionScore(0)


RING = torch.tensor([[math.cos(i * math.pi / 4), math.sin(i * math.pi / 4)] for i in range(8)])


def coverage(points: Tensor, centres: Tensor = RING, std: float = 0.01) -> dict[str, float]:
    """All four readings by name."""
    metric = ModeCoverage()
    metric.place(centres, std)
    for start in range(0, len(points), 700):
        metric.update(Features(points[start : start + 700]), False)
    return {reading.name: reading.value for reading in metric.compute()}


def perfect(n: int, centres: Tensor, std: float, seed: int) -> Tensor:
    """Samples of the mixture itself."""
    chosen = torch.randint(len(centres), (n,), generator=torch.Generator().manual_seed(seed))
    return centres[chosen] + std * normal(n, 2, seed + 1)


def test_one_mode_and_balanced_modes() -> None:
    """All on one centre: ln K; evenly on all: 0."""
    collapsed = coverage(RING[3].repeat(100, 1))
    assert collapsed["modes_captured"] == 1
    assert collapsed["high_quality_share"] == 1
    assert collapsed["reverse_kl"] == pytest.approx(math.log(8))
    assert collapsed["binned_kl"] == pytest.approx(math.log(8 / WITHIN))
    balanced = coverage(RING.repeat(10, 1))
    assert balanced["modes_captured"] == 8
    assert balanced["reverse_kl"] == pytest.approx(0, abs=1e-12)
    assert balanced["binned_kl"] == pytest.approx(-math.log(WITHIN))


def test_radius_is_three_standard_deviations() -> None:
    """A point just inside counts, one just outside doesn't, and both belong to the nearest mode."""
    inside, outside = RING[:1] + torch.tensor([[0.0299, 0.0]]), RING[:1] + torch.tensor([[0.0301, 0.0]])
    assert coverage(inside)["modes_captured"] == 1
    result = coverage(torch.cat([outside, outside]))
    assert (result["modes_captured"], result["high_quality_share"]) == (0, 0)
    assert result["reverse_kl"] == pytest.approx(math.log(8))
    assert result["binned_kl"] == pytest.approx(-math.log(1 - WITHIN))


def test_perfect_samples_reach_the_floors() -> None:
    """98.889 % of high quality; divergences of (K - 1)/2N and K/2N on average."""
    assert pytest.approx(0.98889, abs=1e-5) == WITHIN
    ring = coverage(perfect(100_000, RING, 0.01, 0))
    assert ring["high_quality_share"] == pytest.approx(0.98889, abs=0.001)
    grid = torch.cartesian_prod(torch.arange(-4.0, 5, 2), torch.arange(-4.0, 5, 2))
    runs = [coverage(perfect(2500, grid, 0.05, 10 * seed), grid, 0.05) for seed in range(40)]
    assert np.mean([run["reverse_kl"] for run in runs]) == pytest.approx(24 / 5000, rel=0.2)
    assert np.mean([run["binned_kl"] for run in runs]) == pytest.approx(25 / 5000, rel=0.2)


def sliced(real: Tensor, generated: Tensor, directions: int = 128) -> tuple[float, float]:
    """W1 and W2."""
    metric = SlicedWasserstein(directions)
    metric.update(Features(real), True)
    metric.update(Features(generated), False)
    first, second = metric.compute()
    return first.value, second.value


def test_sliced_distances_of_a_shift() -> None:
    """A shift s in the plane: W1 |s| 2/pi, W2 |s|/sqrt(2), whatever the points."""
    points = normal(100, 2, 0)
    shift = torch.tensor([0.3, -0.4], dtype=torch.float64)
    first, second = sliced(points, points + shift, directions=4000)
    assert first == pytest.approx(0.5 * 2 / math.pi, rel=0.02)
    assert second == pytest.approx(0.5 / math.sqrt(2), rel=0.02)


@pytest.mark.parametrize(("m", "n"), [(40, 40), (40, 20), (30, 17), (7, 50)])
def test_sliced_w1_agrees_with_scipy(m: int, n: int) -> None:
    """In one dimension every direction is the line itself, and sizes may differ."""
    from scipy.stats import wasserstein_distance

    x, y = normal(m, 1, 0), 2 * normal(n, 1, 1) + 0.3
    expected = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert sliced(x, y)[0] == pytest.approx(expected, rel=1e-9)


def test_sliced_w2_of_unequal_sizes() -> None:
    """Repeating every point changes nothing; W2 is at least W1; the same set is at 0."""
    x, y = normal(30, 2, 0), 2 * normal(20, 2, 1)
    assert sliced(x, y) == pytest.approx(sliced(x.repeat(3, 1), y), rel=1e-9)
    first, second = sliced(x, y)
    assert 0 < first < second
    assert sliced(x, x) == (0, 0)
    assert sliced(x, y) == sliced(x, y)
