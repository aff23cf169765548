"""Diversity as the similarity of random pairs of images (MS-SSIM, Wang et al. 2003; Odena et al. 2017, section 4.2)."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, known, require_classes, require_images
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import of_mean
from gan_experiments.metrics.subset import RandomRows

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of five scales, fine to coarse (Wang et al. 2003)."""

WINDOW, DEVIATION = 11, 1.5
"""Pixels of the Gaussian window's side, and its standard deviation in pixels."""

SMALLEST = 4
"""Pixels of the shorter side below which a window holds next to nothing."""

CONSTANTS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
"""C1 and C2 of Wang et al. 2003, for values from 0 to 255."""

BATCH = 50
"""Pairs compared at once."""

FEWEST = 2
"""Pairs without which there is no interval."""

ASKED, PREDICTED = 0, 1
"""Columns of the kept classes: those asked for or the data's own, and those that the extractor sees."""


@final
class PairSimilarity(QualityMetric[RandomRows]):
    """Mean MS-SSIM of pairs of generated images, where possible of one class; `real`: of pairs of training images.

    From about 0 to 1 for equal images; lower is more diverse, and far above real data means collapse. It sees neither
    quality (noise is the most diverse) nor a few repeated images among many. Each image is in one pair at most, and
    classes are drawn on equally. The 11x11 window stays inside the image, at every scale: there are as many scales, up
    to five, as it fits into, and in images below 11 pixels it shrinks with its deviation. Values of different sizes
    don't compare. Equal images may come in any order: pairs follow from what images hold and the seed.
    """

    own_floor = True

    def __init__(self, pairs: int = 1000, per_class: bool | None = None, seed: int = 0) -> None:
        """Up to that many pairs a side; per_class=None: of one class where classes are known; UserError below 2."""
        if pairs < FEWEST:
            raise UserError(f"metric ms_ssim: pairs={pairs}; expected at least {FEWEST}")
        # Four images a pair leave enough of each class when classes are somewhat unequal.
        super().__init__(RandomRows(4 * pairs, seed), RandomRows(4 * pairs, seed))
        self.pairs = pairs
        self.per_class = per_class
        self.seed = seed
        self.classes = 0

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Take the number of classes; UserError for points, too small images, or per_class=true without classes."""
        require_images("ms_ssim", dataset)
        short = min(dataset.spec.shape[1:])
        if short < SMALLEST:
            raise UserError(
                f"metric ms_ssim needs images of at least {SMALLEST} pixels a side, but those of {dataset.name} have "
                f"{short}; leave it out"
            )
        self.classes = 0 if self.per_class is False else len(dataset.spec.classes)
        if self.per_class and not self.classes:
            require_classes("ms_ssim with per_class=true", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take images (n, c, h, w) with the classes that are known of them, -1 for unknown."""
        images = known(features.samples, "ms_ssim", "images")
        tags = torch.full((len(images), 2), -1, dtype=torch.int64, device=images.device)
        if features.labels is not None:
            tags[:, ASKED] = features.labels
        if features.logits is not None and features.logits.shape[1] == self.classes:
            tags[:, PREDICTED] = features.logits.argmax(1)
        (self.real if real else self.generated).update(images, tags)

    @torch.no_grad()
    def compute(self) -> list[Reading]:
        """The mean over pairs of generated images; UserError with fewer than two pairs a side."""
        (reals, real_tags), (images, tags) = self.real.compute(), self.generated.compute()
        column = self.classes_from(real_tags, tags)
        found, real = (
            self.similarities(x, torch.zeros_like(t[:, 0]) if column is None else t[:, column], side)
            for side, x, t in (("generated", images, tags), ("real", reals, real_tags))
        )
        weights = scales(min(images.shape[2:]))
        details: dict[str, Detail] = {
            "pairs": len(found),
            "real_pairs": len(real),
            "pairs_of": {None: "any two", ASKED: "one class", PREDICTED: "one predicted class"}[column],
            "scales": len(weights),
            "window": min(WINDOW, *images.shape[2:]),
            "weights": ", ".join(f"{weight:.4f}" for weight in weights),
            "negative_terms": "counted as 0",
            "seed": self.seed,
        }
        spread = torch.tensor(found, dtype=torch.float64).std().item()
        error = spread / math.sqrt(len(found))
        source = "over pairs without a common image"
        value = math.fsum(found) / len(found)
        return [
            Reading(
                "", value, details, error, f"standard error {source}", False, of_mean(found), f"normal, {source}",
                math.fsum(real) / len(real),
            )
        ]  # fmt: skip

    def classes_from(self, *sides: Tensor) -> int | None:
        """The column of tags (n, 2) that is known on all sides: the asked one first; None for pairs of any two.

        Raises UserError where per_class=true and neither is.
        """
        if not self.classes:
            return None
        for column in (ASKED, PREDICTED):
            if all(bool((tags[:, column] >= 0).all()) for tags in sides):
                return column
        if self.per_class:
            raise UserError(
                "metric ms_ssim: per_class=true, but the generated images' classes are neither given nor predicted; "
                "set extractor=classifier or metric.ms_ssim.per_class=false"
            )
        return None

    def similarities(self, images: Tensor, classes: Tensor, side: str) -> list[float]:
        """MS-SSIM of disjoint random pairs of uint8 images (n, c, h, w) of equal classes (n,), one number a pair."""
        pairs = disjoint_pairs(classes.cpu(), self.pairs, self.seed).to(images.device)
        if len(pairs) < FEWEST:
            raise UserError(
                f"metric ms_ssim: {len(images)} {side} images make {len(pairs)} pairs; expected at least {FEWEST}"
            )
        return [
            value
            for some in torch.split(pairs, BATCH)
            for value in similarity(images[some[:, 0]], images[some[:, 1]]).tolist()
        ]


