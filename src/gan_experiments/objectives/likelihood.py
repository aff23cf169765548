"""Objectives of models that have a likelihood, or a bound on it: one player, no adversary."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from gan_experiments.curves import Curve, as_curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round
from gan_experiments.objectives.base import Objective, Share
from gan_experiments.trick import Report


class LikelihoodShare(Share):
    """A share in nats a sample; what it says of a batch is reported, as likelihood/<name>."""

    dimensions: int = 1

    def check(self, game: Game) -> None:
        """Note how many numbers a sample has."""
        self.dimensions = game.spec_size

    @abstractmethod
    def figures(self, round: Any) -> dict[str, Tensor]:
        """Means over a round's batch, by name; bits_per_dim is in bits a number of the data."""

    def bits(self, nats: Tensor) -> Tensor:
        """Minus a log-likelihood in nats a sample as bits a number of it, a byte of an image."""
        return -nats / (self.dimensions * math.log(2))

    def after_move(self, round: Round, report: Report) -> None:
        """Report the figures of the training batch."""
        for name, value in self.figures(round).items():
            report(f"likelihood/{name}", value.detach())


class Evidence(Objective):
    """-<log p(x|z)> + beta <KL(q(z|x) || p(z))>, z ~ q(z|x): minus the evidence lower bound (Kingma & Welling 2014,
    equation 10, with one sample), where beta is 1; other beta, a number or a curve, weigh the prior (Higgins et al.
    2017). Raises UserError for a negative one."""

    players: ClassVar[tuple[str, ...]] = ("generator",)

    def __init__(self, beta: float | Curve = 1.0) -> None:
        if not isinstance(beta, Curve) and beta < 0:
            raise UserError(f"Evidence: beta={beta} must not be negative")
        self.beta = as_curve(beta)

    def share(self, player: str, weight: float | Curve) -> Share:
        """Its only term."""
        return EvidenceShare(self, player, weight)


class EvidenceShare(LikelihoodShare):
    """The generator's: encoder and decoder together."""

    needs = ("reconstruction", "divergence")
    remedy = "model=vae has them; loss=likelihood is for exact likelihoods"

    def __init__(self, evidence: Evidence, player: str, weight: float | Curve = 1.0) -> None:
        super().__init__(evidence, player, weight)
        self.name, self.beta = "evidence", evidence.beta

    def __call__(self, round: Any) -> Tensor:
        """Nats a sample."""
        beta = self.beta(round.deal.images, round.deal.total)
        cost: Tensor = beta * round.divergence.mean() - round.reconstruction.mean()
        return cost

    def figures(self, round: Any) -> dict[str, Tensor]:
        """The bound itself, whatever beta is, and its two parts."""
        reconstruction, divergence = round.reconstruction.mean(), round.divergence.mean()
        bound = reconstruction - divergence
        return {"elbo": bound, "kl": divergence, "reconstruction": reconstruction, "bits_per_dim": self.bits(bound)}


class Likelihood(Objective):
    """-<log p(x)>, for models that can evaluate it: maximum likelihood."""

    players: ClassVar[tuple[str, ...]] = ("generator",)

    def share(self, player: str, weight: float | Curve) -> Share:
        """Its only term."""
        return ExactShare(self, player, weight)


class ExactShare(LikelihoodShare):
    """The generator's: all there is."""

    needs = ("log_likelihood",)
    remedy = "model=autoregressive has it; loss=evidence is for lower bounds"

    def __init__(self, likelihood: Likelihood, player: str, weight: float | Curve = 1.0) -> None:
        super().__init__(likelihood, player, weight)
        self.name = "likelihood"

    def __call__(self, round: Any) -> Tensor:
        """Nats a sample."""
        cost: Tensor = -round.log_likelihood.mean()
        return cost

    def figures(self, round: Any) -> dict[str, Tensor]:
        """The log-likelihood in both units."""
        nats = round.log_likelihood.mean()
        return {"log_likelihood": nats, "bits_per_dim": self.bits(nats)}
