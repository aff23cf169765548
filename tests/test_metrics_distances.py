"""Fréchet and kernel distances against closed forms and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from gan_experiments.errors import UserError
from gan_experiments.metrics import kernel, moments
from gan_experiments.metrics.base import Reading
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.frechet import FrechetDistance, Spectrum, frechet_distance, without_blocks
from gan_experiments.metrics.intervals import jackknife
from gan_experiments.metrics.kernel import KernelDistance, squared_discrepancy
from gan_experiments.metrics.moments import Gaussian, Moments
from gan_experiments.metrics.order import StreamKeys


def normal(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal rows (n, d)."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixed(n: int, d: int, seed: int) -> Tensor:
    """Correlated, skewed rows (n, d) like a network's features: relu of mixed normals."""
    return torch.relu(normal(n, d, seed) @ normal(d, d, 99) / d**0.5 + 0.3)


def fid(real: Tensor, generated: Tensor, batch: int = 1000, ddof: int = 1) -> float:
    """The metric's value, both sides shown in batches."""
    metric = FrechetDistance(ddof)
    for rows, is_real in ((real, True), (generated, False)):
        for start in range(0, len(rows), batch):
            metric.update(Features(rows[start : start + batch]), is_real)
    return metric.compute()[0].value


@pytest.mark.parametrize(("ddof", "expected"), [(1, 89 + 1 / 11), (0, 89.0)])
def test_published_two_column_example(ddof: int, expected: float) -> None:
    """The example of 100 x 2 rows gives 89.0909 with ddof 1 and 89 with ddof 0."""
    real, generated = torch.ones(100, 2), torch.full((100, 2), 9.0)
    real[:50, 0] = 2
    generated[50:, 0] = 2
    assert fid(real, generated, ddof=ddof) == pytest.approx(expected, rel=1e-10)


def test_equal_covariances_leave_the_means() -> None:
    """A shifted copy is at the squared length of the shift."""
    rows = mixed(400, 8, 0)
    shift = torch.arange(8, dtype=torch.float64)
    assert fid(rows, rows + shift) == pytest.approx(float(shift.square().sum()), abs=1e-8)


def test_same_set_is_at_zero() -> None:
    """A set is at distance 0 of itself, and the raw value may be negative."""
    assert fid(mixed(400, 16, 0), mixed(400, 16, 0)) == pytest.approx(0, abs=1e-10)


