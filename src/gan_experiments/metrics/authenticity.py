"""Authenticity: the share of generated samples that aren't closer to a training sample than its own neighbour is."""

from __future__ import annotations

from typing import final

from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics import intervals
from gan_experiments.metrics.base import QualityMetric, Reading, Rows, require_vectors
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.neighbours import nearest, squared_radii


@final
class Authenticity(QualityMetric[Rows]):
    """AuthPct as a share: samples farther from their nearest training sample than this is from its nearest other one.

    From 0 (every sample a copy) to 1; a tie is not authentic, so a copy of a duplicated training sample isn't. Source:
    Alaa et al. 2022. Higher means less copying, but poor samples, being far from all data, get more too:
    compare with the floor, the share for held-out reals.
    """

    def __init__(self) -> None:
        """A metric without settings."""
        super().__init__(Rows(), Rows())
        self._real_radii: Tensor | None = None

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor."""
        require_vectors("authenticity", dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d)."""
        (self.real if real else self.generated).update(features.features)
        if real:
            self._real_radii = None

    def compute(self) -> list[Reading]:
        """The share; UserError with fewer than 2 training samples or no generated one."""
        real, generated = self.real.compute(), self.generated.compute()
        if not len(generated):
            raise UserError("metric authenticity needs at least 1 generated sample, got 0")
        if self._real_radii is None:
            self._real_radii = squared_radii("authenticity", real, 1)
        neighbours = nearest(generated, real)
        authentic = int((neighbours.squared > self._real_radii[neighbours.points]).count_nonzero())
        n = len(generated)
        return [
            Reading(
                "",
                authentic / n,
                {"tie": "copy"},
                higher_is_better=True,
                interval=intervals.of_share(authentic, n),
                interval_from="score interval over generated samples, training samples held fixed",
            )
        ]

    def reset(self) -> None:
        """Drop all sides."""
        super().reset()
        self._real_radii = None
