"""The plain convolutional networks of Miyato et al. 2018 (table 3), SNDCGAN; deep_conv in PyTorch-StudioGAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.networks.blocks import (
    Staged,
    StagedGenerator,
    check_sizes,
    image_shape,
    normalisation,
    normalise_spectrally,
)
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.initial import initialise_orthogonally

SMALLEST, LARGEST = 8, 128
LEVELS = 3


class SNDCGANGenerator(StagedGenerator):
    """Latents projected to an eighth of the side, then three transposed 4x4 convolutions of stride 2 and a 3x3 one.

    `width` is the number of channels at the full side; it doubles with each halving, to 8 * `width`. `norm_eps` is what
    norms add to variances.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 128,
        width: int = 64,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        orthogonal: bool = True,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        check_sizes(type(self).__name__, latent_dim=latent_dim, width=width)
        self.latent_dim = latent_dim
        widths = [width * 2**level for level in reversed(range(LEVELS + 1))]
        bottom = side // 2**LEVELS
        self.shapes = [(after, bottom * 2**level) for level, after in enumerate(widths)]
        first = [nn.Linear(latent_dim, widths[0] * bottom**2), nn.Unflatten(1, (widths[0], bottom, bottom))]
        self.levels = nn.ModuleList([nn.Sequential(*first)])
        for before, after in zip(widths, widths[1:], strict=False):
            doubled = nn.ConvTranspose2d(before, after, 4, 2, 1)
            self.levels.append(nn.Sequential(doubled, normalisation(norm, after, norm_eps), nn.ReLU(inplace=True)))
        self.output = nn.Sequential(nn.Conv2d(width, channels, 3, 1, 1), nn.Tanh())
        finish(self, orthogonal, spectral_norm)


class SNDCGANDiscriminator(Headed, Staged):
    """Three pairs of a 3x3 convolution and a 4x4 one of stride 2, a last 3x3 one, one logit.

    `width` is the number of channels of the first pair; it doubles with each, to 8 * `width` at the end. Features are
    those of each pair and of the last convolution. `slope` is that of leaky ReLUs. With `sum_positions` the logit is a
    linear map of features summed over positions (PyTorch-StudioGAN), else of all of them (the paper).
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 64,
        norm: str = "none",
        norm_eps: float = 1e-5,
        slope: float = 0.1,
        sum_positions: bool = False,
        orthogonal: bool = True,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        before, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        check_sizes(type(self).__name__, width=width)
        widths = [width * 2**level for level in range(LEVELS + 1)]
        self.shapes = [(after, side >> min(level + 1, LEVELS)) for level, after in enumerate(widths)]

        def convolve(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(before, after, kernel, stride, 1)
            return [convolution, normalisation(norm, after, norm_eps), nn.LeakyReLU(slope, inplace=True)]

        self.levels = nn.ModuleList()
        for after in widths[:-1]:
            self.levels.append(nn.Sequential(*convolve(before, after, 3, 1), *convolve(after, after, 4, 2)))
            before = after
        self.levels.append(nn.Sequential(*convolve(before, widths[-1], 3, 1)))
        if sum_positions:
            self.pool = SumPositions()
        self.head = nn.Linear(widths[-1] * (1 if sum_positions else self.shapes[-1][1] ** 2), 1)
        finish(self, orthogonal, spectral_norm)


class SumPositions(nn.Module):
    """The sum over positions."""

    def forward(self, h: Tensor) -> Tensor:
        """(n, c), float32 at least, for (n, c, h, w)."""
        return h.sum((2, 3), dtype=torch.promote_types(h.dtype, torch.float32))


def finish(network: nn.Module, orthogonal: bool, spectral_norm: bool) -> None:
    """Initial weights, orthogonal ones or torch's own, and spectral norm of all of them."""
    if orthogonal:
        initialise_orthogonally(network)
    if spectral_norm:
        normalise_spectrally(network)
