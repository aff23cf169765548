"""Metrics that look at images: SWD, MS-SSIM, spectra, perceptual path length, and walks between latents."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vgg16

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Spec, Split, to_bytes
from gan_experiments.data.mnist import fashion10k
from gan_experiments.errors import UserError
from gan_experiments.game import Game
from gan_experiments.metrics import lpips, ms_ssim, perceptual_path_length, spectra, swd
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.chart import line_chart
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.ms_ssim import PairSimilarity
from gan_experiments.metrics.perceptual_path_length import PerceptualPathLength, trimmed_mean
from gan_experiments.metrics.spectra import Spectra, ring_frequencies, ring_power, rings
from gan_experiments.metrics.subset import RandomRows
from gan_experiments.metrics.swd import Patches, PyramidSlicedWasserstein, collapse, pyramid, sliced_distance
from gan_experiments.runtime import CPU, Runtime
from gan_experiments.sampling import slerp, walk

RUNTIME = Runtime(CPU, "bfloat16", False, 1, False, False)


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=random(seed))


def noise(n: int, channels: int, side: int, seed: int, deviation: float = 40) -> Tensor:
    """Grey images with Gaussian pixels."""
    return (128 + deviation * normal(n, channels, side, side, seed=seed)).clamp(0, 255).round().to(torch.uint8)


def smooth(n: int, side: int, seed: int, channels: int = 1) -> Tensor:
    """Images of blurred noise, with structure at all levels."""
    small = normal(n, channels, side // 4, side // 4, seed=seed)
    fine = normal(n, channels, side, side, seed=seed + 1000)
    images = F.interpolate(small, scale_factor=4, mode="bilinear") * 40 + 8 * fine + 128
    return images.clamp(0, 255).round().to(torch.uint8)


def dataset(images: Tensor, classes: tuple[str, ...] = ()) -> Dataset:
    labels = torch.arange(len(images)) % len(classes) if classes else None
    return Dataset("made", Spec(tuple(images.shape[1:]), classes), Split(images, labels), Split(images, labels))


def seen(images: Tensor, labels: Tensor | None = None, logits: Tensor | None = None) -> Features:
    return Features(images.flatten(1).float(), logits, images, labels)


def readings(metric: AnyMetric, real: Tensor, generated: Tensor, batch: int = 100) -> dict[str, Reading]:
    """What a metric reads off images shown in batches."""
    metric.bind(dataset(real), None)
    for images, is_real in ((real, True), (generated, False)):
        for some in torch.split(images, batch):
            metric.update(seen(some), is_real)
    return {reading.name: reading for reading in metric.compute()}


# Subsets of rows


def test_subset_depends_on_content_alone() -> None:
    """Shown by 7, at once or backwards: the same 20 rows in the same order, with their own tags."""
    rows = torch.arange(3000)
    found = []
    for batch, shown in ((7, rows), (3000, rows), (100, rows.flip(0))):
        subset = RandomRows(20, 1)
        for some in torch.split(shown, batch):
            subset.update(some, 2 * some[:, None])
        chosen, tags = subset.compute()
        assert torch.equal(tags[:, 0], 2 * chosen)
        found.append(chosen)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2]) and len(found[0].unique()) == 20


def test_equal_rows_are_chosen_one_by_one() -> None:
    """Ten pictures a hundred times each: every one is among the subset about as often as any other."""
    counts = torch.zeros(10)
    for seed in range(40):
        subset = RandomRows(100, seed)
        for some in torch.split(torch.arange(1000) // 100, 64):
            subset.update(some)
        own = subset.compute()[0].bincount(minlength=10)
        assert int(own.min()) >= 1 and int(own.max()) <= 25
        counts += own
    assert float((counts - 400).abs().max()) < 80


def test_subset_is_uniform() -> None:
    """Over seeds, first and last rows are chosen equally often; few rows are kept whole."""
    counts = torch.zeros(60)
    for seed in range(200):
        subset = RandomRows(15, seed)
        subset.update(torch.arange(25))
        subset.update(torch.arange(25, 60))
        counts[subset.compute()[0]] += 1
    assert float((counts - 50).square().mean()) == pytest.approx(200 * 0.25 * 0.75, rel=0.5)
    few = RandomRows(15, 0)
    few.update(torch.arange(9))
    assert sorted(few.compute()[0].tolist()) == list(range(9))


# Sliced Wasserstein distance


def flat(rows: Tensor) -> Patches:
    """Rows (n, d) as patches that are not normalised any further: already of mean 0 and deviation 1 in all channels."""
    return Patches(rows[:, None, None, :])


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40)])
def test_pyramid_adds_up_to_the_image(size: tuple[int, int]) -> None:
    """Collapsing all bands gives the images back, and the bands of a constant image are 0."""
    images = torch.rand(3, 2, *size, generator=random(0)) * 255
    bands = pyramid(images, 3)
    assert torch.allclose(collapse(bands), images, atol=1e-3)
    assert [tuple(band.shape[2:]) for band in bands] == [size, *swd_sizes(size, 2)]
    assert pyramid(torch.full((1, 1, *size), 100.0), 2)[0].abs().max() < 1e-3


def swd_sizes(size: tuple[int, int], halvings: int) -> list[tuple[int, int]]:
    sizes = [size]
    for _ in range(halvings):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes[1:]


def test_blur_is_scipys_mirrored_binomial() -> None:
    """The two one-dimensional passes are the 5x5 binomial filter with mirrored borders."""
    from scipy.ndimage import convolve

    line = np.array([1, 4, 6, 4, 1]) / 16
    image = torch.rand(1, 1, 18, 21, generator=random(1))
    expected = convolve(image[0, 0].double().numpy(), np.outer(line, line), mode="mirror")
    assert np.allclose(swd.blur(image)[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "expected"), [(12, [12]), (28, [28]), (31, [31, 16]), (32, [32, 16]), (64, [64, 32, 16])]
)
def test_levels_end_at_16_pixels(side: int, expected: list[int]) -> None:
    assert [size[0] for size in swd.level_sizes(side, side)] == expected


def test_sliced_distance_of_a_shift() -> None:
    """A shift by delta on every coordinate is at delta * sqrt(2/pi) * (1 - O(1/d)), of another scale at its share."""
    d, n, delta = 49, 4000, 0.5
    x = normal(n, d)
    # Sides keep their own numbers: means and deviations are set so that normalisation leaves them.
    one, other = flat(x), flat(x)
    other.values = other.values + delta
    unit = F.normalize(normal(2000, d, seed=2), dim=1)
    scale = float(x.std(correction=0))
    expected = delta / scale * float(unit.sum(1).abs().mean())
    assert sliced_distance(one, other, unit) == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(delta * math.sqrt(2 / math.pi), rel=0.04)


def test_sliced_distance_pairs_in_order() -> None:
    """Along an axis, W1 of two small sets written out; some images alone count when told so."""
    x, y = torch.tensor([[-3.0], [1.0], [2.0]]), torch.tensor([[4.0], [-5.0], [1.0]])
    unit = torch.ones(1, 1)
    a, b = ((side - side.mean()) / side.std(correction=0) for side in (x, y))
    expected = float((a.sort(0).values - b.sort(0).values).abs().mean())
    assert sliced_distance(flat(x), flat(y), unit) == pytest.approx(expected, rel=1e-5)
    kept = torch.tensor([True, False, True])
    assert sliced_distance(flat(x), flat(y), unit, kept) == pytest.approx(
        sliced_distance(flat(x[kept]), flat(y[kept]), unit), abs=1e-6
    )


def test_patches_normalise_each_channel_on_its_own() -> None:
    """Brightness and contrast of a channel cancel; a channel without variation is 0, not NaN."""
    values = normal(50, 8, 2, 49) * torch.tensor([3.0, 20.0])[:, None] + torch.tensor([500.0, -7.0])[:, None]
    unit = F.normalize(normal(5, 98, seed=3), dim=1)
    exact = values.double()
    exact = (exact - exact.mean((0, 1, 3), keepdim=True)) / exact.std((0, 1, 3), correction=0, keepdim=True)
    assert torch.allclose(Patches(values).project(unit).double(), unit.double() @ exact.view(400, 98).T, atol=1e-4)
    values[:, :, 0] = 77.7
    exact[:, :, 0] = 0
    assert torch.allclose(Patches(values).project(unit).double(), unit.double() @ exact.view(400, 98).T, atol=1e-4)


def test_cut_takes_the_patches_at_their_places() -> None:
    images = torch.arange(2 * 3 * 10 * 12).view(2, 3, 10, 12).float()
    tops, lefts = torch.tensor([[0, 3], [2, 1]]), torch.tensor([[5, 0], [4, 2]])
    found = swd.cut(images, tops, lefts)
    for n in range(2):
        for p in range(2):
            top, left = int(tops[n, p]), int(lefts[n, p])
            assert torch.equal(found[n, p], images[n, :, top : top + 7, left : left + 7].flatten(1))


def small_swd() -> PyramidSlicedWasserstein:
    return PyramidSlicedWasserstein(images=150, patches=24, repeats=2, directions=32)


def test_swd_is_zero_for_the_same_set_and_blind_to_brightness() -> None:
    images = smooth(120, 32, 0)
    found = readings(small_swd(), images, images)
    assert list(found) == ["", "swd_32", "swd_16"]
    assert all(reading.value == 0 for reading in found.values())
    assert found[""].details["levels"] == "32x32, 16x16"
    dimmed = readings(small_swd(), images, images // 2)[""].value
    assert dimmed < 0.5 * readings(small_swd(), images, noise(120, 1, 32, 0))[""].value


def test_swd_grows_with_noise_and_blur_at_the_level_they_touch() -> None:
    """The mean is that of the levels; more noise and more blur are farther; noise shows most at the finest level."""
    real, other = smooth(150, 32, 0), smooth(150, 32, 1).float()
    floor = readings(small_swd(), real, to_byte(other))
    noisy = [readings(small_swd(), real, to_byte(other + s * normal(150, 1, 32, 32, seed=9))) for s in (10, 30)]
    blurred = readings(small_swd(), real, to_byte(swd.blur(swd.blur(other))))
    assert floor[""].value < noisy[0][""].value < noisy[1][""].value
    assert blurred["swd_32"].value > 3 * floor["swd_32"].value
    assert noisy[1]["swd_32"].value > 2 * floor["swd_32"].value
    assert noisy[1]["swd_32"].value > noisy[1]["swd_16"].value
    for found in (floor, blurred):
        assert found[""].value == pytest.approx((found["swd_32"].value + found["swd_16"].value) / 2, rel=1e-9)
        low, high = found[""].interval or (0, 0)
        assert low < found[""].value < high


def to_byte(images: Tensor) -> Tensor:
    return images.clamp(0, 255).round().to(torch.uint8)


def test_swd_does_not_depend_on_batches_and_survives_collapse() -> None:
    real, generated = smooth(60, 32, 0, 3), smooth(70, 32, 5, 3)
    values = [readings(small_swd(), real, generated, batch)[""].value for batch in (1, 64, 100)]
    assert values[0] == values[1] == values[2]
    constant = readings(small_swd(), real, torch.full((50, 3, 32, 32), 9, dtype=torch.uint8))[""]
    assert math.isfinite(constant.value) and constant.value > 5 * values[0]


def test_swd_refuses() -> None:
    with pytest.raises(UserError, match="metric swd: directions=0"):
        PyramidSlicedWasserstein(directions=0)
    with pytest.raises(UserError, match="7x7 patches, but images of made have 5 pixels"):
        small_swd().bind(dataset(noise(2, 1, 5, 0)), None)
    points = Split(torch.zeros(3, 2))
    with pytest.raises(UserError, match="looks at images"):
        small_swd().bind(Dataset("points", Spec((2,)), points, points), None)


# MS-SSIM


def test_similarity_of_equal_images_is_1_and_of_noise_0() -> None:
    images = fashion10k().train.raw(0, 40)
    assert torch.allclose(ms_ssim.similarity(images, images), torch.ones(40, dtype=torch.float64), atol=1e-4)
    assert ms_ssim.similarity(noise(40, 3, 64, 0), noise(40, 3, 64, 1)).mean() < 0.15
    # Equal up to brightness: structure is all there, and luminance counts at the coarsest scale only.
    brighter = (images // 2 + 60).to(torch.uint8)
    assert 0.3 < float(ms_ssim.similarity(images // 2, brighter).mean()) < 0.99


@pytest.mark.parametrize(("side", "count"), [(11, 1), (28, 2), (32, 2), (44, 3), (87, 3), (88, 4), (175, 4), (176, 5)])
def test_scales_of_small_images(side: int, count: int) -> None:
    """As many scales as the window fits into, weights adding up to 1 in their old proportions."""
    weights = ms_ssim.scales(side)
    assert len(weights) == count and math.fsum(weights) == pytest.approx(1)
    assert [w / weights[0] for w in weights] == pytest.approx([w / 0.0448 for w in ms_ssim.WEIGHTS[:count]])


def test_pairs_are_disjoint_and_of_one_class() -> None:
    """No image twice, classes equal, each class as often as another; fewer where images end."""
    classes = torch.arange(90) % 3
    classes[::9] = 0
    pairs = ms_ssim.disjoint_pairs(classes, 12, 0)
    assert len(pairs) == 12 and len(pairs.unique()) == 24
    assert torch.equal(classes[pairs[:, 0]], classes[pairs[:, 1]])
    assert torch.bincount(classes[pairs[:, 0]]).tolist() == [4, 4, 4]
    assert len(ms_ssim.disjoint_pairs(classes, 999, 0)) == sum(c // 2 for c in torch.bincount(classes).tolist())
    assert not torch.equal(pairs, ms_ssim.disjoint_pairs(classes, 12, 1))


def two_kinds(n: int) -> tuple[Tensor, Tensor]:
    """Two very different pictures with a little noise each, and their kinds."""
    kinds = torch.arange(n) % 2
    patterns = smooth(2, 32, 4).float() * 1.0
    return to_byte(patterns[kinds] + 3 * normal(n, 1, 32, 32, seed=8)), kinds


def diversity(metric: PairSimilarity, labels: bool, logits: bool) -> Reading:
    """The reading of two kinds of pictures, classes asked for and predicted as told."""
    images, kinds = two_kinds(80)
    metric.bind(dataset(images, ("a", "b")), None)
    scores = F.one_hot(kinds).float() if logits else None
    metric.update(seen(images, kinds, scores), True)
    metric.update(seen(images, kinds if labels else None, scores), False)
    return metric.compute()[0]


def test_within_classes_pictures_are_more_alike() -> None:
    """Classes asked for, else predicted ones, else any pairs; the details say which."""
    within = [diversity(PairSimilarity(30), *how) for how in ((True, False), (False, True), (True, True))]
    across = [diversity(PairSimilarity(30), False, False), diversity(PairSimilarity(30, per_class=False), True, True)]
    assert [r.details["pairs_of"] for r in within] == ["one class", "one predicted class", "one class"]
    assert [r.details["pairs_of"] for r in across] == ["any two", "any two"]
    assert all(r.value > 0.9 for r in within) and all(r.value < 0.75 for r in across)
    for reading in (*within, *across):
        assert reading.real == pytest.approx(reading.value, abs=1e-3 if reading in within else 0.2)
        assert reading.details["scales"] == 2
        assert reading.interval is not None and reading.interval[0] <= reading.value <= reading.interval[1]


def test_collapse_is_far_above_real_images() -> None:
    """One picture a thousand times is at 1, beside what the training images are at; batches don't matter."""
    data = fashion10k()
    reals, one = data.train.raw(0, 300), data.train.raw(3, 4)
    found = [readings(PairSimilarity(50), reals, one.expand(120, -1, -1, -1), batch)[""] for batch in (7, 300)]
    assert found[0] == found[1] and found[0].real is not None
    assert found[0].value == pytest.approx(1, abs=1e-4) and found[0].real < 0.5


