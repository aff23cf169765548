"""Metrics that look for copies: authenticity, C_T, nearest neighbours in two spaces, and the birthday paradox."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Dataset, Modes, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.metrics.authenticity import Authenticity
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.birthday import BirthdayParadox, support
from gan_experiments.metrics.data_copying import DataCopying, mann_whitney, principal
from gan_experiments.metrics.exhibits import shrink
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.nearest_neighbours import NearestNeighbours, widened

SKLEARN = "C_T cuts cells with scikit-learn, of the extra evaluation"


def normal(n: int, d: int, seed: int) -> Tensor:
    """Standard normal rows (n, d)."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def points(rows: Tensor) -> Features:
    """Points as the evaluator shows them."""
    return Features(rows, None, rows)


def readings(
    metric: AnyMetric, real: Tensor | None, generated: Tensor, held_out: Tensor | None = None, batch: int = 1000
) -> dict[str, Reading]:
    """What a metric says of points shown in batches."""
    for part in () if real is None else torch.split(real, batch):
        metric.update(points(part), real=True)
    for part in torch.split(generated, batch):
        metric.update(points(part), real=False)
    for part in () if held_out is None else torch.split(held_out, batch):
        metric.show_held_out(points(part))
    found = metric.compute()
    json.dumps([(reading.value, reading.details, reading.interval) for reading in found], allow_nan=False)
    return {reading.name: reading for reading in found}


def test_authenticity_by_hand() -> None:
    """A sample nearer to a training sample than its neighbour, or just as near, is a copy."""
    real = torch.tensor([[0.0], [1.0], [5.0]])
    generated = torch.tensor([[-0.5], [-1.0], [-1.5], [8.5], [10.0]])
    # Neighbours of 0 and 5 are 1 and 4 away; distances are 0.5, 1 (tie), 1.5, 3.5 and 5.
    reading = readings(Authenticity(), real, generated)[""]
    assert reading.value == 2 / 5 and reading.higher_is_better
    low, high = reading.interval or (0.0, 0.0)
    assert 0 < low < 0.4 < high < 1


def test_authenticity_of_copies_and_of_new_samples() -> None:
    """Copies, also of duplicates, are at 0, samples of the same distribution near one half, far ones at 1."""
    real = normal(500, 4, 0)
    real[1] = real[0]
    assert readings(Authenticity(), real, real[:200])[""].value == 0
    # Next to a duplicated training sample nothing else is nearer, so its near copies pass.
    assert readings(Authenticity(), real, real[:200] + 1e-6)[""].value == 2 / 200
    assert 0.4 < readings(Authenticity(), real, normal(500, 4, 1))[""].value < 0.7
    assert readings(Authenticity(), real, normal(50, 4, 1) + 100)[""].value == 1


def test_mann_whitney_is_that_of_scipy() -> None:
    """Z with ties as scipy's asymptotic p-value has it; its sign is that of x - y."""
    stats = pytest.importorskip("scipy.stats", reason="the other implementation")
    x, y = normal(40, 1, 0)[:, 0].mul(3).round().double(), (normal(50, 1, 1)[:, 0] * 3 + 1).round().double()
    z, error = mann_whitney(x, y)
    p = stats.mannwhitneyu(x, y, use_continuity=False, method="asymptotic").pvalue
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(p, rel=1e-9) and z < 0
    assert mann_whitney(y, x)[0] == pytest.approx(-z, rel=1e-12)
    assert mann_whitney(torch.ones(5), torch.ones(6)) == (0.0, 0.0)
    # By hand: 3 of 4 pairs are greater, sd sqrt(2*2*5/12).
    assert mann_whitney(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 3.0]))[0] == pytest.approx(1 / math.sqrt(5 / 3))


def test_error_of_mann_whitney() -> None:
    """The error is Z's spread over samples of two different distributions."""
    draws = [mann_whitney(normal(25, 1, 2 * s)[:, 0], normal(150, 1, 2 * s + 1)[:, 0] * 2 + 1) for s in range(300)]
    values, errors = torch.tensor(draws).T
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.12)


