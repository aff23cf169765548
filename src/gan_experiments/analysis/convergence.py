"""Convergence of training as a dynamical system: the players' vector field, its Jacobian, and the maps of a step.

All players' weights are one vector x = (psi, theta); gradient descent with small steps follows
v(x) = (-grad_psi L_D, -grad_theta L_G) (Mescheder, Nowozin & Geiger 2017; Nagarajan & Kolter 2017). Near an
equilibrium the flow converges if all eigenvalues of v' have negative real parts; a step of gradient descent,
simultaneous or alternating, converges if those of its own Jacobian are within the unit circle (Mescheder, Geiger &
Nowozin 2018, section 2.2). Losses, penalties and tricks are those of the trainer, called as a move calls them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round
from gan_experiments.games.noise import NoiseRound
from gan_experiments.trainer import Trainer
from gan_experiments.trick import Trick

Map = Callable[[Tensor], Tensor]
"""From weights x (k,) to a velocity, or to the weights of the next step (k,)."""


class Objectives(nn.Module):
    """What the players minimise, as the trainer computes it, for the weights that the game has while it is called."""

    def __init__(self, trainer: Trainer, latents: Tensor | None) -> None:
        super().__init__()
        self.game: Game = trainer.game
        self.latents = latents
        self._trainer = (trainer,)

    def forward(self) -> dict[str, Tensor]:
        """A scalar a player: the weighted sum of its terms, each counted once, be it lazy or not (its mean effect)."""
        (trainer,) = self._trainer
        values = {}
        for player in trainer.players:
            round = trainer.deal(player, player.terms)
            if self.latents is not None and isinstance(round, NoiseRound):
                round.z = self.latents
            for trick in self.game.tricks.values():
                round = trick.foresee(round, trainer.sides)
            weights = {
                term: term.weight(trainer.images, trainer.total) for term in player.terms if not term.logged_only
            }
            values[player.name] = torch.stack(
                [weight * term.value(round).float() for term, weight in weights.items()]
            ).sum()
        return values


class Field:
    """v(x) of a trainer's game at its coming batch; `latents` (n, ...) take the place of random ones.

    x (k,) holds the weights of all players in the order of `names`. The field is differentiable. Nothing random is
    averaged: data and latents must stand for their distributions, as `quadrature` does.
    """

    def __init__(self, trainer: Trainer, latents: Tensor | None = None) -> None:
        self.objectives, self.players = Objectives(trainer, latents), trainer.players
        self.weights = {
            player: {name: weight for name, weight in self.objectives.named_parameters() if _among(weight, modules)}
            for player, modules in trainer.game.sides.items()
        }

    @property
    def names(self) -> list[str]:
        """The weights in the order of x, by player and name."""
        return [f"{player}/{name.split('.')[-1]}" for player, weights in self.weights.items() for name in weights]

    @property
    def state(self) -> Tensor:
        """The trainer's own weights as one vector x (k,)."""
        return torch.cat([w.detach().flatten() for weights in self.weights.values() for w in weights.values()])

    @property
    def turns(self) -> list[Tensor]:
        """The trainer's moves of one step in their order, each as 1 at the mover's weights and 0 elsewhere (k,)."""
        masks = {
            mover: torch.cat(
                [
                    torch.full((weight.numel(),), float(player == mover))
                    for player, weights in self.weights.items()
                    for weight in weights.values()
                ]
            )
            for mover in self.weights
        }
        return [masks[player.name] for player in self.players for _ in range(player.moves)]

    def __call__(self, x: Tensor) -> Tensor:
        """The velocity (k,) at x (k,); differentiable if x requires gradients."""
        differentiable = x.requires_grad
        with torch.enable_grad():
            parts = self._parts(x if differentiable else x.detach().requires_grad_(True))
            flat = {name: part for own in parts.values() for name, part in own.items()}
            values: Mapping[str, Tensor] = functional_call(self.objectives, flat, ())
            slopes = [
                torch.autograd.grad(values[player], list(own.values()), create_graph=True, materialize_grads=True)
                for player, own in parts.items()
            ]
            velocity = -torch.cat([slope.flatten() for own in slopes for slope in own])
        return velocity if differentiable else velocity.detach()

    def _parts(self, x: Tensor) -> dict[str, dict[str, Tensor]]:
        """x cut into the weights of each player."""
        pieces = iter(torch.split(x, [w.numel() for weights in self.weights.values() for w in weights.values()]))
        return {
            player: {name: next(pieces).view(weight.shape) for name, weight in weights.items()}
            for player, weights in self.weights.items()
        }


