"""The birthday paradox test: duplicates in small batches betray a small support (Arora and Zhang 2017)."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import Detail, QualityMetric, Reading, require_vectors
from gan_experiments.metrics.exhibits import CHANNELS, Exhibits, sheet
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.intervals import of_share
from gan_experiments.metrics.neighbours import close_pairs, nearest

REALS_PER_SAMPLE = 10
"""Reals needed for each sample of a batch: at the default rate, five pairs of them are closer than the threshold."""

REALS_USED = 25
"""Reals looked at, if there are more, for each sample of a batch: at the default rate, 32 such pairs."""


@final
class BirthdayParadox(QualityMetric[Exhibits]):
    """Share of batches of `size` generated samples with a duplicate, and the size of the support that this speaks for.

    Duplicates are at most `threshold` apart in feature space. Without one given, it is the distance at which a batch of
    training samples has a duplicate with probability `real_rate`, read off their closest pairs; the share is
    then about that for data as diverse as the training set, up to 1 for collapse: lower is better.

    `birthday_support` is n = s (s - 1)/(2 ln(1/(1 - P))), from P = 1 - exp(-s (s - 1)/2n) for n equally likely samples
    (approximate for few), at the largest s of size, size/2, size/4 ... with P <= 1/2. Higher is better; for unequal
    probabilities it is less than the support. With a threshold from real data it compares models on one data set rather
    than counts pictures. Source: Arora and Zhang 2017. Weakness: the threshold decides; look at the pictures.
    """

    def __init__(
        self,
        size: int = 400,
        threshold: float | None = None,
        real_rate: float = 0.05,
        shown: int = 8,
        pixel_side: int = 64,
        seed: int = 0,
    ) -> None:
        """Batches of `size`, `shown` pairs in the picture; UserError for impossible numbers."""
        if size < 2 or not 0 < real_rate < 1 or (threshold is not None and threshold < 0) or min(shown, pixel_side) < 1:
            raise UserError(
                f"metric birthday: size={size}, threshold={threshold}, real_rate={real_rate}, shown={shown}, "
                f"pixel_side={pixel_side}; expected at least 2, at least 0 (or null), between 0 and 1, at least 1 and 1"
            )
        super().__init__(Exhibits("birthday", 0), Exhibits("birthday", pixel_side))
        self.size, self.threshold, self.real_rate, self.shown, self.seed = size, threshold, real_rate, shown, seed
        self.needs_reals = threshold is None
        self._from_reals: float | None = None
        self._pictures: dict[str, Tensor] = {}

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor."""
        require_vectors("birthday", dataset, extractor)
        if not dataset.spec.is_image:
            self.generated.side = 0

    def expect(self, reals: int, samples: int, held_out: int) -> None:
        """UserError when there will be fewer samples than a batch has, or too few reals to choose a threshold from."""
        least = min(samples, held_out, reals // REALS_PER_SAMPLE if self.threshold is None else samples)
        if least < self.size:
            raise UserError(
                f"metric birthday draws batches of {self.size} from {samples} samples and {held_out} held-out ones, "
                f"and its threshold from {REALS_PER_SAMPLE} times as many of {reals} training samples; "
                f"set metric.birthday.size to {least} or less"
            )

    def refuse_fewer_reals(self, count: int) -> None:
        """UserError when reals are too few to choose a threshold from."""
        if count < REALS_PER_SAMPLE * self.size:
            raise UserError(
                f"metric birthday chooses the threshold for batches of {self.size} from at least "
                f"{REALS_PER_SAMPLE * self.size} training samples, but there are {count}; "
                "set metric.birthday.size to less, or give metric.birthday.threshold"
            )

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d), and images for the picture."""
        (self.real if real else self.generated).update(features)
        if real:
            self._from_reals = None

    def compute(self) -> list[Reading]:
        """Share and support; UserError with fewer samples than a batch."""
        features, images = self.generated.compute()
        s, trials = self.size, len(features) // self.size
        if trials < 1:
            raise UserError(
                f"metric birthday draws batches of {s} samples, but there are {len(features)}; "
                f"set metric.birthday.size to {len(features)} or less"
            )
        threshold = self.limit()
        # Stored samples may come sorted by class.
        order = torch.randperm(len(features), generator=seeding.generator(self.seed, "birthday")).to(features.device)
        batches = order[: trials * s].view(trials, s)
        pairs = [(number, close_pairs(features[rows], threshold**2)) for number, rows in enumerate(batches)]
        duplicates = torch.cat([torch.nn.functional.pad(found, (1, 0), value=number) for number, found in pairs])
        details: dict[str, Detail] = {
            "threshold": threshold,
            "threshold_from": f"training samples, rate {self.real_rate}" if self.threshold is None else "given",
            "duplicate_pairs": len(duplicates),
            "seed": self.seed,
        }
        self.draw(features, images, batches)
        hits = self.batches_with(duplicates, s)
        share = Reading(
            "",
            hits / trials,
            {**details, "size": s, "trials": trials},
            interval=of_share(hits, trials),
            interval_from="score interval over batches, which share no sample",
        )
        return [share, self.read_support(duplicates, trials, details)]

    def read_support(self, duplicates: Tensor, trials: int, details: dict[str, Detail]) -> Reading:
        """The support by the uniform formula; where no batch or every one has a duplicate, only its bound."""
        s = self.size
        while self.batches_with(duplicates, s) * 2 > trials * (self.size // s) and s >= 4:
            s //= 2
        hits, count = self.batches_with(duplicates, s), trials * (self.size // s)
        low, high = of_share(hits, count)
        details = {**details, "size": s, "trials": count, "value_is": "an estimate"}
        if hits == 0:
            details["value_is"] = "a lower bound (97.5 %): no batch has a duplicate"
            return Reading("birthday_support", support(s, high), details, higher_is_better=True)
        if hits == count:
            details["value_is"] = "an upper bound (97.5 %): every batch has a duplicate"
            return Reading("birthday_support", support(s, low), details, higher_is_better=True)
        return Reading(
            "birthday_support",
            support(s, hits / count),
            details,
            higher_is_better=True,
            interval=(support(s, high), support(s, low)),
            interval_from="from the share's score interval over batches, which share no sample",
        )

    def batches_with(self, duplicates: Tensor, s: int) -> int:
        """How many batches of s, each batch cut into size // s, have a pair of rows (k, 3): batch, first, second."""
        batch, first, second = (duplicates // torch.tensor([1, s, s], device=duplicates.device)).T
        parts = self.size // s
        inside = (first == second) & (first < parts)
        return len((batch * parts + first)[inside].unique())

    def limit(self) -> float:
        """The greatest distance of duplicates: as given, or from the training samples."""
        if self.threshold is not None:
            return self.threshold
        if self._from_reals is None:
            real, _ = self.real.compute()
            self.refuse_fewer_reals(len(real))
            self._from_reals = self.closest(real)
        return self._from_reals

    def closest(self, real: Tensor) -> float:
        """The distance that a batch's pairs of reals (n, d) stay above with probability 1 - real_rate."""
        m = min(len(real), REALS_USED * self.size)
        order = torch.randperm(len(real), generator=seeding.generator(self.seed, "birthday reals"))
        real = real[order[:m].to(real.device)]
        # 1 - (1 - p)^(number of pairs in a batch) = real_rate, p being a pair's probability to be closer.
        p = -math.expm1(math.log1p(-self.real_rate) / math.comb(self.size, 2))
        pairs = max(1, round(p * math.comb(m, 2)))
        # Enough neighbours that the closest pairs are among them, each pair twice.
        k = min(m - 1, max(8, -(-8 * pairs // m)))
        squared = nearest(real, real, k, themselves=True).squared.flatten().sort().values
        return math.sqrt(float(squared[2 * pairs - 1]))

    def draw(self, features: Tensor, images: Tensor, batches: Tensor) -> None:
        """Keep the picture of the nearest pairs within batches (trials, s) of rows."""
        self._pictures = {}
        if images.ndim != 4 or images.shape[1] not in CHANNELS:
            return
        squared, pairs = [], []
        for rows in batches:
            found = nearest(features[rows], features[rows], themselves=True)
            ends = torch.stack([rows, rows[found.points[:, 0]]], dim=1)
            # Each other's neighbours come twice, of which one is enough.
            pairs.append(ends.sort(dim=1).values)
            squared.append(found.squared[:, 0])
        unique, place = torch.unique(torch.cat(pairs), dim=0, return_inverse=True)
        distance = torch.empty(len(unique), dtype=torch.float64, device=unique.device)
        distance[place] = torch.cat(squared)
        closest = unique[distance.argsort(stable=True)[: self.shown]]
        self._pictures["birthday_nearest_pairs"] = sheet(images[closest.flatten()], 2)

    def pictures(self) -> dict[str, Tensor]:
        """The nearest pairs of generated images within batches, a row each, the nearest first."""
        return self._pictures

    def reset(self) -> None:
        """Drop all sides."""
        super().reset()
        self._from_reals = None


def support(s: int, share: float) -> float:
    """n = s (s - 1)/(2 ln(1/(1 - P))): equally likely samples of which s hold a duplicate with probability P.

    From P = 1 - exp(-s (s - 1)/2n), the product of (1 - i/n) over i < s to first order in s/n; 0 for P = 1.
    """
    return s * (s - 1) / (-2 * math.log1p(-share)) if share < 1 else 0.0
