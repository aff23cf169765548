"""FastGAN's light networks for few images (Liu et al. 2021), and the generator that Projected GAN made of its one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Head, Verdict
from gan_experiments.networks.blocks import StagedGenerator, check_sizes, image_shape, initialise, normalise_spectrally

SMALLEST, LARGEST = 8, 1024

MULTIPLES = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 1 / 2, 512: 1 / 4, 1024: 1 / 8}
"""The generator's channels at each side, in units of its width."""

EXCITED = range(64, 513)
"""Sides whose maps are excited by those of a sixteenth of their side."""


class GatedLinear(nn.Module):
    """The first half of the channels times the sigmoid of the second: (n, 2c, h, w) to (n, c, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """The gated half."""
        return nn.functional.glu(x, 1)


class Noise(nn.Module):
    """x + scale * N(0, 1), one map a sample for all channels, by one learned number that starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w), with noise drawn anew each time."""
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return x + self.scale.to(x.dtype) * noise


class Excitation(nn.Module):
    """Multiplies each channel of a map by a number in (0, 1) made of another map, earlier and smaller or larger
    (skip-layer excitation, section 3.1): mean of 4x4 regions, 4x4 convolution, SiLU, 1x1 convolution, sigmoid."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Conv2d(before, after, 4, bias=False),
            nn.SiLU(),
            nn.Conv2d(after, after, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, earlier: Tensor, x: Tensor) -> Tensor:
        """x (n, after, h, w), excited by `earlier` (n, before, ., .)."""
        excited: Tensor = x * self.gate(earlier)
        return excited


def gated(before: int, after: int, noisy: bool) -> list[nn.Module]:
    """A 3x3 convolution to twice the channels, noise, batch norm, and the gate."""
    noise = [Noise()] if noisy else []
    return [nn.Conv2d(before, 2 * after, 3, 1, 1, bias=False), *noise, nn.BatchNorm2d(2 * after), GatedLinear()]