def test_ms_ssim_refuses() -> None:
    with pytest.raises(UserError, match="per_class=true.*needs classes"):
        PairSimilarity(per_class=True).bind(dataset(noise(2, 1, 32, 0)), None)
    with pytest.raises(UserError, match="neither given nor predicted"):
        diversity(PairSimilarity(10, per_class=True), False, False)
    with pytest.raises(UserError, match="1 generated images make 0 pairs"):
        readings(PairSimilarity(5), noise(8, 1, 32, 0), noise(1, 1, 32, 0))
    with pytest.raises(UserError, match="pairs=1"):
        PairSimilarity(1)
    with pytest.raises(UserError, match="at least 4 pixels a side, but those of made have 3"):
        PairSimilarity().bind(dataset(noise(2, 1, 3, 0)), None)


# Spectra


@pytest.mark.parametrize("size", [(16, 16), (15, 24)])
def test_ring_power_keeps_parsevals_sum(size: tuple[int, int]) -> None:
    """Rings times their sizes are the mean over channels of the sum of squares; the first ring is the mean alone."""
    images = torch.randint(0, 256, (5, 3, *size), generator=random(0), dtype=torch.uint8)
    power, sizes = ring_power(images), rings(*size).flatten().bincount()
    assert sizes[0] == 1 and int(sizes.sum()) == size[0] * size[1] and int(sizes.min()) > 0
    values = images.double()
    assert torch.allclose((power * sizes).sum(1), values.square().sum((2, 3)).mean(1))
    assert torch.allclose(power[:, 0], (values.mean((2, 3)).square() * size[0] * size[1]).mean(1))


