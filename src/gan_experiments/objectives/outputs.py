"""Regularizers of the discriminator's outputs: r = D(x), f = D(G(z)), <.> the batch mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Term
from gan_experiments.trick import Report


class LogitDrift(Term):
    """<r^2>, with `fake` + <f^2>: keeps logits near 0 (Karras et al. 2018, progressive growing, appendix A.1)."""

    acts_on = ("discriminator",)
    of_each_discriminator = True

    def __init__(
        self,
        fake: bool = False,
        player: str = "discriminator",
        weight: float | Curve = 1e-3,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        self.fake = fake
        self.needs = ("real", "fake") if fake else ("real",)

    def __call__(self, round: Any) -> Tensor:
        """The mean square of the logits."""
        drift: Tensor = round.real.logits.square().mean()
        return drift + round.fake.logits.square().mean() if self.fake else drift


class LeCam(Term):
    """<relu(r - a_F)^2> + <relu(a_R - f)^2> (Tseng et al. 2021, in the published code's form with relu).

    a_R and a_F are moving averages of <r> and <f> over all past moves, due or not; they are state. With `initial` null
    an average is over the moves made (as Adam corrects its own), else it starts from that number. Before `start` images
    have been seen the penalty is 0 and an average is that of the last move, so that then `initial` is forgotten.
    """

    needs = ("real", "fake")
    acts_on = ("discriminator",)
    counts_moves = True

    def __init__(
        self,
        decay: float = 0.99,
        initial: float | None = None,
        start: int = 0,
        player: str = "discriminator",
        weight: float | Curve = 0.3,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        if not 0 <= decay < 1:
            raise UserError(f"LeCam: decay={decay} must be at least 0 and below 1")
        if start < 0:
            raise UserError(f"LeCam: start={start} must be 0 or more images")
        self.decay, self.start = decay, start
        self.mass = 0.0 if initial is None else 1.0
        self.sums = torch.full((2,), initial or 0.0)

    @property
    def averages(self) -> Tensor:
        """a_R and a_F (2,); NaN before the first move when there is no initial value."""
        return self.sums / self.mass if self.mass else torch.full_like(self.sums, torch.nan)

    def __call__(self, round: Any) -> Tensor:
        """How far real logits lie above the average of fakes, and fake logits below that of reals."""
        r, f = round.real.logits, round.fake.logits
        if not self.mass or round.deal.images < self.start:
            nothing: Tensor = 0.0 * (r.mean() + f.mean())
            return nothing
        average_real, average_fake = self.averages.to(r.device)
        return relu(r - average_fake).square().mean() + relu(average_real - f).square().mean()

    def after_move(self, round: Any, report: Report) -> None:
        """Count this move's logits in."""
        now = torch.stack([round.real.logits.detach().mean(), round.fake.logits.detach().mean()])
        decay = self.decay if round.deal.images >= self.start else 0.0
        self.sums = decay * self.sums.to(now.device) + (1 - decay) * now
        self.mass = decay * self.mass + (1 - decay)
        for side, average in zip(("real", "fake"), self.averages, strict=True):
            report(f"{self.player}/{self.name}_average_{side}", average)

    def state_dict(self) -> dict[str, Any]:
        """The averages' sums and the weight that they have gathered."""
        return {"sums": self.sums, "mass": self.mass}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.sums, self.mass = state["sums"], state["mass"]
