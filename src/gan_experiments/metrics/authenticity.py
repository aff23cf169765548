"""Authenticity: the share of generated samples that aren't closer to a training sample than its own neighbour is."""

from __future__ import annotations

from typing import final

from gan_experiments.errors import UserError
from gan_experiments.metrics import intervals
from gan_experiments.metrics.base import Reading
from gan_experiments.metrics.neighbours import nearest, squared_radii
from gan_experiments.metrics.vectors import RowsMetric


@final
class Authenticity(RowsMetric):
    """AuthPct as a share: samples farther from their nearest training sample than this is from its nearest other one.

    From 0 (every sample a copy) to 1; a tie is not authentic, so a copy of a duplicated training sample isn't. Source:
    Alaa et al. 2022. Higher means less copying, but poor samples, being far from all data, get more too:
    compare with the floor, the share for held-out reals.
    """

    name = "authenticity"

    def __init__(self) -> None:
        """A metric without settings."""
        super().__init__()

    def compute(self) -> list[Reading]:
        """The share; UserError with fewer than 2 training samples or no generated one."""
        real, generated = self.real.compute(), self.generated.compute()
        if not len(generated):
            raise UserError("metric authenticity needs at least 1 generated sample, got 0")
        real_radii = self.from_reals(lambda rows: squared_radii("authenticity", rows, 1))
        neighbours = nearest(generated, real)
        authentic = int((neighbours.squared > real_radii[neighbours.points]).count_nonzero())
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
