"""StyleGAN (Karras et al. 2019): styles set mean and spread of each feature map, for sides 8 to 1024."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.game import widened
from gan_experiments.networks.conditional import class_count
from gan_experiments.networks.equalised import ROOT_2, DownConv2d, EqualConv2d, EqualLinear, LeakyReLU, UpConv2d, widths
from gan_experiments.networks.growth import GrowingGenerator, Growth, growing_sides, shapes_of
from gan_experiments.networks.mapping import ClassProduct, Mapping, Styled, StyleGenerator, styling
from gan_experiments.networks.precision import without_autocast
from gan_experiments.networks.progan import Blur, ProGANDiscriminator
from gan_experiments.networks.resample import BOX

SMALLEST = 8
SMOOTH = (1, 2, 1)
"""Taps of the filter after doubling and before halving."""


class Constant(nn.Module):
    """The same learned maps for all samples."""

    def __init__(self, first: Tensor) -> None:
        super().__init__()
        self.maps = nn.Parameter(first)

    def forward(self, styles: Tensor) -> Tensor:
        """(n, c, h, w) for n of anything."""
        return self.maps.expand(len(styles), -1, -1, -1)


class Noise(nn.Module):
    """x + scale * N(0, 1): a noise map a sample, drawn anew each time, with `scales` learned scales, 0 at first."""

    def __init__(self, scales: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(scales))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w), c being the number of scales unless that is 1."""
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return x + self.scale.to(x.dtype).view(-1, 1, 1) * noise


class Bias(nn.Module):
    """A number a channel, 0 at first, for layers that add noise before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        return x + self.bias.to(x.dtype).view(-1, 1, 1)


class AdaIN(Styled):
    """Adaptive instance norm: each map brought to mean 0 and mean square 1, then scaled by 1 + s and shifted by b, an
    affine map (s, b) of the style numbered `place` (Karras et al. 2019, equation 1); statistics in float32."""

    def __init__(self, channels: int, style_dim: int, place: int) -> None:
        super().__init__()
        self.place = place
        self.affine = EqualLinear(style_dim, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        with without_autocast(x.device):
            scale, shift = self.affine(self.style)[:, :, None, None].chunk(2, 1)
            values = widened(x)
            values = values - values.mean((2, 3), keepdim=True)
            gain = (1 + scale) * torch.rsqrt(values.square().mean((2, 3), keepdim=True) + 1e-8)
            return torch.addcmul(shift, values, gain).to(x.dtype)


class StyleGANGenerator(StyleGenerator, GrowingGenerator):
    """A learned 4x4 constant, doubled and convolved; after each layer noise, leaky ReLU and the layer's style.

    Maps of a side have channel_base / side channels, up to `channel_max`. `first` is the side of images at first, which
    grow as ProGAN's do, `images_per_phase` images a phase; None: no growth. With `conditional`, the class's embedding
    joins the latents, as in StyleGAN2. Colours are linear, without a tanh.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 512,
        style_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 16384,
        channel_max: int = 512,
        mean_decay: float = 0.995,
        first: int | None = None,
        images_per_phase: float | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        colours, sides = growing_sides(spec, name, SMALLEST)
        first = first or sides[-1]
        channels = widths(sides, channel_base, channel_max)
        self.latent_dim, self.shapes = latent_dim, shapes_of(channels, sides)
        self.growth = Growth(first, sides[-1], images_per_phase, name)
        self.started = sides.index(first)
        self.mapping = Mapping(spec, latent_dim, style_dim, mapping_layers, conditional, ROOT_2, 1.0, mean_decay)

        def styled(width: int, place: int) -> list[nn.Module]:
            return [Noise(width), Bias(width), LeakyReLU(), AdaIN(width, style_dim, place)]

        self.levels = nn.ModuleList()
        for level, width in enumerate(channels):
            start: list[nn.Module] = [Constant(torch.ones(1, width, 4, 4))]
            if level:
                doubling = UpConv2d(channels[level - 1], width, BOX, bias=False, gain=ROOT_2)
                start = [doubling, Blur(SMOOTH)]
            convolution = EqualConv2d(width, width, 3, bias=False, gain=ROOT_2)
            layers = [*start, *styled(width, 2 * level), convolution, *styled(width, 2 * level + 1)]
            self.levels.append(nn.Sequential(*layers))
        self.to_rgb = nn.ModuleList(EqualConv2d(width, colours, 1) for width in channels[self.started :])

    @property
    def layers(self) -> int:
        """Two styles a resolution that has been begun."""
        return 2 * (self.started + self.growth.stage.doublings + 1)

    def synthesis(self, styles: Tensor) -> Tensor:
        """Images (n, c, side, side), unbounded but about in [-1, 1], for styles (n, layers, style_dim)."""
        with styling(self, styles):
            return self.paint(styles)


class StyleGANDiscriminator(ProGANDiscriminator):
    """ProGAN's with a filter before each halving; `first` None: no growth.

    With `conditional`, the logit is a product with a vector of the class, made of it by `mapping_layers` layers.
    """

    smallest = SMALLEST

    def __init__(
        self,
        spec: Spec,
        channel_base: int = 16384,
        channel_max: int = 512,
        group: int = 4,
        first: int | None = None,
        images_per_phase: float | None = None,
        conditional: bool = False,
        mapping_layers: int = 8,
    ) -> None:
        super().__init__(spec, channel_base, channel_max, group, first or spec.shape[-1], images_per_phase)
        if conditional:
            classes = class_count(spec, "conditional: true")
            self.head = ClassProduct(self.shapes[-1][0], classes, mapping_layers)

    def halving(self, before: int, after: int) -> list[nn.Module]:
        """The layers of a level that halves the side."""
        first = EqualConv2d(before, before, 3, gain=ROOT_2)
        down = DownConv2d(before, after, BOX, gain=ROOT_2)
        return [first, LeakyReLU(), Blur(SMOOTH), down, LeakyReLU()]
