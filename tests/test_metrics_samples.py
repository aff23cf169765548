"""Inception Score, mode coverage and sliced Wasserstein distances against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.inception_score import InceptionScore
from gan_experiments.metrics.modes import WITHIN, ModeCoverage, basic_bootstrap, resamples
from gan_experiments.metrics.order import settled
from gan_experiments.metrics.sliced_wasserstein import SlicedWasserstein, distances


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
    shuffled = logits[settled(logits)]
    parts = [score(shuffled[a:b])[""] for a, b in ((0, 5), (5, 11), (11, 17), (17, 23))]
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


def intervals(metrics: list[list[Reading]], name: str) -> tuple[list[float], list[tuple[float, float]]]:
    """Values and intervals of one reading over many sets of samples."""
    found = [reading for readings in metrics for reading in readings if reading.name == name]
    return [reading.value for reading in found], [r.interval for r in found if r.interval is not None]


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    """The share of intervals that hold the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def shown(metric: AnyMetric, *sides: tuple[Tensor, bool]) -> list[Reading]:
    """All readings, rows being shown as features and logits."""
    for rows, real in sides:
        metric.update(Features(rows, rows), real)
    return metric.compute()


def test_inception_score_interval_is_students_over_splits() -> None:
    """Of the splits' mean, as scipy's t interval; one split has none."""
    from scipy.stats import sem, t

    logits = 3 * normal(400, 5, 1)
    parts = [score(part)[""] for part in logits[settled(logits)].split(100)]
    first, sharpness, _ = shown(InceptionScore(4), (logits, False))
    expected = t.interval(0.95, 3, loc=np.mean(parts), scale=sem(parts))
    assert first.interval == pytest.approx(expected, rel=1e-4)
    assert "splits of one sample set" in first.interval_from
    alone, also, _ = shown(InceptionScore(1), (logits, False))
    assert alone.interval is None and alone.interval_from == ""
    assert also.interval == sharpness.interval is not None


def test_intervals_of_sharpness_and_diversity_cover_them() -> None:
    """Of 200 sets of 300 samples; the truth is that of very many."""
    tilt = torch.tensor([2.0, 1.0, 0.0, 0.0, -1.0])
    truth = score(2 * normal(200_000, 5, 10**6) + tilt)
    sets = [shown(InceptionScore(1), (2 * normal(300, 5, seed) + tilt, False)) for seed in range(200)]
    for name in ("sharpness", "diversity"):
        found = intervals(sets, name)[1]
        assert len(found) == 200 and 0.89 <= covered(found, truth[name]) < 0.99


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


def readings(points: Tensor, centres: Tensor = RING, std: float = 0.01) -> dict[str, Reading]:
    """All four readings, whole."""
    metric = ModeCoverage()
    metric.place(centres, std)
    return {reading.name: reading for reading in shown(metric, (points, False))}


def test_interval_of_the_high_quality_share_is_wilsons() -> None:
    """As scipy's, for 90 of 100 points; the count of modes has none."""
    from scipy.stats import binomtest

    result = readings(torch.cat([RING[:1].repeat(90, 1), torch.zeros(10, 2)]))
    expected = binomtest(90, 100).proportion_ci(method="wilson")
    assert result["high_quality_share"].interval == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert result["modes_captured"].interval is None


def test_intervals_of_divergences_cover_them() -> None:
    """Of an uneven ring, whose binned KL counts the points off the modes too, and of a perfect one, whose KL is 0."""
    share = torch.tensor([3.0, 2, 1, 1, 1, 1, 0.5, 0.5]) / 10
    random = torch.Generator().manual_seed(0)
    uneven, perfect_ones = [], []
    for seed in range(60):
        chosen = RING[torch.multinomial(share, 400, True, generator=random)]
        uneven.append(list(readings(chosen + 0.01 * normal(400, 2, seed)).values()))
        perfect_ones.append(list(readings(perfect(400, RING, 0.01, 1000 + seed)).values()))
    truth = float((share * (8 * share).log()).sum())
    for name in ("reverse_kl", "binned_kl"):
        found = intervals(uneven, name)[1]
        assert len(found) == 60 and 0.85 <= covered(found, truth) < 1
        lowest = intervals(perfect_ones, name)[1]
        assert covered(lowest, 0) >= 0.95 and all(low >= 0 for low, _ in lowest)


def test_few_points_a_mode_give_no_interval_of_divergences() -> None:
    """Below ten points a mode, where a bootstrap's bias prevails."""
    enough, few = readings(RING.repeat(10, 1)), readings(RING.repeat(9, 1))
    assert enough["reverse_kl"].interval is not None
    assert few["reverse_kl"].interval is None and "fewer than 10" in few["reverse_kl"].interval_from
    assert few["high_quality_share"].interval is not None


def test_resampled_counts_are_poisson() -> None:
    """Of mean and variance equal to the counts, independent, and the same for the same generator."""
    counts = torch.tensor([0, 4, 100])
    draws = resamples(counts, torch.Generator().manual_seed(0), 20_000)
    assert draws.mean(0).numpy() == pytest.approx(counts.numpy(), rel=0.01)
    assert draws.var(0).numpy() == pytest.approx(counts.numpy(), rel=0.05)
    assert torch.equal(draws, resamples(counts, torch.Generator().manual_seed(0), 20_000))


def test_basic_bootstrap_mirrors_the_quantiles() -> None:
    """Draws from 1 to 3 around a value of 1.5: from 0 to 2, cut off at possible values, never past the value."""
    draws = torch.linspace(1, 3, 4001, dtype=torch.float64)
    error, interval = basic_bootstrap(1.5, draws, (-10, 10))
    assert interval == pytest.approx((0.05, 1.95), abs=1e-3) and error == pytest.approx(2 / 12**0.5, rel=1e-3)
    assert basic_bootstrap(1.5, draws, (0.5, 1.8))[1] == (0.5, 1.8)
    assert basic_bootstrap(0.2, draws, (0, 10))[1] == (0, 0.2)


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


def test_sliced_intervals_hold_the_expectation_at_these_numbers() -> None:
    """In most of 40 sets, and the error is about the spread over sets."""
    sets = [
        shown(SlicedWasserstein(16), (normal(300, 2, 2 * seed), True), (normal(200, 2, 2 * seed + 1) + 0.5, False))
        for seed in range(40)
    ]
    for name in ("sliced_w1", "sliced_w2"):
        values, found = intervals(sets, name)
        assert len(found) == 40 and covered(found, float(np.mean(values))) >= 0.85
        errors = [r.error for readings in sets for r in readings if r.name == name and r.error is not None]
        assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def test_sliced_values_without_a_block_are_those_of_the_rest() -> None:
    """Blocks are seeded and at random; with fewer than two points a block there is no interval."""
    metric = SlicedWasserstein(3)
    sides = [normal(n, 3, n).T.contiguous() for n in (41, 33)]
    without = metric.without_blocks(*(side.sort(dim=1) for side in sides))
    generator = seeding.generator(0, "sliced_wasserstein blocks")
    blocks = [torch.randperm(n, generator=generator) % 10 for n in (41, 33)]
    for block in range(10):
        real, generated = (side[:, own != block].sort(dim=1).values for side, own in zip(sides, blocks, strict=True))
        assert without[block] == pytest.approx(distances(real, generated), rel=1e-12)
    first, second = shown(SlicedWasserstein(3), (normal(19, 2, 0), True), (normal(40, 2, 1), False))
    assert first.interval is None and second.error is None