def disjoint_pairs(classes: Tensor, pairs: int, seed: int) -> Tensor:
    """At most `pairs` pairs of places (m, 2) with equal classes (n,), no place twice, classes in turn."""
    order = torch.randperm(len(classes), generator=seeding.generator(seed, "ms_ssim"))
    shuffled = classes[order]
    members = [order[shuffled == kind] for kind in torch.unique(classes)]
    # Sorted by their number within the class, so that cutting off leaves each class with as many as another.
    found = [
        (number, place, pair)
        for place, own in enumerate(members)
        for number, pair in enumerate(own[: len(own) // 2 * 2].view(-1, 2).tolist())
    ]
    return torch.tensor([pair for _, _, pair in sorted(found)[:pairs]], dtype=torch.int64).view(-1, 2)


def scales(side: int) -> tuple[float, ...]:
    """The exponents of the scales that images with that shorter side have, fine to coarse, adding up to 1."""
    some = [weight for level, weight in enumerate(WEIGHTS) if level == 0 or side >> level >= WINDOW]
    return tuple(weight / math.fsum(some) for weight in some)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """MS-SSIM (n,), float64, of uint8 images (n, c, h, w) (Wang et al. 2003, eq. 7).

    Contrast and structure of all scales but the coarsest, and all of the similarity there, each the mean over channels
    and all places of a whole window, to the scale's power; negative ones count as 0. From scale to scale images are
    averaged over squares of 2x2 pixels; a last odd line is left out.
    """
    x, y = first.double(), second.double()
    weights = scales(min(x.shape[2:]))
    product = x.new_ones(len(x))
    for level, weight in enumerate(weights):
        if level > 0:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        contrast, whole = window_terms(x, y)
        product *= (whole if level == len(weights) - 1 else contrast).mean((1, 2, 3)).clamp(min=0) ** weight
    return product


def window_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast-structure and SSIM (n, c, h - 10, w - 10) of images (n, c, h, w) in each window inside (eq. 2-4)."""
    size = min(WINDOW, *x.shape[2:])
    place = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    line = torch.exp(-0.5 * (place / (DEVIATION * size / WINDOW)).square())
    line = line / line.sum()
    maps = torch.cat([x, y, x * x, y * y, x * y], dim=1)
    channels = maps.shape[1]
    maps = F.conv2d(maps, line.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    maps = F.conv2d(maps, line.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
    mean_x, mean_y, xx, yy, xy = maps.chunk(5, dim=1)
    c1, c2 = CONSTANTS
    contrast = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x.square() + yy - mean_y.square() + c2)
    return contrast, contrast * (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
