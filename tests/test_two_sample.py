"""Two-sample tests of Gaussians whose best accuracy is known, and of what the copying statistic says beside them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gan_experiments.metrics.authenticity import Authenticity
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.data_copying import DataCopying
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.precision_recall import ImprovedPrecisionRecall
from gan_experiments.metrics.two_sample import TwoSampleTests

SHIFT = 3.35
"""Distance of the means: the best accuracy is that of a threshold halfway, 0.953."""

BAYES = math.erfc(-SHIFT / 2 / math.sqrt(2)) / 2


def normal(n: int, d: int, seed: int) -> Tensor:
    """Standard normal rows (n, d)."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def readings(metric: AnyMetric, real: Tensor, generated: Tensor, held_out: Tensor | None = None) -> dict[str, Reading]:
    """What the metric reads off these features, by name."""
    metric.update(Features(real), True)
    metric.update(Features(generated), False)
    if held_out is not None:
        metric.show_held_out(Features(held_out))
    return {reading.name: reading for reading in metric.compute()}


def mean_accuracy(n: int, d: int, seeds: int, shift: float = SHIFT, scale: float = 1.0, hidden: int = 20) -> float:
    """Over several sets of n samples a side in d dimensions."""
    found = []
    for seed in range(seeds):
        real, generated = normal(n, d, 2 * seed), scale * normal(n, d, 2 * seed + 1) + shift / d**0.5
        found.append(readings(TwoSampleTests(hidden, seed=seed), real, generated)[""].value)
    return sum(found) / seeds


@pytest.mark.parametrize(
    ("n", "seeds", "below"), [(50, 4, 0.05), (200, 3, 0.035), (300, 3, 0.03), (500, 2, 0.03), (2000, 1, 0.015)]
)
@pytest.mark.parametrize("d", [2, 16])
def test_shifted_normals_are_told_apart_nearly_as_well_as_they_can_be(n: int, seeds: int, below: float, d: int) -> None:
    """At every size, within what is to be lost by learning from n samples, and not above by more than chance."""
    chance = 2.5 * math.sqrt(BAYES * (1 - BAYES) / (n * seeds))
    assert BAYES - below - chance / 2 < mean_accuracy(n, d, seeds) < BAYES + chance


@pytest.mark.parametrize(("n", "least"), [(50, 0.66), (200, 0.85), (500, 0.9), (2000, 0.92)])
def test_shifted_normals_in_512_dimensions(n: int, least: float) -> None:
    """A threshold along the difference of two means of n/2 samples gets 0.78, 0.88, 0.92 and 0.945 right."""
    assert least < mean_accuracy(n, 512, 2 if n < 2000 else 1) < BAYES + 0.02


def test_a_network_sees_what_a_line_cant() -> None:
    """Normals of four times the deviation in the plane: the best circle gets 0.89 right, any line a half."""
    assert 0.83 < mean_accuracy(200, 2, 3, 0.0, 4.0) < 0.93
    assert 0.85 < mean_accuracy(1000, 2, 1, 0.0, 4.0) < 0.92
    assert mean_accuracy(1000, 2, 1, 0.0, 4.0, hidden=0) < 0.6


@pytest.mark.parametrize(("n", "d"), [(50, 2), (200, 16), (500, 512)])
def test_equal_distributions_are_at_a_half(n: int, d: int) -> None:
    """Within 3 standard deviations of the mean of 6 sets; the nearest neighbour, never itself, a little below."""
    found = [
        readings(TwoSampleTests(seed=seed), normal(n, d, 2 * seed), normal(n, d, 2 * seed + 1)) for seed in range(6)
    ]
    for name in ("", "nn_accuracy"):
        mean = sum(reading[name].value for reading in found) / len(found)
        assert abs(mean - 0.5) < 3 * 0.5 / math.sqrt(6 * n) + 1 / n


def test_scales_constants_and_order_of_features_and_samples_are_no_matter() -> None:
    """Features of 1e-4 to 1e4, two that never vary and one that is rounding about 1e6; sorted samples; repeatable."""
    real, generated = normal(300, 6, 0), normal(300, 6, 1) + SHIFT / 6**0.5
    scales = torch.tensor([1e-4, 1e-2, 1, 1, 1e2, 1e4])
    plain = readings(TwoSampleTests(), real, generated)[""].value
    wide = [
        torch.cat([side * scales, torch.zeros(300, 1), torch.full((300, 1), 7.0), 1e6 + 0.06 * side[:, :1].round()], 1)
        for side in (real, generated)
    ]
    assert readings(TwoSampleTests(), *wide)[""].value == pytest.approx(plain, abs=0.04) and plain > 0.9
    turned = [side[side[:, 0].argsort()] for side in (real, generated)]
    assert readings(TwoSampleTests(), *turned)[""] == readings(TwoSampleTests(), real, generated)[""]
    other = readings(TwoSampleTests(seed=1), real, generated)[""].value
    assert other == pytest.approx(plain, abs=0.06)
    nothing = readings(TwoSampleTests(), torch.ones(60, 3), torch.ones(60, 3))
    assert nothing[""].value == 0.5


def test_copying_is_suspected_where_modes_are_missing_and_recall_tells() -> None:
    """A tight and a wide mode in a cell, of which only the tight one is generated: far below 0 without a copy."""
    tight, wide = 0.1 * normal(3000, 4, 0), normal(1500, 4, 1)
    train, held_out = (torch.cat([tight[part], wide[part]]) for part in (slice(0, 700), slice(700, 1400)))
    missing, copies = tight[1400:2800], train[torch.arange(1400) % len(train)]
    fresh = torch.cat([tight[2200:2900], normal(700, 4, 2)])
    found = {
        name: {
            "copying": readings(DataCopying(cells=1), train, side, held_out)[""].value,
            "recall": readings(ImprovedPrecisionRecall(), train, side)["recall"].value,
            "authenticity": readings(Authenticity(), train, side)[""].value,
        }
        for name, side in (("fresh", fresh), ("missing", missing), ("copies", copies))
    }
    assert abs(found["fresh"]["copying"]) < 3 and found["missing"]["copying"] < -7 > found["copies"]["copying"]
    assert found["missing"]["recall"] < 0.65 < 0.85 < min(found[name]["recall"] for name in ("fresh", "copies"))
    assert found["copies"]["authenticity"] == 0 < 0.4 < min(found[n]["authenticity"] for n in ("fresh", "missing"))
