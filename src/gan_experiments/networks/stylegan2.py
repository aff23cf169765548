"""StyleGAN2 (Karras et al. 2020): styles scale the weights of convolutions, for sides 8 to 1024."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.game import widened
from gan_experiments.networks.blocks import Staged
from gan_experiments.networks.conditional import class_count
from gan_experiments.networks.equalised import (
    ROOT_2,
    DownConv2d,
    EqualConv2d,
    EqualLinear,
    LeakyReLU,
    StddevMap,
    widths,
)
from gan_experiments.networks.growth import growing_sides, shapes_of
from gan_experiments.networks.heads import Headed
from gan_experiments.networks.mapping import ClassProduct, Mapping, Styled, StyleGenerator, styling
from gan_experiments.networks.precision import without_autocast
from gan_experiments.networks.resample import BINOMIAL, downsample, upsample, upsample_convolve
from gan_experiments.networks.stylegan import Constant, Noise

SMALLEST = 8


class ModulatedConv2d(EqualConv2d, Styled):
    """A convolution whose weights w_oik are scaled by s_i, an affine map of the style numbered `place`, and, with
    `demodulate`, divided by their norm over i and k (Karras et al. 2020, equations 1 and 3).

    Instead of weights for each sample its inputs are scaled by s and its outputs by the reciprocal norms, which is the
    same. `doubles`: it doubles the images on the way. Norms in float32.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        style_dim: int,
        place: int,
        demodulate: bool = True,
        doubles: bool = False,
    ) -> None:
        super().__init__(before, after, kernel, bias=False)
        self.shift = nn.Parameter(torch.zeros(after))
        self.place, self.demodulate, self.doubles = place, demodulate, doubles
        self.affine = EqualLinear(style_dim, before, first_bias=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, h, w) for (n, before, h, w), or (n, after, 2h, 2w)."""
        weight, bias = self.weight, self.shift.view(-1, 1, 1)
        with without_autocast(x.device):
            style = self.affine(widened(self.style)) * self.scale
        x = x * style.to(x.dtype)[:, :, None, None]
        y = upsample_convolve(x, weight) if self.doubles else self._conv_forward(x, weight, None)
        if not self.demodulate:
            return y + bias.to(y.dtype)
        with without_autocast(x.device):
            power = style.square() @ widened(weight).square().sum((2, 3)).t()
            norm = torch.rsqrt(power + 1e-8)
        return torch.addcmul(bias.to(y.dtype), y, norm.to(y.dtype)[:, :, None, None])


class StyleGAN2Generator(StyleGenerator, Staged):
    """A learned 4x4 constant through modulated convolutions; images are the sum of those of all resolutions.

    Maps of a side have channel_base / side channels, up to `channel_max`. Activations are kept within +-`clamp`, None:
    not. With `conditional`, the class's embedding joins the latents. Colours are linear, without a tanh.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 512,
        style_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        clamp: float | None = None,
        mean_decay: float = 0.995,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        colours, sides = growing_sides(spec, type(self).__name__, SMALLEST)
        channels = widths(sides, channel_base, channel_max)
        self.latent_dim, self.shapes, self.clamp = latent_dim, shapes_of(channels, sides), clamp
        self.mapping = Mapping(spec, latent_dim, style_dim, mapping_layers, conditional, decay=mean_decay)

        def layer(before: int, after: int, place: int, doubles: bool = False) -> list[nn.Module]:
            convolution = ModulatedConv2d(before, after, 3, style_dim, place, doubles=doubles)
            return [convolution, Noise(), LeakyReLU(ROOT_2, clamp)]

        start = Constant(torch.randn(1, channels[0], 4, 4))
        self.levels = nn.ModuleList([nn.Sequential(start, *layer(channels[0], channels[0], 0))])
        for level, (before, after) in enumerate(pairwise(channels), 1):
            first, second = layer(before, after, 2 * level - 1, doubles=True), layer(after, after, 2 * level)
            self.levels.append(nn.Sequential(*first, *second))
        self.to_rgb = nn.ModuleList(
            ModulatedConv2d(width, colours, 1, style_dim, 2 * level + 1, demodulate=False)
            for level, width in enumerate(channels)
        )

    @property
    def layers(self) -> int:
        """Two styles a resolution: the map to colours shares its own with the next resolution's first layer."""
        return 2 * len(self.levels)

    def synthesis(self, styles: Tensor) -> Tensor:
        """Images (n, c, side, side), unbounded but about in [-1, 1], for styles (n, layers, style_dim)."""
        h, images = styles, None
        with styling(self, styles):
            for level, to_rgb in zip(self.levels, self.to_rgb, strict=True):
                h = level(h)
                images = self.added(images, to_rgb(h))
        assert images is not None
        return images

    def added(self, images: Tensor | None, finer: Tensor) -> Tensor:
        """The sum of images, doubled, and those of the next resolution, in float32."""
        finer = widened(finer if self.clamp is None else finer.clamp(-self.clamp, self.clamp))
        if images is None:
            return finer
        with without_autocast(finer.device):
            return upsample(images) + finer


