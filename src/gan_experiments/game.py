"""The vocabulary of a game: what a family of GAN owns, deals for one update, and what a term reads off it."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.curves import Curve, within
from gan_experiments.data.base import Batch, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.networks.informed import Timed
from gan_experiments.trick import Factory, Report, Trick

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


def widened(tensor: Tensor) -> Tensor:
    """The tensor in float32 at least: half precision is widened, float64 is kept."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Verdict(NamedTuple):
    """A discriminator's answer: logits (n,), larger for real; its features, one tensor (n, ...) a level; and what
    further heads say, by name (an autoencoder's energy, class logits ...).

    Where k parts or patches of it judge each sample, logits are (n, k): losses are then means over all n k of them,
    slopes are those of a sample's sum, and batches are compared part by part.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = NOTHING


class Head(nn.Module):
    """A part of a discriminator that adds something to `Verdict.heads`; terms may need what it `gives`."""

    gives: ClassVar[tuple[str, ...]] = ()
    brought_by: ClassVar[str] = ""
    """The option that puts it there, where it replaces another part."""


class dealt(cached_property[Any]):  # noqa: N801 (a decorator)
    """A tensor of a round, computed when first asked for and then kept; its name is what a term may need."""


class judged(dealt):  # noqa: N801 (a decorator)
    """A dealt tensor that depends on the discriminator."""


@dataclass(frozen=True)
class Deal:
    """What the trainer hands a game for one update: how to fetch the batch, a seed and what terms ask for.

    `update` is 0 for the first of a move, 1 for that of lazy terms which have their own.
    """

    batch_size: int
    fetch: Callable[[], Batch]
    seed: int
    device: torch.device
    watches: frozenset[str] = frozenset()
    full_precision_slopes: bool = False
    player: str = ""
    images: int = 0
    total: int = 1
    update: int = 0

    def random(self, name: str) -> torch.Generator:
        """The generator of this move's stream `name`: whoever else draws, its numbers stay the same."""
        return seeding.generator(self.seed, name, device=self.device)


class Comparison(NamedTuple):
    """A round of one discriminator, whose real and generated samples a loss compares, and its weight in the loss."""

    round: Any
    weight: float = 1.0