def test_white_noise_is_flat() -> None:
    """Every ring but the mean is at the variance of a pixel."""
    power = ring_power(noise(400, 1, 16, 0, 20)).mean(0)[1:]
    assert torch.allclose(power, torch.full_like(power, 400 + 1 / 12), rtol=0.08)


@pytest.mark.parametrize(("cycles_x", "cycles_y"), [(3, 0), (0, 7), (3, 4), (8, 8)])
def test_a_wave_is_on_its_ring(cycles_x: int, cycles_y: int) -> None:
    """All power of a wave is where its frequency is."""
    steps = torch.arange(16) / 16
    wave = 50 * torch.cos(2 * math.pi * (cycles_x * steps[None, :] + cycles_y * steps[:, None]))
    power = ring_power(wave[None, None])[0]
    length = math.hypot(cycles_x, cycles_y)
    assert int(power.argmax()) == round(length) and power.sort().values[-2] < 1e-6
    assert float(ring_frequencies(16, 16)[round(length)]) == pytest.approx(length / 16, abs=1 / 16)


def spectral(real: Tensor, generated: Tensor, batch: int = 100) -> dict[str, Reading]:
    return readings(Spectra(), real, generated, batch)


def test_distance_of_a_known_factor() -> None:
    """Doubling noise is four times the power: log10(4) at every frequency, but for rounding's share."""
    real = noise(300, 1, 16, 0, 10)
    found = spectral(real, to_byte((real.float() - 128) * 2 + 128))
    for name in ("spectrum_distance", "spectrum_high_distance"):
        assert found[name].value == pytest.approx(math.log10(4), abs=2e-3)
    details = found["spectrum_distance"].details
    first, second = (torch.tensor(details[f"power_{side}"]) for side in ("real", "generated"))
    expected = ((first + 1 / 12).log10() - (second + 1 / 12).log10())[1:].abs().mean()
    assert found["spectrum_distance"].value == pytest.approx(expected.item(), abs=1e-6)


