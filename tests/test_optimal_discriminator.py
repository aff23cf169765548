"""A discriminator trained alone on known densities of the line finds its closed form, and the game its value.

Losses are the real ones on the real network. Expectations are sums over a fine grid with each point's probability, not
means over noisy samples, so that three digits come in a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from contests import contest, minimise
from gan_experiments.data.base import Spec
from gan_experiments.networks.mlp import MLPDiscriminator
from gan_experiments.objectives.adversarial import (
    Hinge,
    LeastSquares,
    Loss,
    NonSaturating,
    Wasserstein,
)
from gan_experiments.objectives.divergences import (
    FGan,
    Gan,
    JensenShannon,
    KullbackLeibler,
    Neyman,
    Pearson,
    ReverseKullbackLeibler,
    SquaredHellinger,
    TotalVariation,
)
from gan_experiments.objectives.relativistic import RelativisticPairing

X = torch.linspace(-7, 8, 201, dtype=torch.float64)
STEP = (X[1] - X[0]).item()


def normal(mean: float, std: float) -> Tensor:
    """The density's values on the grid, times the step: probabilities of its points."""
    return Normal(torch.tensor(mean, dtype=torch.float64), std).log_prob(X).exp() * STEP


@dataclass(frozen=True)
class Pair:
    """Probabilities p of the data and q of the samples at the grid's points."""

    p: Tensor
    q: Tensor

    def integral(self, integrand: Callable[[Tensor, Tensor], Tensor]) -> float:
        """The sum of a function of both densities."""
        return integrand(self.p, self.q).sum().item()


MIXTURES = Pair(0.5 * normal(-1.5, 0.8) + 0.5 * normal(1.5, 0.8), 0.7 * normal(0.5, 1.2) + 0.3 * normal(-1, 1.0))
MEANS, STDS = (0.0, 0.5), (1.0, 1.1)
GAUSSIANS = Pair(normal(MEANS[0], STDS[0]), normal(MEANS[1], STDS[1]))


def expectation(loss: Loss, v: Tensor, pair: Pair) -> Tensor:
    """The discriminator's loss a(r) + b(f), r = v(x) for x from p and f = v(x) for x from q, by a sum over points."""
    none = torch.zeros((), dtype=torch.float64)

    def at(real: Tensor, fake: Tensor) -> Tensor:
        return loss.discriminator(contest(real[None], fake[None]))

    base = at(none, none)
    on_data = torch.vmap(lambda r: at(r, none))(v) - base
    on_samples = torch.vmap(lambda f: at(none, f))(v) - base
    return base + (pair.p * on_data).sum() + (pair.q * on_samples).sum()


def trained(loss: Loss, pair: Pair, steps: int = 160) -> tuple[Tensor, float]:
    """Outputs on the grid of a discriminator trained alone to its minimum, and that minimum."""
    torch.manual_seed(0)
    network = MLPDiscriminator(Spec((1,)), [16, 16], "tanh").double()
    points = X[:, None] / 3
    least = minimise(lambda: expectation(loss, network(points).logits, pair), list(network.parameters()), steps)
    return network(points).logits.detach(), least


def kl(p: Tensor, q: Tensor) -> Tensor:
    return p * (p / q).log()


def twice_jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    return kl(p, (p + q) / 2) + kl(q, (p + q) / 2)


def off(got: Tensor, best: Tensor, pair: Pair) -> float:
    """Root mean squared distance on data and samples."""
    return ((pair.p + pair.q) / 2 * (got - best).square()).sum().sqrt().item()


@pytest.mark.parametrize("pair", [MIXTURES, GAUSSIANS], ids=["mixtures", "gaussians"])
def test_the_grid_is_fine_enough(pair: Pair) -> None:
    assert pair.p.sum().item() == pytest.approx(1, abs=1e-6)
    assert pair.q.sum().item() == pytest.approx(1, abs=1e-6)


def test_the_optimal_discriminator_is_p_over_p_plus_q_and_the_game_worth_jensen_shannon() -> None:
    v, least = trained(NonSaturating(), MIXTURES)
    p, q = MIXTURES.p, MIXTURES.q
    assert -least == pytest.approx(MIXTURES.integral(twice_jensen_shannon) - math.log(4), rel=1e-4)
    assert math.log(4) - least == pytest.approx(MIXTURES.integral(twice_jensen_shannon), rel=1e-3)
    assert off(v.sigmoid(), p / (p + q), MIXTURES) < 2e-3


def test_the_smoothed_optimum_is_scaled() -> None:
    v, _ = trained(NonSaturating(real_target=0.9), MIXTURES)
    assert off(v.sigmoid(), 0.9 * MIXTURES.p / (MIXTURES.p + MIXTURES.q), MIXTURES) < 2e-3


def test_the_least_squares_optimum() -> None:
    v, least = trained(LeastSquares(), MIXTURES)
    p, q = MIXTURES.p, MIXTURES.q
    assert least == pytest.approx(0.5 * MIXTURES.integral(lambda p, q: p * q / (p + q)), rel=5e-4)
    assert off(v, p / (p + q), MIXTURES) < 0.01


def test_the_hinge_game_is_worth_twice_the_overlap() -> None:
    _, least = trained(Hinge(), MIXTURES, 100)
    overlap = 2 * MIXTURES.integral(torch.minimum)
    assert overlap - 1e-9 <= least < 1.03 * overlap  # the optimum is a step function, the network smooth


