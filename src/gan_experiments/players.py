"""A side of the game: its parameters, optimizer, terms and tempo."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.curves import Curve, as_curve, within
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Term
from gan_experiments.weight_growth import WeightGrowth, first_to_go

Optimizer = torch.optim.Optimizer


class TunedOptimizer:
    """An optimizer some of whose settings are curves of images seen.

    `settings` may hold a Curve for any number, and a list of numbers and curves for `betas`. Rates are multiplied by
    `lr_factor`; `correction` c makes them c * lr and betas^c (StyleGAN2's lazy regularization, Karras et al. 2020).
    Raises UserError naming `where` when the optimizer does not take one of the settings.
    """

    def __init__(
        self,
        make: Callable[..., Optimizer],
        parameters: Sequence[nn.Parameter],
        settings: Mapping[str, Any],
        where: str,
        lr_factor: float = 1.0,
        correction: float = 1.0,
    ) -> None:
        if lr_factor <= 0:
            raise UserError(f"{where}: lr_factor={lr_factor} must be positive")
        taken = inspect.signature(make).parameters
        # null stands where another optimizer's number was before an option of the group `optimizer` took its place
        settings = {name: value for name, value in settings.items() if value is not None or name in taken}
        self.where, self.settings = where, dict(settings)
        self.lr_factor, self.correction = lr_factor, correction
        self.curves = {name: value for name, value in settings.items() if _moves(value)}
        unknown = sorted(set(settings) - set(taken))
        if unknown:
            raise UserError(f"{where}: {make.__name__} takes no {', '.join(unknown)}; it takes {_names(make)}")
        start = {name: self._adjusted(name, _value(setting, 0, 1)) for name, setting in settings.items()}
        if "fused" in taken:
            start.setdefault("fused", True)  # one kernel for all parameters, on every device
        try:
            self.optimizer = make(list(parameters), **start)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: {make.__name__} refused {start}: {error}") from error
        check_settings(self.optimizer, self.curves, where)

    def set(self, images: int, total: int) -> None:
        """Move every curve to its value after `images` images."""
        for name, setting in self.curves.items():
            value = self._adjusted(name, _value(setting, images, total))
            for group in self.optimizer.param_groups:
                group[name] = value

    def _adjusted(self, name: str, value: Any) -> Any:
        if name == "betas":
            return tuple(beta**self.correction for beta in value)
        return value * self.lr_factor * self.correction if name == "lr" else value

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def lever(self) -> str:
        """The key that sets how high the rate is, with its value now, and the factor's where that counts."""
        rate = self.settings.get("lr")
        place, height = rate.height() if isinstance(rate, Curve) else ("", rate)
        default = rate is None  # a key that isn't there yet is added with a plus
        key = f"{'+' if default else ''}{self.where}.lr{place}"
        said = f"{key} ({self.optimizer.defaults['lr'] if default else height:g} now)"
        if self.lr_factor != 1:
            said += f" or {self.where.removesuffix('.optimizer')}.lr_factor ({self.lr_factor:g} now)"
        return said


class Player:
    """A side of the game: what it moves, how, towards what, and how often a step (`moves`)."""

    def __init__(
        self,
        name: str,
        modules: Sequence[nn.Module],
        optimizer: TunedOptimizer,
        terms: Sequence[Term],
        moves: int = 1,
        separate_lazy: bool = False,
    ) -> None:
        if moves < 1:
            raise UserError(f"schedule.{name}.moves={moves}: a player makes at least one move a step")
        if not any(not term.logged_only and term.every == 1 for term in terms):
            raise UserError(f"player {name} has no term with a weight at every move: nothing to minimise")
        self.name, self.modules, self.tuned, self.terms, self.moves = name, list(modules), optimizer, list(terms), moves
        self.parameters = [p for module in modules for p in module.parameters()]
        self.separate_lazy = separate_lazy
        self.growth = WeightGrowth(self.parameters)
        self.move_count = 0

    def due(self) -> list[list[Term]]:
        """Terms of the coming move, one list an update; those that are only logged come last and disturb nothing.

        All in one update, or, with `separate_lazy`, those of every move first and the lazy ones in a second update.
        """
        due = [term for term in self.terms if self.move_count % term.every == 0]
        due.sort(key=lambda term: term.logged_only)
        if not self.separate_lazy:
            return [due]
        lazy = [term for term in due if term.every > 1 and not term.logged_only]
        return [[term for term in due if term not in lazy], *([lazy] if lazy else [])]

    def watch(self, on: bool) -> None:
        """Let this player's parameters require gradients, or freeze them."""
        for parameter in self.parameters:
            parameter.requires_grad_(on)

    def gradient_norm(self) -> Tensor:
        """Euclidean norm of all gradients, a scalar on the device."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, terms, growth of weights and move count."""
        return {
            "optimizer": self.tuned.optimizer.state_dict(),
            "terms": {term.name: term.state_dict() for term in self.terms},
            "growth": self.growth.state_dict(),
            "move_count": self.move_count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.tuned.optimizer.load_state_dict(state["optimizer"])
        for term in self.terms:
            term.load_state_dict(state["terms"][term.name])
        self.growth.load_state_dict(state.get("growth", {}))  # states of older versions have none
        self.move_count = state["move_count"]


def check_settings(optimizer: Optimizer, curves: Mapping[str, Any], where: str) -> None:
    """UserError for an optimizer that wants to evaluate the objective itself, and for curves that leave the range of
    rates and betas on their way."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(
            f"{where}._target_: {type(optimizer).__name__} evaluates the objective several times an update, which a "
            "move does once; set torch.optim.Adam or another that needs no closure"
        )
    if "lr" in curves:
        within(curves["lr"], f"{where}.lr")
    for place, beta in enumerate(curves.get("betas", ())):
        within(beta, f"{where}.betas[{place}]", 0.0, 1.0)


def lowering(players: Sequence[Player], suspect: str) -> str:
    """Whose weights exploded first and the key that lowers its rate; where nobody's did, that of `suspect`."""
    named = {player.name: player for player in players}
    gone = first_to_go((player.name, player.growth) for player in players)
    if gone:
        return f"the {gone[0]}'s weights went first: lower {named[gone[0]].tuned.lever}"
    return f"lower {named.get(suspect, players[0]).tuned.lever}"


def counted(game: Game, players: Sequence[Player]) -> Player:
    """The player by whose moves images are counted: the first of the game's sides, the discriminator where there is
    one."""
    first = next(iter(game.sides))
    return next(player for player in players if player.name == first)


def lazy_correction(terms: Sequence[Term], where: str) -> float:
    """k / (k + 1) for lazy terms taken every k moves in updates of their own; UserError when they differ in k."""
    intervals = sorted({term.every for term in terms if term.every > 1 and not term.logged_only})
    if len(intervals) > 1:
        raise UserError(f"{where}.lazy=separate: lazy terms of different intervals {intervals}; give them one")
    return intervals[0] / (intervals[0] + 1) if intervals else 1.0


def _moves(setting: Any) -> bool:
    if isinstance(setting, list | tuple):
        return any(_moves(item) for item in setting)
    return isinstance(setting, Curve)


def _value(setting: Any, images: int, total: int) -> Any:
    if isinstance(setting, list | tuple):
        return tuple(_value(item, images, total) for item in setting)
    return as_curve(setting)(images, total) if isinstance(setting, Curve) else setting


def _names(make: Callable[..., Optimizer]) -> str:
    return ", ".join(name for name in inspect.signature(make).parameters if name not in ("self", "params"))