def test_one_dimension() -> None:
    """In one dimension: squared difference of means and of standard deviations."""
    x, y = normal(50, 1, 0) * 2 + 1, normal(80, 1, 1) * 3
    expected = float((x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2)
    assert fid(x, y) == pytest.approx(expected, rel=1e-10)


def test_diagonal_covariances() -> None:
    """Commuting covariances: sum of squared differences of standard deviations."""
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 1.0, 0.25])
    mean = torch.tensor([1.0, -2.0, 0.0])
    expected = float(mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(mean, a.diag(), mean * 0, b.diag()) == pytest.approx(expected, rel=1e-12)


def test_invariances() -> None:
    """Order and rotation don't matter; scaling by s multiplies by s^2."""
    x, y = mixed(300, 12, 0), mixed(300, 12, 1) * 1.5
    value = fid(x, y)
    rotation = torch.linalg.qr(normal(12, 12, 5)).Q
    assert fid(x.flip(0), y) == pytest.approx(value, rel=1e-10)
    assert fid(x @ rotation, y @ rotation) == pytest.approx(value, rel=1e-9)
    assert fid(3 * x, 3 * y) == pytest.approx(9 * value, rel=1e-10)


@pytest.mark.parametrize("n", [20, 300])
def test_batch_size_does_not_matter(n: int) -> None:
    """Rows shown by 1, 7 or 64 give one result, with more and with fewer rows than features."""
    x, y = mixed(n, 24, 0), mixed(n, 24, 1)
    values = [fid(x, y, batch) for batch in (1, 7, 64, n)]
    assert values == pytest.approx([values[0]] * 4, rel=1e-9)


@pytest.mark.parametrize("d", [4, 64])
def test_agrees_with_scipy_sqrtm(d: int) -> None:
    """The symmetric root's trace is that of scipy's matrix square root of the product."""
    from scipy.linalg import sqrtm

    x, y = mixed(500, d, 0).numpy(), mixed(500, d, 1).numpy() * 1.2 + 0.1
    c1, c2, m1, m2 = np.cov(x.T), np.cov(y.T), x.mean(0), y.mean(0)
    root = np.trace(sqrtm(c1 @ c2)).real
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * root
    tensors = [torch.from_numpy(part) for part in (m1, c1, m2, c2)]
    assert frechet_distance(*tensors) == pytest.approx(expected, rel=1e-8)
    assert fid(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n_real", "n_generated"), [(30, 30), (200, 30), (30, 200), (48, 48)])
def test_fewer_rows_than_features(n_real: int, n_generated: int) -> None:
    """The nuclear-norm way gives what the eigenvalues of the covariances give, to their precision."""
    x, y = mixed(n_real, 48, 0), mixed(n_generated, 48, 1) + 0.2
    metric = FrechetDistance()
    metric.update(Features(x), True)
    metric.update(Features(y), False)
    reading = metric.compute()[0]
    assert reading.details["root"] == "nuclear norm"
    assert reading.value == pytest.approx(frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()), rel=1e-5)


def test_fewer_rows_than_features_is_exact() -> None:
    """With 3 rows in 50 dimensions a set is still at 0 of itself, far below what eigenvalues would leave."""
    rows = mixed(3, 50, 0)
    assert fid(rows, rows) == pytest.approx(0, abs=1e-12)


def test_first_order_bias() -> None:
    """Same-distribution normals are at d/n + d(d+1)/(4n) a side (first order in 1/n)."""
    d, n = 16, 2000
    values = [fid(normal(n, d, 2 * seed), normal(n, d, 2 * seed + 1)) for seed in range(20)]
    assert np.mean(values) == pytest.approx(2 * (d + d * (d + 1) / 4) / n, rel=0.1)


def test_frechet_needs_two_rows() -> None:
    """One row has no covariance."""
    with pytest.raises(UserError, match="at least 2 samples"):
        fid(normal(1, 2, 0), normal(5, 2, 1))


def sides(metric: FrechetDistance, real: Tensor, generated: Tensor, batch: int = 1000) -> Reading:
    """The reading, both sides shown in batches."""
    for rows, is_real in ((real, True), (generated, False)):
        for start in range(0, len(rows), batch):
            metric.update(Features(rows[start : start + batch]), is_real)
    return metric.compute()[0]


def fitted(rows: Tensor, blocks: int = 1, float32_from: int = 1024) -> Gaussian:
    """The Gaussian of rows (n, d)."""
    moments = Moments(1, blocks, float32_from)
    moments.update(rows)
    return moments.gaussian()


def test_constant_features_cost_no_digits() -> None:
    """Features that don't vary on a side add their squared difference and variance, exactly, and nothing else."""
    x, y = mixed(400, 12, 0).float(), mixed(400, 12, 1).float() * 1.5
    dead = torch.full((400, 3), 0.1)
    expected = fid(x, y)
    assert fid(torch.cat([x, dead], 1), torch.cat([y, dead], 1)) == pytest.approx(expected, rel=1e-12)
    only = torch.cat([normal(400, 1, 5).float(), dead[:, :2]], 1)
    added = float(only[:, 0].double().var() + (only[:, 0].double().mean() - 0.1) ** 2)
    value = fid(torch.cat([x, dead], 1), torch.cat([y, only], 1))
    assert value == pytest.approx(expected + added, rel=1e-6)


def test_float32_products_are_good_enough() -> None:
    """Products in float32 of rows far from the origin change the distance by less than 1e-7, and only then."""
    x, y = (mixed(3000, 96, 0) + 5).float(), (mixed(3000, 96, 1) * 1.1 + 5).float()
    exact, fast = sides(FrechetDistance(float32_from=97), x, y), sides(FrechetDistance(float32_from=96), x, y)
    assert fast.value == pytest.approx(exact.value, rel=1e-7) and fast.value != exact.value
    assert exact.value == pytest.approx(fid(x.double(), y.double()), rel=1e-11)
    assert fast.error == pytest.approx(exact.error, rel=1e-4)


@pytest.mark.parametrize("float32_from", [1, 1024])
def test_moments_in_blocks(monkeypatch: pytest.MonkeyPatch, float32_from: int) -> None:
    """Blocks follow from the rows alone, however they come and wherever chunks end; rows may follow a result."""
    monkeypatch.setattr(moments, "PENDING", 35)
    monkeypatch.setattr(moments, "PIECE", 3)
    monkeypatch.setattr(moments, "TILE", 4)
    x = (mixed(203, 9, 0) + 3).float()
    weight = normal(9, 9, 1)
    weight = weight + weight.T
    block = (5 * StreamKeys(0, "moments").draw(x)).long()
    shuffle = torch.randperm(180, generator=torch.Generator().manual_seed(0))
    for batch, first in ((1, x[:180]), (13, x[:180]), (203, x[:180]), (17, x[shuffle])):
        made = Moments(1, 5, float32_from)
        for start in range(0, 180, batch):
            made.update(first[start : min(180, start + batch)])
        if batch == 13:
            made.gaussian()
        made.update(x[180:])
        fit = made.gaussian()
        assert torch.allclose(fit.mean, x.double().mean(0), rtol=1e-12)
        assert torch.allclose(fit.covariance, x.double().T.cov(), rtol=1e-5, atol=1e-6 if float32_from == 1 else 1e-13)
        assert fit.parts.sizes.tolist() == block.bincount().tolist()
        origin = torch.arange(9.0).double()
        own = [x[block == b] for b in range(5)]
        expected = [float(((rows - origin) @ weight * (rows - origin)).sum()) for rows in own]
        assert fit.parts.traces(weight, origin).tolist() == pytest.approx(expected, rel=1e-5)
        assert torch.allclose(fit.parts.totals()[3], own[3].double().sum(0), rtol=1e-12)


def test_jackknife_meets_the_distances_without_blocks() -> None:
    """To first order: errors agree with those of distances computed anew without each block, also for few rows."""
    real = mixed(2000, 16, 0)
    for n, tolerance in ((4000, 0.02), (200, 0.2), (20, 0.35)):
        y = mixed(n, 16, 1) * 1.2 + 0.1
        place = (10 * StreamKeys(0, "moments").draw(y)).long()
        without = [fid(real, y[place != block]) for block in range(10)]
        reading = sides(FrechetDistance(), real, y, 7)
        error, interval = jackknife(reading.value, without, place.bincount(minlength=10).tolist())
        assert reading.error == pytest.approx(error, rel=tolerance)
        assert reading.interval == pytest.approx(interval, rel=tolerance)
        steps = torch.tensor(without_blocks(reading.value, *fits(real, y), 1))
        assert float(torch.corrcoef(torch.stack([steps, torch.tensor(without)]))[0, 1]) > 0.85


def fits(real: Tensor, generated: Tensor) -> tuple[Tensor, Gaussian, Spectrum]:
    """What the linearised jackknife takes."""
    first, moments = fitted(real), Moments(1, 10)
    moments.update(generated)
    second = moments.gaussian()
    return first.mean, second, Spectrum.of(first.covariance, second.covariance, vectors=True)


def test_interval_covers_the_value_at_these_sample_counts() -> None:
    """Of 150 sets of generated normals, 95 % of intervals hold the mean distance from one set of reals."""
    real, metric = normal(1000, 6, 0), FrechetDistance()
    readings = []
    sides(metric, real, real)
    for seed in range(1, 151):
        metric.forget_generated()
        readings.append(sides(metric, real[:0], 1.2 * normal(400, 6, seed) + 0.2))
    values = [reading.value for reading in readings]
    covered = [r.interval is not None and r.interval[0] <= np.mean(values) <= r.interval[1] for r in readings]
    assert 0.9 <= np.mean(covered) <= 0.995
    assert np.mean([r.error for r in readings if r.error]) == pytest.approx(np.std(values), rel=0.15)


def test_interval_needs_samples() -> None:
    """Two a block; without, or with blocks=0, the value stands alone and says why."""
    x, y = mixed(100, 4, 0), mixed(19, 4, 1)
    assert sides(FrechetDistance(), x, y).interval is None
    assert "20 samples" in str(sides(FrechetDistance(), x, y).details["no_interval"])
    bare, whole = sides(FrechetDistance(blocks=0), x, x * 2), sides(FrechetDistance(), x, x * 2)
    assert bare.interval is None and bare.value == pytest.approx(whole.value, rel=1e-12)
    with pytest.raises(UserError, match="blocks=1"):
        FrechetDistance(blocks=1)


def test_reals_are_fitted_anew_when_they_change() -> None:
    """The kept fit of the reals is dropped with new reals, after a reset, and when sums are restored from elsewhere."""
    x, y, z = mixed(100, 4, 0), mixed(100, 4, 1) * 1.5, mixed(100, 4, 2) * 2
    metric = FrechetDistance()
    assert sides(metric, x, z).value == fid(x, z)
    assert sides(metric, y, z[:0]).value == pytest.approx(fid(torch.cat([x, y]), z), rel=1e-10)
    other = Moments(1)
    other.update(y)
    metric.real.restore(other.export(), empty=False)
    assert metric.compute()[0].value == pytest.approx(fid(y, z), rel=1e-10)
    assert len(other.export()["rows"]) == 0 and int(metric.real.count) == 100


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_agrees_with_pytorch_fid() -> None:
    """The statistics and the distance of pytorch-fid, also where products are in float32."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    x, y = mixed(800, 40, 0).float(), mixed(700, 40, 1).float() * 1.2
    parts = [part for rows in (x.double().numpy(), y.double().numpy()) for part in (rows.mean(0), np.cov(rows.T))]
    expected = float(calculate_frechet_distance(*parts))
    assert fid(x, y) == pytest.approx(expected, rel=1e-10)
    assert sides(FrechetDistance(float32_from=1), x, y).value == pytest.approx(expected, rel=1e-6)


class Flat(nn.Module):
    """Features for torchmetrics: the pixels."""

    num_features = 48

    def forward(self, images: Tensor) -> Tensor:
        """Pixels divided by 255."""
        return images.flatten(1).float() / 255


def pictures(n: int, seed: int, top: int) -> Tensor:
    """Random uint8 images (n, 3, 4, 4) below `top`."""
    return torch.randint(0, top, (n, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_torchmetrics() -> None:
    """The same images and features give the scores of torchmetrics."""
    real, generated = pictures(300, 0, 256), pictures(250, 1, 200)
    flat = Flat()
    other = FrechetInceptionDistance(feature=flat, normalize=False)
    other.update(real, real=True)
    other.update(generated, real=False)
    assert fid(flat(real), flat(generated)) == pytest.approx(float(other.compute()), rel=1e-4)

    kid = KernelInceptionDistance(feature=flat, subsets=1, subset_size=250)
    ours = KernelDistance(subsets=1, subset_size=250)
    for is_real, images in ((True, real[:250]), (False, generated)):
        kid.update(images, real=is_real)
        ours.update(Features(flat(images)), is_real)
    assert ours.compute()[0].value == pytest.approx(float(kid.compute()[0]), abs=1e-4, rel=1e-4)


def test_discrepancy_by_hand() -> None:
    """Two points a side, one dimension: every kernel value written out."""
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    # within: k(1,2) = 27 and k(0,3) = 1; across: k(1,0) = 1, k(1,3) = 64, k(2,0) = 1, k(2,3) = 343
    assert float(squared_discrepancy(x, y)) == pytest.approx(27 + 1 - 2 * (1 + 64 + 1 + 343) / 4, rel=1e-6)


def expected_kernel(a: Tensor, b: Tensor) -> float:
    """E (x.y/d + 1)^3 of independent x ~ N(a, I), y ~ N(b, I)."""
    d = len(a)
    c = 1 + float(a @ b) / d
    v = (d + float(a @ a) + float(b @ b)) / d**2
    return c**3 + 3 * c * v + 6 * (c - 1) / d**2


def test_kernel_distance_of_shifted_normals() -> None:
    """The mean over subsets meets the population value of two shifted normals."""
    d = 16
    a, b = torch.zeros(d), torch.full((d,), 0.6)
    expected = expected_kernel(a, a) + expected_kernel(b, b) - 2 * expected_kernel(a, b)
    metric = KernelDistance(subsets=40, subset_size=500)
    metric.update(Features(normal(8000, d, 0, torch.float32)), True)
    metric.update(Features(normal(8000, d, 1, torch.float32) + b), False)
    reading = metric.compute()[0]
    assert reading.value == pytest.approx(expected, rel=0.05)
    assert reading.error is not None and 0 < reading.error < expected


def test_kernel_error_comes_from_disjoint_blocks() -> None:
    """Its standard error is that of the mean of independent blocks, its interval Student's t; one block gives none."""
    x, y = normal(420, 4, 0), normal(350, 4, 1) + 0.5
    metric = KernelDistance(subsets=30, subset_size=100)
    metric.update(Features(x), True)
    metric.update(Features(y), False)
    reading = metric.compute()[0]
    blocks = metric.blocks(metric.real.compute(), metric.generated.compute())
    assert reading.details["blocks"] == len(blocks) == 3
    assert reading.error == pytest.approx(np.std(blocks, ddof=1) / math.sqrt(3), rel=1e-6)
    assert reading.interval is not None and reading.error is not None
    assert reading.interval[1] - reading.value == pytest.approx(4.3027 * reading.error, rel=1e-6)
    assert float(str(reading.details["subset_sd"])) > 0
    # Blocks have no sample in common: with every sample its own number, their sums make up different samples.
    numbers = torch.arange(400.0)[:, None].repeat(1, 2)
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "squared_discrepancy", lambda a, b: seen.extend([a[:, 0], b[:, 0]]) or torch.zeros(()))
        metric.blocks(numbers, numbers)
    assert len(torch.cat(seen[::2]).unique()) == len(torch.cat(seen[1::2]).unique()) == 400
    alone = KernelDistance(subsets=5, subset_size=200)
    alone.update(Features(x), True)
    alone.update(Features(y), False)
    assert alone.compute()[0].error is None and alone.compute()[0].interval is None


