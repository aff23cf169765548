"""Metrics of neighbours in feature space: distances, precision and recall, density and coverage, PRD."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.metrics import neighbours
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.density_coverage import DensityCoverage, expected_coverage
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.neighbours import ball_counts, close_pairs, nearest, squared_differences, squared_radii
from gan_experiments.metrics.prd import PrecisionRecallDistributions, best_f, curve
from gan_experiments.metrics.precision_recall import ImprovedPrecisionRecall

SKLEARN = "PRD clusters with scikit-learn, of the extra evaluation"


def normal(n: int, d: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal rows (n, d)."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def squares(x: Tensor, y: Tensor) -> Tensor:
    """All squared distances (n, m) from differences, in float64."""
    return torch.stack([squared_differences(x, row) for row in y], dim=1)


def readings(metric: AnyMetric, real: Tensor, generated: Tensor, batch: int = 1000) -> dict[str, Reading]:
    """What a metric says of features shown in batches."""
    for rows, is_real in ((real, True), (generated, False)):
        for part in torch.split(rows, batch):
            metric.update(Features(part), is_real)
    return {reading.name: reading for reading in metric.compute()}


@pytest.mark.parametrize("d", [1, 3, 64, 65, 300])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_neighbours_are_those_of_all_distances(d: int, offset: float) -> None:
    """With copies, tight clusters and a far centre, distances, radii and counts are those of all differences."""
    queries, points = normal(150, d, 0) + offset, normal(160, d, 1) + offset
    points[:10] = queries[:10]
    points[10:20] = queries[:10]
    points[20:60] = points[20] + 1e-3 * normal(40, d, 2)
    everything = squares(queries, points)
    found = nearest(queries, points, 3)
    expected = everything.sort(dim=1).values[:, :3]
    torch.testing.assert_close(found.squared, expected, rtol=1e-12, atol=0)
    assert bool((found.squared[:10, :2] == 0).all())
    assert torch.equal(everything.gather(1, found.points).sort(dim=1).values, found.squared)
    own = squares(points, points).fill_diagonal_(math.inf).sort(dim=1).values[:, 4]
    radii = squared_radii("x", points, 5)
    assert torch.equal(radii, own)
    inside = everything <= radii
    of_queries, of_balls = ball_counts(queries, points, radii)
    assert torch.equal(of_queries, inside.sum(1)) and torch.equal(of_balls, inside.sum(0))
    radius = float(own.median())
    pairs = (squares(points, points) <= radius).triu(1).nonzero()
    assert torch.equal(close_pairs(points, radius), pairs)


@pytest.mark.parametrize("d", [2, 100])
def test_blocks_change_nothing(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten pairs, or ten values, at a time: the same bits as all at once."""
    x, y = normal(40, d, 0), normal(50, d, 1)
    radii = squared_radii("x", y, 3)
    whole, counts = nearest(x, y, 2), ball_counts(x, y, radii)
    for name in ("PAIRS", "VALUES"):
        monkeypatch.setattr(neighbours, name, 10)
        assert torch.equal(squared_radii("x", y, 3), radii)
        assert all(torch.equal(a, b) for a, b in zip(nearest(x, y, 2), whole, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(ball_counts(x, y, radii), counts, strict=True))


def test_sparse_pairs_are_settled_exactly() -> None:
    """Few balls hold a point: exact differences decide, the surface being inside, one step within it not."""
    x, y = normal(300, 80, 0) + 3, normal(300, 80, 1) + 3
    radii = squared_differences(x, y)
    assert torch.equal(ball_counts(x, y, radii)[0] >= 1, torch.ones(300, dtype=torch.bool))
    closest = squares(x, y).min(dim=0).values
    assert ball_counts(x, y, closest)[1].tolist() == [1] * 300
    assert int(ball_counts(x, y, closest.nextafter(torch.zeros(())))[1].sum()) == 0


def test_bytes_are_compared_as_they_are() -> None:
    """Images of bytes, without overflow."""
    images = torch.tensor([[0, 255, 3], [255, 0, 3], [0, 254, 3]], dtype=torch.uint8)
    assert nearest(images, images, 2, themselves=True).squared.tolist()[0] == [1, 255**2 * 2]


def test_precision_and_recall_by_hand() -> None:
    """On a line with k = 1: a sample on a surface is inside, and the two are not exchanged."""
    real, generated = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[2.0], [2.5], [19.0], [30.0]])
    found = readings(ImprovedPrecisionRecall(k=1), real, generated)
    # Real balls [-1, 1], [0, 2], [1, 19]; generated ones [1.5, 2.5], [2, 3], [8, 30], [19, 41].
    assert found["precision"].value == 3 / 4 and found["recall"].value == 1 / 3
    low, high = found["recall"].interval or (0.0, 0.0)
    assert 0 < low < 1 / 3 < high < 1


