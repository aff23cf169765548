"""The unconditional game of noise against data (Goodfellow et al. 2014), for images and for points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Batch, Spec
from gan_experiments.game import Deal, Game, Round, Verdict, dealt


class Generator(Protocol):
    """A network from latents (n, latent_dim) to samples (n, ...)."""

    latent_dim: int

    def __call__(self, z: Tensor) -> Tensor:
        """Samples for latents."""


class UnconditionalRound(Round):
    """A batch of data and as many latents, with what the two networks make of them."""

    def __init__(self, game: UnconditionalGame, deal: Deal) -> None:
        super().__init__(deal)
        self.game = game
        self.z = game.latents(deal.batch_size, deal.random("z"))
        self.mix = torch.rand(
            deal.batch_size, *[1] * len(game.spec.shape), generator=deal.random("mix"), device=deal.device
        )

    @dealt
    def batch(self) -> Batch:
        """The samples and labels of this move."""
        return self.deal.fetch()

    @dealt
    def labels(self) -> Tensor | None:
        """Labels (n,) of the real samples."""
        batch: Batch = self.batch
        return batch.labels

    @dealt
    def reals(self) -> Tensor:
        """Real samples (n, ...)."""
        return self.watched("reals", self.batch.samples)

    @dealt
    def fakes(self) -> Tensor:
        """Generated samples (n, ...)."""
        return self.watched("fakes", self.game.sample(self.z))

    @dealt
    def interpolates(self) -> Tensor:
        """Points between paired real and generated samples, one uniform share a pair (Gulrajani et al. 2017)."""
        between = torch.lerp(self.fakes.detach(), self.reals.detach(), self.mix)
        return self.watched("interpolates", between)

    @dealt
    def real(self) -> Verdict:
        """The discriminator on the real samples."""
        return self.judge(self.reals)

    @dealt
    def fake(self) -> Verdict:
        """The discriminator on the generated samples."""
        return self.judge(self.fakes)

    def judge(self, samples: Tensor) -> Verdict:
        """The discriminator on any samples; logits in float32, since losses lose most to rounding."""
        logits, features = cast(Verdict, self.game.discriminator(samples))
        return Verdict(logits.float(), features)

    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        """One of the sets reals, fakes, interpolates, and the discriminator's logits there."""
        verdicts: dict[str, Callable[[], Verdict]] = {
            "reals": lambda: self.real,
            "fakes": lambda: self.fake,
            "interpolates": lambda: self.judge(self.interpolates),
        }
        return getattr(self, name), lambda: verdicts[name]().logits


class UnconditionalGame(Game):
    """A generator of samples from N(0, I) latents against a discriminator of samples."""

    round_type = UnconditionalRound

    def __init__(
        self, spec: Spec, generator: Callable[[Spec], nn.Module], discriminator: Callable[[Spec], nn.Module]
    ) -> None:
        super().__init__(spec)
        self.generator = generator(spec)
        self.discriminator = discriminator(spec)

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """Each player moves one network."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def deal(self, deal: Deal) -> UnconditionalRound:
        """Latents and interpolation shares are drawn now, everything else on demand."""
        return UnconditionalRound(self, deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """N(0, I) of shape (n, latent_dim)."""
        width = cast(Generator, self.generator).latent_dim
        return torch.randn(n, width, generator=generator, device=generator.device)

    def sample(self, latents: Tensor) -> Tensor:
        """The generator's samples in float32."""
        return cast(Tensor, self.generator(latents)).float()