def test_kernel_distance_is_unbiased_and_keeps_negative_values() -> None:
    """Equal distributions give values around 0 on both sides of it."""
    values = torch.stack([squared_discrepancy(normal(50, 8, 2 * s), normal(60, 8, 2 * s + 1)) for s in range(400)])
    assert (values < 0).float().mean() > 0.3
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(400)


def test_kernel_distance_is_repeatable_and_leaves_the_global_generator() -> None:
    """Two computations draw the same subsets, from a generator of their own."""
    metric = KernelDistance(subsets=3, subset_size=20)
    metric.update(Features(normal(100, 4, 0)), True)
    metric.update(Features(normal(100, 4, 1)), False)
    state = torch.get_rng_state()
    assert metric.compute() == metric.compute()
    assert torch.equal(torch.get_rng_state(), state)


def test_float32_kernel_sums_are_accurate() -> None:
    """Products in float32 cost less than a hundredth of a typical floor."""
    x, y = mixed(1000, 64, 0) * 3, mixed(1000, 64, 1) * 3
    assert float(squared_discrepancy(x.float(), y.float())) == pytest.approx(float(squared_discrepancy(x, y)), abs=1e-5)


def test_kernel_distance_refuses_too_few_samples() -> None:
    """Fewer samples than a subset: said with both numbers."""
    metric = KernelDistance(subsets=2, subset_size=50)
    metric.update(Features(normal(60, 2, 0)), True)
    metric.update(Features(normal(40, 2, 1)), False)
    with pytest.raises(UserError, match="subsets of 50 samples, but the generated side has 40"):
        metric.compute()
    with pytest.raises(UserError, match="subset_size=1"):
        KernelDistance(subset_size=1)


def test_reset() -> None:
    """`forget_generated` keeps the reals, `reset` drops everything."""
    x, y, z = mixed(100, 4, 0), mixed(100, 4, 1), mixed(100, 4, 2) * 2
    metric = FrechetDistance()
    metric.update(Features(x), True)
    metric.update(Features(y), False)
    metric.forget_generated()
    metric.update(Features(z), False)
    assert metric.compute()[0].value == fid(x, z)
    metric.reset()
    metric.update(Features(y), True)
    metric.update(Features(z), False)
    assert metric.compute()[0].value == fid(y, z)