def test_only_high_frequencies_count_as_high() -> None:
    """A change of slow waves leaves the high distance alone."""
    real = noise(200, 1, 32, 0, 10).float()
    slow = F.interpolate(normal(200, 1, 4, 4, seed=3), scale_factor=8, mode="bicubic") * 20
    slow = slow - swd.blur(slow) + slow
    found = spectral(to_byte(real), to_byte(real + slow))
    assert found["spectrum_distance"].value > 5 * found["spectrum_high_distance"].value


def test_upsampling_is_detected_and_real_images_are_not() -> None:
    """Checkerboard patterns give generated images away; two halves of real ones are told apart by chance only."""
    images = fashion10k().train.raw(0, 1200)
    thin = F.avg_pool2d(images[600:].float(), 2)
    zeros = F.conv_transpose2d(thin, torch.tensor([[[[1.0, 0.9], [0.9, 0.8]]]]), stride=2)
    caught = spectral(images[:600], to_byte(zeros))["spectrum_detector"]
    assert caught.value > 0.97 and caught.interval is not None and caught.interval[0] > 0.95
    null = spectral(images[:600], images[600:])["spectrum_detector"]
    reach = 1.96 * 0.5 / math.sqrt(600)
    assert null.details["test_images"] == 600
    assert (null.details["null_low"], null.details["null_high"]) == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-4)
    assert abs(null.value - 0.5) < 2 * reach


