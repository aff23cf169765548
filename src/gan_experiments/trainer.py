"""The training loop: it knows players, rounds and terms, and nothing else about GANs."""

from __future__ import annotations

import time
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.checks import check_batch, check_needs
from gan_experiments.data.base import Batch, Split
from gan_experiments.data.sampler import Sampler
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Game, Round, Term
from gan_experiments.meter import Meter
from gan_experiments.modules import buffers_kept
from gan_experiments.players import Player, counted, lowering
from gan_experiments.runtime import Runtime, seed_networks


class Observer(ABC):  # noqa: B024 (both hooks are optional)
    """Acts after the fact, never on the objective; a regularizer among them goes by the `name` of its option."""

    name: str = ""

    def check(self, players: Mapping[str, Player]) -> None:  # noqa: B027
        """Raise a UserError, naming this observer and what would fit, when it can't act on these players."""

    def after_update(self, trainer: Trainer, player: Player) -> None:  # noqa: B027
        """Called when the weights of `player` have been changed: once a move, or twice where lazy terms are apart."""

    def after_move(self, trainer: Trainer, player: Player, round: Round) -> None:  # noqa: B027
        """Called when `player` has moved on what `round` showed; of two updates that of the first."""

    def after_step(self, trainer: Trainer) -> None:  # noqa: B027
        """Called when all players have moved."""

    def state_dict(self) -> dict[str, Any]:
        """What this observer must remember across a resume; nothing for most."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `state_dict` gave."""


