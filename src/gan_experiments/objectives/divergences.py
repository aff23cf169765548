"""f-GANs (Nowozin et al. 2016): the discriminator's loss is minus a lower bound of an f-divergence of data and samples.

For densities p of the data and q of the samples, E_p T - E_q f*(T) <= D_f(p || q), with equality at the best T. The
discriminator's raw output v becomes T = g_f(v) by an activation that maps into the domain of f*, the conjugate of f;
a larger v is more real in all of them. In the formulas r and f are raw outputs on data and samples, <.> is the mean.
"""

from __future__ import annotations

from abc import abstractmethod
from math import log

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gan_experiments.errors import UserError
from gan_experiments.objectives.adversarial import Contest, Loss

FORMS = ("saturating", "alternative")


def tempered(v: Tensor, limit: float) -> Tensor:
    """v up to `limit`, limit + log(1 + v - limit) beyond: its exponential goes on as the tangent does.

    So exponentials neither overflow nor lose their gradient, as they would by a clamp.
    """
    return v.clamp(max=limit) + torch.log1p(relu(v - limit))


class FGan(Loss):
    """D: -<T(r)> + <f*(T(f))>; G: -<f*(T(f))>, `saturating`, or -<T(f)>, `alternative` (section 3.2, for practice).

    Minus the discriminator's loss is never more than the divergence, and is the divergence at its optimum.
    """

    def __init__(self, generator: str = "alternative") -> None:
        if generator not in FORMS:
            raise UserError(f"{type(self).__name__}: generator={generator!r}: use {' or '.join(FORMS)}")
        self.form = generator

    @abstractmethod
    def activation(self, v: Tensor) -> Tensor:
        """T = g_f(v), elementwise (Nowozin et al. 2016, table 2)."""

    @abstractmethod
    def conjugate(self, v: Tensor) -> Tensor:
        """f*(g_f(v)), elementwise."""

    def discriminator(self, contest: Contest) -> Tensor:
        """Minus the bound of the divergence."""
        return self.conjugate(contest.fake.logits).mean() - self.activation(contest.real.logits).mean()

    def generator(self, contest: Contest) -> Tensor:
        """The part of the bound that the samples have, or the alternative, whose gradient does not vanish."""
        f = contest.fake.logits
        return -(self.conjugate(f) if self.form == "saturating" else self.activation(f)).mean()


class Exponential(FGan):
    """An f-GAN whose formulas hold exponentials of v.

    Where v would make one larger than e^limit it is tempered, so that the exponential goes on as a straight line. That
    is another g_f onto the same domain of f*: the loss remains a bound of the divergence, and the divergence remains
    its optimum; only v*, where it lies beyond the limit, is further out.
    """

    def __init__(self, generator: str = "alternative", limit: float = 10.0) -> None:
        super().__init__(generator)
        if not 0 < limit <= 40:
            raise UserError(f"{type(self).__name__}: limit={limit} must be above 0, and at most 40 for float32's range")
        self.limit = limit

    def capped(self, v: Tensor) -> Tensor:
        """v, tempered above the limit."""
        return tempered(v, self.limit)

    def floored(self, v: Tensor) -> Tensor:
        """v, tempered below minus the limit."""
        return -tempered(-v, self.limit)


class KullbackLeibler(Exponential):
    """KL(p || q) = E_p log p/q: T = v, f*(T) = e^(v - 1); v* = 1 + log p/q."""

    boundary = 1.0

    def activation(self, v: Tensor) -> Tensor:
        """T = v."""
        return self.capped(v)

    def conjugate(self, v: Tensor) -> Tensor:
        """e^(v - 1)."""
        return (self.capped(v) - 1).exp()


class ReverseKullbackLeibler(Exponential):
    """KL(q || p) = E_q log q/p: T = -e^(-v), f*(T) = v - 1; v* = log p/q."""

    def activation(self, v: Tensor) -> Tensor:
        """T = -e^(-v)."""
        return -(-self.floored(v)).exp()

    def conjugate(self, v: Tensor) -> Tensor:
        """-1 - log(-T) = v - 1."""
        return self.floored(v) - 1


class Pearson(FGan):
    """Pearson's chi^2, the integral of (p - q)^2 / q: T = v, f*(T) = v^2/4 + v; v* = 2 (p/q - 1)."""

    def activation(self, v: Tensor) -> Tensor:
        """T = v."""
        return v

    def conjugate(self, v: Tensor) -> Tensor:
        """v^2/4 + v."""
        return 0.25 * v.square() + v


class Neyman(Exponential):
    """Neyman's chi^2, the integral of (p - q)^2 / p: T = 1 - e^(-v), f*(T) = 2 - 2 e^(-v/2); v* = 2 log p/q."""

    def activation(self, v: Tensor) -> Tensor:
        """T = 1 - e^(-v)."""
        return 1 - (-self.floored(v)).exp()

    def conjugate(self, v: Tensor) -> Tensor:
        """2 - 2 sqrt(1 - T) = 2 - 2 e^(-v/2)."""
        return 2 - 2 * (-self.floored(v) / 2).exp()


class SquaredHellinger(Exponential):
    """The integral of (sqrt p - sqrt q)^2: T = 1 - e^(-v), f*(T) = e^v - 1; v* = 1/2 log p/q."""

    def activation(self, v: Tensor) -> Tensor:
        """T = 1 - e^(-v)."""
        return 1 - (-self.capped(self.floored(v))).exp()

    def conjugate(self, v: Tensor) -> Tensor:
        """T / (1 - T) = e^v - 1."""
        return self.capped(self.floored(v)).exp() - 1


class JensenShannon(FGan):
    """2 JSD(p, q) = KL(p || m) + KL(q || m), m = (p + q)/2: T = log 2 - sp(-v), f*(T) = sp(v) - log 2; v* = log p/q."""

    def activation(self, v: Tensor) -> Tensor:
        """T = log 2 - sp(-v)."""
        return log(2) - softplus(-v)

    def conjugate(self, v: Tensor) -> Tensor:
        """-log(2 - e^T) = sp(v) - log 2."""
        return softplus(v) - log(2)


class Gan(FGan):
    """2 JSD(p, q) - log 4, the original game (Goodfellow et al. 2014): T = -sp(-v), f*(T) = sp(v); v* = log p/q."""

    def activation(self, v: Tensor) -> Tensor:
        """T = log of the sigmoid, -sp(-v)."""
        return -softplus(-v)

    def conjugate(self, v: Tensor) -> Tensor:
        """-log(1 - e^T) = sp(v)."""
        return softplus(v)


class TotalVariation(FGan):
    """1/2 the integral of |p - q|: T = f*(T) = 1/2 tanh v; v* = +-infinity, with the sign of p - q."""

    def activation(self, v: Tensor) -> Tensor:
        """T = 1/2 tanh v."""
        return 0.5 * v.tanh()

    def conjugate(self, v: Tensor) -> Tensor:
        """f* is the identity on [-1/2, 1/2]."""
        return self.activation(v)
