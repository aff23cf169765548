"""FID at infinity, bins, two-sample tests, Vendi score, Parzen windows: closed forms and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.fid_infinity import FidInfinity, distance, fit_line, fitted
from gan_experiments.metrics.ndb import StatisticallyDifferentBins, differ, jensen_shannon, nearest_centre
from gan_experiments.metrics.parzen import ParzenLikelihood, log_likelihoods
from gan_experiments.metrics.two_sample import TwoSampleTests
from gan_experiments.metrics.vendi import VendiScore


def normal(n: int, d: int, seed: int) -> Tensor:
    """Standard normal rows (n, d)."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def read(metric: AnyMetric, real: Tensor, generated: Tensor, batch: int = 1000) -> dict[str, Reading]:
    """The metric's readings by name, both sides shown in batches, as features and as samples."""
    for rows, is_real in ((real, True), (generated, False)):
        for part in torch.split(rows, batch):
            metric.update(Features(part.flatten(1).float(), None, part), is_real)
    return {reading.name: reading for reading in metric.compute()}


def points(n: int, d: int) -> Dataset:
    """Normal points (n, d), and half as many held out."""
    return Dataset("points", Spec((d,)), Split(normal(n, d, 0)), Split(normal(n // 2, d, 1)))


def within(value: float, interval: tuple[float, float] | None) -> bool:
    """Whether an interval is there and holds a value."""
    return interval is not None and interval[0] <= value <= interval[1]


def test_one_dimensional_distances_have_their_expected_value() -> None:
    """E = (mu - nu)^2 + s^2/m + t^2/n + s^2 + t^2 - 2 s t c_m c_n (Binkowski et al. 2018, appendix)."""
    m, n, repeats = 12, 20, 400
    x, y = normal(m, repeats, 0).double(), normal(n, repeats, 1).double() * 2 + 0.5

    def c(k: int) -> float:
        return math.sqrt(2 / (k - 1)) * math.exp(math.lgamma(k / 2) - math.lgamma((k - 1) / 2))

    expected = 0.25 + 1 / m + 4 / n + 1 + 4 - 2 * 2 * c(m) * c(n)
    values = [distance(fitted(x[:, i : i + 1], 1), fitted(y[:, i : i + 1], 1)) for i in range(repeats)]
    assert np.mean(values) == pytest.approx(expected, abs=3 * np.std(values) / math.sqrt(len(values)))
    assert expected > 0.25 + 1 + 0.2  # the sample's distance is well above the distributions' 1.25


def test_extrapolation_removes_the_bias_of_both_sides() -> None:
    """64 features, 5,000 samples a side, true distance 0.0962: FID and a one-sided line are far above, ours is not."""
    n, d, true = 5000, 64, 0.0962
    x, y = normal(n, d, 0), normal(n, d, 1)
    y[:, 0] += true**0.5
    reading = read(FidInfinity(8), x, y)[""]
    raw = reading.details["distances"]
    assert isinstance(raw, list) and raw[0] == pytest.approx(distance(fitted(x, 1), fitted(y, 1)), rel=1e-9)
    assert raw[0] > true + 0.2 and within(true, reading.interval)
    assert reading.error is not None and reading.error < 0.03
    # Shrinking the generated side only leaves the reals' bias, d/n + d(d+1)/(4n) = 0.22.
    inverse = torch.linspace(1, 10, 8).double()
    whole = fitted(x, 1)
    one_sided = fit_line(inverse, torch.tensor([distance(whole, fitted(y[: int(n / r)], 1)) for r in inverse]).double())
    assert one_sided.intercept > true + 0.1 and not within(one_sided.intercept, reading.interval)
    assert reading.details["reliable"] == "yes"


def test_extrapolated_distances_are_repeatable_and_independent_of_batches() -> None:
    """Subsets hang on the seed only, and few samples are said to be few."""
    x, y = normal(400, 8, 0), normal(300, 8, 1) + 0.3
    first, second = read(FidInfinity(5), x, y, 400)[""], read(FidInfinity(5), x, y, 37)[""]
    assert first.value == pytest.approx(second.value, rel=1e-9) and "fewer than 5000" in str(first.details["reliable"])
    other = read(FidInfinity(5, seed=1), x, y)[""]
    assert other.value != first.value and within(other.value, first.interval)
    shares = first.details["shares"]
    assert isinstance(shares, list) and shares[0] == 1 and shares[-1] == pytest.approx(0.1)


def test_lines() -> None:
    """Intercept, slope and the intercept's error are those of numpy's least squares."""
    x = torch.linspace(1, 4, 7).double()
    y = 2 - 0.5 * x + torch.tensor([0.1, -0.2, 0.05, 0, 0.1, -0.1, 0.05]).double()
    line = fit_line(x, y)
    (slope, intercept), covariance = np.polyfit(x.numpy(), y.numpy(), 1, cov=True)
    assert (line.intercept, line.slope) == pytest.approx((intercept, slope))
    assert line.error == pytest.approx(math.sqrt(covariance[1, 1]))


def test_extrapolation_refuses_few_samples() -> None:
    """Four samples a feature are needed: said before anything is computed, and at the latest then."""
    with pytest.raises(UserError, match="8 features needs at least 32 samples a side, but the held-out part of points"):
        FidInfinity().bind(points(60, 8), None)
    FidInfinity().bind(points(64, 8), None)
    with pytest.raises(UserError, match="the smaller side has 31"):
        read(FidInfinity(), normal(100, 8, 0), normal(31, 8, 1))
    with pytest.raises(UserError, match="smallest=0.9"):
        FidInfinity(smallest=0.9)


def test_vendi_counts_kinds() -> None:
    """Orthogonal rows count one each, identical ones once in all, equal groups by groups, whatever their lengths."""
    orthogonal = torch.eye(20) * torch.arange(1, 21)[:, None]

    def score(rows: Tensor) -> float:
        return read(VendiScore(), rows[:0], rows)[""].value

    assert score(orthogonal) == pytest.approx(20, rel=1e-10)
    assert score(orthogonal[:7]) == pytest.approx(7, rel=1e-10)
    assert score(torch.ones(30, 4)) == pytest.approx(1, abs=1e-10)
    assert score(orthogonal[:5].repeat(12, 1)) == pytest.approx(5, rel=1e-10)
    assert score(torch.cat([orthogonal[:5], torch.zeros(5, 20)])) == pytest.approx(5**0.5 * 2, rel=1e-10)


@pytest.mark.parametrize(("n", "d"), [(60, 9), (9, 60)])
def test_vendi_of_both_matrices(n: int, d: int) -> None:
    """exp of the entropy of the eigenvalues of K/n, also where the features' matrix is used."""
    rows = normal(n, d, 0)
    units = torch.nn.functional.normalize(rows.double())
    values = np.linalg.eigvalsh((units @ units.T / n).numpy()).clip(1e-300)
    assert read(VendiScore(), rows, rows)[""].value == pytest.approx(
        math.exp(-(values * np.log(values)).sum()), rel=1e-9
    )


def test_vendi_error_is_that_of_repeated_samples() -> None:
    """The standard error meets the spread over fresh samples."""
    scale = torch.tensor([3.0, 2, 1, 0.5])
    readings = [read(VendiScore(), normal(1, 4, 0), normal(500, 4, seed) * scale)[""] for seed in range(150)]
    spread = float(np.std([reading.value for reading in readings]))
    assert np.mean([reading.error for reading in readings if reading.error]) == pytest.approx(spread, rel=0.2)
    assert np.mean([within(readings[0].value, reading.interval) for reading in readings]) > 0.5


def test_bins_that_differ_by_hand() -> None:
    """Pooled two-proportion z-tests: 10 of 100 against 20 of 100 differ by 1.98 standard errors, 19 by 1.81."""
    first, second = torch.tensor([10, 90]), torch.tensor([20, 80])
    assert differ(first, second).tolist() == [True, True]
    assert differ(first, torch.tensor([19, 81])).tolist() == [False, False]
    assert differ(torch.tensor([0, 5]), torch.tensor([0, 9])).tolist() == [False, False]
    assert jensen_shannon(first, first * 3) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(torch.tensor([4, 0]), torch.tensor([0, 7])) == pytest.approx(math.log(2))
    p, q = np.array([0.1, 0.9]), np.array([0.2, 0.8])
    m = (p + q) / 2
    assert jensen_shannon(first, second) == pytest.approx(((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2)


def test_equal_distributions_differ_in_a_twentieth_of_bins() -> None:
    """4.85 -+ 2.08 of 100 bins by chance, here over 6 pairs of samples; a part that is missing shows."""
    shares = []
    for seed in range(6):
        metric = StatisticallyDifferentBins(seed=seed)
        readings = read(metric, normal(3000, 2, 2 * seed), normal(3000, 2, 2 * seed + 1))
        shares.append(readings[""].value)
    assert np.mean(shares) * 100 == pytest.approx(4.85, abs=3 * 2.08 / math.sqrt(6))
    assert within(readings[""].value, readings[""].interval) and readings["ndb_js"].value < 0.02
    metric.forget_generated()
    lacking = normal(3000, 2, 20)
    worse = read(metric, normal(0, 2, 0), lacking[lacking[:, 0] < 1])
    assert worse[""].value > max(shares) + 0.1 and worse["ndb_js"].value > 0.05


def test_bins_of_pixels() -> None:
    """With space=pixels the bytes are clustered, and the cell of a sample is that of the nearest centre."""
    images = torch.randint(0, 256, (200, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    metric = StatisticallyDifferentBins(bins=5, space="pixels")
    readings = read(metric, images, images)
    assert readings[""].value == 0 and readings["ndb_js"].value == pytest.approx(0, abs=1e-12)
    assert not metric.reads_features
    rows, centres = normal(50, 3, 0) + 100, normal(6, 3, 1) + 100
    assert torch.equal(nearest_centre(rows, centres), torch.cdist(rows.double(), centres.double()).argmin(1))
    with pytest.raises(UserError, match="holds points"):
        metric.bind(points(100, 2), None)


def test_bins_refuse_few_training_samples() -> None:
    """Ten training samples a bin."""
    with pytest.raises(
        UserError, match="100 bins need at least 1000 training samples, got 999; set metric.ndb.bins to 99"
    ):
        StatisticallyDifferentBins().expect(999, 50, 50)
    with pytest.raises(UserError, match="20 training samples, got 15"):
        read(StatisticallyDifferentBins(bins=2), normal(15, 2, 0), normal(50, 2, 1))


@pytest.mark.parametrize("hidden", [0, 8])
def test_classifiers_under_equal_and_shifted_distributions(hidden: int) -> None:
    """Near 0.5 by chance with uniform p-values; near Phi(shift/2) for normals a shift apart, which is the optimum."""
    readings = [
        read(TwoSampleTests(hidden, samples=300), normal(400, 3, 2 * s), normal(300, 3, 2 * s + 1))[""]
        for s in range(12)
    ]
    accuracies = [reading.value for reading in readings]
    assert np.mean(accuracies) == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(12 * 300))
    reading = readings[0]
    assert reading.details["tested"] == 300
    assert reading.details["chance_high"] == pytest.approx(0.5 + 1.96 * 0.5 / math.sqrt(300), abs=1e-4)
    z = (reading.value - 0.5) * 2 * math.sqrt(300)
    assert reading.details["p_value"] == pytest.approx(1 - 0.5 * (1 + math.erf(z / math.sqrt(2))), abs=1e-9)
    shifted = normal(3000, 3, 1)
    shifted[:, 1] += 2
    apart = read(TwoSampleTests(hidden), normal(3000, 3, 0), shifted)[""]
    assert apart.value == pytest.approx(0.8413, abs=0.025) and within(apart.value, apart.interval)
    assert float(str(apart.details["p_value"])) < 1e-6


def test_only_the_network_sees_a_difference_of_spread() -> None:
    """Normals of two widths have one mean: logistic regression is at chance, a hidden layer isn't."""
    real, generated = normal(2000, 2, 0), 3 * normal(2000, 2, 1)
    linear, network = (read(TwoSampleTests(hidden), real, generated)[""].value for hidden in (0, 20))
    assert abs(linear - 0.5) < 0.05 and network > 0.7


def test_nearest_neighbours_tell_collapse_from_copies() -> None:
    """0.5 for equals; in many dimensions samples near the mean are everybody's neighbours; copies: 0; apart: 1."""
    real = normal(500, 2, 0)

    def accuracies(generated: Tensor) -> list[float]:
        readings = read(TwoSampleTests(0), real, generated)
        return [readings[f"nn_accuracy{part}"].value for part in ("", "_real", "_fake")]

    equal = read(TwoSampleTests(0), real, normal(500, 2, 1))
    assert within(0.5, equal["nn_accuracy"].interval)
    collapsed = read(TwoSampleTests(0), normal(500, 30, 0), 0.2 * normal(500, 30, 1))
    whole, of_reals, of_fakes = (collapsed[f"nn_accuracy{part}"].value for part in ("", "_real", "_fake"))
    assert of_reals < 0.35 and of_fakes > 0.98 and whole == pytest.approx((of_reals + of_fakes) / 2)
    assert max(accuracies(real + 1e-6)) == 0
    assert accuracies(real + 100) == [1, 1, 1]


def test_nearest_neighbours_spread_as_their_intervals_say() -> None:
    """Over samples of equal distributions, 95 % of intervals hold 0.5, or a few less."""
    readings = [read(TwoSampleTests(0), normal(100, 2, 2 * s), normal(100, 2, 2 * s + 1)) for s in range(100)]
    for name in ("nn_accuracy", "nn_accuracy_fake"):
        # A sample's own side is one smaller: 99 of 199.
        assert np.mean([within(99 / 199, one[name].interval) for one in readings]) >= 0.89


def test_two_sample_tests_need_samples() -> None:
    """At least 20 a side."""
    with pytest.raises(UserError, match="at least 20 samples a side, got 12"):
        read(TwoSampleTests(), normal(30, 2, 0), normal(12, 2, 1))
    with pytest.raises(UserError, match="hidden=-1"):
        TwoSampleTests(hidden=-1)


def test_one_window_is_a_gaussian() -> None:
    """log N(x; c, sigma^2 I) in closed form, and scaled pixels."""
    x, c = normal(5, 3, 0), normal(1, 3, 1)
    expected = -((x - c) ** 2).sum(1) / (2 * 0.25) - 1.5 * math.log(2 * math.pi * 0.25)
    assert log_likelihoods(x, c, [0.5])[0].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    pixels = torch.randint(0, 256, (5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    scaled = log_likelihoods(pixels, pixels[:2], [0.3], 255)
    assert torch.allclose(scaled, log_likelihoods(pixels / 255, pixels[:2] / 255, [0.3]), atol=1e-4)


def test_windows_agree_with_another_implementation() -> None:
    """scikit-learn's kernel density gives the same likelihoods."""
    from sklearn.neighbors import KernelDensity

    x, windows = normal(50, 3, 0) + 4, normal(300, 3, 1) + 4
    for sigma, mine in zip((0.3, 1.0), log_likelihoods(x, windows, [0.3, 1.0]), strict=True):
        other = KernelDensity(bandwidth=sigma).fit(windows.double().numpy()).score_samples(x.double().numpy())
        assert mine.numpy() == pytest.approx(other, rel=1e-6)


def test_windows_in_many_dimensions() -> None:
    """float32 products are good enough: against the definition in float64, far from the origin."""
    x, windows = normal(20, 200, 0) + 4, normal(300, 200, 1) + 4
    squared = (x.double()[:, None] - windows.double()).square().sum(2)
    expected = (-squared / (2 * 0.09)).logsumexp(1) - math.log(300) - 100 * math.log(2 * math.pi * 0.09)
    assert torch.allclose(log_likelihoods(x, windows, [0.3])[0], expected, rtol=1e-5)


def parzen(metric: ParzenLikelihood, train: Tensor, generated: Tensor, held_out: Tensor) -> Reading:
    """The one reading, with held-out samples shown."""
    metric.show_held_out(Features(held_out, None, held_out))
    return read(metric, train, generated)[""]


def test_parzen_windows_of_good_and_bad_samples() -> None:
    """Samples of the data's distribution score as training samples do; its entropy bounds both; shifted: worse."""
    train, held_out = normal(1700, 2, 0), normal(1000, 2, 1)
    good, bad = (
        parzen(ParzenLikelihood(0.05, 1, 7, tuning=200), train, normal(1500, 2, 2) + shift, held_out)
        for shift in (0, 1)
    )
    assert good.real is not None and good.value == pytest.approx(good.real, abs=0.05)
    assert good.value == pytest.approx(-math.log(2 * math.pi) - 1, abs=0.15)  # minus the entropy of the data
    assert good.details["windows"] == 1500 and good.details["real_windows"] == 1500
    assert good.higher_is_better and bad.value < good.value - 0.2 and bad.real == good.real
    assert good.error == pytest.approx(1 / math.sqrt(1000), rel=0.15)  # log p has variance d/2
    assert within(good.value, good.interval) and good.details["sigma_at_end_of_range"] == "no"


def test_parzen_width_is_not_chosen_by_the_held_out_samples() -> None:
    """The width is the grid's best for training samples; copies of the tuning set would make it as small as it gets."""
    train, held_out = normal(600, 2, 0), normal(200, 2, 1)
    metric = ParzenLikelihood(tuning=300, steps=5)
    reading = parzen(metric, train, train, held_out)
    assert reading.details["sigma"] == pytest.approx(0.01) and reading.details["sigma_at_end_of_range"] == "yes"
    assert float(str(reading.details["real_sigma"])) > 0.05


def test_parzen_windows_refuse_what_they_cant_use() -> None:
    """Too few training samples, an empty grid, no samples."""
    with pytest.raises(UserError, match="chooses sigma by 1000 training samples .* there are 400"):
        ParzenLikelihood().expect(400, 50, 50)
    with pytest.raises(UserError, match="low=2"):
        ParzenLikelihood(low=2)
    with pytest.raises(UserError, match="metric parzen needs the samples"):
        ParzenLikelihood().update(Features(normal(3, 2, 0)), True)
