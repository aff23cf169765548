"""The residual networks of SNGAN (Miyato et al. 2018), and with attention those of SAGAN (Zhang et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.attention import attend
from gan_experiments.networks.blocks import (
    Staged,
    StagedGenerator,
    batch_norm,
    check_sizes,
    doubled,
    image_shape,
    normalise_spectrally,
)
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.initial import DRAWS, fill, initialise_normally, initialise_orthogonally

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
    """`residual(x) + shortcut(x)` (He et al. 2016); `rectified`: of x after a ReLU, with which the residual begins."""

    def __init__(self, residual: nn.Sequential, shortcut: nn.Sequential, rectified: bool = False) -> None:
        super().__init__()
        self.residual, self.shortcut, self.rectified = residual, shortcut, rectified

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, c', h', w') for (n, c, h, w)."""
        if self.rectified:
            x = x.relu()
        total: Tensor = self.residual(x) + self.shortcut(x)
        return total


def up_block(
    before: int, after: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, upsampling: str = "nearest"
) -> Residual:
    """A generator's block: norm, ReLU, `upsampling` to twice the side, 3x3, norm, ReLU, 3x3."""
    return Residual(
        nn.Sequential(
            norm(before),
            nn.ReLU(inplace=True),
            doubled(upsampling),
            nn.Conv2d(before, after, 3, 1, 1),
            norm(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1),
        ),
        # The paper enlarges first, which comes to the same for a 1x1 convolution and takes four times the work.
        nn.Sequential(nn.Conv2d(before, after, 1), doubled(upsampling)),
    )


def down_block(
    before: int, hidden: int, after: int, halve: bool, first: bool = False, rectified: bool = False
) -> Residual:
    """A discriminator's block: ReLU (not in the `first`, which sees images), 3x3, ReLU, 3x3, mean of 2x2 if `halve`.

    The shortcut sees what the block is given or, if `rectified`, that after its ReLU.
    """
    # Not in place: the shortcut, and whoever asked for features, sees x as well.
    residual: list[nn.Module] = [] if first else [nn.ReLU()]
    residual += [nn.Conv2d(before, hidden, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, after, 3, 1, 1)]
    pool = [nn.AvgPool2d(2)] if halve else []
    project = [nn.Conv2d(before, after, 1)] if halve or before != after else []
    return Residual(nn.Sequential(*residual, *pool), nn.Sequential(*pool, *project), rectified and not first)


class SumPool(nn.Module):
    """ReLU, then the sum over positions."""

    def forward(self, h: Tensor) -> Tensor:
        """(n, c), float32 at least, for (n, c, h, w)."""
        return h.relu().sum((2, 3), dtype=torch.promote_types(h.dtype, torch.float32))


class MeanPool(nn.Module):
    """ReLU, then the mean over positions."""

    def forward(self, h: Tensor) -> Tensor:
        """(n, c), float32 at least, for (n, c, h, w)."""
        return h.relu().mean((2, 3), dtype=torch.promote_types(h.dtype, torch.float32))


POOLINGS: dict[str, Callable[[], nn.Module]] = {"sum": SumPool, "mean": MeanPool}


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


def initialise_residual(network: nn.Module, zero_biases: bool = True) -> None:
    """Uniform weights (Glorot & Bengio 2010), sqrt(2) times as large in residual branches, and biases of 0."""
    fill(network, DRAWS["glorot"], zero_biases)
    for block in network.modules():
        if isinstance(block, Residual):
            for layer in block.residual:
                if isinstance(layer, nn.Conv2d):
                    layer.weight.data.mul_(math.sqrt(2))


def initialise_branches(network: nn.Module, zero_biases: bool = True) -> None:
    """The same for residual branches and linear maps; shortcuts and the map to colours keep torch's own weights."""
    branches = {id(layer) for block in network.modules() if isinstance(block, Residual) for layer in block.residual}
    for layer in network.modules():
        if isinstance(layer, nn.Linear) or id(layer) in branches:
            fill(layer, DRAWS["glorot"], zero_biases)
        if id(layer) in branches and isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(math.sqrt(2))