def _among(weight: Tensor, modules: Sequence[nn.Module]) -> bool:
    return any(weight is other for module in modules for other in module.parameters())


def consensus(field: Map, gamma: float) -> Map:
    """v(x) - gamma grad 1/2 |v(x)|^2: consensus optimisation (Mescheder, Nowozin & Geiger 2017)."""

    def velocity(x: Tensor) -> Tensor:
        differentiable = x.requires_grad
        x = x if differentiable else x.detach().requires_grad_(True)
        v = field(x)
        (slope,) = torch.autograd.grad(0.5 * v.square().sum(), x, create_graph=differentiable)
        result = v - gamma * slope
        return result if differentiable else result.detach()

    return velocity


def simultaneous(field: Map, h: float) -> Map:
    """One step of gradient descent by all players at once: x + h v(x) (SimGD)."""
    return lambda x: x + h * field(x)


def alternating(field: Map, h: float, turns: Sequence[Tensor]) -> Map:
    """One step of gradient descent by one player after the other (AltGD), in the turns of a Field."""

    def step(x: Tensor) -> Tensor:
        for mask in turns:
            x = x + h * mask * field(x)
        return x

    return step


def iterate(step: Map, start: Tensor, steps: int) -> Tensor:
    """The path (steps + 1, k) of a map from `start` (k,)."""
    path = [start]
    for _ in range(steps):
        path.append(step(path[-1]))
    return torch.stack(path)


def jacobian(function: Map, x: Tensor) -> Tensor:
    """The matrix (k, k) of derivatives at x (k,), by automatic differentiation."""
    matrix: Tensor = torch.autograd.functional.jacobian(function, x)  # type: ignore[no-untyped-call]
    return matrix


def eigenvalues(function: Map, x: Tensor) -> list[complex]:
    """The eigenvalues of the Jacobian at x (k,), by real and then by imaginary part, largest first."""
    values = torch.linalg.eigvals(jacobian(function, x).double()).tolist()
    return sorted(values, key=lambda value: (round(value.real, 9), value.imag), reverse=True)


def spectral_radius(step: Map, x: Tensor) -> float:
    """The largest absolute value of an eigenvalue: below 1 a fixed point x (k,) of the step attracts."""
    return max(map(abs, eigenvalues(step, x)))


def verdict(values: Sequence[complex]) -> str:
    """What the eigenvalues of v' at an equilibrium say of the flow, whose rate is their largest real part."""
    rate = max(value.real for value in values)
    if abs(rate) < 1e-6:
        return "no linear convergence"
    return "converges linearly" if rate < 0 else "diverges"


def follow(trainer: Trainer) -> Tensor:
    """The path (steps + 1, k) of all weights while the trainer runs to its end, in the order of a Field."""
    field = Field(trainer)
    path = [field.state]
    while not trainer.finished:
        trainer.step()
        path.append(field.state)
    return torch.stack(path)


def quadrature(std: float) -> Tensor:
    """Six points (6, 1) that have a centred Gaussian's moments up to the fifth, as equally likely samples.

    Gauss-Hermite's rule of three points -sqrt(3), 0, sqrt(3) with weights 1/6, 4/6, 1/6, times `std`.
    """
    return std * math.sqrt(3) * torch.tensor([[-1.0], [0.0], [0.0], [0.0], [0.0], [1.0]])


def exact_gaussian(std: float) -> Dataset:
    """N(0, std^2) for all that depends on its moments up to the fifth only: the linear-quadratic game's Jacobian."""
    return Dataset("gaussian", Spec((1,)), Split(quadrature(std)), Split(quadrature(std)), "six-point quadrature")


class TwoPointNoise(Trick):
    """Instance noise (Sønderby et al. 2017) without chance: every sample is shown at +std and at -std.

    It has the variance of Gaussian noise, on which alone the Jacobian at the equilibrium depends. For points (n, 1).
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        if std <= 0:
            raise UserError(f"TwoPointNoise: std={std} must be positive")
        self.std = std

    def reals(self, round: Round, samples: Tensor) -> Tensor:
        """Real samples (2n, 1)."""
        return torch.cat([samples + self.std, samples - self.std])

    def fakes(self, round: Round, samples: Tensor) -> Tensor:
        """Generated samples (2n, 1)."""
        return torch.cat([samples + self.std, samples - self.std])
