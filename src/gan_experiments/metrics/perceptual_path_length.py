"""Perceptual path length: how unsteadily images change between latents (Karras et al. 2019, section 4.1)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, Reading, Rows, WalkMetric, require_images
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.intervals import bootstrap
from gan_experiments.metrics.lpips import SMALLEST, PairDistance, load_lpips
from gan_experiments.sampling import full_precision

CHUNK = 16
"""Pairs that the network sees at once."""

FEWEST = 100
"""Pairs without which a percentile means nothing."""

RESAMPLES = 300


@final
class PerceptualPathLength(WalkMetric[Rows]):
    """Mean of LPIPS(G(slerp(z1, z2; t)), G(slerp(z1, z2; t + epsilon)))/epsilon^2 without both outer hundredths.

    0 or more, lower is smoother; a generator that ignores its latents is at 0, so it says nothing without a measure of
    diversity. `sampling`: full: t is uniform in [0, 1); end: t = 0. Paths lie in z, not in a style generator's w; no
    crop. Real data have no latents, hence no value. Images are compared as the generator makes them in float32:
    rounding to bytes multiplies the value.
    """

    def __init__(
        self,
        pairs: int = 10_000,
        epsilon: float = 1e-4,
        sampling: str = "full",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        """A length over that many pairs; VGG16's weights from a file, None: downloaded; UserError for bad values."""
        if pairs < FEWEST or not 0 < epsilon < 1 or sampling not in ("full", "end"):
            raise UserError(
                f"metric perceptual_path_length: pairs={pairs}, epsilon={epsilon}, sampling={sampling}; expected at "
                f"least {FEWEST} pairs, epsilon between 0 and 1, sampling full or end"
            )
        super().__init__(Rows(), Rows())
        self.pairs = pairs
        self.epsilon = epsilon
        self.sampling = sampling
        self.end = sampling == "end"
        self.weights = weights
        self.seed = seed
        self.distance: PairDistance | None = None

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Load LPIPS unless a distance was given; UserError for points, too small images, and missing weights."""
        require_images("perceptual_path_length", dataset)
        channels, *sides = dataset.spec.shape
        if channels not in (1, 3) or min(sides) < SMALLEST:
            raise UserError(
                f"metric perceptual_path_length reads images of 1 or 3 channels and at least {SMALLEST} pixels, but "
                f"those of {dataset.name} are {dataset.spec.shape}; leave it out"
            )
        if self.distance is None:
            self.measure_with(load_lpips(self.weights))

    def measure_with(self, distance: PairDistance) -> None:
        """Compare images by this distance."""
        self.distance = distance.to(self.device)

    @torch.no_grad()
    def update_pair(self, first: Tensor, second: Tensor) -> None:
        """Take the distances of pairs of float images (n, c, h, w) in [-1, 1]; UserError for rounded ones (bytes)."""
        if not (first.dtype == second.dtype and first.dtype in (torch.float32, torch.float64)):
            raise UserError(
                f"metric perceptual_path_length: got images in {first.dtype} and {second.dtype}, expected float32"
            )
        if self.distance is None:
            raise UserError("metric perceptual_path_length has no distance yet: bind it to a data set first")
        with full_precision():
            for x, y in zip(torch.split(first, CHUNK), torch.split(second, CHUNK), strict=True):
                found: Tensor = self.distance(x.to(self.device), y.to(self.device))
                self.generated.update(found.double() / self.epsilon**2)

    def compute(self) -> list[Reading]:
        """The trimmed mean over pairs; UserError when they are too few."""
        lengths = self.generated.compute()
        if len(lengths) < FEWEST:
            raise UserError(f"metric perceptual_path_length: {len(lengths)} pairs; expected at least {FEWEST}")
        error, interval = bootstrap(lengths, trimmed_mean, self.seed, RESAMPLES)
        details: dict[str, Detail] = {
            "pairs": len(lengths),
            "epsilon": self.epsilon,
            "sampling": self.sampling,
            "space": "z, spherical",
            "distance": self.distance.name if self.distance is not None else "",
            "distance_sha256": self.distance.sha256 if self.distance is not None else "",
            "kept": "1st (lower) to 99th (higher) percentile",
            "resize": "averaged down by a whole factor where larger than 256, no crop",
            "seed": self.seed,
        }
        source = f"bootstrap over pairs, {RESAMPLES} resamples"
        return [Reading("", trimmed_mean(lengths), details, error, source, interval=interval, interval_from=source)]


def trimmed_mean(lengths: Tensor) -> float:
    """The mean of the lengths (n,) from the 1st percentile, rounded down to a length, to the 99th, rounded up."""
    ordered = lengths.sort().values
    last = len(ordered) - 1
    low, high = ordered[last // 100], ordered[-(-99 * last // 100)]
    return float(ordered[(ordered >= low) & (ordered <= high)].mean())