def test_spectra_do_not_depend_on_batches() -> None:
    real, generated = noise(50, 3, 16, 0), smooth(41, 16, 1, 3)
    assert spectral(real, generated, 7) == spectral(real, generated, 50)


def test_picture_shows_both_curves() -> None:
    """A picture with both colours, after computing only."""
    metric = Spectra()
    assert metric.pictures() == {}
    readings(metric, noise(20, 1, 16, 0), smooth(20, 16, 0))
    picture = metric.pictures()["spectra"]
    assert picture.dtype == torch.uint8 and picture.shape == (3, 400, 640)
    for colour in ((60, 60, 60), (200, 30, 30)):
        assert int((picture == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0).sum()) > 100


def test_chart_rises_to_the_right() -> None:
    """A rising line runs from the lower left to the upper right."""
    picture = line_chart("title", "x", [0, 1], {"rise": [1.0, 1000.0]})
    inside = (picture[:, 60:330, 70:450] == torch.tensor([60, 60, 60])[:, None, None]).all(0).nonzero().double()
    rows, columns = inside.T
    assert float(torch.corrcoef(torch.stack([rows, columns]))[0, 1]) < -0.99


# Perceptual path length


class Squares(lpips.PairDistance):
    """The squared Euclidean distance."""

    name, sha256 = "squares", "none"

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first.double() - second.double()).square().flatten(1).sum(1)


