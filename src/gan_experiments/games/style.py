"""The unconditional or conditional game with a generator of styles (Karras et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, dealt, widened
from gan_experiments.games.noise import NoiseGame, NoiseRound
from gan_experiments.networks.informed import informing
from gan_experiments.networks.mapping import StyleGenerator
from gan_experiments.trick import Factory, Trick


class StyleRound(NoiseRound):
    """A round whose generated images may have the styles of other latents from some layer on (style mixing)."""

    game: StyleGame

    def __init__(self, game: NoiseGame, deal: Deal) -> None:
        super().__init__(game, deal)
        n, layers, random = deal.batch_size, self.game.styled.layers, deal.random("mixing")
        mixed = torch.rand(n, generator=random, device=deal.device) < self.game.mixing
        crossover = torch.randint(1, layers, (n,), generator=random, device=deal.device)
        self.crossovers = crossover.where(mixed, layers)
        self.others = game.latents(n, random) if self.game.mixing > 0 else None

    @dealt
    def styles(self) -> Tensor:
        """The styles (n, layers, style_dim) of the generated images."""
        return self.mix(self.z)

    def mix(self, latents: Tensor) -> Tensor:
        """Styles (n, layers, style_dim) for latents (n, latent_dim), mixed as this round's are."""
        n, generator = len(latents), self.game.styled
        with informing(generator, self.asked_of(n)):
            styles = generator.mapping(latents)
            others = styles if self.others is None else generator.mapping(self.others[:n])
        generator.mapping.follow(styles)
        late = torch.arange(generator.layers, device=latents.device) >= self.crossovers[:n, None]
        return torch.where(late[..., None], others[:, None], styles[:, None])

    def synthesise(self, styles: Tensor) -> Tensor:
        """The generator's images for styles (n, layers, style_dim), of the first n classes that this round asks for."""
        with informing(self.game.generator, self.asked_of(len(styles))):
            return widened(self.game.styled.synthesis(styles))

    def asked_of(self, n: int) -> Tensor | None:
        """The first `n` classes asked for."""
        asked: Tensor | None = self.asked
        return None if asked is None else asked[:n]

    def generate(self, latents: Tensor) -> Tensor:
        """The generator's images for latents, mixed as this round's are."""
        return self.synthesise(self.styles if latents is self.z else self.mix(latents))


class StyleGame(NoiseGame):
    """A generator whose layers are told styles, made of latents, against a discriminator.

    A share `mixing` of generated images has the styles of second latents from a random layer on, so that layers don't
    rely on each other's (Karras et al. 2019, section 3.1). UserError for generators without styles.
    """

    round_type = StyleRound

    def __init__(
        self,
        spec: Spec,
        generator: Factory,
        discriminator: Factory,
        tricks: Sequence[Trick] = (),
        latent: str = "normal",
        mixing: float = 0.9,
    ) -> None:
        super().__init__(spec, generator, discriminator, tricks, latent)
        if not 0 <= mixing <= 1:
            raise UserError(f"mixing={mixing}: a share of images, from 0 to 1")
        if not isinstance(self.generator, StyleGenerator):
            raise UserError(
                f"StyleGame needs a generator of styles, which {type(self.generator).__name__} is not; set "
                "model=stylegan or stylegan2, or model._target_=gan_experiments.games.noise.NoiseGame"
            )
        self.mixing = mixing

    @property
    def styled(self) -> StyleGenerator:
        """The generator."""
        assert isinstance(self.generator, StyleGenerator)
        return self.generator

    def deal(self, deal: Deal) -> StyleRound:
        """Latents, second latents and crossovers are drawn now, from streams of their own."""
        return StyleRound(self, deal)

    def truncated(
        self, latents: Tensor, psi: float, cutoff: int | None = None, classes: Tensor | None = None
    ) -> Tensor:
        """Images (n, c, h, w) for styles moved towards the mean style, to mean + psi (style - mean), in the first
        `cutoff` layers or all (Karras et al. 2019, appendix B): less variety, fewer failures."""
        generator = self.styled
        with informing(generator, classes):
            styles = generator.mapping(latents).unsqueeze(1).repeat(1, generator.layers, 1)
            styles[:, :cutoff] = torch.lerp(generator.mapping.mean, styles[:, :cutoff], psi)
            return widened(generator.synthesis(styles))
