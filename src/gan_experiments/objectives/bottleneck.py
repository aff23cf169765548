"""The objective of the variational discriminator bottleneck (Peng et al. 2019); its layers are a trick."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.game import Term, Verdict
from gan_experiments.trick import Report


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) | N(0, I)) = 1/2 sum (mean^2 + sigma^2 - 1 - log sigma^2), (n,) for codes (n, d)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class VariationalBottleneck(Term):
    """beta (<KL> - I_c), the mean over real and generated samples of the information in the discriminator's code
    (Peng et al. 2019), in nats.

    After each move beta <- max(0, beta + rate (<KL> - I_c)), gradient ascent on the multiplier of the constraint
    <KL> <= I_c, with the move's own KL. beta is state and takes the place of a weight.
    """

    needs = ("real", "fake", "code_mean", "code_log_variance")
    remedy = "regularizer=[variational_bottleneck] brings the trick variational_bottleneck that gives them"

    def __init__(self, information: float = 0.1, rate: float = 1e-5, beta: float = 0.1) -> None:
        super().__init__("discriminator")
        if information < 0 or rate < 0 or beta < 0:
            raise UserError(f"VariationalBottleneck: {information=}, {rate=} and {beta=} must not be negative")
        self.information, self.rate, self.beta = information, rate, torch.tensor(float(beta))

    def __call__(self, round: Any) -> Tensor:
        """The weighted excess of information."""
        return self.beta.to(round.deal.device) * self.excess(round)

    def excess(self, round: Any) -> Tensor:
        """<KL> - I_c."""
        return (self.divergence(round.real) + self.divergence(round.fake)) / 2 - self.information

    def divergence(self, verdict: Verdict) -> Tensor:
        """The mean KL of one side's codes."""
        mean, log_variance = verdict.heads["code_mean"].float(), verdict.heads["code_log_variance"].float()
        return kl_to_standard_normal(mean, log_variance).mean()

    def after_move(self, round: Any, report: Report) -> None:
        """One step of dual gradient ascent."""
        excess = self.excess(round).detach()
        self.beta = (self.beta.to(excess.device) + self.rate * excess).clamp_min(0)
        report(f"{self.player}/{self.name}_beta", self.beta)
        report(f"{self.player}/{self.name}_information", excess + self.information)

    def state_dict(self) -> dict[str, Any]:
        """The multiplier."""
        return {"beta": self.beta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.beta = state["beta"]
