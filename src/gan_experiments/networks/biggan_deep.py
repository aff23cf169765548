"""BigGAN-deep: bottlenecks, shortcuts without weights, all latents for every level (Brock et al. 2019, appendix B)."""

from __future__ import annotations

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
from gan_experiments.networks.blocks import image_shape
from gan_experiments.networks.resnet import Residual

RATIO = 4  # of a block's channels to those of its 3x3 convolutions
DOWN = {  # channels over width of the discriminator's first convolution, then of its stages, which halve the side
    8: (4, 4, 4, 4),
    16: (4, 4, 4, 4),
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
    512: (1, 1, 2, 4, 8, 8, 16, 16),
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


def bottleneck_up(before: int, after: int, code_dim: int, double: bool) -> Residual:
    """A generator's block: 1x1 to a quarter, 3x3 (to twice the side with `double`), 3x3, 1x1, each after norm, ReLU."""
    hidden = max(before // RATIO, 1)
    enlarge = [nn.Upsample(scale_factor=2)] if double else []

    def activated(channels: int) -> list[nn.Module]:
        return [CodedBatchNorm(channels, code_dim), nn.ReLU(inplace=True)]

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


def bottleneck_down(before: int, after: int, halve: bool) -> Residual:
    """A discriminator's block: 1x1 to a quarter, 3x3, 3x3, mean of 2x2 if `halve`, 1x1, with ReLUs before each."""
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
    )


class BigGANDeepGenerator(CodedGenerator):
    """Class embedding and latents, side by side, projected to 4x4 and told to the batch norms of every block; `depth`
    bottlenecks a level, the last of which doubles the side and drops channels.

    Published for sides 128, 256 and 512; 64 and 32 are in use, and 16 and 8 are the one for 32 with fewer blocks.
    `width` is the number of channels at the data's side; for 32 and less all levels have four times that. Without
    `conditional` the norms are told the latents alone. UserError when there are no classes to be `conditional` on.
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
    ) -> None:
        super().__init__()
        check_depth(depth, type(self).__name__)
        self.latent_dim = latent_dim
        code_dim = self.prepare(spec, width, conditional, embedding_dim) + latent_dim
        self.levels = nn.ModuleList([self.first_level(code_dim)])
        for before, after in zip(self.widths, self.widths[1:], strict=False):
            same = [bottleneck_up(before, before, code_dim, double=False) for _ in range(depth - 1)]
            self.levels.append(nn.Sequential(*same, bottleneck_up(before, after, code_dim, double=True)))
        self.finish(spec, attention_side(spec, attention, attention_resolution), spectral_norm)

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, h, w) in [-1, 1] for latents (n, latent_dim)."""
        code = self.joined(z)
        with coding(self.levels, code):
            return super().forward(code)


class BigGANDeepDiscriminator(ProjectionDiscriminator):
    """A 3x3 convolution, then stages of `depth` bottlenecks, the first of which halves the side and adds channels.

    Published for sides 128, 256 and 512; 64 and 32 are in use, and 16 and 8 have the one for 32. `width` is the number
    of channels after the first convolution; for 32 and less all levels have four times that. Features are
    the levels' outputs. UserError when there are no classes to be `conditional` on.
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
    ) -> None:
        super().__init__()
        channels, side = image_shape(spec, type(self).__name__, SMALLEST, LARGEST)
        check_depth(depth, type(self).__name__)
        widths = [width * multiple for multiple in DOWN[side]]
        self.shapes = [(after, side >> level) for level, after in enumerate(widths)]
        self.levels = nn.ModuleList([nn.Conv2d(channels, widths[0], 3, 1, 1)])
        for before, after in zip(widths, widths[1:], strict=False):
            same = [bottleneck_down(after, after, halve=False) for _ in range(depth - 1)]
            self.levels.append(nn.Sequential(bottleneck_down(before, after, halve=True), *same))
        self.finish(spec, conditional, attention_side(spec, attention, attention_resolution), spectral_norm)