class Round(ABC):
    """What one update may look at: latents drawn at the deal, and tensors derived from them when first asked for."""

    names: ClassVar[frozenset[str]] = frozenset({"batch", "labels"})
    names_of_parts: ClassVar[frozenset[str]] = frozenset()
    """Names that only the rounds of each of several discriminators know."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        own = {name for name, value in vars(cls).items() if isinstance(value, dealt)}
        cls.names = cls.names | own

    def __init__(self, deal: Deal) -> None:
        self.deal = deal
        self.pair = ""
        self.opposition: dict[str, Tensor] | None = None
        self.lent: dict[str, Tensor] = {}
        self.notes: dict[str, Tensor] = {}
        self._slopes: dict[str, Tensor] = {}

    @dealt
    def batch(self) -> Batch:
        """The samples and labels of this move."""
        return self.deal.fetch()

    @dealt
    def labels(self) -> Tensor | None:
        """Labels (n,) of the real samples."""
        batch: Batch = self.batch
        return batch.labels

    def real_samples(self) -> Tensor:
        """The data's samples (n, ...), before tricks."""
        samples: Tensor = self.batch.samples
        return samples

    @abstractmethod
    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
        """The discriminator's verdict on `samples` (n, ...), the set called `name`, through the tricks' view of it.

        `classes` (n,) are theirs, for a discriminator that uses classes; by default `classes_of(name)`.
        """

    def classes_of(self, name: str) -> Tensor | None:
        """The classes (n,) of the sample set called `name`, where there are any."""
        return None

    @abstractmethod
    def generate(self, latents: Tensor) -> Tensor:
        """Samples (n, ...) of the generator for latents of the caller's own."""

    @abstractmethod
    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """`n` generated samples (n, ...) besides those of the round."""

    @abstractmethod
    def weights(self, player: str) -> dict[str, Tensor]:
        """The weights of `player` in this round, by name."""

    def parts(self) -> Sequence[Round]:
        """The rounds of each discriminator, where there are several; itself where there is one."""
        return (self,)

    def comparisons(self, player: str) -> Mapping[str, Comparison]:
        """What the adversarial loss of `player` weighs, by name; one comparison is as a rule without a name."""
        return {"": Comparison(self)}

    def contest(self, player: str) -> Any:
        """What the adversarial loss of `player` compares: the verdicts `real` and `fake`."""
        return self

    def against(self, weights: dict[str, Tensor], lent: dict[str, Tensor] | None = None) -> Any:
        """This round, samples and all, judged by a discriminator with these weights instead of its own.

        `lent` are buffers for it, which it moves on; None: copies of the discriminator's.
        """
        other = copy.copy(self)
        other.__dict__ = {
            name: value for name, value in self.__dict__.items() if not isinstance(getattr(type(self), name, 0), judged)
        }
        other.opposition, other.lent, other._slopes, other.notes = weights, lent or {}, {}, {}
        return other

    @abstractmethod
    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        """The sample set called `name` (n, ...) and a function that gives the discriminator's logits (n,) there."""

    def watched(self, name: str, samples: Tensor) -> Tensor:
        """`samples`, recording gradients with respect to them when a due term asked for slopes at `name`."""
        if name in self.deal.watches and not samples.requires_grad:
            samples.requires_grad_(True)
        return samples

    def slope(self, name: str) -> Tensor:
        """Gradient (n, ...) of the sum of logits with respect to the set `name`, float32 and differentiable again.

        One row a logit: where the discriminator judges packs, the rows are packs.

        Where networks run in reduced precision, the discriminator is evaluated once more in float32 for it
        (second derivatives lose most), unless the run chose `runtime.penalties=reduced`.
        """
        if name not in self._slopes:
            samples, logits = self.points(name)
            judgement = None if self.deal.full_precision_slopes else widened(logits())
            # Backward passes that keep a graph obey autocast like forward ones, and would lose precision to it.
            with torch.autocast(samples.device.type, enabled=False):
                if judgement is None:
                    samples = widened(samples) if samples.requires_grad else widened(samples.detach())
                    judgement = self.judge(samples.requires_grad_(True), name).logits
                (gradient,) = torch.autograd.grad(judgement.sum(), samples, create_graph=True)
            gradient = widened(gradient)
            # Where one logit judges a pack of samples, its slope is the gradient with respect to the whole pack.
            self._slopes[name] = gradient if len(judgement) == len(gradient) else gradient.view(len(judgement), -1)
        return self._slopes[name]


