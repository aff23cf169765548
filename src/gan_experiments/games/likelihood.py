"""What games without an adversary share: one player, a model of the data with a likelihood or a bound on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Game, Round, Verdict, dealt
from gan_experiments.trick import Trick


class LikelihoodRound(Round):
    """A batch of data; what the model makes of it is dealt by its own round."""

    def __init__(self, game: LikelihoodGame, deal: Deal) -> None:
        super().__init__(deal)
        self.game = game
        self.z = game.latents(deal.batch_size, deal.random("z"))

    @dealt
    def reals(self) -> Tensor:
        """Real samples (n, ...)."""
        return self.watched("reals", self.batch.samples)

    @dealt
    def latents(self) -> Tensor:
        """Latents (n, ...), for samples."""
        return self.z

    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> NoReturn:
        """UserError: there is nobody to judge."""
        self.game.refuse()

    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        """One of the round's sets of samples, and what raises UserError where it should be judged."""
        return getattr(self, name), lambda: self.judge(getattr(self, name), name)

    def generate(self, latents: Tensor) -> Tensor:
        """Samples (n, ...)."""
        return self.game.sample(latents)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """Samples for latents drawn now."""
        return self.game.sample(self.game.latents(n, random))

    def weights(self, player: str) -> dict[str, Tensor]:
        """All parameters of the model."""
        (network,) = self.game.sides[player]
        return dict(network.named_parameters())


class LikelihoodGame(Game):
    """A model of the data alone: the player `generator` makes the data likelier.

    Raises UserError for tricks, which change how a generator and a discriminator meet.
    """

    def __init__(self, spec: Spec, tricks: Sequence[Trick] = ()) -> None:
        if tricks:
            names = ", ".join(trick.name for trick in tricks)
            raise UserError(f"{type(self).__name__} has no discriminator, and so no use for {names}; leave it out")
        super().__init__(spec)

    @abstractmethod
    def deal(self, deal: Deal) -> LikelihoodRound:
        """The round of one move."""

    def refuse(self) -> NoReturn:
        """Raise a UserError that says there is no discriminator."""
        raise UserError(f"{type(self).__name__} has no discriminator: leave out what reads its verdicts or slopes")

    def probe(self) -> Verdict:
        """UserError: there is nobody to judge."""
        self.refuse()
