"""Encoders: from samples to normal distributions of latents."""

from __future__ import annotations

from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.networks.blocks import initialise
from gan_experiments.networks.dcgan import DCGANDiscriminator


class DCGANEncoder(nn.Module):
    """The levels of DCGAN's discriminator, then one linear map to means and log-variances of `latent_dim` latents."""

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 64,
        width: int = 32,
        max_width: int = 512,
        norm: str = "batch",
        activation: str = "leaky_relu",
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        body = DCGANDiscriminator(spec, width, max_width, norm, activation, init_std)
        self.latent_dim, self.levels = latent_dim, body.levels
        channels, side = body.shapes[-1]
        self.head = nn.Linear(channels * side**2, 2 * latent_dim)
        initialise(self.head, init_std)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances, each (n, latent_dim), for samples (n, c, h, w)."""
        h = samples
        for level in self.levels:
            h = level(h)
        mean, log_variance = self.head(h.flatten(1)).chunk(2, 1)
        return mean, log_variance
