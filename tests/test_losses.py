"""Adversarial losses at points with known values and gradients, and their optima on three-point densities.

Values: r = (2, 0), f = (-1, 1), worked out by hand from the formulas in each class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.objectives.adversarial import Hinge, LeastSquares, Loss, Minimax, NonSaturating, Wasserstein

P, Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)


@dataclass
class Sides:
    """Logits of both sides, given."""

    real: Verdict
    fake: Verdict


def contest(real: Tensor, fake: Tensor) -> Sides:
    return Sides(Verdict(real), Verdict(fake))


BATCH = contest(torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0]))
ZEROS = contest(torch.zeros(4), torch.zeros(4))

TABLE = [
    (Minimax(), 1.2232993, -0.8132617, math.log(4), -math.log(2)),
    (NonSaturating(), 1.2232993, 0.8132617, math.log(4), math.log(2)),
    (LeastSquares(), 1.0, 1.0, 0.5, 0.5),
    (LeastSquares(-1, 1, 0), 1.5, 0.5, 1.0, 0.0),
    (Hinge(), 1.5, 0.0, 2.0, 0.0),
    (Wasserstein(), -1.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("loss", "d", "g", "d_zero", "g_zero"), TABLE, ids=lambda value: type(value).__name__)
def test_values_on_a_known_batch(loss: Loss, d: float, g: float, d_zero: float, g_zero: float) -> None:
    assert loss.discriminator(BATCH).item() == pytest.approx(d, abs=1e-6)
    assert loss.generator(BATCH).item() == pytest.approx(g, abs=1e-6)
    assert loss.discriminator(ZEROS).item() == pytest.approx(d_zero, abs=1e-6)
    assert loss.generator(ZEROS).item() == pytest.approx(g_zero, abs=1e-6)


SINGLE = [
    (NonSaturating(), 0.6754903, 0.9740770), (Minimax(), 0.6754903, -0.4740770), (LeastSquares(), 0.25, 1.125),
    (Hinge(), 0.5, 0.5), (Wasserstein(), -2.0, 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "d", "g"), SINGLE, ids=lambda value: type(value).__name__)
def test_values_of_single_logits(loss: Loss, d: float, g: float) -> None:
    one = contest(torch.tensor([1.5]), torch.tensor([-0.5]))
    assert loss.discriminator(one).item() == pytest.approx(d, abs=1e-6)
    assert loss.generator(one).item() == pytest.approx(g, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "slope"),
    [
        (NonSaturating(), lambda f: -1 / (1 + math.exp(f))),
        (Minimax(), lambda f: -1 / (1 + math.exp(-f))),
        (LeastSquares(), lambda f: f - 1),
        (Hinge(), lambda f: -1.0),
        (Wasserstein(), lambda f: -1.0),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("logit", [-30.0, -0.7, 0.0, 2.0])
def test_generator_gradients(loss: Loss, slope: Callable[[float], float], logit: float) -> None:
    fake = torch.tensor([logit], requires_grad=True)
    loss.generator(contest(torch.zeros(1), fake)).backward()
    assert fake.grad is not None
    assert fake.grad.item() == pytest.approx(slope(logit), abs=1e-6)


def test_only_the_minimax_generator_saturates() -> None:
    sure = torch.tensor([-20.0], requires_grad=True)
    (saturated,) = torch.autograd.grad(Minimax().generator(contest(torch.zeros(1), sure)), sure)
    (alive,) = torch.autograd.grad(NonSaturating().generator(contest(torch.zeros(1), sure)), sure)
    assert abs(saturated.item()) < 1e-8
    assert alive.item() == pytest.approx(-1.0)


def test_saturating_and_nonsaturating_generators_differ_by_the_symmetric_term() -> None:
    gap = NonSaturating().generator(BATCH) - Minimax().generator(BATCH)
    f = BATCH.fake.logits
    assert gap.item() == pytest.approx(
        (torch.nn.functional.softplus(-f) + torch.nn.functional.softplus(f)).mean().item()
    )


def expected(loss: Loss, logits: Tensor) -> Tensor:
    """The discriminator's loss when reals follow P and samples follow Q, computed one point at a time."""
    total = torch.zeros((), dtype=torch.float64)
    for point in range(3):
        both = contest(logits[point : point + 1], logits[point : point + 1])
        none = contest(torch.zeros(1, dtype=torch.float64), logits[point : point + 1])
        base = contest(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
        # loss(r, f) = a(r) + b(f): take a(r) and b(f) apart with the constants a(0), b(0)
        a = loss.discriminator(both) - loss.discriminator(none)
        b = loss.discriminator(none) - loss.discriminator(base)
        total = total + P[point] * a + Q[point] * b
    return total + loss.discriminator(base)


@pytest.mark.parametrize(
    ("loss", "value", "optimum"),
    [
        (NonSaturating(), 1.2751294, torch.log(P / Q)),
        (LeastSquares(), 0.44588745 / 2, P / (P + Q)),
        (Hinge(), 1.4, torch.sign(P - Q)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_optimal_discriminator_and_value_of_the_game(loss: Loss, value: float, optimum: Tensor) -> None:
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=0.5, max_iter=400, tolerance_grad=1e-12, tolerance_change=1e-14)
    if isinstance(loss, Hinge):  # piecewise linear: gradient descent with a shrinking step
        descent = torch.optim.SGD([logits], lr=0.05)
        for step in range(2000):
            descent.param_groups[0]["lr"] = 0.05 * (1 - step / 2000)
            descent.zero_grad()
            expected(loss, logits).backward()
            descent.step()
    else:

        def closure() -> float:
            optimizer.zero_grad()
            cost = expected(loss, logits)
            cost.backward()
            return cost.item()

        optimizer.step(closure)
    tolerance = 1e-3 if isinstance(loss, Hinge) else 1e-6
    assert expected(loss, logits).item() == pytest.approx(value, abs=tolerance)
    torch.testing.assert_close(logits.detach(), optimum, atol=30 * tolerance, rtol=0)


def test_least_squares_refuses_equal_targets() -> None:
    with pytest.raises(UserError, match="both"):
        LeastSquares(1, 1, 1)
