"""Whether a run's numbers are still finite: what is scored or saved must be."""

from __future__ import annotations

from gan_experiments.errors import NonFinite
from gan_experiments.players import lowering
from gan_experiments.trainer import Trainer


def check_finite(trainer: Trainer) -> None:
    """Raise NonFinite naming the term or player that isn't."""
    trainer.meter.check()
    for player in trainer.players:
        if not all(bool(parameter.isfinite().all()) for parameter in player.parameters):
            raise NonFinite(
                f"{player.name}: weights {NonFinite.SAID} by step {trainer.step_count}: stopped; "
                f"{lowering(trainer.players, player.name)}"
            )