def test_equal_normals_are_below_one() -> None:
    """Two samples of one distribution in 64 dimensions with k = 3 are at about 0.61."""
    found = readings(ImprovedPrecisionRecall(), normal(2000, 64, 0), normal(2000, 64, 1))
    assert found["precision"].value == pytest.approx(0.61, abs=0.04)
    assert found["recall"].value == pytest.approx(0.61, abs=0.04)


def test_same_set_and_other_batches() -> None:
    """A set against itself scores 1 everywhere; density counts itself and its k neighbours' balls."""
    rows = normal(300, 70, 0)
    for batch in (7, 300):
        found = readings(ImprovedPrecisionRecall(), rows, rows, batch)
        found |= readings(DensityCoverage(), rows, rows, batch)
        assert [found[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
        # Every ball holds its centre and its five neighbours: 6 of 5.
        assert found["density"].value == pytest.approx(6 / 5, rel=1e-12)


def test_density_and_coverage_by_hand() -> None:
    """On a line with k = 1: balls counted with their surfaces."""
    real, generated = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[2.0], [1.0], [19.0], [30.0]])
    found = readings(DensityCoverage(k=1), real, generated)
    # Balls [-1, 1], [0, 2], [1, 19] hold 1, 2, and 3 of them.
    assert found["density"].value == 6 / 4 and found["coverage"].value == 1
    assert readings(DensityCoverage(k=1), real, generated[3:].repeat(2, 1))["coverage"].value == 0


def test_coverage_under_equality() -> None:
    """Held to the formula within sampling error; its value for equal counts is near 1 - 2^-k; density is near 1."""
    assert expected_coverage(1000, 1000, 5) == pytest.approx(0.968984, abs=1e-6)
    assert expected_coverage(2000, 1000, 5) == pytest.approx(0.8686, abs=5e-5)
    assert expected_coverage(1000, 2000, 5) == pytest.approx(0.9959, abs=5e-5)
    coverages, densities = [], []
    for seed in range(6):
        found = readings(DensityCoverage(), normal(400, 2, seed), normal(200, 2, 100 + seed))
        coverages.append(found["coverage"].value)
        densities.append(found["density"].value)
        assert found["coverage"].details["under_equality"] == expected_coverage(400, 200, 5)
    assert sum(coverages) / 6 == pytest.approx(expected_coverage(400, 200, 5), abs=0.03)
    assert sum(densities) / 6 == pytest.approx(1, abs=0.05)


def test_high_dimension() -> None:
    """Two N(0, I) in 1000 dimensions, of 1000: P and R near one half, coverage near its formula."""
    real, generated = normal(1000, 1000, 0), normal(1000, 1000, 1)
    found = readings(ImprovedPrecisionRecall(k=5), real, generated)
    found |= readings(DensityCoverage(), real, generated)
    assert 0.4 < found["precision"].value < 0.7 and 0.4 < found["recall"].value < 0.7
    assert found["coverage"].value == pytest.approx(0.969, abs=0.03)
    assert found["density"].value == pytest.approx(1, abs=0.15)


def test_collapse_shows_in_recall_and_coverage() -> None:
    """Samples in one dense spot: high precision and density, little recall and coverage."""
    real, generated = normal(500, 2, 0), normal(500, 2, 1) * 0.05
    found = readings(ImprovedPrecisionRecall(), real, generated)
    found |= readings(DensityCoverage(), real, generated)
    assert found["precision"].value > 0.95 and found["density"].value > 0.9
    assert found["recall"].value < 0.05 and found["coverage"].value < 0.1


