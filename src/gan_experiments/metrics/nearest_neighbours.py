"""How near generated samples are to training samples, in pixels and in features, beside how near held-out ones are."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics import intervals
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, require_vectors
from gan_experiments.metrics.exhibits import CHANNELS, Exhibits, sheet
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.neighbours import Neighbours, nearest


@final
class NearestNeighbours(QualityMetric[Exhibits]):
    """Distance to the nearest training sample, and how many generated ones are as near as the nearest held-out ones.

    `nearest_feature_distance` (and `nearest_pixel_distance` of images, in pixels from 0 to 1) is the mean over
    generated samples, from 0 for copies; small is near the data or copied: compare with the floor, held-out reals'.
    `nearest_feature_closer` (`nearest_pixel_closer`) is the share of generated samples at most as far from training
    samples as the nearest `quantile` of held-out ones: about `quantile` without copying, 1 for copies, below it for
    poor samples. Weakness: pixels miss a shifted copy, features may blur what was copied.
    """

    needs_held_out = True

    def __init__(self, quantile: float = 0.05, neighbours: int = 3, shown: int = 8, pixel_side: int = 64) -> None:
        """Shares below that quantile, pictures of the closest; UserError for a quantile not in (0, 1) or counts < 1."""
        if not 0 < quantile < 1 or min(neighbours, shown, pixel_side) < 1:
            raise UserError(
                f"metric nearest_neighbours: quantile={quantile}, neighbours={neighbours}, shown={shown}, "
                f"pixel_side={pixel_side}; expected a number between 0 and 1, and counts of at least 1"
            )
        super().__init__(*(Exhibits("nearest_neighbours", pixel_side) for _ in range(3)))
        self.quantile, self.neighbours, self.shown, self.pixel_side = quantile, neighbours, shown, pixel_side
        self._pictures: dict[str, Tensor] = {}

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor."""
        require_vectors("nearest_neighbours", dataset, extractor)
        if not dataset.spec.is_image:
            for side in self.sides():
                side.side = 0

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d) and samples."""
        (self.real if real else self.generated).update(features)

    def show_held_out(self, features: Features) -> None:
        """Take features (n, d) and samples of held-out reals."""
        assert self.held_out is not None
        self.held_out.update(features)

    def compute(self) -> list[Reading]:
        """Mean distance and share, for images in pixels too; UserError when sides are too small."""
        assert self.held_out is not None
        sides = [side.compute() for side in self.sides()]
        self.refuse_fewer(*(len(features) for features, _ in sides))
        real, generated, held_out = (features for features, _ in sides)
        in_features = nearest(generated, real)
        readings = self.read("feature", distances(in_features), distances(nearest(held_out, real)), {})
        self._pictures = {}
        if sides[0][1].ndim == 4:
            pixels = [images.flatten(1) for _, images in sides]
            side = max(sides[0][1].shape[2:])
            in_pixels, floor = (distances(nearest(pixels[i], pixels[0])) / 255 for i in (1, 2))
            readings += self.read("pixel", in_pixels, floor, {"side": side})
            if sides[0][1].shape[1] in CHANNELS:
                self.draw(sides[0], sides[1], {"pixel": in_pixels, "feature": distances(in_features)})
        return readings

    def refuse_fewer(self, real: int, generated: int, held_out: int) -> None:
        """UserError when a side has fewer samples than its part in the comparison takes."""
        needed = math.ceil(1 / self.quantile) - 1
        if real < 1 or generated < 2 or math.floor(self.quantile * (held_out + 1)) < 1:
            raise UserError(
                f"metric nearest_neighbours needs 1 training, 2 generated and, for quantile={self.quantile}, {needed} "
                f"held-out samples; got {real}, {generated} and {held_out}"
            )

    def read(self, space: str, generated: Tensor, held_out: Tensor, details: dict[str, Detail]) -> list[Reading]:
        """The two readings in one space, of distances (n,) of generated and (m,) of held-out samples."""
        m, n = len(held_out), len(generated)
        # The r-th of m values has r/(m + 1) of the distribution below it on average (a beta variable).
        r = math.floor(self.quantile * (m + 1))
        threshold = float(held_out.sort().values[r - 1])
        hits = int((generated <= threshold).count_nonzero())
        expected = r / (m + 1)
        levels = torch.tensor([0.05, 0.5], dtype=torch.float64, device=generated.device)
        low, median = (float(generated.sort().values[int(level * (n - 1))]) for level in levels)
        more: dict[str, Detail] = {"n_held_out": m, **details}
        return [
            Reading(
                f"nearest_{space}_distance",
                float(generated.mean()),
                {**more, "median": median, "lowest_5_percent": low, "minimum": float(generated.min())},
                interval=intervals.of_mean(generated.tolist()),
                interval_from="Student's t over generated samples",
            ),
            Reading(
                f"nearest_{space}_closer",
                hits / n,
                {**more, "expected_without_copying": expected, "threshold": threshold},
                interval=widened(hits, n, math.sqrt(expected * (1 - expected) / (m + 2))),
                interval_from="score interval over generated samples, and the error of the threshold",
            ),
        ]

    def draw(self, real: tuple[Tensor, Tensor], generated: tuple[Tensor, Tensor], distance: dict[str, Tensor]) -> None:
        """Keep one picture a space of its closest generated images: first the image, then neighbours in both spaces."""
        count = min(self.neighbours, len(real[0]))
        for space, values in distance.items():
            closest = values.argsort(stable=True)[: self.shown]
            features, images = (part[closest] for part in generated)
            by_pixel = nearest(images.flatten(1), real[1].flatten(1), count).points
            by_feature = nearest(features, real[0], count).points
            rows = torch.cat([images[:, None], real[1][by_pixel], real[1][by_feature]], dim=1)
            self._pictures[f"nearest_by_{space}"] = sheet(rows.flatten(0, 1), 1 + 2 * count)

    def pictures(self) -> dict[str, Tensor]:
        """Of the generated images closest to training ones by either distance, a row each, the closest first.

        A row has the generated image, then its nearest training images in pixels, then those in features.
        """
        return self._pictures


def distances(neighbours: Neighbours) -> Tensor:
    """Distances (n,) to the first neighbour, float64."""
    return neighbours.squared[:, 0].sqrt()


def widened(hits: int, n: int, error: float) -> tuple[float, float]:
    """The interval of a share whose threshold shifts it by a standard error, inside [0, 1] (variances added)."""
    share, (low, high) = hits / n, intervals.of_share(hits, n)
    reach = intervals.NORMAL * error
    return max(0.0, share - math.hypot(share - low, reach)), min(1.0, share + math.hypot(high - share, reach))