@pytest.mark.parametrize(
    ("loss", "divergence"),
    [(KullbackLeibler(), kl), (ReverseKullbackLeibler(), lambda p, q: kl(q, p))],
    ids=["kl", "reverse kl"],
)
def test_the_f_gan_game_is_worth_its_divergence(loss: FGan, divergence: Callable[[Tensor, Tensor], Tensor]) -> None:
    _, least = trained(loss, MIXTURES)
    assert -least == pytest.approx(MIXTURES.integral(divergence), rel=1e-3)


def test_a_wasserstein_critic_of_slope_one_measures_the_distance() -> None:
    """Between N(0, s) and N(m, s) it is |m|, by the critic -x."""
    pair = Pair(normal(0, 1), normal(0.75, 1))
    assert -expectation(Wasserstein(), -X, pair).item() == pytest.approx(0.75, abs=1e-6)


def quadratic(coefficients: Tensor, x: Tensor = X) -> Tensor:
    """c_0 + c_1 x + c_2 x^2, the form of log p/q for Gaussians."""
    return coefficients[0] + coefficients[1] * x + coefficients[2] * x.square()


def test_the_pairing_optimum_is_the_log_ratio_up_to_a_constant() -> None:
    """By a sum over all pairs of points, with the value log 2 - JSD(p x q, q x p)."""
    every = 4
    p, q, x = every * GAUSSIANS.p[::every], every * GAUSSIANS.q[::every], X[::every]
    weights, coefficients = torch.outer(p, q), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    pair_loss = torch.vmap(lambda r, f: RelativisticPairing().discriminator(contest(r[None], f[None])))

    def cost() -> Tensor:
        v = quadratic(coefficients, x)
        n = len(x)
        return weights.flatten() @ pair_loss(v.repeat_interleave(n), v.repeat(n))

    least = minimise(cost, [coefficients], 60)
    torch.testing.assert_close(coefficients.detach()[1:], LOG_RATIO_COEFFICIENTS[1:], atol=1e-4, rtol=0)
    assert least == pytest.approx(math.log(2) - twice_jensen_shannon(weights, weights.T).sum().item() / 2, abs=1e-6)


MEAN_GAP = MEANS[1] - MEANS[0]
VARIANCES = STDS[0] ** 2, STDS[1] ** 2


def gaussian_kl(gap: float, own: float, other: float) -> float:
    """KL(N(0, own), N(gap, other)) for variances."""
    return 0.5 * (own / other + gap**2 / other - 1 + math.log(other / own))


def gaussian_chi_squared(gap: float, own: float, other: float) -> float:
    """The integral of (p - q)^2 / q for p = N(0, own), q = N(gap, other): that of p^2 / q, less 1."""
    spread = 2 * other - own
    return other / math.sqrt(own * spread) * math.exp(gap**2 / spread) - 1


def gaussian_hellinger(gap: float, own: float, other: float) -> float:
    """The integral of (sqrt p - sqrt q)^2: 2 - 2 times the Bhattacharyya coefficient."""
    total = own + other
    return 2 - 2 * math.sqrt(2 * math.sqrt(own * other) / total) * math.exp(-(gap**2) / (4 * total))


PRECISIONS = tuple(1 / variance for variance in VARIANCES)
LOG_RATIO_COEFFICIENTS = torch.tensor(
    [
        math.log(STDS[1] / STDS[0]) + (MEANS[1] ** 2 * PRECISIONS[1] - MEANS[0] ** 2 * PRECISIONS[0]) / 2,
        MEANS[0] * PRECISIONS[0] - MEANS[1] * PRECISIONS[1],
        (PRECISIONS[1] - PRECISIONS[0]) / 2,
    ],
    dtype=torch.float64,
)
JS = GAUSSIANS.integral(twice_jensen_shannon)
F_GANS: list[tuple[FGan, float, Callable[[Tensor], Tensor]]] = [  # divergence, and the optimum from log p/q
    (KullbackLeibler(), gaussian_kl(MEAN_GAP, *VARIANCES), lambda ratio: 1 + ratio),
    (ReverseKullbackLeibler(), gaussian_kl(MEAN_GAP, *VARIANCES[::-1]), lambda ratio: ratio),
    (Pearson(), gaussian_chi_squared(MEAN_GAP, *VARIANCES), lambda ratio: 2 * (ratio.exp() - 1)),
    (Neyman(), gaussian_chi_squared(MEAN_GAP, *VARIANCES[::-1]), lambda ratio: 2 * ratio),
    (SquaredHellinger(), gaussian_hellinger(MEAN_GAP, *VARIANCES), lambda ratio: ratio / 2),
    (JensenShannon(), JS, lambda ratio: ratio),
    (Gan(), JS - math.log(4), lambda ratio: ratio),
]


@pytest.mark.parametrize(("loss", "divergence", "best"), F_GANS, ids=lambda value: type(value).__name__)
def test_a_discriminator_of_the_right_form_finds_the_divergence_of_two_gaussians_and_their_ratio(
    loss: FGan, divergence: float, best: Callable[[Tensor], Tensor]
) -> None:
    coefficients = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    least = minimise(lambda: expectation(loss, best(quadratic(coefficients)), GAUSSIANS), [coefficients], 60)
    assert -least == pytest.approx(divergence, rel=5e-4)
    torch.testing.assert_close(coefficients.detach(), LOG_RATIO_COEFFICIENTS, atol=2e-3, rtol=0)


def test_a_trained_discriminator_finds_the_total_variation_of_two_gaussians() -> None:
    pair = Pair(normal(0, 1), normal(1, 1))
    _, least = trained(TotalVariation(), pair, 60)
    assert -least == pytest.approx(math.erf(0.5 / math.sqrt(2)), rel=1e-3)  # 2 Phi(1/2) - 1