class ResidualHalving(nn.Module):
    """Two convolutions that halve the side, and a linear way around them; their sum has the input's spread."""

    def __init__(self, before: int, after: int, clamp: float | None) -> None:
        super().__init__()
        half = math.sqrt(0.5)
        self.around = EqualConv2d(before, after, 1, bias=False, gain=half)
        self.through = nn.Sequential(*halving(before, after, clamp, half))

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, h / 2, w / 2) for (n, before, h, w)."""
        result: Tensor = self.around(downsample(x)) + self.through(x)
        return result


def halving(before: int, after: int, clamp: float | None, share: float = 1.0) -> list[nn.Module]:
    """A convolution and one that halves the side, with leaky ReLUs, the result times `share`."""
    last = LeakyReLU(ROOT_2 * share, None if clamp is None else clamp * share)
    first = [EqualConv2d(before, before, 3), LeakyReLU(ROOT_2, clamp)]
    return [*first, DownConv2d(before, after, BINOMIAL), last]


class StyleGAN2Discriminator(Headed, Staged):
    """Residual blocks down to 4x4, where the samples of groups of `group` are compared (0: not), then two linear maps.

    Maps of a side have channel_base / side channels, up to `channel_max`. `residual` false: plain convolutions. With
    `conditional`, the logit is a product with a vector of the class, made of it by `mapping_layers` layers.
    """

    def __init__(
        self,
        spec: Spec,
        channel_base: int = 32768,
        channel_max: int = 512,
        residual: bool = True,
        group: int = 4,
        clamp: float | None = None,
        conditional: bool = False,
        mapping_layers: int = 8,
    ) -> None:
        super().__init__()
        colours, sides = growing_sides(spec, type(self).__name__, SMALLEST)
        rising = widths(sides, channel_base, channel_max)
        channels = rising[::-1]
        self.shapes = shapes_of(channels[1:], sides[-2::-1])
        self.levels = nn.ModuleList(
            ResidualHalving(before, after, clamp) if residual else nn.Sequential(*halving(before, after, clamp))
            for before, after in pairwise(channels)
        )
        from_rgb = [EqualConv2d(colours, channels[0], 1), LeakyReLU(ROOT_2, clamp)]
        self.levels[0] = nn.Sequential(*from_rgb, self.levels[0])
        width = channels[-1]
        compare = [StddevMap(group)] if group else []
        self.pool = nn.Sequential(
            *compare,
            EqualConv2d(width + len(compare), width, 3),
            LeakyReLU(ROOT_2, clamp),
            nn.Flatten(),
            EqualLinear(width * 16, width),
            LeakyReLU(ROOT_2),
        )
        self.head: nn.Module = EqualLinear(width, 1)
        if conditional:
            self.head = ClassProduct(width, class_count(spec, "conditional: true"), mapping_layers)
