"""The deliberately small networks of the stacked-digits comparison (Metz et al. 2017; Lin et al. 2018, table 3)."""

from __future__ import annotations

import math

from torch import nn

from gan_experiments.data.base import Spec
from gan_experiments.networks.blocks import Staged, StagedGenerator, image_shape, initialise
from gan_experiments.networks.heads import Headed

SMALLEST, LARGEST = 8, 128


class TinyGenerator(StagedGenerator):
    """A linear map to 4x4, transposed 3x3 convolutions of stride 2 up to the data's side, a 3x3 convolution, tanh.

    `width` is the number of channels at the data's side, doubled with each halving. Batch norm and ReLU at every level.
    """

    def __init__(self, spec: Spec, latent_dim: int = 256, width: int = 8, init_std: float | None = 0.02) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        self.latent_dim = latent_dim
        widths = [width * 2**level for level in reversed(range(int(math.log2(side // 4)) + 1))]
        self.shapes = [(after, 4 * 2**level) for level, after in enumerate(widths)]
        maps: list[list[nn.Module]] = [
            [nn.Linear(latent_dim, widths[0] * 16, bias=False), nn.Unflatten(1, (widths[0], 4, 4))]
        ]
        for before, after in zip(widths, widths[1:], strict=False):
            maps.append([nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1, bias=False)])
        self.levels = nn.ModuleList(
            nn.Sequential(*layers, nn.BatchNorm2d(after), nn.ReLU(inplace=True))
            for layers, after in zip(maps, widths, strict=True)
        )
        self.output = nn.Sequential(nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh())
        initialise(self, init_std)


class TinyDiscriminator(Headed, Staged):
    """Three 3x3 convolutions of stride 2, each with batch norm (also the first) and leaky ReLU 0.3; then one logit.

    `width` is the number of channels of the first, doubled by each further one: a quarter or half of the generator's.
    """

    def __init__(self, spec: Spec, width: int = 2, init_std: float | None = 0.02) -> None:
        super().__init__()
        before, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        self.shapes = [(width * 2**level, side // 2 ** (level + 1)) for level in range(3)]
        self.levels = nn.ModuleList()
        for after, _ in self.shapes:
            convolution = nn.Conv2d(before, after, 3, 2, 1, bias=False)
            self.levels.append(nn.Sequential(convolution, nn.BatchNorm2d(after), nn.LeakyReLU(0.3, inplace=True)))
            before = after
        self.head = nn.Linear(before * self.shapes[-1][1] ** 2, 1)
        initialise(self, init_std)
