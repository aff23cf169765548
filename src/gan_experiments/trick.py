"""What a trick may change: how networks are made, and what a move looks at; never an objective (that is a Term)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from gan_experiments.data.base import Spec, Split

if TYPE_CHECKING:
    from gan_experiments.game import Game, Round
    from gan_experiments.players import Player

Factory = Callable[[Spec], nn.Module]
Report = Callable[[str, Any], None]


class Trick(nn.Module):
    """A change of the game, by hooks that all default to no change; its buffers are saved with the game.

    Tricks of a lower `rank` are nearer to the network: they alter it, and see samples, later.
    """

    name: str = ""
    rank: ClassVar[int] = 0
    players: Sequence[str] = ()
    """Whose networks it alters."""
    pack: int = 1
    """Samples that the discriminator judges with one logit."""

    def __init__(self) -> None:
        super().__init__()

    def bind(self, spec: Spec) -> None:
        """Make what is kept as long as the game, for data of this kind."""

    def bind_pair(self, pair: str, spec: Spec) -> None:
        """Make what is kept for one of the game's comparisons, whose samples are of this kind."""

    def network(self, player: str, make: Factory) -> Factory:
        """How the network of `player`, one of `players`, is made; UserError when it can't be altered so."""
        return make

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """Raise a UserError, naming this trick and what would fit, when it can't apply to what has been chosen."""

    def prepare(self, game: Game, data: Split, seed: int) -> None:
        """Take what is needed of the training data, before the first step; a resume loads its own state over it."""

    def reals(self, round: Round, samples: Tensor) -> Tensor:
        """The real samples (n, ...) of this round, given what they would be."""
        return samples

    def fakes(self, round: Round, samples: Tensor) -> Tensor:
        """The generated samples (n, ...) of this round, given what they would be."""
        return samples

    def view(self, round: Round, name: str, samples: Tensor) -> Tensor:
        """What the discriminator is shown of `samples` (n, ...), the round's set called `name`; differentiable."""
        return samples

    def comparisons(self, player: str, round: Round, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """The comparisons that the adversarial loss of `player` weighs, given what they would be."""
        return found

    def contest(self, player: str, contest: Any) -> Any:
        """What the adversarial loss of `player` compares: anything with the verdicts `real` and `fake`."""
        return contest

    def watches(self, players: Mapping[str, Player], mover: str) -> frozenset[str]:
        """Sample sets at which this trick will have slopes taken in a move of `mover`."""
        return frozenset()

    def foresee(self, round: Round, players: Mapping[str, Player]) -> Round:
        """The round by which the mover's objective is judged."""
        return round

    def after_move(self, round: Round, report: Report) -> None:
        """Called once a move, with the round of its first update; `report` takes a name and a scalar for the log."""
