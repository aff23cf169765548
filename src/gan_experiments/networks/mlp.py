"""Fully connected generator and discriminator, for points and for small images (Goodfellow et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.networks.blocks import activation as make_activation
from gan_experiments.networks.blocks import initialise, normalise_spectrally
from gan_experiments.networks.heads import HeadedPoints


class MLPGenerator(nn.Module):
    """Latents (n, latent_dim) through fully connected layers to samples; tanh at the end for images."""

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 64,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        batch_norm: bool = False,
        init_std: float | None = None,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim, self.shape = latent_dim, spec.shape
        layers: list[nn.Module] = []
        width = latent_dim
        for size in hidden:
            layers.append(nn.Linear(width, size))
            if batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers.append(make_activation(activation))
            width = size
        layers.append(nn.Linear(width, math.prod(spec.shape)))
        if spec.is_image:
            layers.append(nn.Tanh())
        self.net = nn.Sequential(*layers)
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)

    def forward(self, z: Tensor) -> Tensor:
        """Samples (n, ...) for latents (n, latent_dim)."""
        samples: Tensor = self.net(z).unflatten(1, self.shape)
        return samples


class MLPDiscriminator(HeadedPoints):
    """Samples, flattened, through fully connected layers to a logit; features are the hidden layers."""

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int] = (256, 256),
        activation: str = "leaky_relu",
        dropout: float = 0.0,
        init_std: float | None = None,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = [math.prod(spec.shape), *hidden]
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), make_activation(activation), nn.Dropout(dropout))
            for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.head = nn.Linear(sizes[-1], 1)
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)


class Maxout(nn.Module):
    """The largest of `pieces` linear maps, for each of `out_features` outputs (Goodfellow et al. 2013)."""

    def __init__(self, in_features: int, out_features: int, pieces: int) -> None:
        super().__init__()
        self.linear, self.pieces = nn.Linear(in_features, out_features * pieces), pieces

    def forward(self, x: Tensor) -> Tensor:
        """(n, out_features) for (n, in_features)."""
        pieces = self.linear(x).view(len(x), self.pieces, -1)
        # Choosing by a mask makes the backward pass one product; those of max and amax are many times slower on CPUs.
        chosen = (pieces == pieces.detach().amax(1, keepdim=True)).to(pieces.dtype)
        largest: Tensor = (pieces * (chosen / chosen.sum(1, keepdim=True))).sum(1)
        return largest


class MaxoutDiscriminator(HeadedPoints):
    """Samples, flattened, through maxout layers to a logit; PacGAN's for mixtures (Lin et al. 2018, section 4.1)."""

    def __init__(
        self, spec: Spec, hidden: Sequence[int] = (200, 200, 200), pieces: int = 5, init_std: float | None = 0.02
    ) -> None:
        super().__init__()
        sizes = [math.prod(spec.shape), *hidden]
        self.levels = nn.ModuleList(Maxout(*pair, pieces) for pair in zip(sizes, sizes[1:], strict=False))
        self.head = nn.Linear(sizes[-1], 1)
        initialise(self, init_std)