class Trainer:
    """Lets the players move in turn until `total` images have been seen, and tells the observers.

    Images seen are real images dealt to the discriminator, or to the first side of a game without one: steps x batch
    size x its moves a step.
    """

    def __init__(
        self,
        game: Game,
        players: Sequence[Player],
        data: Split,
        runtime: Runtime,
        batch_size: int,
        steps: int,
        seed: int,
        observers: Sequence[Observer] = (),
        flip: bool = False,
        simultaneous: bool = False,
    ) -> None:
        terms = [term for player in players for term in player.terms]
        check_needs(game, terms)
        check_batch(game, terms, batch_size)
        self.game, self.players, self.data, self.runtime = game, list(players), data, runtime
        self.sides = {player.name: player for player in players}
        for trick in game.tricks.values():
            trick.check(game, self.sides)
            trick.prepare(game, data, seed)
        if simultaneous and any(player.moves > 1 or player.separate_lazy for player in players):
            raise UserError("schedule.simultaneous=true: one update a player and step; set moves=1, lazy=joined")
        for observer in observers:
            observer.check(self.sides)
        self.simultaneous = simultaneous
        self.batch_size, self.total_steps, self.seed = batch_size, steps, seed
        self.observers, self.flip = list(observers), flip
        self.samplers = {player.name: Sampler(len(data), batch_size, seed, player.name) for player in players}
        for name, split in data.streams.items():
            self.samplers |= {f"{p.name}/{name}": Sampler(len(split), batch_size, seed, p.name, name) for p in players}
        self.scalers = {player.name: runtime.scaler() for player in players}
        self.images_per_step = batch_size * counted(game, players).moves
        self.total = steps * self.images_per_step
        self.step_count = 0
        self.stop_requested = self.stopping = False
        self.seconds_aside = 0.0
        self.meter = Meter(runtime.device, lambda player: lowering(self.players, player))
        game.requires_grad_(False)

    @property
    def images(self) -> int:
        """Real images seen."""
        return self.step_count * self.images_per_step

    @property
    def finished(self) -> bool:
        """Whether the run has reached its length."""
        return self.step_count >= self.total_steps

    @property
    def ending(self) -> bool:
        """Whether no further step follows now: finished, or asked to stop."""
        return self.finished or self.stopping

    def passed(self, every: int) -> bool:
        """Whether the last step reached a multiple of `every` images."""
        return self.images // every > (self.images - self.images_per_step) // every

    def run(self) -> None:
        """Step until the end, or until somebody asks to stop."""
        while not self.ending:
            self.step()

    def step(self) -> None:
        """Each player makes its moves, then the observers look."""
        self.game.advance(self.images, self.total)
        for player in self.players:
            player.tuned.set(self.images, self.total)
        if self.simultaneous:
            self.move_together()
        else:
            for player in self.players:
                for _ in range(player.moves):
                    self.move(player)
        self.step_count += 1
        # All observers of a step see the same answer: a request that comes while they look is of the next step, which
        # the last of them then saves.
        self.stopping = self.stop_requested
        for observer in self.observers:
            observer.after_step(self)

    def move(self, player: Player) -> None:
        """One move of one player: as a rule one update, two where lazy terms have their own."""
        updates = []
        for number, terms in enumerate(player.due()):
            updates.append((terms, self.differentiate(player, terms, number)))
            self.descend(player)
        self.conclude(player, updates)

    def move_together(self) -> None:
        """One move of every player, each against the others as they were before."""
        seen = []
        for player in self.players:
            (terms,) = player.due()
            seen.append((player, terms, self.differentiate(player, terms)))
        for player in self.players:
            self.descend(player)
        for player, terms, round in seen:
            self.conclude(player, [(terms, round)])

    def differentiate(self, player: Player, terms: Sequence[Term], number: int = 0) -> Round:
        """Deal a round, add up the due terms and take the gradients of the player's own parameters."""
        player.watch(True)
        try:
            with self.runtime.autocast():
                round = self.deal(player, terms, number)
                for trick in self.game.tricks.values():
                    round = trick.foresee(round, self.sides)
                objective = self.objective(player, round, terms)
            player.tuned.optimizer.zero_grad(set_to_none=True)
            scaler = self.scalers[player.name]
            torch.autograd.backward(objective if scaler is None else scaler.scale(objective))
        finally:
            player.watch(False)
        return round

    def conclude(self, player: Player, updates: Sequence[tuple[Sequence[Term], Round]]) -> None:
        """Let terms, tricks and observers look at a move that has been made: each once, even of two updates."""

        def report(name: str, value: Any) -> None:
            self.meter.add(name, torch.as_tensor(value, device=self.runtime.device), self.step_count)

        due = {id(term): round for terms, round in updates for term in terms}
        first = updates[0][1]
        for term in player.terms:
            if id(term) in due or term.counts_moves:
                term.after_move(due.get(id(term), first), report)
        for trick in self.game.tricks.values():
            trick.after_move(first, report)
        for observer in self.observers:
            observer.after_move(self, player, first)
        player.move_count += 1

    def deal(self, player: Player, terms: Sequence[Term], number: int = 0) -> Round:
        """The round of the player's coming update; every random number in it follows from seed, player and counts."""
        place = player.move_count
        seed = seeding.derive(self.seed, player.name, place, *([number] if number else []))
        watches = frozenset(name for term in terms for name in term.watches)
        for trick in self.game.tricks.values():
            watches |= trick.watches(self.sides, player.name)
        sampler = self.samplers[player.name]
        flips = sampler.flips(place) if self.flip else None
        streams = {name: (self.samplers[f"{player.name}/{name}"], place) for name in self.data.streams}
        return self.deal_from(self.data, sampler.indices(place), seed, watches, flips, player.name, number, streams)

    def deal_from(
        self,
        data: Split,
        indices: Tensor,
        seed: int,
        watches: frozenset[str],
        flips: Tensor | None = None,
        player: str = "",
        update: int = 0,
        streams: Mapping[str, tuple[Sampler, int]] | None = None,
    ) -> Round:
        """A round on the samples of `data` at `indices` (n,), with latents drawn from `seed`, for `player`.

        `streams` gives the order and place of each of the data's streams; without, they are entered at random.
        """
        seed_networks(seed, self.runtime.device)

        def fetch() -> Batch:
            batch = data.take(indices, flips)
            others = dict(batch.others)
            for name, split in data.streams.items():
                order, at = (streams or {}).get(name, (Sampler(len(split), len(indices), seed, name), 0))
                others |= split.take(order.indices(at), order.flips(at) if self.flip else None).under(name)
            labels = None if batch.labels is None else batch.labels.to(self.runtime.device)
            moved = {name: self.runtime.layout(tensor) for name, tensor in others.items()}
            return Batch(self.runtime.layout(batch.samples), labels, moved)

        exact = self.runtime.reduced and self.runtime.full_precision_slopes
        place = (player, self.images, self.total, update)
        return self.game.deal(Deal(len(indices), fetch, seed, self.runtime.device, watches, exact, *place))

    def objective(self, player: Player, round: Round, terms: Sequence[Term]) -> Tensor:
        """The weighted sum of the due terms; a lazy term counts `every` times, a logged one not at all."""
        total = torch.zeros((), device=self.runtime.device)
        for term in terms:
            if term.logged_only:
                with buffers_kept(self.game):
                    self.meter.add(f"{player.name}/{term.name}", term.value(round), self.step_count)
                continue
            value = term.value(round).float()
            total = total + term.weight(self.images, self.total) * term.every * value
            self.meter.add(f"{player.name}/{term.name}", value, self.step_count)
        return total

    def descend(self, player: Player) -> None:
        """The optimizer's step down the gradients."""
        optimizer, scaler = player.tuned.optimizer, self.scalers[player.name]
        if scaler is not None:
            scaler.unscale_(optimizer)
        norm = player.gradient_norm()
        self.meter.add(f"{player.name}/gradient_norm", norm, self.step_count, may_overflow=scaler is not None)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        for observer in self.observers:
            observer.after_update(self, player)
        player.growth.look(sum(player.move_count for player in self.players))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time spent here (scores, grids, checkpoints) is not training time."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds_aside += time.perf_counter() - start

    def named_observers(self) -> list[tuple[str, Observer]]:
        """Observers by place and type, which follow from the configuration."""
        return [(f"{place} {type(observer).__name__}", observer) for place, observer in enumerate(self.observers)]

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to continue bit for bit."""
        return {
            "step_count": self.step_count,
            "game": self.game.state_dict(),
            "players": {player.name: player.state_dict() for player in self.players},
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items() if scaler is not None},
            "observers": {name: observer.state_dict() for name, observer in self.named_observers()},
            "meter": self.meter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.step_count = state["step_count"]
        self.game.load_state_dict(state["game"])
        for player in self.players:
            player.load_state_dict(state["players"][player.name])
        for name, scaler in self.scalers.items():
            if scaler is not None:
                scaler.load_state_dict(state["scalers"][name])
        for name, observer in self.named_observers():
            observer.load_state_dict(state["observers"][name])
        self.meter.load_state_dict(state["meter"])
