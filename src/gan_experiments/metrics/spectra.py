"""Power spectra of real and generated images, averaged over directions (Durall et al. 2020, section 3)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.logging.score_counts import HIGHER
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, Rows, known, require_images
from gan_experiments.metrics.chart import line_chart
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import NORMAL, jackknife, of_share
from gan_experiments.metrics.needs import require_package

ROUNDING = 1 / 12
"""Power that rounding to bytes adds to every frequency: it keeps logarithms finite where images have none."""

BLOCKS = 20
"""Blocks of images that the jackknife leaves out in turn."""

BATCH = 32
"""Images transformed at once."""

HIGH = 0.25
"""Cycles a pixel from which on frequencies count as high: half of the highest along an axis."""


@final
class Spectra(QualityMetric[Rows]):
    """How real and generated images differ in power at each spatial frequency, whatever its direction.

    `spectrum_distance`: mean absolute difference of log10 mean power over rings of frequencies, without the mean
    brightness; 0 or more, lower is better, 1 is a factor of 10 everywhere. `spectrum_high_distance`: the same for
    frequencies from 1/4 cycle a pixel on, where upsampling leaves its traces. `spectrum_detector`: held-out accuracy of
    a logistic regression that tells real from generated images by their spectra; 1/2 when it can't. Phases, and so all
    that makes shapes, are invisible.
    """

    reads_features = False
    fewer_samples: ClassVar[Mapping[str, str]] = {"spectrum_distance": HIGHER, "spectrum_high_distance": HIGHER}

    def __init__(self, seed: int = 0) -> None:
        """A comparison whose detector splits the images by that seed."""
        super().__init__(Rows(), Rows())
        self.seed = seed
        self.curves: dict[str, list[float]] = {}
        self.frequencies: list[float] = []

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError unless there are images of at least 4x4 pixels, and scikit-learn."""
        require_images("spectra", dataset)
        require_package("metric spectra", "sklearn", "scikit-learn", "evaluation")
        if min(dataset.spec.shape[1:]) < 4:
            raise UserError(f"metric spectra: images of {dataset.name} have no rings of frequencies; leave it out")

    def update(self, features: Features, real: bool) -> None:
        """Take the spectra of images (n, c, h, w)."""
        images = known(features.samples, "spectra", "images")
        self.frequencies = ring_frequencies(*images.shape[2:]).tolist()
        (self.real if real else self.generated).update(ring_power(images).float())

    @torch.no_grad()
    def compute(self) -> list[Reading]:
        """Two distances and the detector's accuracy; UserError with fewer than 4 images a side."""
        real, generated = self.real.compute(), self.generated.compute()
        if min(len(real), len(generated)) < 4:
            raise UserError(
                f"metric spectra: {len(real)} real and {len(generated)} generated images; expected at least 4"
            )
        means = [side.mean(0, dtype=torch.float64).tolist() for side in (real, generated)]
        self.curves = dict(zip(("real", "generated"), means, strict=True))
        details: dict[str, Detail] = {
            "frequencies": self.frequencies,
            "power_real": means[0],
            "power_generated": means[1],
            "units": "cycles a pixel; power of values 0 to 255, mean over channels and a ring",
            "log": "log10(mean power + 1/12)",
        }
        high = [place for place, frequency in enumerate(self.frequencies) if frequency >= HIGH]
        return [
            self.distance("spectrum_distance", real[:, 1:], generated[:, 1:], details),
            self.distance("spectrum_high_distance", real[:, high], generated[:, high], {"from_cycles_a_pixel": HIGH}),
            self.detector(real, generated),
        ]

    def distance(self, name: str, real: Tensor, generated: Tensor, details: dict[str, Detail]) -> Reading:
        """Mean absolute difference of log10 mean power of rings (n, k), with a jackknife over blocks of images."""
        value = log_distance(real, generated)
        blocks = min(BLOCKS, len(real), len(generated))
        places = [torch.arange(len(side), device=side.device) % blocks for side in (real, generated)]
        without = [log_distance(real[places[0] != b], generated[places[1] != b]) for b in range(blocks)]
        error, interval = jackknife(value, without)
        source = f"jackknife over {blocks} blocks of images"
        return Reading(name, value, details, error, source, interval=interval, interval_from=source)

    def detector(self, real: Tensor, generated: Tensor) -> Reading:
        """Accuracy on the half that it wasn't trained on, with equally many images of both sides in each half."""
        count = min(len(real), len(generated)) // 2 * 2
        generator = seeding.generator(self.seed, "spectra")
        sides = [
            (side[torch.randperm(len(side), generator=generator)[:count].to(side.device)].double() + ROUNDING).log10()
            for side in (real, generated)
        ]
        train, test = (torch.cat([side[half::2] for side in sides]).cpu() for half in (0, 1))
        kinds = torch.arange(2).repeat_interleave(count // 2)
        hits = round(classify(train, kinds, test).eq(kinds).sum().item())
        reach = NORMAL * math.sqrt(1 / (4 * count))
        details: dict[str, Detail] = {
            "classifier": "logistic regression, L2 with C=1, of standardised log10(power + 1/12)",
            "train_images": count,
            "test_images": count,
            "if_equal": 0.5,
            "null_low": 0.5 - reach,
            "null_high": 0.5 + reach,
            "seed": self.seed,
        }
        share = hits / count
        error = math.sqrt(share * (1 - share) / count)
        return Reading(
            "spectrum_detector", share, details, error, "binomial, over test images",
            interval=of_share(hits, count), interval_from="Wilson score, over test images",
        )  # fmt: skip

    def pictures(self) -> dict[str, Tensor]:
        """Both mean spectra, power over frequency."""
        if not self.curves:
            return {}
        lines = {side: [power + ROUNDING for power in mean[1:]] for side, mean in self.curves.items()}
        title = "mean power (of values 0 to 255, log scale)"
        return {"spectra": line_chart(title, "frequency in cycles a pixel", self.frequencies[1:], lines)}


def rings(height: int, width: int) -> Tensor:
    """The ring (h, w) of each of the frequencies of torch.fft.fft2: its length in cycles a pixel times the shorter
    side, rounded; 0 is the mean brightness alone, the corners are included."""
    f_y, f_x = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    radius = (f_y[:, None].square() + f_x.square()).sqrt()
    ring: Tensor = (radius * min(height, width)).round().long()
    # Where sides differ, the lowest frequencies along the longer one would round to 0.
    ring[radius > 0] = ring[radius > 0].clamp(min=1)
    return ring


def ring_frequencies(height: int, width: int) -> Tensor:
    """The mean length (k,) of the frequencies of each ring that has any, in cycles a pixel, float64."""
    f_y, f_x = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    radius = (f_y[:, None].square() + f_x.square()).sqrt().flatten()
    ring = rings(height, width).flatten()
    return torch.bincount(ring, radius) / torch.bincount(ring)


def ring_power(images: Tensor) -> Tensor:
    """Mean power (n, k) of images (n, c, h, w) on each ring of frequencies, float64 (Durall et al. 2020, eq. 3-4).

    |F|^2/(h*w) of the discrete Fourier transform, averaged over channels and the ring: rings times their sizes add up
    to the mean over channels of the sum of squares, and white noise of variance v is at v.
    """
    height, width = images.shape[2:]
    ring = rings(height, width).flatten().to(images.device)
    sizes = torch.bincount(ring)
    found = []
    for some in torch.split(images, BATCH):
        power = torch.fft.fft2(some.double(), norm="ortho").abs().square().mean(1).flatten(1)
        found.append(power.new_zeros(len(some), len(sizes)).index_add(1, ring, power) / sizes)
    return torch.cat(found)


def log_distance(real: Tensor, generated: Tensor) -> float:
    """Mean over rings of |log10 mean power real - log10 mean power generated| of power (m, k) and (n, k)."""
    first, second = ((side.mean(0, dtype=torch.float64) + ROUNDING).log10() for side in (real, generated))
    return float((first - second).abs().mean())


def classify(train: Tensor, kinds: Tensor, test: Tensor) -> Tensor:
    """The kinds (n,) that a logistic regression gives to test rows (n, k) after training rows (m, k) of kinds (m,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, deviation = train.mean(0), train.std(0, correction=0).clamp(min=1e-6)
    model = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        # An optimum missed by little changes next to no decision.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(((train - mean) / deviation).numpy(), kinds.numpy())
    return torch.from_numpy(model.predict(((test - mean) / deviation).numpy()))
