"""Games of energies E(x) >= 0, low for data, in which the discriminator is an autoencoder and E its error."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Round, Term
from gan_experiments.objectives.adversarial import Contest, Loss
from gan_experiments.trick import Report

REMEDY = "set model=dcgan_autoencoder (images) or model=mlp_autoencoder (points), whose discriminators have it"


class EnergyBased(Loss):
    """EBGAN, D: <E(x)> + <relu(m - E(G(z)))>; G: <E(G(z))> (Zhao et al. 2017, equations 1 and 2).

    The margin m, in units of the energy, is where D stops pushing samples away. Raises UserError unless it's positive.
    """

    needs: ClassVar[tuple[str, ...]] = ("energy",)
    remedy: ClassVar[str] = REMEDY
    boundary = None

    def __init__(self, margin: float = 1.0) -> None:
        if not margin > 0:
            raise UserError(f"EnergyBased: margin={margin} must be positive")
        self.m = margin

    def discriminator(self, contest: Contest) -> Tensor:
        """Low energy for data, at least the margin for samples."""
        return contest.real.heads["energy"].mean() + relu(self.m - contest.fake.heads["energy"]).mean()

    def generator(self, contest: Contest) -> Tensor:
        """The samples' mean energy."""
        return contest.fake.heads["energy"].mean()


class BoundaryEquilibrium(Loss):
    """BEGAN, D: L(x) - k L(G(z)); G: L(G(z)), L = <E> (Berthelot et al. 2017, section 3.4).

    After each move of the discriminator k moves by rate (diversity L(x) - L(G(z))), within [0, 1], on the energies of
    that move. `diversity` is the paper's gamma, L(G(z)) / L(x) at equilibrium; `rate` its lambda_k. Reports k and the
    convergence measure M = L(x) + |diversity L(x) - L(G(z))|, the lower the better. k is state.
    """

    needs: ClassVar[tuple[str, ...]] = ("energy",)
    remedy: ClassVar[str] = REMEDY
    boundary = None

    learns = True

    def __init__(self, diversity: float = 0.5, rate: float = 0.001) -> None:
        if not 0 < diversity <= 1:
            raise UserError(f"BoundaryEquilibrium: diversity={diversity} must be above 0 and at most 1")
        if rate < 0:
            raise UserError(f"BoundaryEquilibrium: rate={rate} must not be negative")
        self.gamma, self.rate = diversity, rate
        self.k = torch.zeros(())

    def discriminator(self, contest: Contest) -> Tensor:
        """Low energy for data, high for samples by the share k."""
        real, fake = contest.real.heads["energy"].mean(), contest.fake.heads["energy"].mean()
        self.k = self.k.to(fake.device)
        return real - self.k * fake

    def generator(self, contest: Contest) -> Tensor:
        """The samples' mean energy."""
        return contest.fake.heads["energy"].mean()

    @torch.no_grad()
    def after_move(self, player: str, contest: Contest, report: Report) -> None:
        """Move k towards the equilibrium, and report."""
        if player != "discriminator":
            return
        real, fake = contest.real.heads["energy"].mean(), contest.fake.heads["energy"].mean()
        balance = self.gamma * real - fake
        self.k = (self.k.to(fake.device) + self.rate * balance).clamp(0, 1)
        report("loss/began_k", self.k)
        report("loss/began_convergence", real + balance.abs())

    def state_dict(self) -> dict[str, Any]:
        """k."""
        return {"k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back k."""
        self.k = state["k"]


class PullingAway(Term):
    """Mean squared cosine between representations of different samples, sum_{i != j} cos^2(S_i, S_j) / (n (n - 1)).

    It keeps the samples of a batch apart (Zhao et al. 2017, section 2.4). S (n, d) are what the discriminator's
    encoder makes of the generated samples.
    """

    needs = ("fake", "representation")
    remedy = REMEDY
    acts_on = ("generator",)
    smallest_batch = 2

    def __init__(self, player: str = "generator", weight: float | Curve = 0.1, every: int = 1) -> None:
        super().__init__(player, weight, every)

    def __call__(self, round: Round) -> Tensor:
        """0 for orthogonal representations, 1 for parallel or opposite ones."""
        representations: Tensor = round.fake.heads["representation"]  # type: ignore[attr-defined]
        n = len(representations)
        with torch.autocast(representations.device.type, enabled=False):
            directions = normalize(representations.flatten(1).float(), dim=1)
            squares = (directions @ directions.T).square()
            return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))