class Game(nn.Module, ABC):
    """One family of GAN: owns the networks, deals rounds, and samples."""

    round_type: ClassVar[type[Round]]
    compared: Mapping[str, float] = MappingProxyType({"": 1.0})
    """Names of the comparisons that its rounds hold, one a discriminator, with their weights in the loss."""
    given: ClassVar[tuple[str, ...]] = ()
    """Fields of the data that its generator is given, beside or in place of noise."""
    fitting_loss: ClassVar[str] = "nonsaturating"
    """An option of the group `loss` for this family."""

    def __init__(self, spec: Spec, tricks: Sequence[Trick] = ()) -> None:
        super().__init__()
        self.spec = spec
        self._giving: Split | None = None
        lacking = [name for name in self.given if name not in spec.fields]
        if lacking:
            raise UserError(
                f"{type(self).__name__} is given {', '.join(lacking)}, and the data have {', '.join(spec.fields)}; "
                "choose a data set with these fields"
            )
        ranked = sorted(tricks, key=lambda trick: trick.rank)
        self.tricks: dict[str, Trick] = {trick.name: trick for trick in ranked}
        self.trick_states = nn.ModuleDict(self.tricks)
        for trick in tricks:
            trick.bind(spec)
            for pair in self.compared:
                trick.bind_pair(pair, self.compared_spec(pair))
        self.pack = math.prod(trick.pack for trick in tricks)

    def compared_spec(self, pair: str) -> Spec:
        """What the samples of the comparison called `pair` are; the data's, unless several kinds are compared."""
        return self.spec

    @property
    def spec_size(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.spec.shape)

    def make(self, player: str, factory: Factory, spec: Spec | None = None) -> nn.Module:
        """The network of `player`, as altered by the tricks, for the data or for those of another `spec`."""
        for trick in self.tricks.values():
            factory = trick.network(player, factory) if player in trick.players else factory
        return factory(spec or self.spec)

    @property
    @abstractmethod
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """The networks that each player moves, by the player's name."""

    @abstractmethod
    def deal(self, deal: Deal) -> Round:
        """The round of one move; all its randomness is drawn here."""

    @abstractmethod
    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` latents drawn with `generator`, on the generator's device."""

    @property
    def labelled(self) -> bool:
        """Whether its samples are of classes that were asked for."""
        return False

    def give(self, split: Split) -> None:
        """Take the split from which samples outside training are given what the generator needs: held-out data."""
        self._giving = split

    def given_batch(self, n: int, generator: torch.Generator) -> Batch:
        """`n` rows of the split that was given, picked with `generator`; UserError where none was."""
        if self._giving is None:
            raise UserError(f"{type(self).__name__} needs data to give its generator; none were set")
        rows = torch.randint(len(self._giving), (n,), generator=generator, device=generator.device).cpu()
        batch = self._giving.take(rows)
        others = dict(batch.others)
        for name, split in self._giving.streams.items():
            rows = torch.randint(len(split), (n,), generator=generator, device=generator.device).cpu()
            others |= split.take(rows).under(name)
        return replace(batch, others=others)

    def ask(self, n: int, generator: torch.Generator) -> Tensor | None:
        """What `n` samples are asked for, (n, ...), drawn with `generator`: classes (n,) as frequent as in the data, in
        a labelled game; the field that it is `given`; None for neither."""
        if self.given:
            return self.given_batch(n, generator)[self.given[0]]
        if not self.labelled:
            return None
        device, classes = generator.device, len(self.spec.classes)
        shares = torch.tensor(self.spec.frequencies or [1 / classes] * classes, device=device)
        return torch.multinomial(shares, n, replacement=True, generator=generator)

    @abstractmethod
    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Samples (n, ...) for the latents, of the `classes` (n,) where the game is labelled: images in [-1, 1] or
        points, float32."""

    @abstractmethod
    def probe(self) -> Verdict:
        """The discriminator's verdict on two blank samples (or packs), in evaluation mode: what it offers terms."""

    def advance(self, images: int, total: int) -> None:
        """Let the networks' timed parts be as after `images` of the run's `total` images."""
        for module in self.modules():
            if isinstance(module, Timed):
                module.at(images, total)

    def deals(self) -> frozenset[str]:
        """Names of what a term may need in this game: labels only when the data has them."""
        heads = {name for head in self.modules() if isinstance(head, Head) for name in head.gives}
        return (self.round_type.names - (frozenset() if self.spec.classes else {"labels"})) | heads


class Term(ABC):
    """One named, weighted summand of one player's objective."""

    name: str = ""
    needs: tuple[str, ...] = ()
    remedy: str = ""
    of_each_discriminator: ClassVar[bool] = False
    """Whether it is the sum of its values for each discriminator's round, in games of several."""
    acts_on: tuple[str, ...] = ()
    """The players it is for; none named: any."""
    smallest_batch: ClassVar[int] = 1
    counts_moves: ClassVar[bool] = False
    """Whether it looks at every move of its player, due or not."""

    def __init__(self, player: str, weight: float | Curve = 1.0, every: int = 1) -> None:
        if every < 1:
            raise UserError(f"{type(self).__name__}: every={every} must be 1 or more moves")
        self.player, self.weight, self.every = player, within(weight, f"{type(self).__name__}: weight"), every
        self.logged_only = not isinstance(weight, Curve) and weight == 0

    @property
    def watches(self) -> tuple[str, ...]:
        """Sample sets of the round at which this term reads the discriminator's slope."""
        return ()

    @abstractmethod
    def __call__(self, round: Round) -> Tensor:
        """The unweighted value, a scalar."""

    def value(self, round: Round) -> Tensor:
        """The unweighted value in games of one or several discriminators, a scalar."""
        if not self.of_each_discriminator:
            return self(round)
        values = [self(part) for part in round.parts()]
        return values[0] if len(values) == 1 else torch.stack(values).sum()

    def check(self, game: Game) -> None:  # noqa: B027
        """Raise a UserError, naming this term and what would fit, when it can't apply to this game."""

    def after_move(self, round: Round, report: Report) -> None:  # noqa: B027
        """Called once a move that it was due in, with its round; `report` takes a name and a scalar for the log."""

    def state_dict(self) -> dict[str, Any]:
        """What this term must remember across a resume; nothing for most."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if state:
            raise UserError(f"checkpoint has state for {self.player}/{self.name}, which keeps none: {sorted(state)}")
