"""The unconditional game of noise against data (Goodfellow et al. 2014), for images and for points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gan_experiments.data.base import Batch, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Game, Round, Verdict, dealt, evaluating, judged, widened
from gan_experiments.trick import Factory, Trick


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
    def latents(self) -> Tensor:
        """The latents (n, ...) of the generated samples."""
        return self.z

    @dealt
    def reals(self) -> Tensor:
        """Real samples (n, ...)."""
        samples = self.batch.samples
        for trick in self.game.tricks.values():
            samples = trick.reals(self, samples)
        return self.watched("reals", samples)

    @dealt
    def fakes(self) -> Tensor:
        """Generated samples (n, ...)."""
        samples = self.game.sample(self.z)
        for trick in self.game.tricks.values():
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
        return self.watched("perturbed", reals + 0.5 * reals.detach().std() * share * noise)

    @judged
    def real(self) -> Verdict:
        """The discriminator on the real samples."""
        return self.judge(self.reals, "reals")

    @judged
    def fake(self) -> Verdict:
        """The discriminator on the generated samples."""
        return self.judge(self.fakes, "fakes")

    def judge(self, samples: Tensor, name: str) -> Verdict:
        """The discriminator on any samples; logits in float32, since losses lose most to rounding."""
        for trick in reversed(self.game.tricks.values()):
            samples = trick.view(self, name, samples)
        network = self.game.discriminator
        if self.opposition is None:
            verdict = network(samples)
        else:  # buffers are lent as copies, so that the discriminator's own stay as they are
            buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
            verdict = functional_call(network, {**buffers, **self.opposition}, samples)
        return cast(Verdict, verdict)._replace(logits=widened(verdict.logits))

    def contest(self, player: str) -> Any:
        """This round, as the tricks let the loss see it."""
        contest: Any = self
        for trick in self.game.tricks.values():
            contest = trick.contest(player, contest)
        return contest

    def generate(self, latents: Tensor) -> Tensor:
        """The generator's samples."""
        return self.game.sample(latents)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """Samples for latents drawn now."""
        return self.game.sample(self.game.latents(n, random))

    def weights(self, player: str) -> dict[str, Tensor]:
        """The player's parameters, or those of the discriminator that stands in."""
        if player == "discriminator" and self.opposition is not None:
            return self.opposition
        (network,) = self.game.sides[player]
        return dict(network.named_parameters())

    def points(self, name: str) -> tuple[Tensor, Callable[[], Tensor]]:
        """One of the sets reals, fakes, interpolates, perturbed, and the discriminator's logits there."""
        samples: Tensor = getattr(self, name)
        own: dict[str, Callable[[], Verdict]] = {"reals": lambda: self.real, "fakes": lambda: self.fake}
        return samples, lambda: own.get(name, lambda: self.judge(samples, name))().logits


LATENTS: dict[str, Callable[..., Tensor]] = {
    "normal": torch.randn,
    "uniform": lambda *shape, **how: 2 * torch.rand(*shape, **how) - 1,
}


class UnconditionalGame(Game):
    """A generator of samples from latents against a discriminator of samples.

    Components of latents are independent, by `latent` N(0, 1) (normal) or U(-1, 1) (uniform); UserError for others.
    """

    round_type = UnconditionalRound

    def __init__(
        self,
        spec: Spec,
        generator: Factory,
        discriminator: Factory,
        latent: str = "normal",
        tricks: Sequence[Trick] = (),
    ) -> None:
        super().__init__(spec, tricks)
        if latent not in LATENTS:
            raise UserError(f"latent={latent}: use {' or '.join(LATENTS)}")
        self.latent = LATENTS[latent]
        self.generator = self.make("generator", generator)
        self.discriminator = self.make("discriminator", discriminator)

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """Each player moves one network."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def deal(self, deal: Deal) -> UnconditionalRound:
        """Latents are drawn now, everything else on demand, from streams of its own."""
        return UnconditionalRound(self, deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents (n, latent_dim)."""
        width = cast(Generator, self.generator).latent_dim
        return self.latent(n, width, generator=generator, device=generator.device)

    def sample(self, latents: Tensor) -> Tensor:
        """The generator's samples in float32."""
        return widened(cast(Tensor, self.generator(latents)))

    def probe(self) -> Verdict:
        """Two blank verdicts."""
        like = next(self.discriminator.parameters())
        blank = torch.zeros(2 * self.pack, *self.spec.shape, device=like.device, dtype=like.dtype)
        with evaluating(self.discriminator):
            return cast(Verdict, self.discriminator(blank))
