"""Learning from the few labelled samples beside the many unlabelled ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from gan_experiments.curves import Curve
from gan_experiments.game import Term


class Supervision(Term):
    """Cross-entropy of the labelled samples' classes, the fake class left out (Salimans et al. 2016, section 5:
    L_supervised)."""

    needs = ("labelled_batch", "taught", "classes")
    acts_on = ("discriminator",)
    remedy = "model=semi_supervised deals labelled samples"

    def __init__(self, player: str = "discriminator", weight: float | Curve = 1.0, every: int = 1) -> None:
        super().__init__(player, weight, every)

    def __call__(self, round: Any) -> Tensor:
        """Mean over labelled samples, in nats; log k when undecided."""
        return cross_entropy(round.taught.heads["classes"], round.labelled_batch.labels)
