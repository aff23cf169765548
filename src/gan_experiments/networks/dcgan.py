"""DCGAN: convolutions with stride 2 instead of pooling (Radford et al. 2016), for sides 8 to 128."""

from __future__ import annotations

import math

from torch import nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
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


def doubling(before: int, after: int, kernel: int, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution of stride 2, to twice the side; UserError for a kernel of 1."""
    # By an odd kernel, images of side 2n - 1 and of side 2n are halved to n; output padding chooses 2n.
    return nn.ConvTranspose2d(before, after, checked(kernel), 2, (kernel - 1) // 2, kernel % 2, bias=bias)


def halving(before: int, after: int, kernel: int, bias: bool) -> nn.Conv2d:
    """A convolution of stride 2, to half the side; UserError for a kernel of 1."""
    return nn.Conv2d(before, after, checked(kernel), 2, (kernel - 1) // 2, bias=bias)


def checked(kernel: int) -> int:
    """The kernel's side; UserError when a stride of 2 would skip pixels."""
    if kernel < 2:
        raise UserError(f"kernel={kernel}: convolutions of stride 2 need kernels of side 2 or more; DCGAN's are 4 or 5")
    return kernel


class DCGANGenerator(StagedGenerator):
    """Latents projected to 4x4, then doubled by transposed convolutions of stride 2 up to the side of the data.

    `width` is the number of channels at the last hidden resolution; it doubles with each halving, up to `max_width`.
    `kernel` is the side of the convolutions' kernels. Linear maps have a bias where no batch norm follows, or none at
    all without `bias`.
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
        kernel: int = 4,
        bias: bool = True,
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        self.latent_dim = latent_dim
        doublings = int(math.log2(side // 4))
        widths = [min(width * 2**level, max_width) for level in reversed(range(doublings))]
        biased = bias and has_bias(norm)
        self.shapes = [(after, 4 * 2**level) for level, after in enumerate(widths)]
        # A transposed convolution of a 1x1 image, as the paper draws it, is this linear map; linear maps run faster.
        first: list[nn.Module] = [
            nn.Linear(latent_dim, widths[0] * 16, bias=biased),
            nn.Unflatten(1, (widths[0], 4, 4)),
        ]
        maps: list[list[nn.Module]] = [
            [doubling(before, after, kernel, biased)] for before, after in zip(widths, widths[1:], strict=False)
        ]
        self.levels = nn.ModuleList(
            nn.Sequential(*layers, normalisation(norm, after), make_activation(activation))
            for layers, after in zip([first, *maps], widths, strict=True)
        )
        self.output = nn.Sequential(doubling(widths[-1], channels, kernel, bias), nn.Tanh())
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)


class DCGANDiscriminator(Headed, Staged):
    """Convolutions of stride 2 down to 4x4, then one logit; features are the levels after their activation.

    `width` is the number of channels after the first convolution; it doubles with each halving, up to `max_width`.
    The first level is never normalised (Radford et al. 2016, section 3). `kernel` and `bias` as in the generator.
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
        kernel: int = 4,
        bias: bool = True,
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
                    halving(before, after, kernel, bias and has_bias(chosen)),
                    normalisation(chosen, after),
                    make_activation(activation),
                )
            )
            before = after
        self.head = nn.Linear(before * 16, 1, bias=bias)  # a 4x4 convolution of a 4x4 image
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)
