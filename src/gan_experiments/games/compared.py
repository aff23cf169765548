"""Rounds in which a discriminator compares real with generated samples: one of them, or several side by side."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gan_experiments import seeding
from gan_experiments.errors import UserError
from gan_experiments.game import Comparison, Deal, Game, Round, Verdict, dealt, judged, widened
from gan_experiments.networks.informed import informing, uses_classes
from gan_experiments.trick import Trick


class ComparedRound(Round):
    """Real and generated samples, and what one discriminator says of them.

    `pair` is the comparison's name where a game has several discriminators; its random streams are then its own.
    """

    def __init__(self, game: Game, deal: Deal, discriminator: nn.Module, pair: str = "") -> None:
        super().__init__(replace(deal, seed=seeding.derive(deal.seed, "pair", pair)) if pair else deal)
        self.game, self.discriminator, self.pair = game, discriminator, pair
        self.tricks: Sequence[Trick] = list(game.tricks.values())
        self.judges_classes = uses_classes(discriminator)
        self._comparisons: dict[str, Mapping[str, Comparison]] = {}

    @abstractmethod
    def generated_samples(self) -> Tensor:
        """The generator's samples (n, ...), before tricks."""

    @dealt
    def reals(self) -> Tensor:
        """Real samples (n, ...)."""
        samples = self.real_samples()
        for trick in self.tricks:
            samples = trick.reals(self, samples)
        return self.watched("reals", samples)

    @dealt
    def fakes(self) -> Tensor:
        """Generated samples (n, ...)."""
        samples = self.generated_samples()
        for trick in self.tricks:
            samples = trick.fakes(self, samples)
        return self.watched("fakes", samples)

    @dealt
    def interpolates(self) -> Tensor:
        """Points between paired real and generated samples, one uniform share a verdict (Gulrajani et al. 2017)."""
        n, pack = len(self.reals), self.game.pack
        shares = torch.rand(n // pack, generator=self.deal.random("mix"), device=self.deal.device)
        shares = shares.repeat_interleave(pack).view(n, *[1] * (self.reals.ndim - 1))
        return self.watched("interpolates", torch.lerp(self.fakes, self.reals, shares))

    @dealt
    def perturbed(self) -> Tensor:
        """Real samples moved by up to half the batch's standard deviation either way (Kodali et al. 2017, DRAGAN)."""
        reals, random = self.reals, self.deal.random("perturb")
        n = len(reals)
        share = torch.rand(n, *[1] * (reals.ndim - 1), generator=random, device=self.deal.device)
        noise = 2 * torch.rand(reals.shape, generator=random, device=self.deal.device) - 1
        return self.watched("perturbed", reals + 0.5 * reals.detach().std(unbiased=False) * share * noise)

    @judged
    def real(self) -> Verdict:
        """The discriminator on the real samples."""
        return self.judge(self.reals, "reals")

    @judged
    def fake(self) -> Verdict:
        """The discriminator on the generated samples."""
        return self.judge(self.fakes, "fakes")

    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
        """The discriminator on any samples; logits in float32, since losses lose most to rounding."""
        for trick in reversed(self.tricks):
            samples = trick.view(self, name, samples)
        network = self.discriminator
        if classes is None and self.judges_classes:
            classes = self.classes_of(name)
        with informing(network, classes):
            if self.opposition is None:
                verdict = network(samples)
            else:
                verdict = functional_call(network, {**self.lent, **self.opposition}, samples)
        return cast(Verdict, verdict)._replace(logits=widened(verdict.logits))

    def contest(self, player: str) -> Any:
        """This round, as the tricks let the loss see it."""
        contest: Any = self
        for trick in self.tricks:
            contest = trick.contest(player, contest)
        return contest

    def comparisons(self, player: str) -> Mapping[str, Comparison]:
        """Its own comparison, and those that tricks add; made once."""
        if player not in self._comparisons:
            found: Mapping[str, Comparison] = {self.pair: Comparison(self, self.game.compared[self.pair])}
            for trick in self.tricks:
                found = trick.comparisons(player, self, found)
            self._comparisons[player] = found
        return self._comparisons[player]

    def weights(self, player: str) -> dict[str, Tensor]:
        """The discriminator's parameters, or those that stand in for them; else those of the player's only network."""
        if player == "discriminator":
            return dict(self.discriminator.named_parameters()) if self.opposition is None else self.opposition
        (network,) = self.game.sides[player]
        return dict(network.named_parameters())

    def against(self, weights: dict[str, Tensor], lent: dict[str, Tensor] | None = None) -> Any:
        """This round judged with these weights and buffers; the discriminator's own stay as they are."""
        own = self.discriminator.named_buffers()
        other = super().against(weights, {name: buffer.clone() for name, buffer in own} if lent is None else lent)
        other._comparisons = {}
        return other

    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        """One of the sets reals, fakes, interpolates, perturbed, and the discriminator's logits there."""
        samples: Tensor = getattr(self, name)
        own: dict[str, Callable[[], Verdict]] = {"reals": lambda: self.real, "fakes": lambda: self.fake}
        return samples, lambda: own.get(name, lambda: self.judge(samples, name))().logits


class JointRound(Round):
    """A round of several discriminators, each with a compared round of its own, by the names that the game compares.

    Losses weigh all comparisons, penalties count at every discriminator; what speaks of one discriminator alone
    (its slopes, a verdict on samples) is asked of its part.
    """

    part_type: ClassVar[type[ComparedRound]]

    def __init__(self, game: Game, deal: Deal) -> None:
        super().__init__(deal)
        self.game = game
        self.rounds = {name: self.part(name) for name in game.compared}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "part_type" in vars(cls):
            cls.names_of_parts = cls.part_type.names - cls.names
            cls.names = cls.names | cls.part_type.names

    @abstractmethod
    def part(self, name: str) -> ComparedRound:
        """The round of the comparison called `name`."""

    def parts(self) -> Sequence[Round]:
        """The rounds of all discriminators."""
        return list(self.rounds.values())

    def comparisons(self, player: str) -> Mapping[str, Comparison]:
        """The comparisons of all parts."""
        return {name: one for part in self.rounds.values() for name, one in part.comparisons(player).items()}

    def weights(self, player: str) -> dict[str, Tensor]:
        """The player's parameters by the names of parts and of parameters; networks of other players by their place."""
        if player == "discriminator":
            return {f"{name}.{key}": w for name, part in self.rounds.items() for key, w in part.weights(player).items()}
        networks = enumerate(self.game.sides[player])
        return {f"{place}.{key}": w for place, network in networks for key, w in network.named_parameters()}

    def against(self, weights: dict[str, Tensor], lent: dict[str, Tensor] | None = None) -> Any:
        """A copy of the round judged by discriminators with these weights and buffers instead of their own."""
        other = copy.copy(self)
        own = {name: _below(f"{name}.", weights) for name in self.rounds}
        buffers = {name: None if lent is None else _below(f"{name}.", lent) for name in self.rounds}
        other.rounds = {name: part.against(own[name], buffers[name]) for name, part in self.rounds.items()}
        other.lent = {f"{name}.{key}": b for name, part in other.rounds.items() for key, b in part.lent.items()}
        other.notes = {}
        return other

    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
        """UserError: one of several discriminators must be named."""
        raise self._ambiguous("judge")

    def generate(self, latents: Tensor) -> Tensor:
        """UserError: one of several sides must be named."""
        raise self._ambiguous("generate")

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """UserError: one of several sides must be named."""
        raise self._ambiguous("draw")

    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        """UserError: one of several discriminators must be named."""
        raise self._ambiguous("points")

    def _ambiguous(self, what: str) -> UserError:
        return UserError(f"{type(self).__name__}: {what} is asked of one of its rounds: {', '.join(self.rounds)}")


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
