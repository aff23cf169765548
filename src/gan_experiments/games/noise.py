"""The game of noise against data (Goodfellow et al. 2014), for images and points, with or without classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Game, Verdict, dealt, widened
from gan_experiments.games.compared import ComparedRound
from gan_experiments.modules import evaluating
from gan_experiments.networks.informed import informing, uses_classes
from gan_experiments.trick import Factory, Trick


class Generator(Protocol):
    """A network from latents (n, latent_dim) to samples (n, ...)."""

    latent_dim: int

    def __call__(self, z: Tensor) -> Tensor:
        """Samples for latents."""


class NoiseRound(ComparedRound):
    """A batch of data and as many latents, with what the two networks make of them."""

    game: NoiseGame

    def __init__(self, game: NoiseGame, deal: Deal) -> None:
        super().__init__(game, deal, game.discriminator)
        self.z = game.latents(deal.batch_size, deal.random("z"))
        self.drawn = game.ask(deal.batch_size, deal.random("classes"))

    @dealt
    def latents(self) -> Tensor:
        """The latents (n, ...) of the generated samples."""
        return self.z

    @dealt
    def asked(self) -> Tensor | None:
        """The classes (n,) that generated samples are to be of, in a labelled game."""
        return self.drawn

    def classes_of(self, name: str) -> Tensor | None:
        """Those asked of generated samples; the labels of real ones and of what is made of them."""
        asked: Tensor | None = self.asked
        return asked if name == "fakes" else self.labels

    def generated_samples(self) -> Tensor:
        """Samples of the round's latents."""
        return self.generate(self.z)

    def generate(self, latents: Tensor) -> Tensor:
        """The generator's samples, of the classes that this round asks for."""
        return self.game.sample(latents, self.asked)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """Samples for latents drawn now, to stand in for the first real ones of this round, and of their classes."""
        classes = self.labels[:n] if self.game.labelled else None
        return self.game.sample(self.game.latents(n, random), classes)


WAYS = {
    "generator": "[batch_norm], [one_hot] or [label_maps]",
    "discriminator": "[projection], [planes] or [auxiliary_classifier]",
}
"""What can be added for a player that is told no classes; the option that both take by themselves is [native]."""

LATENTS: dict[str, Callable[..., Tensor]] = {
    "normal": torch.randn,
    "uniform": lambda *shape, **how: 2 * torch.rand(*shape, **how) - 1,
}


class NoiseGame(Game):
    """A generator of samples from latents against a discriminator of samples.

    Components of latents are independent, by `latent` N(0, 1) (normal) or U(-1, 1) (uniform); UserError for others.
    """

    round_type = NoiseRound

    def __init__(
        self,
        spec: Spec,
        generator: Factory,
        discriminator: Factory,
        tricks: Sequence[Trick] = (),
        latent: str = "normal",
    ) -> None:
        super().__init__(spec, tricks)
        if latent not in LATENTS:
            raise UserError(f"latent={latent}: use {' or '.join(LATENTS)}")
        self.latent = LATENTS[latent]
        self.generator = self.make("generator", generator)
        self.discriminator = self.make("discriminator", discriminator)
        self.judges_classes = uses_classes(self.discriminator)
        self.check_classes()

    def check_classes(self) -> None:
        """UserError for data without classes where networks use them, or packs of samples of several classes."""
        if not (self.labelled or self.judges_classes):
            return
        if len(self.spec.classes) < 2:
            raise UserError(
                "these networks use classes, and the data have none: set conditional: false, or choose a data set with "
                "labels (dataset=fashion10k, cifar10)"
            )
        if self.pack > 1:
            raise UserError("networks that use classes judge single samples, trick packing packs of them; choose one")
        if self.labelled != self.judges_classes:
            knows, other = ("generator", "discriminator") if self.labelled else ("discriminator", "generator")
            raise UserError(
                f"the {knows} is told classes and the {other} is not, so that they could be ignored: add one of "
                f"conditioning={WAYS[other]}"
            )

    @property
    def labelled(self) -> bool:
        """Whether the generator is told classes."""
        return uses_classes(self.generator)

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """Each player moves one network."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def deal(self, deal: Deal) -> NoiseRound:
        """Latents are drawn now, everything else on demand, from streams of its own."""
        return NoiseRound(self, deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents (n, latent_dim)."""
        width = cast(Generator, self.generator).latent_dim
        return self.latent(n, width, generator=generator, device=generator.device)

    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """The generator's samples in float32."""
        with informing(self.generator, classes):
            return widened(cast(Tensor, self.generator(latents)))

    def probe(self) -> Verdict:
        """Two blank verdicts."""
        like = next(self.discriminator.parameters())
        blank = torch.zeros(2 * self.pack, *self.spec.shape, device=like.device, dtype=like.dtype)
        classes = torch.zeros(len(blank), dtype=torch.int64, device=like.device) if self.judges_classes else None
        with evaluating(self.discriminator), informing(self.discriminator, classes):
            return cast(Verdict, self.discriminator(blank))
