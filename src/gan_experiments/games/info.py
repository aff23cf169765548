"""InfoGAN: a part of the latents is codes, which a third network Q reads off the samples (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Verdict, dealt, judged
from gan_experiments.games.noise import NoiseGame, NoiseRound
from gan_experiments.games.traversal import Traversed
from gan_experiments.modules import evaluating
from gan_experiments.networks.bodies import body_output
from gan_experiments.networks.infogan import Recognition
from gan_experiments.objectives.information import Codes, Guess
from gan_experiments.trick import Factory, Trick

SWEEP = 2.0
"""How far a continuous code is swept either way: twice as far as it is drawn (Chen et al. 2016, figure 2)."""


@dataclass(frozen=True)
class Layout:
    """Where the codes lie: one-hot vectors of `categories` values, then `continuous` numbers, at the latents' start.

    A generator that hands its levels pieces of the latents (BigGAN) so gives codes to the coarsest.
    """

    categories: tuple[int, ...]
    continuous: int

    @property
    def width(self) -> int:
        """Components of the latents that are codes."""
        return sum(self.categories) + self.continuous

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Codes (n, width): categories equally likely, numbers U(-1, 1)."""
        where = generator.device
        parts = [one_hot(torch.randint(k, (n,), generator=generator, device=where), k).float() for k in self.categories]
        return torch.cat([*parts, 2 * torch.rand(n, self.continuous, generator=generator, device=where) - 1], 1)

    def read(self, latents: Tensor) -> Codes:
        """The codes of latents (n, latent_dim)."""
        *categories, continuous = torch.split(latents[:, : self.width], [*self.categories, self.continuous], 1)
        return Codes(tuple(part.argmax(1) for part in categories), continuous)

    def place(self, category: int) -> slice:
        """Where the one-hot vector of the categorical code number `category` lies in latents."""
        start = sum(self.categories[:category])
        return slice(start, start + self.categories[category])


class InfoRound(NoiseRound):
    """The same, with the codes among the latents and what Q makes of the generated samples."""

    game: InfoGame

    @dealt
    def codes(self) -> Codes:
        """The codes of the generated samples."""
        return self.game.layout.read(self.z)

    @judged
    def guess(self) -> Guess:
        """Q's, from the discriminator's body."""
        return self.game.guess(self.fake)

    def weights(self, player: str) -> dict[str, Tensor]:
        """The player's parameters; Q's, with a name of their own, are the generator's."""
        if player != "generator":
            return super().weights(player)
        own: dict[str, Tensor] = dict(self.game.generator.named_parameters())
        own.update(self.game.recognition.named_parameters(prefix="recognition"))
        return own


class InfoGame(NoiseGame, Traversed):
    """A game whose latents are one-hot categorical codes, continuous codes and noise, in this order.

    `generator` has a latent_dim that counts them all. Q shares the discriminator's body: one hidden layer of
    `recognition_width` units reads what the discriminator's head reads. Its weights are moved by the generator player.
    With `learned_std` Q says how sure it is of each continuous code, else its deviation is 1 (the published code's
    choice for digits). Raises UserError when the codes don't fit into the latents, or there are none.
    """

    round_type = InfoRound

    def __init__(
        self,
        spec: Spec,
        generator: Factory,
        discriminator: Factory,
        latent: str = "normal",
        categories: Sequence[int] = (10,),
        continuous: int = 2,
        recognition_width: int = 128,
        learned_std: bool = True,
        tricks: Sequence[Trick] = (),
    ) -> None:
        unpacked = [trick.name for trick in tricks if trick.pack > 1]
        if unpacked:
            raise UserError(f"trick {unpacked[0]}: Q reads codes off single samples, not off packs; leave it out")
        super().__init__(spec, generator, discriminator, tricks, latent)
        if isinstance(categories, int | str) or any(k < 2 for k in categories) or continuous < 0:
            raise UserError(
                f"categories={categories}: a list of sizes of 2 or more; continuous={continuous}: 0 or more"
            )
        self.layout, self.learned_std = Layout(tuple(categories), continuous), learned_std
        if not 0 < self.layout.width <= self.latent_dim:
            raise UserError(
                f"categories={list(categories)} and continuous={continuous} take {self.layout.width} of the latents' "
                f"{self.latent_dim} components: set model.generator.latent_dim to that and as much noise as you like"
            )
        outputs = self.layout.width + (continuous if learned_std else 0)
        with evaluating(self.discriminator):
            features = body_output(self.discriminator, self.probe(), "InfoGame").shape[1]
        self.recognition = Recognition(features, recognition_width, outputs)

    @property
    def latent_dim(self) -> int:
        """Components of the latents, codes among them."""
        return cast(int, self.generator.latent_dim)

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """Q is moved with the generator."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator, self.recognition)}

    def deal(self, deal: Deal) -> InfoRound:
        """Latents with their codes are drawn now."""
        return InfoRound(self, deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Codes and noise (n, latent_dim)."""
        noise = self.latent(n, self.latent_dim - self.layout.width, generator=generator, device=generator.device)
        return torch.cat([self.layout.draw(n, generator), noise], 1)

    def guess(self, verdict: Verdict) -> Guess:
        """What Q says of samples, from the discriminator's verdict on them."""
        said = self.recognition(body_output(self.discriminator, verdict, "InfoGame"))
        sizes = [*self.layout.categories, self.layout.continuous]
        *logits, mean = torch.split(said[:, : sum(sizes)], sizes, 1)
        return Guess(tuple(logits), mean, said[:, sum(sizes) :] if self.learned_std else torch.zeros_like(mean))

    def traversals(self, columns: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Each categorical code through its values, each continuous one from -2 to 2 in as many rows as columns."""
        fixed, layout = self.latents(columns, generator), self.layout
        found = {}
        for number, k in enumerate(layout.categories):
            latents = fixed.repeat(k, 1, 1)
            latents[:, :, layout.place(number)] = torch.eye(k, device=fixed.device)[:, None]
            found[f"category-{number}"] = latents
        for number in range(layout.continuous):
            latents = fixed.repeat(columns, 1, 1)
            sweep = torch.linspace(-SWEEP, SWEEP, columns, device=fixed.device)
            latents[:, :, sum(layout.categories) + number] = sweep[:, None]
            found[f"continuous-{number}"] = latents
        return found