def test_constant_features() -> None:
    """Identical samples on both sides: every ball holds every sample, where `<` would give 0."""
    real, generated = torch.full((40, 6), 0.1), torch.full((30, 6), 0.1)
    found = readings(ImprovedPrecisionRecall(), real, generated)
    found |= readings(DensityCoverage(), real, generated)
    assert [found[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert found["density"].value == 40 / 5


@pytest.mark.parametrize(("k", "d"), [(3, 8), (5, 200)])
def test_agrees_with_prdc(k: int, d: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Without ties `<` and `<=` agree; with constant features the package gives 0, we hold to the definition."""
    prdc = pytest.importorskip("prdc", reason="the authors' package of density and coverage")
    real, generated = normal(300, d, 0, torch.float64), normal(200, d, 1, torch.float64) * 0.9
    other = prdc.compute_prdc(real.numpy(), generated.numpy(), k)
    found = readings(ImprovedPrecisionRecall(k), real, generated)
    found |= readings(DensityCoverage(k), real, generated)
    assert {name: reading.value for name, reading in found.items()} == pytest.approx(other, rel=1e-6)
    assert prdc.compute_prdc(torch.ones(9, 2).numpy(), torch.ones(9, 2).numpy(), k)["coverage"] == 0


@pytest.mark.parametrize("d", [8, 200])
def test_agrees_with_torch_fidelity(d: int) -> None:
    """Its precision and recall of equal features, with a set of other size on each side."""
    other = pytest.importorskip("torch_fidelity.metric_prc", reason="parity with torch-fidelity, of the extra test")
    real, generated = normal(300, d, 0, torch.float64), normal(200, d, 1, torch.float64) * 0.8
    precision, recall = other.calculate_precision_recall_full(generated, real, 3)
    found = readings(ImprovedPrecisionRecall(), real, generated)
    assert found["precision"].value == pytest.approx(precision, rel=1e-6)
    assert found["recall"].value == pytest.approx(recall, rel=1e-6)


def test_reals_are_looked_at_anew() -> None:
    """Radii kept for the reals are dropped with them, and when more are shown."""
    first, second, generated = normal(60, 2, 0), 5 + normal(60, 2, 1), normal(60, 2, 2)
    for metric in (ImprovedPrecisionRecall(), DensityCoverage()):
        before = readings(metric, first, generated)
        metric.forget_generated()
        assert readings(metric, second, generated) == readings(type(metric)(), torch.cat([first, second]), generated)
        metric.reset()
        assert readings(metric, first, generated) == before


def test_same_histograms_and_disjoint_ones() -> None:
    """Equal distributions are at (1, 1), disjoint ones at 0; half the mass on one of two states as by hand."""
    half, one = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    for beta in (8, 1 / 8):
        assert best_f(*curve(half, half, 1001), beta) == pytest.approx(1, abs=1e-9)
        assert best_f(*curve(half, one, 1001), beta) == 0
    # Q = one state of P's two: alpha(lambda) = min(lambda/2, 1), so precision 1 goes with recall up to 1/2.
    state = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    precision, recall = curve(half, state, 100_001)
    assert best_f(precision, recall, 1 / 8) == pytest.approx(65 * 0.5 / (1 + 64 * 0.5), abs=1e-3)
    assert best_f(precision, recall, 8) == pytest.approx(65 * 0.5 / (64 + 0.5), abs=1e-3)


def test_prd_tells_precision_from_recall() -> None:
    """The same set is at 1, other places at 0; half of the modes: precise, without recall."""
    pytest.importorskip("sklearn", reason=SKLEARN)
    modes = torch.arange(8)[:, None] * 10.0
    real = modes.repeat(40, 1) + 0.01 * normal(320, 1, 0)
    settings = {"clusters": 8, "repeats": 3}
    same = readings(PrecisionRecallDistributions(**settings), real, real)
    assert [reading.value for reading in same.values()] == pytest.approx([1, 1], abs=1e-9)
    apart = readings(PrecisionRecallDistributions(**settings), real, real + 1000)
    assert [reading.value for reading in apart.values()] == [0, 0]
    fewer = readings(PrecisionRecallDistributions(**settings), real, modes[:4].repeat(50, 1) + 0.01 * normal(200, 1, 1))
    assert fewer["prd_precision"].value > 0.95 and fewer["prd_recall"].value < 0.6
    assert fewer["prd_recall"].details["samples_a_side"] == 200
    low, high = fewer["prd_recall"].interval or (0.0, 0.0)
    assert low < fewer["prd_recall"].value < high < low + 0.2


def test_prd_repeats_and_leaves_the_global_generator() -> None:
    """Two computations agree, identical features are no hindrance, torch's and numpy's generators stay."""
    pytest.importorskip("sklearn", reason=SKLEARN)
    state = torch.get_rng_state()
    metric = PrecisionRecallDistributions(clusters=5, repeats=2)
    first = readings(metric, torch.ones(30, 3), torch.ones(40, 3))
    assert {reading.name: reading for reading in metric.compute()} == first
    assert first["prd_recall"].value == pytest.approx(1, abs=1e-9)
    assert torch.equal(torch.get_rng_state(), state)


def test_refusals() -> None:
    """Impossible settings and too few samples, each named."""
    with pytest.raises(UserError, match="metric precision_recall: k=0"):
        ImprovedPrecisionRecall(k=0)
    with pytest.raises(UserError, match="metric density_coverage: k=0"):
        DensityCoverage(k=0)
    with pytest.raises(UserError, match="k=3 neighbours need at least 4 samples a side, got 3"):
        readings(ImprovedPrecisionRecall(), normal(3, 2, 0), normal(9, 2, 0))
    with pytest.raises(UserError, match="k=5 neighbours need at least 6"):
        readings(DensityCoverage(), normal(5, 2, 0), normal(9, 2, 0))
    with pytest.raises(UserError, match="at least 2 generated"):
        readings(DensityCoverage(), normal(9, 2, 0), normal(1, 2, 0))
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    dataset = Dataset("noise", Spec((1, 2, 2)), Split(images), Split(images))
    for metric in (ImprovedPrecisionRecall(), DensityCoverage()):
        with pytest.raises(UserError, match="no extractor"):
            metric.bind(dataset, None)
    pytest.importorskip("sklearn", reason=SKLEARN)
    with pytest.raises(UserError, match="metric prd: clusters=1"):
        PrecisionRecallDistributions(clusters=1)
    with pytest.raises(UserError, match="10 samples a side can't fill 20 clusters"):
        readings(PrecisionRecallDistributions(), normal(10, 2, 0), normal(50, 2, 0))
