"""The Laplacian pyramid of adversarial networks (Denton et al. 2015): a GAN of coarse images, and one a doubling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from gan_experiments import seeding
from gan_experiments.data.base import Batch, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Game, Verdict, dealt, widened
from gan_experiments.games.noise import NoiseGame, NoiseRound
from gan_experiments.networks.blocks import image_shape
from gan_experiments.networks.informed import informing
from gan_experiments.networks.lapgan import doubled, halved
from gan_experiments.trick import Factory, Trick


class Level(NoiseGame):
    """One level's game: an ordinary GAN of images of its size, where one below made or, in training, the data give
    the coarse image from which its generator starts; the coarsest starts from latents alone."""

    def shrunk(self, images: Tensor) -> Tensor:
        """Images of the level's size, of which `images` (n, c, h, w) may be larger versions."""
        while images.shape[-1] > self.spec.shape[-1]:
            images = halved(images)
        return images

    def refine(self, coarse: Tensor, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Images from doubled coarse ones (n, c, h, w): with the generator's residuals added; float32."""
        with informing(self.generator, classes):
            return widened(coarse) + widened(cast(Tensor, self.generator(latents, coarse)))


class LevelRound(NoiseRound):
    """A move at one level: a batch of data at its size, and what the level's two networks make of it."""

    def __init__(self, family: LaplacianGame, level: Level, deal: Deal) -> None:
        def fetch() -> Batch:
            batch = deal.fetch()
            return replace(batch, samples=level.shrunk(batch.samples))

        super().__init__(level, replace(deal, fetch=fetch))
        self.family, self.level = family, level

    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
        """The level's discriminator on samples of its size or larger."""
        return super().judge(self.level.shrunk(samples), name, classes)

    @property
    def prefix(self) -> str:
        """What names of the level's weights begin with."""
        return f"{self.family.place(self.level)}."

    def weights(self, player: str) -> dict[str, Tensor]:
        """The player's parameters at all levels, or the discriminator's with those that stand in."""
        own = {f"{self.prefix}{name}": weight for name, weight in super().weights(player).items()}
        return self.family.weights(player) | own

    def against(self, weights: dict[str, Tensor], lent: dict[str, Tensor] | None = None) -> LevelRound:
        """This round judged by a discriminator with these weights, of which only the level's own count."""
        own = {name.removeprefix(self.prefix): w for name, w in weights.items() if name.startswith(self.prefix)}
        return cast(LevelRound, super().against(own, lent))


class RefiningRound(LevelRound):
    """A move at a finer level: its generator adds residuals to coarse versions of the real images (section 3.1)."""

    @dealt
    def coarse(self) -> Tensor:
        """The real images halved and doubled again (n, c, h, w), l_k in the paper."""
        return doubled(halved(self.batch.samples))

    @dealt
    def asked(self) -> Tensor | None:
        """Classes (n,) of the coarse images, in a labelled game."""
        labels: Tensor | None = self.labels
        return labels if self.level.labelled else None

    def generate(self, latents: Tensor) -> Tensor:
        """Generated images for the round's coarse ones."""
        return self.level.refine(self.coarse, latents, self.asked)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """Images for the first coarse ones, of latents drawn now."""
        classes = None if self.asked is None else self.asked[:n]
        return self.level.refine(self.coarse[:n], self.level.latents(n, random), classes)


class LaplacianGame(Game):
    """Images are made from the coarsest, of side `coarsest`, by doubling and adding what each level's generator says.

    Each move is made at one level, all being equally likely, in a round that is that level's own game with images of
    the data at its size: the levels are trained at once and independently of each other, as published, every loss,
    penalty and trick is the level's, and each level sees its share of the images. The last level has the data's size.
    Latents are those of all levels side by side, by `latent` N(0, 1) or U(-1, 1). Raises UserError for sides that
    aren't `coarsest` times a power of two, and for tricks that keep samples, which are of several sizes here.
    """

    round_type = LevelRound

    def __init__(
        self,
        spec: Spec,
        coarse_generator: Factory,
        coarse_discriminator: Factory,
        generator: Factory,
        discriminator: Factory,
        coarsest: int = 8,
        latent: str = "uniform",
        tricks: Sequence[Trick] = (),
    ) -> None:
        super().__init__(spec, tricks)
        channels, side = image_shape(spec, type(self).__name__, 2, 1024)
        if not 1 < coarsest < side or side % coarsest or coarsest & (coarsest - 1):
            raise UserError(f"model.coarsest={coarsest}: must be a power of two, 2 to {side // 2} for images of {side}")
        self.refuse_keepers(tricks)
        self.levels = nn.ModuleList()
        while coarsest <= side:
            first = not self.levels
            pair = (coarse_generator, coarse_discriminator) if first else (generator, discriminator)
            self.levels.append(self.build_level(replace(spec, shape=(channels, coarsest, coarsest)), *pair, latent))
            coarsest *= 2
        if len({level.labelled for level in self.games()}) > 1:
            raise UserError("model: some levels use classes, others do not: set conditional alike in all four networks")

    def refuse_keepers(self, tricks: Sequence[Trick]) -> None:
        """UserError for tricks whose state holds samples of the data's size."""
        for trick in tricks:
            if any(buffer.shape[1:] == self.spec.shape for buffer in trick.buffers()):
                raise UserError(f"trick {trick.name} keeps samples of one size, and {type(self).__name__} has several")

    def build_level(self, spec: Spec, generator: Factory, discriminator: Factory, latent: str) -> Level:
        """The game of one size, its networks altered by the tricks."""
        level = Level(
            spec,
            lambda data: self.make("generator", generator, data),
            lambda data: self.make("discriminator", discriminator, data),
            latent=latent,
        )
        level.tricks, level.pack = self.tricks, self.pack
        level.check_classes()
        return level

    def games(self) -> list[Level]:
        """The levels, coarsest first."""
        return [cast(Level, level) for level in self.levels]

    def place(self, level: Level) -> int:
        """The level's number, 0 for the coarsest."""
        return self.games().index(level)

    @property
    def labelled(self) -> bool:
        """Whether the generators are told classes."""
        return self.games()[0].labelled

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """Each player moves one network a level, coarsest first."""
        return {
            "discriminator": tuple(level.discriminator for level in self.games()),
            "generator": tuple(level.generator for level in self.games()),
        }

    def weights(self, player: str) -> dict[str, Tensor]:
        """The player's parameters at all levels, by level and name."""
        networks = enumerate(self.sides[player])
        return {f"{k}.{name}": weight for k, network in networks for name, weight in network.named_parameters()}

    def deal(self, deal: Deal) -> LevelRound:
        """A round at a level drawn from the move's seed."""
        random = seeding.generator(deal.seed, "level")  # on the CPU: the choice must not wait for the device
        place = int(torch.randint(len(self.levels), (), generator=random))
        return (RefiningRound if place else LevelRound)(self, self.games()[place], deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents (n, ...) of all levels, coarsest first."""
        return torch.cat([level.latents(n, generator) for level in self.games()], 1)

    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """Coarse images, doubled and refined level by level; float32."""
        coarsest, *finer = self.games()
        sizes = [cast(int, level.generator.latent_dim) for level in self.games()]
        first, *others = torch.split(latents, sizes, 1)
        images = coarsest.sample(first, classes)
        for level, z in zip(finer, others, strict=True):
            images = level.refine(doubled(images), z, classes)
        return images

    def probe(self) -> Verdict:
        """The verdicts at the level whose discriminator has the fewest features."""
        return min((level.probe() for level in self.games()), key=lambda verdict: len(verdict.features))