INITIALISATIONS: dict[str, Callable[[nn.Module, bool], None]] = {
    "glorot": initialise_residual,
    "glorot_branches": initialise_branches,
    "orthogonal": initialise_orthogonally,
    "normal": initialise_normally,
}


def initialise(network: nn.Module, init: str, zero_biases: bool = True) -> None:
    """Initial weights by the way called `init`, biases of 0 or torch's own; UserError for an unknown way."""
    if init not in INITIALISATIONS:
        raise UserError(f"{type(network).__name__}: unknown init={init!r}; there are {', '.join(INITIALISATIONS)}")
    INITIALISATIONS[init](network, zero_biases)


class ResNetGenerator(StagedGenerator):
    """Latents projected to 4x4 (6x6 for side 48), then blocks of two 3x3 convolutions that double the side.

    Published for sides 32, 48 and 128, and in use for 64; 16 and 8 are the one for 32 with fewer blocks. `width` is
    the number of channels at the data's side; for 32 and less all levels have four times that. With `attention`,
    self-attention with pooled keys works at side `attention_resolution`, by default half the data's, at most 32.
    `upsampling` is nearest or bilinear, `norm_eps` what batch norm adds to variances.
    `init` names the initial weights: glorot (as published), glorot_branches (the rest but linear maps: torch's own),
    orthogonal, or normal, N(0, 0.02^2); without `zero_biases` biases start as torch's own.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 128,
        width: int = 64,
        attention: bool = False,
        attention_resolution: int | None = None,
        spectral_norm: bool = False,
        upsampling: str = "nearest",
        norm_eps: float = 1e-5,
        init: str = "glorot",
        zero_biases: bool = True,
    ) -> None:
        super().__init__()
        channels, side = residual_shape(spec, type(self).__name__)
        check_sizes(type(self).__name__, latent_dim=latent_dim, width=width)
        self.latent_dim, norm = latent_dim, batch_norm(norm_eps)
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
                *(up_block(before, after, norm, upsampling) for before, after in pairwise(widths)),
            ]
        )
        self.output = nn.Sequential(
            norm(widths[-1]), nn.ReLU(inplace=True), nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh()
        )
        if attention:
            attend(self, attention_resolution or min(side // 2, 32))
        initialise(self, init, zero_biases)
        if spectral_norm:
            normalise_spectrally(self)


class ResNetDiscriminator(Headed, Staged):
    """Blocks of two 3x3 convolutions, most of which halve the side; ReLU, sum over positions, one logit.

    Published for sides 32, 48 and 128, and in use for 64; 16 and 8 have the one for 32. `width` is the number of
    channels of the first block; for 32 and less all blocks have twice that. Channels change in a block's second
    convolution, with `wide` in its first (SAGAN, BigGAN). With `rectified_shortcut`, shortcuts see their block's input
    after its ReLU, as they do where that works in place. `pooling` is sum, or mean of positions. Features are the
    blocks' outputs, before any ReLU. `init` and `zero_biases` as in the generator.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 64,
        wide: bool = False,
        attention: bool = False,
        attention_resolution: int | None = None,
        spectral_norm: bool = True,
        rectified_shortcut: bool = False,
        pooling: str = "sum",
        init: str = "glorot",
        zero_biases: bool = True,
    ) -> None:
        super().__init__()
        before, side = residual_shape(spec, type(self).__name__)
        check_sizes(type(self).__name__, width=width)
        if pooling not in POOLINGS:
            raise UserError(f"{type(self).__name__}: unknown pooling={pooling!r}; there are {', '.join(POOLINGS)}")
        multiples, halvings = DOWN[side]
        self.shapes = [(width * m, side >> min(level + 1, halvings)) for level, m in enumerate(multiples)]
        self.levels = nn.ModuleList()
        for level, (after, _) in enumerate(self.shapes):
            hidden = after if wide or level == 0 else before
            halve = level < halvings
            self.levels.append(down_block(before, hidden, after, halve, level == 0, rectified_shortcut))
            before = after
        self.pool = POOLINGS[pooling]()
        self.head = nn.Linear(before, 1)
        if attention:
            attend(self, attention_resolution or min(side // 2, 32))
        initialise(self, init, zero_biases)
        if spectral_norm:
            normalise_spectrally(self)
