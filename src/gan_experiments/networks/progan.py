"""Progressive growing (Karras et al. 2018), for sides 4 to 1024."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.networks.equalised import (
    ROOT_2,
    DownConv2d,
    EqualConv2d,
    EqualLinear,
    LeakyReLU,
    PixelNorm,
    StddevMap,
    UpConv2d,
    widths,
)
from gan_experiments.networks.growth import (
    GrowingDiscriminator,
    GrowingGenerator,
    Growth,
    growing_sides,
    shapes_of,
)
from gan_experiments.networks.resample import BOX, Taps, blur

SMALLEST = 4


def activated(layer: nn.Module) -> list[nn.Module]:
    """A generator's layer, leaky ReLU, and each pixel's features brought to unit mean square."""
    return [layer, LeakyReLU(), PixelNorm()]


class ProGANGenerator(GrowingGenerator):
    """Latents on the sphere, projected to 4x4, then doubled by repeating pixels and two convolutions a resolution.

    Maps of a side have channel_base / side channels, up to `channel_max`. Images start with side `first` and double
    by the clock of `Growth`, `images_per_phase` images a phase; those of lower resolutions have their pixels repeated
    up to the side of the data. Colours are linear, without a tanh.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 512,
        channel_base: int = 16384,
        channel_max: int = 512,
        first: int = 4,
        images_per_phase: float | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        colours, sides = growing_sides(spec, name, SMALLEST)
        channels = widths(sides, channel_base, channel_max)
        self.latent_dim, self.shapes = latent_dim, shapes_of(channels, sides)
        self.growth = Growth(first, sides[-1], images_per_phase, name)
        self.started = sides.index(first)
        # As a transposed convolution of a single pixel, which the paper draws, it has 16 times as large a fan in.
        projection = EqualLinear(latent_dim, channels[0] * 16, gain=ROOT_2 / 4)
        start = [PixelNorm(), *activated(nn.Sequential(projection, nn.Unflatten(1, (channels[0], 4, 4))))]
        self.levels = nn.ModuleList([nn.Sequential(*start, *activated(self.convolution(channels[0])))])
        for before, after in pairwise(channels):
            doubled = activated(UpConv2d(before, after, BOX, gain=ROOT_2))
            self.levels.append(nn.Sequential(*doubled, *activated(self.convolution(after))))
        self.to_rgb = nn.ModuleList(EqualConv2d(width, colours, 1) for width in channels[self.started :])

    @staticmethod
    def convolution(width: int) -> EqualConv2d:
        """A 3x3 convolution with the gain for leaky ReLU."""
        return EqualConv2d(width, width, 3, gain=ROOT_2)

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, side, side), unbounded but about in [-1, 1], for latents (n, latent_dim)."""
        return self.paint(z)


class Blur(nn.Module):
    """A filter that keeps the size."""

    def __init__(self, taps: Taps) -> None:
        super().__init__()
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        return blur(x, self.taps)


class ProGANDiscriminator(GrowingDiscriminator):
    """The generator's mirror image: two convolutions a resolution, halved by averaging, down to 4x4.

    There the samples of groups of `group` are compared (0: not), as one more map. `first` and `images_per_phase` are
    the generator's; images of the data's side are averaged down to the resolution of the stage. `taps` are those of a
    filter before each halving, none by default.
    """

    smallest = SMALLEST

    def __init__(
        self,
        spec: Spec,
        channel_base: int = 16384,
        channel_max: int = 512,
        group: int = 4,
        first: int = 4,
        images_per_phase: float | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        colours, sides = growing_sides(spec, name, self.smallest)
        channels = widths(sides, channel_base, channel_max)
        self.growth = Growth(first, sides[-1], images_per_phase, name)
        started = sides.index(first)
        self.from_rgb = nn.ModuleList(
            nn.Sequential(EqualConv2d(colours, width, 1, gain=ROOT_2), LeakyReLU()) for width in channels[started:]
        )
        falling = list(pairwise(reversed(channels)))
        self.shapes = shapes_of([after for _, after in falling] + channels[:1], [*sides[-2::-1], 4])
        self.levels = nn.ModuleList(nn.Sequential(*self.halving(before, after)) for before, after in falling)
        compare = [StddevMap(group)] if group else []
        last = EqualConv2d(channels[0] + len(compare), channels[0], 3, gain=ROOT_2)
        self.levels.append(nn.Sequential(*compare, last, LeakyReLU()))
        dense = EqualLinear(channels[0] * 16, channels[0], gain=ROOT_2)
        self.pool = nn.Sequential(nn.Flatten(), dense, LeakyReLU())
        self.head = EqualLinear(channels[0], 1)

    def halving(self, before: int, after: int) -> list[nn.Module]:
        """The layers of a level that halves the side."""
        first = EqualConv2d(before, before, 3, gain=ROOT_2)
        return [first, LeakyReLU(), DownConv2d(before, after, BOX, gain=ROOT_2), LeakyReLU()]
