"""The information that samples carry about the codes they were made from (InfoGAN), as a bound to be raised."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Term
from gan_experiments.trick import Report, Trick

UNIFORM = math.log(2)
"""Entropy of U(-1, 1) in nats."""


class Codes(NamedTuple):
    """The meaningful part of latents: categories, int64 (n,) a categorical code, and continuous codes (n, m)."""

    categories: tuple[Tensor, ...]
    continuous: Tensor


class Guess(NamedTuple):
    """What Q says of the codes of n samples: logits (n, k) a categorical code, means and log deviations (n, m)."""

    logits: tuple[Tensor, ...]
    mean: Tensor
    log_std: Tensor


def categorical_information(codes: Codes, guess: Guess) -> Tensor:
    """sum over categorical codes of <log Q(c|x)> + log k, a scalar in nats: at most sum log k, 0 for a uniform Q."""
    parts = [
        math.log(logits.shape[1]) - cross_entropy(logits, category)
        for category, logits in zip(codes.categories, guess.logits, strict=True)
    ]
    return torch.stack(parts).sum() if parts else guess.mean.new_zeros(())


def continuous_information(codes: Codes, guess: Guess) -> Tensor:
    """sum over continuous codes of <log N(c; mean, std^2)> + log 2, a scalar in nats."""
    standard = (codes.continuous - guess.mean) * torch.exp(-guess.log_std)
    log_density = -0.5 * standard.square() - guess.log_std - 0.5 * math.log(2 * math.pi)
    return (log_density + UNIFORM).mean(0).sum()


class MutualInformation(Term):
    """-L_I, L_I = E log Q(c|G(z, c)) + H(c) <= I(c; G(z, c)) (Chen et al. 2016, equation 5), the codes' parts weighted.

    `categorical` weighs categorical codes (the paper's lambda, 1), `continuous` those whose density is not bounded
    (smaller, 0.1). The generator player moves G and Q. A further such term of the discriminator trains the body that
    Q reads for its sake too; the published code does so, and moves Q with it.
    """

    needs = ("codes", "guess")
    remedy = "model=infogan deals codes, as does gan_experiments.games.info.InfoGame with any networks"

    def __init__(
        self,
        categorical: float = 1.0,
        continuous: float = 0.1,
        player: str = "generator",
        weight: float | Curve = 1.0,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        if min(categorical, continuous) < 0:
            raise UserError(f"MutualInformation: {categorical=} and {continuous=} must not be negative")
        self.categorical, self.continuous = categorical, continuous

    def check(self, game: Game) -> None:
        """In the discriminator's moves the samples must be those of the round's codes."""
        for trick in game.tricks.values():
            if self.player == "discriminator" and type(trick).fakes is not Trick.fakes:
                raise UserError(
                    f"{self.player}/{self.name}: trick {trick.name} replaces generated samples, which then are not "
                    "those of the codes to be recognised; leave one of the two out"
                )

    def __call__(self, round: Any) -> Tensor:
        """Minus the weighted bound; 0 for categorical codes that Q knows nothing of."""
        bound = self.categorical * categorical_information(round.codes, round.guess)
        return -(bound + self.continuous * continuous_information(round.codes, round.guess))

    def after_move(self, round: Any, report: Report) -> None:
        """Report both bounds, unweighted."""
        codes, guess = round.codes, Guess(*(detached(part) for part in round.guess))
        if codes.categories:
            report(f"{self.player}/{self.name}_categorical", categorical_information(codes, guess))
        if codes.continuous.shape[1]:
            report(f"{self.player}/{self.name}_continuous", continuous_information(codes, guess))


def detached(part: Any) -> Any:
    """A tensor, or a tuple of them, without their graph."""
    return part.detach() if isinstance(part, Tensor) else tuple(tensor.detach() for tensor in part)