class Linear(Game):
    """A generator that multiplies latents by a matrix; only what a walk needs."""

    def __init__(self, matrix: Tensor) -> None:
        nn.Module.__init__(self)
        self.register_buffer("matrix", matrix)
        self.noisy = 0.0

    sides: dict[str, tuple[nn.Module, ...]] = {}  # type: ignore[assignment]
    deal = probe = None  # type: ignore[assignment]

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.matrix.shape[1], generator=generator)

    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        flat = latents @ self.matrix.T + self.noisy * torch.randn(len(latents), len(self.matrix))
        return flat.view(-1, 1, 16, 16)


def linear(dimensions: int = 64) -> Linear:
    """Orthonormal columns: distances of images are those of latents."""
    return Linear(torch.linalg.qr(normal(256, dimensions)).Q)


def path_length(game: Game, change: Callable[[Tensor], Tensor] = lambda x: x, **settings: object) -> Reading:
    """The reading with squared distances, pairs shown in batches of 100."""
    metric = PerceptualPathLength(pairs=600, **settings)  # type: ignore[arg-type]
    metric.measure_with(Squares())
    metric.bind(dataset(noise(2, 1, 16, 0)), None)
    metric.update(seen(noise(2, 1, 16, 0)), False)  # plays no part
    for k in range(6):
        first, second = walk(game, 100, seeding.generator(0, "walk", k), RUNTIME, metric.epsilon, metric.end)
        metric.update_pair(change(first), change(second))
    return metric.compute()[0]


@pytest.mark.parametrize(("sampling", "epsilon"), [("full", 1e-2), ("end", 1e-2), ("full", 1e-3)])
def test_linear_generator_has_its_closed_form(sampling: str, epsilon: float) -> None:
    """With G(z) = Qz and squared distance, length/epsilon^2 is |slerp(t + e) - slerp(t)|^2/e^2 ~ (w r)^2 + r'^2."""
    reading = path_length(linear(), sampling=sampling, epsilon=epsilon)
    expected = []
    for k in range(6):
        generator = seeding.generator(0, "walk", k)
        a, b = torch.randn(100, 64, generator=generator).double(), torch.randn(100, 64, generator=generator).double()
        t = torch.zeros(100) if sampling == "end" else torch.rand(100, generator=generator)
        middle = t.double() + epsilon / 2
        w = F.cosine_similarity(a, b).acos()
        radius, slope = torch.lerp(a.norm(dim=1), b.norm(dim=1), middle), b.norm(dim=1) - a.norm(dim=1)
        expected.append((w * radius).square() + slope.square())
    assert reading.value == pytest.approx(trimmed_mean(torch.cat(expected)), rel=2e-3)
    assert reading.value == pytest.approx(64 * (math.pi / 2) ** 2, rel=0.05)
    assert reading.interval is not None and reading.interval[0] < reading.value < reading.interval[1]
    assert reading.real is None and reading.details["distance"] == "squares"


def test_rounding_to_bytes_would_be_noticed() -> None:
    """Byte images multiply the length; images in bytes or half precision are refused."""
    game = linear()
    game.matrix /= 4
    exact = path_length(game)
    rounded = path_length(game, lambda x: to_bytes(x).float() / 127.5 - 1)
    assert rounded.value > 3 * exact.value
    for change in (to_bytes, lambda x: x.bfloat16()):
        with pytest.raises(UserError, match="expected float32"):
            path_length(game, change)


