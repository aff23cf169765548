"""Unrolled GANs: the generator is judged by the discriminator that its samples would lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round, Term
from gan_experiments.players import Player
from gan_experiments.trick import Trick

Step = Callable[[Tensor, Tensor], Tensor]


class Adam:
    """Adam's next steps as differentiable functions of the gradients, starting from an optimizer's state."""

    def __init__(self, group: Mapping[str, Any], state: Mapping[str, Any], like: Tensor) -> None:
        self.lr, (self.beta1, self.beta2), self.eps = float(group["lr"]), group["betas"], group["eps"]
        self.step = int(state["step"]) if state else 0
        self.first = state["exp_avg"].clone() if state else torch.zeros_like(like)
        self.second = state["exp_avg_sq"].clone() if state else torch.zeros_like(like)

    def __call__(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """The weight after one step (Kingma & Ba 2015, algorithm 1)."""
        self.step += 1
        self.first = self.beta1 * self.first + (1 - self.beta1) * gradient
        self.second = self.beta2 * self.second + (1 - self.beta2) * gradient.square()
        first = self.first / (1 - self.beta1**self.step)
        second = self.second / (1 - self.beta2**self.step)
        # The root of 0 has no derivative; weights that get no gradient don't move anyway.
        root = torch.where(second > 0, second, torch.ones_like(second)).sqrt() * (second > 0)
        moved: Tensor = weight - self.lr * first / (root + self.eps)
        return moved


class Descent:
    """Plain gradient descent."""

    def __init__(self, group: Mapping[str, Any], state: Mapping[str, Any], like: Tensor) -> None:
        self.lr = float(group["lr"])

    def __call__(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """The weight after one step."""
        return weight - self.lr * gradient


RULES: dict[type[torch.optim.Optimizer], Any] = {torch.optim.Adam: Adam, torch.optim.SGD: Descent}
NATIVE_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
PLAIN = {"weight_decay": 0, "amsgrad": False, "momentum": 0, "nesterov": False, "maximize": False}


class Unrolled(Trick):
    """The generator's objective read off the discriminator after `steps` further updates, differentiated through them
    (Metz et al. 2017, equations 9 to 11).

    The updates are those its own optimizer would make on this round, by its whole objective; they are simulated on
    other weights, so the discriminator itself never changes. 0 steps is the ordinary game.
    """

    def __init__(self, steps: int = 5) -> None:
        super().__init__()
        if steps < 0:
            raise UserError(f"steps={steps}: must be 0 or more")
        self.steps = steps

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError when the discriminator's optimizer or objective can't be simulated."""
        optimizer = players["discriminator"].tuned.optimizer
        group = optimizer.param_groups[0]
        moved = [name for name, plain in PLAIN.items() if group.get(name, plain) != plain]
        if type(optimizer) not in RULES or moved:
            raise UserError(
                f"trick {self.name} simulates the discriminator's optimizer, {type(optimizer).__name__}"
                f"{' with ' + ', '.join(moved) if moved else ''}; it can simulate Adam and SGD without momentum or "
                "weight decay: set schedule.discriminator.optimizer._target_=torch.optim.Adam"
            )
        self.check_slopes(players)

    def check_slopes(self, players: Mapping[str, Player]) -> None:
        """UserError for penalties on slopes, differentiated twice more here than in the discriminator's own moves,
        through norms whose kernels torch can differentiate twice only."""
        penalties = [term.name for term in self.objective(players) if term.watches]
        modules = [module for network in players["discriminator"].modules for module in network.modules()]
        norms = sorted({type(module).__name__ for module in modules if isinstance(module, NATIVE_NORMS)})
        if self.steps and penalties and norms:
            raise UserError(
                f"trick {self.name} differentiates {' and '.join(penalties)} a third time, which torch can't through "
                f"{' and '.join(norms)} in the discriminator; set model.discriminator.norm=none or layer, if there "
                "is that key, add "
                "trick=[virtual_batch_norm], or leave one of the two out"
            )

    def watches(self, players: Mapping[str, Player], mover: str) -> frozenset[str]:
        """In the generator's moves, where the discriminator's penalties look."""
        if mover != "generator":
            return frozenset()
        return frozenset(name for term in self.objective(players) for name in term.watches)

    def objective(self, players: Mapping[str, Player]) -> list[Term]:
        """The discriminator's terms of every move; lazy ones are not simulated."""
        return [term for term in players["discriminator"].terms if not term.logged_only and term.every == 1]

    def foresee(self, round: Round, players: Mapping[str, Player]) -> Round:
        """In the generator's moves, the round against the later discriminator."""
        if round.deal.player != "generator" or self.steps == 0:
            return round
        player = players["discriminator"]
        optimizer = player.tuned.optimizer
        weights = {name: value.detach().requires_grad_(True) for name, value in round.weights(player.name).items()}
        rules = {
            name: RULES[type(optimizer)](optimizer.param_groups[0], optimizer.state.get(parameter, {}), parameter)
            for name, parameter in round.weights(player.name).items()
        }
        terms, deal = self.objective(players), round.deal
        later = round.against(weights)
        for _ in range(self.steps):
            objective = sum(
                (term.weight(deal.images, deal.total) * term.value(later) for term in terms), torch.zeros(())
            )
            with torch.autocast(deal.device.type, enabled=False):
                gradients = torch.autograd.grad(
                    objective, list(weights.values()), create_graph=True, allow_unused=True, materialize_grads=True
                )
            weights = {
                name: rules[name](weight, gradient)
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
            # Buffers go on as power iterations do; samples are made anew, lest slopes go through former weights too.
            later = round.against(weights, later.lent)
        return later  # type: ignore[no-any-return]
