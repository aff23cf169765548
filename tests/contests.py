"""Contests with given logits, densities on three points as a batch, and a minimiser for free logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_experiments.game import Verdict
from gan_experiments.objectives.adversarial import Contest

P, Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)


@dataclass
class Sides:
    """Verdicts of both sides, given."""

    real: Verdict
    fake: Verdict


def contest(real: Tensor, fake: Tensor) -> Sides:
    """Logits of both sides."""
    return Sides(Verdict(real), Verdict(fake))


def energies(real: Sequence[float], fake: Sequence[float]) -> Sides:
    """Energies of both sides, with logits that no loss of energies should read."""
    sides = [Verdict(torch.full([len(e)], torch.nan), (), {"energy": torch.tensor(e)}) for e in (real, fake)]
    return Sides(*sides)


BATCH = contest(torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0]))
ZEROS = contest(torch.zeros(4), torch.zeros(4))
SINGLE = contest(torch.tensor([1.5]), torch.tensor([-0.5]))
REAL = torch.tensor([2.0, 0.0, -1.5, 0.3], dtype=torch.float64)
FAKE = torch.tensor([-1.0, 1.0, 0.4, -2.2], dtype=torch.float64)


def on_three_points(logits: Tensor, copies: int = 1) -> Sides:
    """A batch that has the first point 10, 6 and 4 times among 20 reals (P) and 5, 5, 10 times among 20 fakes (Q)."""
    return contest(
        logits.repeat_interleave(torch.tensor([10, 6, 4]) * copies),
        logits.repeat_interleave(torch.tensor([5, 5, 10]) * copies),
    )


def slopes(half: Callable[[Contest], Tensor], real: Tensor = REAL, fake: Tensor = FAKE) -> tuple[Tensor, Tensor]:
    """Gradients of one half of a loss with respect to the logits of either side."""
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    got = torch.autograd.grad(half(contest(real, fake)), (real, fake), allow_unused=True, materialize_grads=True)
    return got[0], got[1]


def minimise(cost: Callable[[], Tensor], parameters: Sequence[Tensor], steps: int = 400) -> float:
    """Descend to the minimum by L-BFGS, and return it."""
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=steps, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        value = cost()
        value.backward()
        return value.item()

    optimizer.step(closure)
    return cost().item()


def optimum(half: Callable[[Contest], Tensor], copies: int = 1) -> tuple[Tensor, float]:
    """The three free logits that minimise a discriminator's loss when reals follow P and samples Q; the minimum."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    least = minimise(lambda: half(on_three_points(logits, copies)), [logits])
    return logits.detach(), least