def test_layers_noise_is_the_same_on_both_sides() -> None:
    """A generator that adds noise of its own has the length of the one that doesn't, up to float32."""
    game = linear()
    exact = path_length(game, epsilon=1e-2).value
    game.noisy = 1.0
    assert path_length(game, epsilon=1e-2).value == pytest.approx(exact, rel=1e-2)
    first, _ = walk(game, 3, random(0), RUNTIME, 0.1, True)
    again, _ = walk(game, 3, random(0), RUNTIME, 0.1, True)
    other, _ = walk(game, 3, random(1), RUNTIME, 0.1, True)
    assert torch.equal(first, again) and not torch.equal(first, other) and first.dtype == torch.float32


@pytest.mark.parametrize("n", [100, 101, 137, 500, 1000])
def test_trimming_is_numpys(n: int) -> None:
    """Lower for the 1st, higher for the 99th percentile: never more than a hundredth goes on either side."""
    lengths = torch.rand(n, generator=random(n), dtype=torch.float64) ** 4
    low = np.percentile(lengths.numpy(), 1, method="lower")
    high = np.percentile(lengths.numpy(), 99, method="higher")
    kept = lengths[(lengths >= low) & (lengths <= high)]
    assert trimmed_mean(lengths) == pytest.approx(float(kept.mean()), rel=1e-12)
    assert trimmed_mean(torch.arange(1, 102).double()) == 51  # 2 to 100 of 1 to 101 remain
    outlier = torch.cat([torch.ones(200), torch.tensor([1e9])]).double()
    assert trimmed_mean(outlier) == 1


def test_path_length_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sampling=middle"):
        PerceptualPathLength(sampling="middle")
    with pytest.raises(UserError, match="no distance yet"):
        PerceptualPathLength().update_pair(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16))
    with pytest.raises(UserError, match="at least 16 pixels"):
        PerceptualPathLength().bind(dataset(noise(2, 1, 8, 0)), None)
    data = dataset(noise(2, 1, 16, 0))
    with pytest.raises(UserError, match="missing.pth can't be read"):
        PerceptualPathLength(weights=str(tmp_path / "missing.pth")).bind(data, None)
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other", "text"):
        with pytest.raises(UserError, match=f"{name}.pth doesn't hold the state dict of torchvision's vgg16"):
            PerceptualPathLength(weights=str(tmp_path / f"{name}.pth")).bind(data, None)

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(UserError, match=r"download failed \(no route\).*set metric.perceptual_path_length.weights"):
        PerceptualPathLength().bind(data, None)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file as torchvision's, with random convolutions and without the large classifier."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16(weights=None).features.state_dict().items()}
    state = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        fan = math.prod(shape[1:]) or 1
        state[f"features.{name}"] = normal(*shape, seed=seed) * (math.sqrt(2 / fan) if len(shape) == 4 else 0.05)
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(state, path)
    return path


def test_lpips_is_that_of_torchmetrics(backbone: Path) -> None:
    """With the same backbone, LPIPS equals torchmetrics'; the global random state stays; grey images are repeated."""
    from torchmetrics.functional.image import lpips as reference

    before = torch.get_rng_state()
    ours = lpips.load_lpips(str(backbone))
    assert torch.equal(before, torch.get_rng_state())
    assert ours.sha256 == hashlib.sha256(backbone.read_bytes()).hexdigest()
    assert not any(p.requires_grad for p in ours.parameters()) and not ours.train().training

    theirs = reference._LPIPS.__new__(reference._LPIPS)
    nn.Module.__init__(theirs)
    theirs.L, theirs.spatial, theirs.resize = 5, False, None
    theirs.scaling_layer = reference.ScalingLayer()
    theirs.net = Slices(ours.features)
    theirs.lins = nn.ModuleList(reference.NetLinLayer(len(w), use_dropout=True) for w in ours.weights)
    file = Path(reference.__file__).parent / "lpips_models" / "vgg.pth"
    linear = torch.load(file, map_location="cpu", weights_only=True)
    for level, layer in enumerate(theirs.lins):
        layer.load_state_dict({"model.1.weight": linear[f"lin{level}.model.1.weight"]})
    theirs.eval()
    x, y = (torch.rand(2, 3, 40, 33, generator=random(seed)) * 2 - 1 for seed in (0, 1))
    with torch.no_grad():
        assert torch.allclose(ours(x, y).float(), theirs(x, y).flatten(), rtol=1e-4)
        assert torch.allclose(
            ours(x[:, :1], y[:, :1]), ours(x[:, :1].expand(2, 3, 40, 33), y[:, :1].expand(2, 3, 40, 33))
        )
        assert ours(x, x).tolist() == [0, 0] and ours(x, y).shape == (2,)


