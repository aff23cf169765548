"""The variational autoencoder (Kingma & Welling 2014): a generator trained by a bound on the likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, dealt, widened
from gan_experiments.games.likelihood import LikelihoodGame, LikelihoodRound
from gan_experiments.networks.discretised import Observation
from gan_experiments.trick import Factory, Trick


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag e^log_variance) || N(0, I)) (n,) in nats: 1/2 sum mu^2 + s^2 - 1 - log s^2
    (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


class VariationalRound(LikelihoodRound):
    """A batch, its codes with noise of their own, and the two parts of the bound."""

    def __init__(self, game: VariationalGame, deal: Deal) -> None:
        super().__init__(game, deal)
        self.model = game
        self.epsilon = game.latents(deal.batch_size, deal.random("epsilon"))

    @dealt
    def fakes(self) -> Tensor:
        """Generated samples (n, ...)."""
        return self.watched("fakes", self.game.sample(self.z))

    @dealt
    def posterior(self) -> tuple[Tensor, Tensor]:
        """Means and log-variances (n, latent_dim) of q(z|x)."""
        mean, log_variance = self.model.encoder(self.reals)
        return widened(mean), widened(log_variance)

    @dealt
    def codes(self) -> Tensor:
        """Draws z = mean + e^(log_variance/2) epsilon (n, latent_dim) of q(z|x)."""
        posterior: tuple[Tensor, Tensor] = self.posterior
        mean, log_variance = posterior
        return mean + (0.5 * log_variance).exp() * self.epsilon

    @dealt
    def reconstruction(self) -> Tensor:
        """log p(x|z) (n,) in nats."""
        return cast(Tensor, self.model.likelihood(self.model.generator(self.codes), self.reals))

    @dealt
    def divergence(self) -> Tensor:
        """KL(q(z|x) || p(z)) (n,) in nats."""
        return divergence(*self.posterior)


class VariationalGame(LikelihoodGame):
    """An encoder to N(mean, diag variance), a generator as decoder and a `likelihood` of data given what it makes.

    Latents are N(0, I). Samples are what the generator makes of them, without the likelihood's noise.
    Raises UserError when encoder and generator disagree on the number of latents.
    """

    round_type = VariationalRound
    fitting_loss = "evidence"

    def __init__(
        self,
        spec: Spec,
        encoder: Factory,
        generator: Factory,
        likelihood: Callable[[Spec], Observation],
        tricks: Sequence[Trick] = (),
    ) -> None:
        super().__init__(spec, tricks)
        parts = {"encoder": encoder(spec), "generator": generator(spec), "likelihood": likelihood(spec)}
        self.model = nn.ModuleDict(parts)
        sizes = {name: cast(int, self.model[name].latent_dim) for name in ("encoder", "generator")}
        if len(set(sizes.values())) > 1:
            said = " and ".join(f"model.{name}.latent_dim={size}" for name, size in sizes.items())
            raise UserError(f"{said} must be equal")
        self.latent_dim = sizes["generator"]

    @property
    def encoder(self) -> nn.Module:
        """From samples to means and log-variances."""
        return self.model["encoder"]

    @property
    def generator(self) -> nn.Module:
        """The decoder."""
        return self.model["generator"]

    @property
    def likelihood(self) -> nn.Module:
        """The distribution of samples around what the decoder makes."""
        return self.model["likelihood"]

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        """One player moves everything."""
        return {"generator": (self.model,)}

    def deal(self, deal: Deal) -> VariationalRound:
        """Latents and the codes' noise are drawn now, everything else on demand."""
        return VariationalRound(self, deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """N(0, I) latents (n, latent_dim)."""
        return torch.randn(n, self.latent_dim, generator=generator, device=generator.device)

    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """The centres of p(x|z) in float32."""
        return widened(cast(Tensor, self.generator(latents)))