@pytest.mark.parametrize("cells", [1, 3])
def test_copying_statistic_without_copying(cells: int) -> None:
    """With independent samples C_T has mean 0 and the deviation its details state: 1 for one cell."""
    pytest.importorskip("sklearn", reason=SKLEARN)
    found = [
        readings(DataCopying(cells=cells), normal(90, 2, s), normal(150, 2, 1000 + s), normal(120, 2, 2000 + s))[""]
        for s in range(40)
    ]
    values = torch.tensor([reading.value for reading in found])
    expected = [float(reading.details["error_without_copying"]) for reading in found]  # type: ignore[arg-type]
    mean_error = sum(expected) / len(expected)
    assert mean_error == 1 if cells == 1 else 0.55 < mean_error < 0.75
    assert abs(float(values.mean())) < 4 * mean_error / 40**0.5
    assert float(values.std()) == pytest.approx(mean_error, rel=0.3)


def test_copies_are_far_below_zero() -> None:
    """A model that returns training samples, noisy or not, is far below 0; a poor one far above."""
    pytest.importorskip("sklearn", reason=SKLEARN)
    real, held_out = normal(400, 4, 0), normal(300, 4, 1)
    assert readings(DataCopying(), real, real[:300], held_out)[""].value < -8
    copied = readings(DataCopying(), real, real[:300] + 0.05 * normal(300, 4, 2), held_out, batch=7)[""]
    assert copied.value < -8
    assert copied.interval is not None and copied.interval[0] < copied.value < copied.interval[1] < -5
    assert readings(DataCopying(), real, normal(300, 4, 2) * 3, held_out)[""].value > 5


def test_cells_with_few_samples_are_left_out() -> None:
    """A collapsed model fills one cell: the others are left out, and what they hold of the data is said."""
    pytest.importorskip("sklearn", reason=SKLEARN)
    places = torch.tensor([0.0, 50.0, 100.0, 100.0])[:, None]
    real, held_out = places.repeat(50, 1) + normal(200, 1, 0), places.repeat(30, 1) + normal(120, 1, 1)
    metric = DataCopying()
    details = readings(metric, real, 100 + normal(80, 1, 2), held_out)[""].details
    assert details["cells_used"] == 1 and details["held_out_in_them"] == 0.5
    metric.forget_generated()
    with pytest.raises(UserError, match="no cell has 20 generated and 20 held-out samples"):
        readings(metric, None, torch.arange(3.0)[:, None].repeat(6, 1) * 50)


def test_principal_components_keep_what_varies() -> None:
    """Directions of the greatest variance; with enough of them distances are those of the rows."""
    rows = normal(200, 6, 0) * torch.tensor([1.0, 9.0, 1.0, 5.0, 1.0, 1.0]) + 3
    mean, basis = principal(rows, 2)
    projected = (rows.double() - mean) @ basis
    values = torch.linalg.eigvalsh(rows.double().T.cov())
    torch.testing.assert_close(projected.var(0), values[-2:])
    assert torch.equal(principal(rows, 6)[1], torch.eye(6, dtype=torch.float64))


def test_nearest_distances_by_hand() -> None:
    """Means of the distances, and the share at most as far as the closest 5 % of 19 held-out samples."""
    real, held_out = torch.tensor([[0.0], [-100.0]]), torch.arange(1.0, 20.0)[:, None]
    found = readings(NearestNeighbours(), real, torch.tensor([[0.0], [-1.0], [2.0], [5.0]]), held_out)
    assert found["nearest_feature_distance"].value == 2
    assert found["nearest_feature_distance"].details["median"] == 1
    closer = found["nearest_feature_closer"]
    assert closer.value == 2 / 4 and closer.details["expected_without_copying"] == 1 / 20
    assert set(found) == {"nearest_feature_distance", "nearest_feature_closer"}
    assert widened(5, 100, 0.0) == pytest.approx((0.0215, 0.1118), abs=1e-4)
    assert widened(5, 100, 0.02)[1] > 0.1118


def test_closeness_without_copying() -> None:
    """The share of independent samples is the quantile on average, and its interval holds it about 95 times in 100."""
    values, hits = [], 0
    for s in range(100):
        metric = NearestNeighbours(quantile=0.1)
        reading = readings(metric, normal(80, 2, s), normal(200, 2, 1000 + s), normal(99, 2, 2000 + s))[
            "nearest_feature_closer"
        ]
        low, high = reading.interval or (0.0, 0.0)
        values.append(reading.value)
        hits += low <= 0.1 <= high
    assert sum(values) / 100 == pytest.approx(0.1, abs=0.012)
    assert 88 <= hits <= 100


