"""Regularizers of a player's weights: orthogonality and closeness to their own history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round, Term
from gan_experiments.trick import Report

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Orthogonal(Term):
    """sum over weights of |W W^T * (1 - I)|_F^2 (Brock et al. 2019, BigGAN, equation 3), with `full` |W W^T - I|_F^2
    (equation 2 there).

    W is a weight of at least 2 dimensions as (out, rest), one filter a row. The paper writes W^T W for filters in
    columns: the same inner products of filters. Weights whose name contains one of `exclude` are left out, as
    BigGAN leaves out its shared class embedding. Raises UserError when nothing is left, or `exclude` names nothing.
    """

    def __init__(
        self,
        full: bool = False,
        exclude: Sequence[str] = (),
        player: str = "generator",
        weight: float | Curve = 1e-4,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        if isinstance(exclude, str):
            raise UserError(f"Orthogonal: exclude={exclude} must be a list of parts of names")
        self.full, self.exclude = full, tuple(exclude)
        self.transposed: frozenset[str] = frozenset()

    def check(self, game: Game) -> None:
        """See that there are weights, and note which of them belong to transposed convolutions, (in, out, ...)."""
        networks = game.sides[self.player]
        names = [name for network in networks for name, _ in network.named_parameters()]
        for part in self.exclude:
            if not any(part in name for name in names):
                raise UserError(f"{self.player}/{self.name}: exclude={part} is in no name: {', '.join(names)}")
        if not any(self.counts(name, weight) for network in networks for name, weight in network.named_parameters()):
            raise UserError(
                f"{self.player}/{self.name}: {self.player} has no weight of 2 or more dimensions to make orthogonal; "
                "choose another player or network"
            )
        self.transposed = frozenset(name for network in networks for name in transposed_weights(network))

    def counts(self, name: str, weight: Tensor) -> bool:
        """Whether this weight is regularized."""
        return weight.ndim >= 2 and not any(part in name for part in self.exclude)

    def __call__(self, round: Round) -> Tensor:
        """The sum over weights."""
        weights = round.weights(self.player)
        chosen = {name: weight for name, weight in weights.items() if self.counts(name, weight)}
        return torch.stack([self.deviation(self.filters(name, weight)) for name, weight in chosen.items()]).sum()

    def filters(self, name: str, weight: Tensor) -> Tensor:
        """The weight as (out, rest), float32."""
        return (weight.transpose(0, 1) if name in self.transposed else weight).flatten(1).float()

    def deviation(self, w: Tensor) -> Tensor:
        """How far the rows of w (out, rest) are from orthogonal, and with `full` from unit length."""
        with torch.autocast(w.device.type, enabled=False):
            gram = w @ w.t()
        identity = torch.eye(len(w), device=w.device)
        return (gram - identity if self.full else gram * (1 - identity)).square().sum()


def transposed_weights(network: nn.Module) -> Iterator[str]:
    """Names of the weights of transposed convolutions."""
    for name, module in network.named_modules():
        if isinstance(module, TRANSPOSED):
            yield from (own for own, weight in module.named_parameters(prefix=name) if weight.ndim > 1)


class HistoricalAveraging(Term):
    """|theta - (1/t) sum_i theta_i|^2 over all weights of the player (Salimans et al. 2016, section 3.3).

    theta_i are the weights after the player's i-th move, so that the sum ends with the current weights; the gradient
    flows through both places of these. The mean is state.
    """

    counts_moves = True

    def __init__(self, player: str = "generator", weight: float | Curve = 1.0, every: int = 1) -> None:
        super().__init__(player, weight, every)
        self.count = 0
        self.mean: dict[str, Tensor] = {}

    def __call__(self, round: Round) -> Tensor:
        """The squared distance; 0 as long as there is no history."""
        weights = round.weights(self.player)
        return torch.stack([self.distance(name, theta).square().sum() for name, theta in weights.items()]).sum()

    def distance(self, name: str, theta: Tensor) -> Tensor:
        """theta minus its mean over the history, whose last summand is theta itself."""
        current = theta.detach()
        mean = self.mean[name].to(current.device) if self.count else current
        return theta - (mean + (theta - current) / max(self.count, 1))

    def after_move(self, round: Round, report: Report) -> None:
        """Count the new weights in."""
        self.count += 1
        for name, weight in round.weights(self.player).items():
            theta = weight.detach()
            mean = self.mean[name].to(theta.device) if name in self.mean else torch.zeros_like(theta)
            self.mean[name] = torch.lerp(mean, theta, 1 / self.count)

    def state_dict(self) -> dict[str, Any]:
        """The mean and how many moves it is over."""
        return {"count": self.count, "mean": dict(self.mean)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.count, self.mean = state["count"], dict(state["mean"])