def enlarged(before: int, after: int) -> nn.Sequential:
    """Twice the side, one gated convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2), *gated(before, after, noisy=False))


def enlarged_twice_convolved(before: int, after: int) -> nn.Sequential:
    """Twice the side, two gated convolutions with noise."""
    return nn.Sequential(nn.Upsample(scale_factor=2), *gated(before, after, True), *gated(after, after, True))


Block = Callable[[int, int], nn.Module]

BLOCKS: dict[str, tuple[Block, Block]] = {
    "alternating": (enlarged_twice_convolved, enlarged),
    "double": (enlarged_twice_convolved, enlarged_twice_convolved),
    "single": (enlarged, enlarged),
}


class Start(nn.Module):
    """Latents, with `normalise` of mean square 1, to a 4x4 map by a transposed convolution, batch norm and the gate."""

    def __init__(self, latent_dim: int, channels: int, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(latent_dim, 2 * channels, 4, bias=False), nn.BatchNorm2d(2 * channels), GatedLinear()
        )

    def forward(self, z: Tensor) -> Tensor:
        """(n, channels, 4, 4) for (n, latent_dim)."""
        if self.normalise:
            z = z * torch.rsqrt(z.float().square().mean(1, keepdim=True) + 1e-8).to(z.dtype)
        images: Tensor = self.layers(z[:, :, None, None])
        return images


class FastGANGenerator(StagedGenerator):
    """Gated convolutions on maps doubled from 4x4, those of side 64 to 512 excited by the ones of a sixteenth the side.

    `width` is the number of channels at side 128: 2 width at 32 and 64, doubled with each halving below, halved with
    each doubling above. `blocks` is alternating, with two convolutions at 8, 32, 128 ... (FastGAN), double or single
    everywhere (Projected GAN's and its lite version). The map to colours has a bias with `output_bias`. UserError for
    other blocks and for other sides than 8 to 1024.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 256,
        width: int = 64,
        blocks: str = "alternating",
        normalise_latents: bool = False,
        tanh: bool = True,
        output_bias: bool = True,
        init_std: float | None = 0.02,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        channels, side = image_shape(spec, name, SMALLEST, LARGEST)
        check_sizes(name, latent_dim=latent_dim)
        if blocks not in BLOCKS:
            raise UserError(f"{name}: blocks={blocks!r}: use {', '.join(BLOCKS)}")
        if width < 1:
            raise UserError(f"{name}: width={width} must be 1 or more")
        self.latent_dim = latent_dim
        self.shapes = [(max(int(multiple * width), 1), s) for s, multiple in MULTIPLES.items() if s <= side]
        widths = dict((s, c) for c, s in self.shapes)
        self.levels = nn.ModuleList([Start(latent_dim, widths[4], normalise_latents)])
        for place, (after, s) in enumerate(self.shapes[1:]):
            self.levels.append(BLOCKS[blocks][place % 2](widths[s // 2], after))
        self.excitations = nn.ModuleDict(
            {str(s): Excitation(widths[s // 16], widths[s]) for s in widths if s in EXCITED}
        )
        last: list[nn.Module] = [nn.Conv2d(widths[side], channels, 3, 1, 1, bias=output_bias)]
        self.output = nn.Sequential(*last, *([nn.Tanh()] if tanh else []))
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, h, w), in [-1, 1] with tanh, for latents (n, latent_dim)."""
        h, maps = z, dict[int, Tensor]()
        for (_, side), level in zip(self.shapes, self.levels, strict=True):
            h = level(h)
            if str(side) in self.excitations:
                h = self.excitations[str(side)](maps[side // 16], h)
            maps[side] = h
        images: Tensor = self.output(h)
        return images


def halved(before: int, after: int, norm: bool = True) -> nn.Sequential:
    """Half the side by a 4x4 convolution of stride 2, batch norm, leaky ReLU."""
    norms = [nn.BatchNorm2d(after)] if norm else []
    return nn.Sequential(nn.Conv2d(before, after, 4, 2, 1, bias=False), *norms, nn.LeakyReLU(0.2))


class Halving(nn.Module):
    """Half the side twice over, and the mean of both: by two convolutions, and by 2x2 means and a 1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *halved(before, after),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.2),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, h/2, w/2) for (n, before, h, w)."""
        halves: Tensor = (self.main(x) + self.direct(x)) / 2
        return halves


class Decoder(nn.Sequential):
    """A map averaged to `side`, at most 8x8, and gated convolutions up to images of `largest` with tanh."""

    def __init__(self, before: int, channels: int, largest: int, width: int) -> None:
        sides = [16 * 2**step for step in range(max(int(math.log2(largest / 8)), 0))]
        widths = [before, *(max(int(MULTIPLES[side] * width), 1) for side in sides)]
        ups = [enlarged(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        last = nn.Conv2d(widths[-1], channels, 3, 1, 1, bias=False)
        super().__init__(nn.AdaptiveAvgPool2d(min(8, largest)), *ups, last, nn.Tanh())


class Reconstruction(Head):
    """Decoders that show what the discriminator's maps know of the image (section 3.2): all of it from the last maps of
    both branches, and a random quarter from that quarter of the map before the last.

    Images are compared at side 128 at most. It gives `reconstruction` (n,), the sum of the three mean absolute errors.
    """

    gives: ClassVar[tuple[str, ...]] = ("reconstruction",)

    def __init__(self, last: int, before: int, small: int, channels: int, side: int, width: int) -> None:
        super().__init__()
        self.last, self.small = (Decoder(c, channels, min(side, 128), width) for c in (last, small))
        self.part = Decoder(before, channels, min(side // 2, 128), width)

    def forward(self, images: Tensor, last: Tensor, before: Tensor, small: Tensor) -> Tensor:
        """The error (n,), float32."""
        corner = int(torch.randint(4, (), device="cpu"))  # on the CPU: nothing waits for the device
        pairs = [
            (self.last(last), images),
            (self.small(small), images),
            (self.part(quarter(before, corner)), quarter(images, corner)),
        ]
        return torch.stack([error(made, target) for made, target in pairs]).sum(0)


def quarter(x: Tensor, corner: int) -> Tensor:
    """One of the four quarters of x (n, c, h, w), in reading order."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    row, column = divmod(corner, 2)
    return x[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width]


def error(made: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference (n,) of images from a target of any size, its pixels averaged; float32."""
    target = nn.functional.adaptive_avg_pool2d(target.float(), (made.shape[2], made.shape[3]))
    return (made.float() - target).abs().flatten(1).mean(1)


class FastGANDiscriminator(nn.Module):
    """Halvings of the image to 8x8, excited across three levels, and beside them those of the image at half its side.

    Either branch ends in a logit a 4x4 patch, so that a verdict has many for one sample; features are the maps of the
    first branch. `width` is an eighth of its number of channels at 8x8. With `reconstruct` it has the decoders that
    regularizer=[reconstruction] needs, of `decoder_width`. UserError for sides other than 8 to 1024.
    """

    def __init__(
        self,
        spec: Spec,
        width: int = 64,
        reconstruct: bool = True,
        decoder_width: int = 32,
        init_std: float | None = 0.02,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        channels, side = image_shape(spec, name, SMALLEST, LARGEST)
        if width < 1 or decoder_width < 1:
            raise UserError(f"{name}: width={width} and decoder_width={decoder_width} must be 1 or more")

        def scaled(multiple: float) -> int:
            return max(int(multiple * width), 1)

        count = int(math.log2(min(side, 256) // 8))
        widths = [scaled(8 / 2 ** (count - step)) for step in range(count + 1)]
        self.stem = self.start(channels, side, widths[0], scaled(1 / 8))
        self.levels = nn.ModuleList(Halving(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.excitations = nn.ModuleList(Excitation(a, b) for a, b in zip(widths, widths[3:], strict=False))
        patch = nn.Conv2d(scaled(16), 1, 4, bias=False)
        self.head = nn.Sequential(
            nn.Conv2d(widths[-1], scaled(16), 1, bias=False), nn.BatchNorm2d(scaled(16)), nn.LeakyReLU(0.2), patch
        )
        self.small_side = min(side // 2, 128)
        count = max(int(math.log2(self.small_side // 2 / 8)), 0)
        narrow = [scaled(4 / 2 ** (count - step)) for step in range(count + 1)]
        self.small = nn.Sequential(
            halved(channels, narrow[0], norm=False), *(halved(a, b) for a, b in zip(narrow, narrow[1:], strict=False))
        )
        self.small_head = nn.Conv2d(narrow[-1], 1, min(4, self.small_side // 2 ** (count + 1)), bias=False)
        maps = (widths[-1], widths[-2] if len(widths) > 1 else widths[-1], narrow[-1])
        self.decoders = Reconstruction(*maps, channels, side, decoder_width) if reconstruct else None
        initialise(self, init_std)
        if spectral_norm:
            normalise_spectrally(self)

    @staticmethod
    def start(channels: int, side: int, width: int, narrow: int) -> nn.Sequential:
        """From images to maps of `width` channels and side 256 at most."""
        if side <= 256:
            return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.LeakyReLU(0.2))
        if side == 512:
            return halved(channels, width, norm=False)
        return nn.Sequential(halved(channels, narrow, norm=False), halved(narrow, width))

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n, k) and maps for images (n, c, h, w)."""
        maps = [self.stem(samples)]
        for place, level in enumerate(self.levels):
            h = level(maps[-1])
            maps.append(h if place < 2 else self.excitations[place - 2](maps[place - 2], h))
        small = self.small(interpolate(samples, (self.small_side, self.small_side), mode="area"))
        logits = torch.cat([self.head(maps[-1]).flatten(1), self.small_head(small).flatten(1)], 1)
        if self.decoders is None:
            return Verdict(logits, tuple(maps))
        made = self.decoders(samples, maps[-1], maps[max(len(maps) - 2, 0)], small)
        return Verdict(logits, tuple(maps), {"reconstruction": made})
