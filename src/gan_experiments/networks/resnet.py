"""The residual networks of SNGAN (Miyato et al. 2018), and with attention those of SAGAN (Zhang et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.attention import attend
from gan_experiments.networks.blocks import Staged, StagedGenerator, image_shape, normalise_spectrally
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.initial import fill, initialise_normally, initialise_orthogonally

UP = {  # channels over width: of the generator's first feature map, then of each block, which doubles the side
    8: (4, 4),
    16: (4, 4, 4),
    32: (4, 4, 4, 4),
    48: (8, 4, 2, 1),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
}
DOWN = {  # channels over width of the discriminator's blocks, and how many of them, the first ones, halve the side
    8: ((2, 2, 2, 2), 2),
    16: ((2, 2, 2, 2), 2),
    32: ((2, 2, 2, 2), 2),
    48: ((1, 2, 4, 8, 16), 4),
    64: ((1, 2, 4, 8, 16), 5),
    128: ((1, 2, 4, 8, 16, 16), 5),
}


class Residual(nn.Module):
    """`residual(x) + shortcut(x)` (He et al. 2016)."""

    def __init__(self, residual: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.residual, self.shortcut = residual, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, c', h', w') for (n, c, h, w)."""
        total: Tensor = self.residual(x) + self.shortcut(x)
        return total


def up_block(before: int, after: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> Residual:
    """A generator's block: norm, ReLU, nearest neighbours to twice the side, 3x3, norm, ReLU, 3x3."""
    return Residual(
        nn.Sequential(
            norm(before),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(before, after, 3, 1, 1),
            norm(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1),
        ),
        # The paper enlarges first, which comes to the same for a 1x1 convolution and takes four times the work.
        nn.Sequential(nn.Conv2d(before, after, 1), nn.Upsample(scale_factor=2)),
    )


def down_block(before: int, hidden: int, after: int, halve: bool, first: bool = False) -> Residual:
    """A discriminator's block: ReLU (not in the `first`, which sees images), 3x3, ReLU, 3x3, mean of 2x2 if `halve`."""
    # Not in place: the shortcut, and whoever asked for features, sees x as well.
    residual: list[nn.Module] = [] if first else [nn.ReLU()]
    residual += [nn.Conv2d(before, hidden, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, after, 3, 1, 1)]
    pool = [nn.AvgPool2d(2)] if halve else []
    project = [nn.Conv2d(before, after, 1)] if halve or before != after else []
    return Residual(nn.Sequential(*residual, *pool), nn.Sequential(*pool, *project))


class SumPool(nn.Module):
    """ReLU, then the sum over positions."""

    def forward(self, h: Tensor) -> Tensor:
        """(n, c), float32 at least, for (n, c, h, w)."""
        return h.relu().sum((2, 3), dtype=torch.promote_types(h.dtype, torch.float32))


def residual_shape(spec: Spec, network: str) -> tuple[int, int]:
    """Channels and side of images of a side in `DOWN`; UserError naming the network otherwise."""
    if not spec.is_image:
        return image_shape(spec, network, min(DOWN), max(DOWN))
    channels, height, width = spec.shape
    if height != width or height not in DOWN:
        *sides, last = map(str, DOWN)
        raise UserError(
            f"{network} takes square images of side {', '.join(sides)} or {last}; the data are {height}x{width}: set "
            "the data set's size (dataset=folder dataset.size=64), or choose another model"
        )
    return channels, height


def initialise_residual(network: nn.Module) -> None:
    """Uniform weights (Glorot & Bengio 2010), sqrt(2) times as large in residual branches, and biases of 0."""
    fill(network, nn.init.xavier_uniform_)
    for block in network.modules():
        if isinstance(block, Residual):
            for layer in block.residual:
                if isinstance(layer, nn.Conv2d):
                    layer.weight.data.mul_(math.sqrt(2))


INITIALISATIONS: dict[str, Callable[[nn.Module], None]] = {
    "glorot": initialise_residual,
    "orthogonal": initialise_orthogonally,
    "normal": initialise_normally,
}


def finish(network: nn.Module, init: str, spectral_norm: bool) -> None:
    """Initial weights by the way called `init` and, if asked for, spectral norm; UserError for an unknown way."""
    if init not in INITIALISATIONS:
        raise UserError(f"{type(network).__name__}: unknown init={init!r}; there are {', '.join(INITIALISATIONS)}")
    INITIALISATIONS[init](network)
    if spectral_norm:
        normalise_spectrally(network)


class ResNetGenerator(StagedGenerator):
    """Latents projected to 4x4 (6x6 for side 48), then blocks of two 3x3 convolutions that double the side.

    Published for sides 32, 48 and 128, and in use for 64; 16 and 8 are the one for 32 with fewer blocks. `width` is
    the number of channels at the data's side; for 32 and less all levels have four times that. With `attention`,
    self-attention with pooled keys works at side `attention_resolution`, by default half the data's, at most 32.
    `init` names the initial weights: glorot (as published), orthogonal, or normal, N(0, 0.02^2).
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 128,
        width: int = 64,
        attention: bool = False,
        attention_resolution: int | None = None,
        spectral_norm: bool = False,
        init: str = "glorot",
    ) -> None:
        super().__init__()
        channels, side = residual_shape(spec, type(self).__name__)
        self.latent_dim = latent_dim
        widths = [width * multiple for multiple in UP[side]]
        self.shapes = [
            (after, side >> level) for level, after in zip(reversed(range(len(widths))), widths, strict=True)
        ]
        bottom = self.shapes[0][1]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(latent_dim, widths[0] * bottom**2), nn.Unflatten(1, (widths[0], bottom, bottom))
                ),
                *(up_block(before, after) for before, after in zip(widths, widths[1:], strict=False)),
            ]
        )
        self.output = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True), nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh()
        )
        if attention:
            attend(self, attention_resolution or min(side // 2, 32))
        finish(self, init, spectral_norm)


class ResNetDiscriminator(Headed, Staged):
    """Blocks of two 3x3 convolutions, most of which halve the side; ReLU, sum over positions, one logit.

    Published for sides 32, 48 and 128, and in use for 64; 16 and 8 have the one for 32. `width` is the number of
    channels of the first block; for 32 and less all blocks have twice that. Channels change in a block's second
    convolution, with `wide` in its first (SAGAN, BigGAN). Features are the blocks' outputs, before any ReLU. `init`
    as in the generator.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 64,
        wide: bool = False,
        attention: bool = False,
        attention_resolution: int | None = None,
        spectral_norm: bool = True,
        init: str = "glorot",
    ) -> None:
        super().__init__()
        before, side = residual_shape(spec, type(self).__name__)
        multiples, halvings = DOWN[side]
        self.shapes = [(width * m, side >> min(level + 1, halvings)) for level, m in enumerate(multiples)]
        self.levels = nn.ModuleList()
        for level, (after, _) in enumerate(self.shapes):
            hidden = after if wide or level == 0 else before
            self.levels.append(down_block(before, hidden, after, halve=level < halvings, first=level == 0))
            before = after
        self.pool = SumPool()
        self.head = nn.Linear(before, 1)
        if attention:
            attend(self, attention_resolution or min(side // 2, 32))
        finish(self, init, spectral_norm)