class Slices(nn.Module):
    """The activations that torchmetrics' LPIPS asks a network for."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in lpips.LAYERS:
                found.append(x.clone())
        return found


def test_large_images_are_averaged_down() -> None:
    images = torch.rand(1, 3, 512, 600, generator=random(0))
    assert (
        torch.allclose(lpips.shrink(images), F.avg_pool2d(images, 2)) and lpips.shrink(images[..., :500, :]) is not None
    )
    assert lpips.shrink(images[..., :511, :]).shape == (1, 3, 511, 600)


def test_path_length_with_lpips(backbone: Path) -> None:
    """End to end: a distance from a file, its SHA-256 in the details, chunks that don't change the value."""
    metric = PerceptualPathLength(pairs=100, epsilon=0.1, weights=str(backbone))
    metric.bind(dataset(noise(2, 1, 16, 0)), None)
    metric.update(seen(noise(2, 1, 16, 0)), False)  # plays no part
    game = linear()
    first, second = walk(game, 100, random(0), RUNTIME, 0.1, False)
    for a, b in zip(torch.split(first, 37), torch.split(second, 37), strict=True):
        metric.update_pair(a, b)
    reading = metric.compute()[0]
    assert reading.details["distance_sha256"] == hashlib.sha256(backbone.read_bytes()).hexdigest()
    assert metric.distance is not None
    whole = metric.distance(first, second) / 0.1**2
    assert reading.value == pytest.approx(trimmed_mean(whole), rel=1e-4)
    assert perceptual_path_length.FEWEST == 100
    metric.forget_generated()
    metric.update_pair(first[:9], second[:9])
    with pytest.raises(UserError, match="9 pairs; expected at least 100"):
        metric.compute()


# Spherical interpolation


def test_slerp_in_the_plane() -> None:
    """Along a quarter circle by thirds: the angle turns evenly; lengths change evenly."""
    a, b = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0, 3.0]]).double()
    third = slerp(a, b, torch.tensor([1 / 3]))[0]
    length = 1 + 2 / 3
    assert third.tolist() == pytest.approx([length * math.cos(math.pi / 6), length * math.sin(math.pi / 6)], rel=1e-6)


def test_slerp_keeps_ends_and_length() -> None:
    """t = 0 and 1 give the ends, lengths in between are theirs, dtype and shape stay, order may be turned round."""
    a, b = F.normalize(normal(5, 8), dim=1) * 3, F.normalize(normal(5, 8, seed=1), dim=1) * 3
    t = torch.rand(5, generator=random(0), dtype=torch.float64)
    assert torch.allclose(slerp(a, b, torch.zeros(5)), a) and torch.allclose(slerp(a, b, torch.ones(5)), b)
    middle = slerp(a, b, t)
    assert torch.allclose(middle.norm(dim=1), torch.full((5,), 3.0)) and middle.dtype == torch.float32
    assert torch.allclose(middle, slerp(b, a, 1 - t), atol=1e-6)
    cosine = F.cosine_similarity(a.double(), b.double())
    assert torch.allclose(F.cosine_similarity(a.double(), slerp(a.double(), b.double(), t)), (t * cosine.acos()).cos())
    assert slerp(a.view(5, 2, 4), b.view(5, 2, 4), t).shape == (5, 2, 4)


def test_slerp_is_safe_where_there_is_no_arc() -> None:
    """Equal, nearly equal, parallel, opposite and zero rows: straight lines, no NaN."""
    a = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]).double()
    b = torch.tensor([[1.0, 2.0], [1.0, 2.0 + 1e-12], [3.0, 6.0], [-1.0, -2.0], [2.0, 4.0]]).double()
    t = torch.full((5,), 0.25)
    assert torch.allclose(slerp(a, b, t), torch.lerp(a, b, 0.25), atol=1e-9)
    near = a[:1] + torch.tensor([[-2e-6, 1e-6]])
    assert torch.allclose(slerp(a[:1], near, t[:1]), torch.lerp(a[:1], near, 0.25), atol=1e-11)


def test_compiled_names() -> None:
    """Readings' names, which must be unique over all metrics."""
    names = {reading for reading in spectral(noise(8, 1, 16, 0), noise(8, 1, 16, 1))}
    assert names == {"spectrum_distance", "spectrum_high_distance", "spectrum_detector"}
    assert spectra.HIGH == 0.25
