"""Discriminators that are autoencoders, their error the energy (Zhao et al. 2017, EBGAN; Berthelot et al. 2017, BEGAN).

Reconstructions are unbounded: through tanh, an autoencoder that starts with a constant would not get away from it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Head, Verdict
from gan_experiments.networks.blocks import image_shape, initialise
from gan_experiments.networks.dcgan import LARGEST, SMALLEST, DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator

DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {"squared": Tensor.square, "absolute": Tensor.abs}


class Autoencoder(Head, ABC):
    """A discriminator whose energy is its reconstruction error, the mean over all dimensions of a sample.

    `distance` is squared (EBGAN) or absolute (BEGAN). Logits are minus the energy, features the encoder's levels; the
    heads are the energy (n,) and the bottleneck's code, the representation (n, code_dim). Raises UserError for another
    distance, and for a bottleneck without dimensions.
    """

    gives: ClassVar[tuple[str, ...]] = ("energy", "representation")

    def __init__(self, code_dim: int, distance: str) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise UserError(f"{type(self).__name__}: distance={distance!r}: use {' or '.join(DISTANCES)}")
        if code_dim < 1:
            raise UserError(f"{type(self).__name__}: code_dim={code_dim} must be 1 or more")
        self.distance = DISTANCES[distance]

    @abstractmethod
    def encode(self, samples: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Codes (n, code_dim) of samples (n, ...), and the levels (n, ...) on the way."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions, in the samples' own number of elements, for codes (n, code_dim)."""

    def forward(self, samples: Tensor) -> Verdict:
        """The verdict on samples (n, ...), its energy in float32."""
        codes, levels = self.encode(samples)
        error = self.distance(self.decode(codes).float().view_as(samples) - samples.float())
        energy = error.flatten(1).mean(1)
        return Verdict(-energy, levels, {"energy": energy, "representation": codes})


class MLPAutoencoder(Autoencoder):
    """Samples, flattened, through fully connected layers to a code, and through the same widths back."""

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int] = (256, 256),
        code_dim: int = 32,
        activation: str = "leaky_relu",
        distance: str = "squared",
        init_std: float | None = None,
    ) -> None:
        super().__init__(code_dim, distance)
        self.levels = MLPDiscriminator(spec, hidden, activation).levels
        size = math.prod(spec.shape)
        self.code = nn.Linear([size, *hidden][-1], code_dim)
        self.decoder = MLPGenerator(Spec((size,)), code_dim, hidden[::-1], activation)
        initialise(self, init_std)

    def encode(self, samples: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Hidden layers, then a linear map."""
        return encode(samples.flatten(1), self.levels, self.code)

    def decode(self, codes: Tensor) -> Tensor:
        """Hidden layers in reverse."""
        samples: Tensor = self.decoder(codes)
        return samples


class DCGANAutoencoder(Autoencoder):
    """The levels of a DCGAN discriminator, a linear map to the code, and a DCGAN generator back (sides 8 to 128)."""

    def __init__(
        self,
        spec: Spec,
        code_dim: int = 64,
        width: int = 64,
        max_width: int = 512,
        norm: str = "batch",
        activation: str = "leaky_relu",
        distance: str = "squared",
        init_std: float | None = 0.02,
    ) -> None:
        super().__init__(code_dim, distance)
        image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        encoder = DCGANDiscriminator(spec, width, max_width, norm, activation, init_std)
        self.levels = encoder.levels
        assert isinstance(encoder.head, nn.Linear)
        channels, side = encoder.shapes[-1]
        self.code = nn.Linear(channels * side**2, code_dim)
        self.decoder = DCGANGenerator(spec, code_dim, width, max_width, norm, activation, init_std)
        assert isinstance(self.decoder.output, nn.Sequential)
        self.decoder.output = self.decoder.output[:-1]  # without tanh
        initialise(self.code, init_std)

    def encode(self, samples: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Convolutions, then a linear map."""
        return encode(samples, self.levels, self.code)

    def decode(self, codes: Tensor) -> Tensor:
        """Transposed convolutions."""
        images: Tensor = self.decoder(codes)
        return images


def encode(h: Tensor, levels: nn.ModuleList, code: nn.Linear) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The codes and all levels on the way to them."""
    features = []
    for level in levels:
        h = level(h)
        features.append(h)
    return code(h.flatten(1)), tuple(features)