def test_copied_images_are_found_in_both_spaces() -> None:
    """Copies are at 0 from training images, closer than held-out ones, and beside their originals in the picture."""
    images = torch.randint(0, 256, (160, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    real, held_out, generated = images[:100], images[100:140], images[140:].clone()
    generated[4] = real[17]
    metric = NearestNeighbours(neighbours=2, shown=3)

    def view(part: Tensor) -> Features:
        return Features(part.flatten(1).float() / 255 * 2, None, part)

    metric.update(view(real), real=True)
    metric.update(view(generated), real=False)
    metric.show_held_out(view(held_out))
    found = {reading.name: reading for reading in metric.compute()}
    assert found["nearest_pixel_distance"].details["minimum"] == 0
    assert found["nearest_feature_distance"].value == pytest.approx(2 * found["nearest_pixel_distance"].value, rel=1e-6)
    by_pixel = metric.pictures()["nearest_by_pixel"]
    assert set(metric.pictures()) == {"nearest_by_pixel", "nearest_by_feature"}
    # Three rows of five images, each with a border of one pixel, each pixel a square of 31.
    assert by_pixel.dtype == torch.uint8 and by_pixel.shape == (1, 31 * (3 * 5 + 1), 31 * (5 * 5 + 1))
    by_pixel = by_pixel[:, ::31, ::31]
    assert all(torch.equal(by_pixel[:, 1:5, 5 * k + 1 : 5 * k + 5], real[17]) for k in (0, 1, 3))
    metric.forget_generated()
    metric.update(view(real[:30]), real=False)
    copied = {reading.name: reading.value for reading in metric.compute()}
    assert list(copied.values()) == [0, 1, 0, 1]


def test_large_images_are_area_averaged() -> None:
    """Means of blocks, rounded; small images stay."""
    image = torch.tensor([[[[0, 4, 10, 10], [8, 9, 10, 11]]]], dtype=torch.uint8)
    assert shrink(image, 2).tolist() == [[[[2, 10], [8, 10]]]]
    assert torch.equal(shrink(image, 4), image)


def test_uniform_formula() -> None:
    """n = s(s-1)/(2 ln(1/(1-P))): 0.72 s^2 at P = 1/2, and back from P = 1 - exp(-s(s-1)/2n)."""
    assert support(400, 0.5) == pytest.approx(0.72 * 400**2, rel=0.005)
    assert support(30, -math.expm1(-30 * 29 / 2 / 700)) == pytest.approx(700, rel=1e-9)
    assert support(30, 1.0) == 0


@pytest.mark.parametrize(("states", "size"), [(1000, 40), (1000, 320), (30, 64)])
def test_support_of_a_uniform_distribution(states: int, size: int) -> None:
    """Draws from equally likely points: the interval holds their number, whatever batch it starts from."""
    drawn = torch.randint(0, states, (16_000, 1), generator=torch.Generator().manual_seed(1)).float()
    found = readings(BirthdayParadox(size=size, threshold=0.01), None, drawn)
    reading = found["birthday_support"]
    assert reading.value == pytest.approx(states, rel=0.2)
    low, high = reading.interval or (0.0, 0.0)
    assert low < states < high
    expected = 1 - math.prod(1 - i / states for i in range(min(size, states + 1)))
    assert found[""].value == pytest.approx(expected, abs=0.08)
    assert not BirthdayParadox(threshold=0.01).needs_reals


def test_batches_are_cut_without_a_rest() -> None:
    """Of a batch of 50, parts of 12 leave two samples over; pairs across parts don't count, nor does a second one."""
    pairs = torch.tensor([[0, 48, 49], [1, 3, 11], [1, 4, 5], [2, 11, 12]])
    assert [BirthdayParadox(size=50).batches_with(pairs, s) for s in (50, 25, 12)] == [3, 3, 1]


def test_sorted_samples_are_shuffled() -> None:
    """Samples that come sorted, all duplicates beside each other, give the same answer."""
    drawn = torch.randint(0, 1000, (8000, 1), generator=torch.Generator().manual_seed(1)).float().sort(dim=0).values
    assert readings(BirthdayParadox(size=30, threshold=0.0), None, drawn)[""].value < 0.6


def test_no_duplicates_and_nothing_else() -> None:
    """Without duplicates a lower bound, with nothing else an upper one: said so, without an interval."""
    none = readings(BirthdayParadox(size=50, threshold=0.1), None, torch.arange(1000.0)[:, None])
    reading = none["birthday_support"]
    assert none[""].value == 0 and reading.interval is None
    assert str(reading.details["value_is"]).startswith("a lower bound")
    high = (none[""].interval or (0.0, 0.0))[1]
    assert reading.value == pytest.approx(support(50, high)) and 0 < reading.value < math.inf
    every = readings(BirthdayParadox(size=50, threshold=0.1), None, torch.zeros(1000, 1))["birthday_support"]
    assert str(every.details["value_is"]).startswith("an upper bound") and 0 < every.value < 2


def test_threshold_from_reals() -> None:
    """Chosen so that batches of the same distribution show duplicates at the rate asked for."""
    metric = BirthdayParadox(size=20, real_rate=0.3)
    found = readings(metric, normal(3000, 2, 0), normal(12_000, 2, 1))
    assert metric.needs_reals and found[""].value == pytest.approx(0.3, abs=0.1)
    metric.forget_generated()
    assert readings(metric, None, normal(3000, 2, 1) * 0.3)[""].value > 0.9


def test_nearest_pairs_are_drawn() -> None:
    """The picture begins with the two images that are equal."""
    images = torch.randint(0, 256, (40, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[7] = images[30]
    metric = BirthdayParadox(size=40, threshold=0.1, shown=4)
    metric.update(Features(images.flatten(1).float(), None, images), real=False)
    assert metric.compute()[0].details["duplicate_pairs"] == 1
    picture = metric.pictures()["birthday_nearest_pairs"]
    assert picture.shape == (3, 73 * (4 * 5 + 1), 73 * (2 * 5 + 1))
    picture = picture[:, ::73, ::73]
    assert torch.equal(picture[:, 1:5, 1:5], images[7]) and torch.equal(picture[:, 1:5, 6:10], images[7])
    assert not torch.equal(picture[:, 6:10, 1:5], picture[:, 6:10, 6:10])


def test_refusals() -> None:
    """Impossible settings and too few samples, each named."""
    with pytest.raises(UserError, match="metric birthday: size=1"):
        BirthdayParadox(size=1)
    with pytest.raises(UserError, match="metric nearest_neighbours: quantile=1"):
        NearestNeighbours(quantile=1.0)
    with pytest.raises(UserError, match="batches of 400 samples, but there are 30"):
        readings(BirthdayParadox(threshold=0.1), None, normal(30, 2, 0))
    with pytest.raises(UserError, match="for quantile=0.05, 19 held-out samples; got 5, 5 and 18"):
        readings(NearestNeighbours(), normal(5, 2, 0), normal(5, 2, 1), normal(18, 2, 2))
    rows = normal(300, 2, 0)
    pair = Dataset("pair", Spec((2,)), Split(rows), Split(rows), modes=Modes(torch.zeros(2, 2), 1.0))
    with pytest.raises(UserError, match="10 times as many of 300 training samples; .*size to 30 or less"):
        BirthdayParadox().expect(300, 500, 500)
    BirthdayParadox(threshold=0.0).expect(300, 400, 400)
    BirthdayParadox().bind(pair, None)
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    dataset = Dataset("noise", Spec((1, 2, 2)), Split(images), Split(images))
    for metric in (Authenticity(), NearestNeighbours(), BirthdayParadox()):
        with pytest.raises(UserError, match="no extractor"):
            metric.bind(dataset, None)
    with pytest.raises(UserError, match="metric nearest_neighbours needs the samples themselves"):
        NearestNeighbours().update(Features(rows), real=True)
    pytest.importorskip("sklearn", reason=SKLEARN)
    with pytest.raises(UserError, match="metric data_copying: cells=0"):
        DataCopying(cells=0)
    with pytest.raises(UserError, match="2 training samples can't fill 3 cells"):
        readings(DataCopying(), rows[:2], rows, rows)
