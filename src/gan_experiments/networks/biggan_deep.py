"""BigGAN-deep: bottlenecks, shortcuts without weights, all latents for every level (Brock et al. 2019, appendix B)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.biggan import (
    LARGEST,
    SMALLEST,
    CodedBatchNorm,
    CodedGenerator,
    ProjectionDiscriminator,
    attention_side,
    coding,
)
from gan_experiments.networks.blocks import check_eps, check_sizes, doubled, image_shape
from gan_experiments.networks.resnet import Residual

RATIO = 4  # of a block's channels to those of its 3x3 convolutions
DOWN = {  # channels over width of the discriminator's first convolution and its stages; how many halve the side
    8: ((4, 4, 4, 4), 2),
    16: ((4, 4, 4, 4), 2),
    32: ((4, 4, 4, 4), 2),
    64: ((1, 2, 4, 8, 16), 4),
    128: ((1, 2, 4, 8, 16, 16), 5),
    256: ((1, 2, 4, 8, 8, 16, 16), 6),
    512: ((1, 1, 2, 4, 8, 8, 16, 16), 7),
}


def check_depth(depth: int, network: str) -> None:
    """UserError when there would be no block in a level."""
    if depth < 1:
        raise UserError(f"depth={depth}: {network} needs 1 or more blocks a level")


class KeepChannels(nn.Module):
    """The first `count` channels."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """(n, count, h, w) for (n, c, h, w)."""
        return x[:, : self.count]


class AddChannels(nn.Module):
    """All channels, and further ones made of them by a 1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.more = nn.Conv2d(before, after - before, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, h, w) for (n, before, h, w)."""
        return torch.cat([x, self.more(x)], 1)


def bottleneck_up(
    before: int, after: int, code_dim: int, double: bool, upsampling: str = "nearest", eps: float = 1e-5
) -> Residual:
    """A generator's block: 1x1 to a quarter, 3x3 (to twice the side with `double`), 3x3, 1x1, each after norm, ReLU."""
    hidden = max(before // RATIO, 1)
    enlarge = [doubled(upsampling)] if double else []

    def activated(channels: int) -> list[nn.Module]:
        return [CodedBatchNorm(channels, code_dim, eps), nn.ReLU(inplace=True)]

    return Residual(
        nn.Sequential(
            *activated(before),
            nn.Conv2d(before, hidden, 1),
            *activated(hidden),
            *enlarge,
            nn.Conv2d(hidden, hidden, 3, 1, 1),
            *activated(hidden),
            nn.Conv2d(hidden, hidden, 3, 1, 1),
            *activated(hidden),
            nn.Conv2d(hidden, after, 1),
        ),
        nn.Sequential(*([KeepChannels(after)] if after != before else []), *enlarge),
    )


def bottleneck_down(before: int, after: int, halve: bool, rectified: bool = False) -> Residual:
    """A discriminator's block: 1x1 to a quarter, 3x3, 3x3, mean of 2x2 if `halve`, 1x1, with ReLUs before each.

    The shortcut sees what the block is given or, if `rectified`, that after its ReLU.
    """
    hidden = max(after // RATIO, 1)
    pool = [nn.AvgPool2d(2)] if halve else []
    return Residual(
        nn.Sequential(
            nn.ReLU(),  # not in place: the shortcut, and whoever asked for features, sees x as well
            nn.Conv2d(before, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, 1, 1),
            nn.ReLU(inplace=True),
            *pool,
            nn.Conv2d(hidden, after, 1),
        ),
        nn.Sequential(*pool, *([AddChannels(before, after)] if after != before else [])),
        rectified,
    )


class BigGANDeepGenerator(CodedGenerator):
    """Class embedding and latents, side by side, projected to 4x4 and told to the batch norms of every block; `depth`
    bottlenecks a level, the last of which doubles the side and drops channels.

    Published for sides 128, 256 and 512; 64 and 32 are in use, and 16 and 8 are the one for 32 with fewer blocks.
    `width` is the number of channels at the data's side; for 32 and less all levels have four times that. Without
    `conditional` the norms are told the latents alone. `upsampling`, `norm_eps`, `init` and `zero_biases` as in
    BigGAN's generator. UserError when there are no classes to be `conditional` on.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 128,
        width: int = 128,
        depth: int = 2,
        conditional: bool = False,
        embedding_dim: int = 128,
        attention: bool = True,
        attention_resolution: int | None = None,
        spectral_norm: bool = True,
        upsampling: str = "nearest",
        norm_eps: float = 1e-5,
        init: str = "orthogonal",
        zero_biases: bool = True,
    ) -> None:
        super().__init__()
        check_depth(depth, type(self).__name__)
        check_sizes(type(self).__name__, latent_dim=latent_dim)
        check_eps(norm_eps)
        self.latent_dim = latent_dim
        code_dim = self.prepare(spec, width, conditional, embedding_dim) + latent_dim
        self.levels = nn.ModuleList([self.first_level(code_dim)])
        for before, after in pairwise(self.widths):
            same = [bottleneck_up(before, before, code_dim, False, eps=norm_eps) for _ in range(depth - 1)]
            last = bottleneck_up(before, after, code_dim, True, upsampling, norm_eps)
            self.levels.append(nn.Sequential(*same, last))
        resolution = attention_side(spec, attention, attention_resolution)
        self.finish(spec, resolution, spectral_norm, norm_eps, init, zero_biases)

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, h, w) in [-1, 1] for latents (n, latent_dim)."""
        code = self.joined(z)
        with coding(self.levels, code):
            return super().forward(code)


class BigGANDeepDiscriminator(ProjectionDiscriminator):
    """A 3x3 convolution, then stages of `depth` bottlenecks, the first of which halves the side and adds channels.

    All stages halve down to 4x4, but for sides 32 and less: there it is the first two of three.

    Published for sides 128, 256 and 512; 64 and 32 are in use, and 16 and 8 have the one for 32. `width` is the number
    of channels after the first convolution; for 32 and less all levels have four times that. Features are
    the levels' outputs. `rectified_shortcut`, `init` and `zero_biases` as in BigGAN's discriminator. UserError when
    there are no classes to be `conditional` on.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 128,
        depth: int = 2,
        conditional: bool = False,
        attention: bool = True,
        attention_resolution: int | None = None,
        spectral_norm: bool = True,
        rectified_shortcut: bool = False,
        init: str = "orthogonal",
        zero_biases: bool = True,
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        check_depth(depth, type(self).__name__)
        check_sizes(type(self).__name__, width=width)
        multiples, halvings = DOWN[side]
        widths = [width * multiple for multiple in multiples]
        self.shapes = [(after, side >> min(level, halvings)) for level, after in enumerate(widths)]
        self.levels = nn.ModuleList([nn.Conv2d(channels, widths[0], 3, 1, 1)])
        for stage, (before, after) in enumerate(pairwise(widths)):
            same = [bottleneck_down(after, after, False, rectified_shortcut) for _ in range(depth - 1)]
            first = bottleneck_down(before, after, stage < halvings, rectified_shortcut)
            self.levels.append(nn.Sequential(first, *same))
        resolution = attention_side(spec, attention, attention_resolution)
        self.finish(spec, conditional, resolution, spectral_norm, init, zero_biases)
