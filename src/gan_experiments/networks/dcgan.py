"""DCGAN: convolutions with stride 2 instead of pooling (Radford et al. 2016), for sides 8 to 128."""

from __future__ import annotations

import math

from torch import nn

from gan_experiments.data.base import Spec
from gan_experiments.networks.blocks import (
    Staged,
    StagedGenerator,
    has_bias,
    image_shape,
    initialise,
    normalisation,
    normalise_spectrally,
)
from gan_experiments.networks.blocks import activation as make_activation
from gan_experiments.networks.heads import Headed

SMALLEST, LARGEST = 8, 128


class DCGANGenerator(StagedGenerator):
    """Latents projected to 4x4, then doubled by transposed 4x4 convolutions of stride 2 up to the side of the data.

    `width` is the number of channels at the last hidden resolution; it doubles with each halving, up to `max_width`.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 100,
        width: int = 64,
        max_width: int = 512,
        norm: str = "batch",
        activation: str = "relu",
        init_std: float | None = 0.02,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        self.latent_dim = latent_dim
        doublings = int(math.log2(side // 4))
        widths = [min(width * 2**level, max_width) for level in reversed(range(doublings))]
        self.shapes = [(after, 4 * 2**level) for level, after in enumerate(widths)]
        # A transposed convolution of a 1x1 image, as the paper draws it, is this linear map; linear maps run faster.
        first: list[nn.Module] = [
            nn.Linear(latent_dim, widths[0] * 16, bias=has_bias(norm)),
            nn.Unflatten(1, (widths[0], 4, 4)),
        ]
        maps: list[list[nn.Module]] = [
            [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=has_bias(norm))]
            for before, after in zip(widths, widths[1:], strict=False)
        ]
        self.levels = nn.ModuleList(
            nn.Sequential(*layers, normalisation(norm, after), make_activation(activation))
            for layers, after in zip([first, *maps], widths, strict=True)
        )
        self.output = nn.Sequential(nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh())
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)


class DCGANDiscriminator(Headed, Staged):
    """4x4 convolutions of stride 2 down to 4x4, then one logit; features are the levels after their activation.

    `width` is the number of channels after the first convolution; it doubles with each halving, up to `max_width`.
    The first level is never normalised (Radford et al. 2016, section 3).
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 64,
        max_width: int = 512,
        norm: str = "batch",
        activation: str = "leaky_relu",
        init_std: float | None = 0.02,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        halvings = int(math.log2(side // 4))
        widths = [min(width * 2**level, max_width) for level in range(halvings)]
        self.shapes = [(after, side // 2 ** (level + 1)) for level, after in enumerate(widths)]
        self.levels = nn.ModuleList()
        before = channels
        for level, after in enumerate(widths):
            chosen = "none" if level == 0 else norm
            self.levels.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 4, 2, 1, bias=has_bias(chosen)),
                    normalisation(chosen, after),
                    make_activation(activation),
                )
            )
            before = after
        self.head = nn.Linear(before * 16, 1)  # a 4x4 convolution of a 4x4 image
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)
