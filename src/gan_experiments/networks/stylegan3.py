"""StyleGAN3 (Karras et al. 2021): signals that move and turn with the generator's input, for sides 8 to 1024."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict, widened
from gan_experiments.networks.alias_free import Band, FilteredLeakyReLU
from gan_experiments.networks.blocks import image_shape
from gan_experiments.networks.blur import FadingBlur
from gan_experiments.networks.equalised import EqualConv2d, EqualLinear
from gan_experiments.networks.mapping import Mapping, Styled, StyleGenerator, styling
from gan_experiments.networks.precision import without_autocast
from gan_experiments.networks.stylegan2 import ModulatedConv2d, StyleGAN2Discriminator

SMALLEST, LARGEST = 8, 1024

FIRST_CUTOFF, FIRST_STOPBAND = 2.0, 2**2.1
"""Of the input, in cycles an image (section 3.2)."""

LAST_STOPBAND = 2**0.3
"""Of the last layers, as a multiple of their cutoff, half a cycle a pixel: sharp, and with some aliasing."""

OUTPUT_SCALE = 0.25
"""Of colours, which are those of maps of mean square 1."""

CLAMP = 256.0
"""What activations stay within, as half precision needs it."""


class Configuration(NamedTuple):
    """What sets the two published generators apart: the side of convolutions, whether filters are alike in all
    directions, and how many times as many channels there are."""

    kernel: int
    radial: bool
    widening: int


CONFIGURATIONS = {"t": Configuration(3, False, 1), "r": Configuration(1, True, 2)}


def bands(side: int, depth: int, critical: int, margin: int) -> list[Band]:
    """The signals after each of `depth` layers, for images of `side`; the first is the input's too (appendix D.1).

    Cutoffs and stopbands grow geometrically up to those of the last `critical` layers, which are critically sampled.
    Maps are `margin` pixels wider than the image on every side, but for the last.
    """
    found = []
    for layer in range(depth):
        share = min(layer / (depth - critical), 1)
        cutoff = FIRST_CUTOFF * (side / 2 / FIRST_CUTOFF) ** share
        stopband = FIRST_STOPBAND * (side / 2 * LAST_STOPBAND / FIRST_STOPBAND) ** share
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, side)))
        size = rate + 2 * margin if layer < depth - 1 else side
        found.append(Band(rate, size, cutoff, max(stopband, rate / 2) - cutoff))
    return found


class FourierInput(Styled):
    """Sinusoids of fixed frequencies up to the band's cutoff, turned and moved as the first style says, and mixed by a
    learned matrix (appendix D.2).

    `transform`, (3, 3) or one a sample (n, 3, 3), maps places of the output, x to the right and y down in shares of an
    image, to places of the signal before that: the inverse of what is to happen to the image.
    """

    place = 0

    def __init__(self, style_dim: int, channels: int, band: Band) -> None:
        super().__init__()
        self.band = band
        angle, radius = 2 * math.pi * torch.rand(channels), band.cutoff * torch.rand(channels).sqrt()
        self.frequencies: Tensor
        self.phases: Tensor
        self.transform: Tensor
        self.register_buffer("frequencies", radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1))
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        self.affine = EqualLinear(style_dim, 4)
        self.mix = EqualConv2d(channels, channels, 1, bias=False)
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def forward(self, styles: Tensor) -> Tensor:
        """Maps (n, c, side, side) for n of anything."""
        with without_autocast(styles.device):
            waves = self.waves(self.affine(widened(self.style)))
        mixed: Tensor = self.mix(waves)
        return mixed

    def waves(self, motion: Tensor) -> Tensor:
        """The sinusoids (n, c, side, side) after motions (n, 4): cosine and sine of an angle, a shift to x and y, all
        times any length."""
        cosine, sine, x, y = (motion / motion[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
        shift = self.transform[..., :2, 2] - torch.stack([x, y], 1)
        turned = self.frequencies @ turn
        phases = self.phases + (turned @ shift.unsqueeze(2)).squeeze(2)
        frequencies = turned @ self.transform[..., :2, :2]
        axis = (torch.arange(self.band.side, device=motion.device) + 0.5 - self.band.side / 2) / self.band.rate
        cycles = frequencies[..., 0, None, None] * axis + frequencies[..., 1, None, None] * axis[:, None]
        # A transform that shrinks the image raises frequencies; those above half the rate would fold.
        above = (frequencies.norm(dim=2) - self.band.cutoff) / (self.band.rate / 2 - self.band.cutoff)
        strength = (1 - above).clamp(0, 1)[..., None, None]
        waves: Tensor = strength * torch.sin(2 * math.pi * (cycles + phases[..., None, None]))
        return waves


class UnitMagnitude(nn.Module):
    """Maps over the root of their mean square, a moving average that starts at 1 and of which `beta` is kept at each
    forward in training (section 3.2)."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.square: Tensor
        self.register_buffer("square", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        if self.training:
            with torch.no_grad():
                self.square.lerp_(widened(x).square().mean(), 1 - self.beta)
        return x * self.square.rsqrt().to(x.dtype)


class GrowingConv2d(ModulatedConv2d):
    """A modulated convolution of all places that the kernel touches: maps grow by kernel - 1."""

    def __init__(self, before: int, after: int, kernel: int, style_dim: int, place: int) -> None:
        super().__init__(before, after, kernel, style_dim, place)
        self.padding = (kernel - 1, kernel - 1)


class StyleGAN3Generator(StyleGenerator):
    """Latents to styles, and styles to the layers of a signal that ends as an image.

    `configuration`: t, 3x3 convolutions; r, 1x1 convolutions, twice as many channels and round filters, so that images
    turn with their input too. Layers have channel_base / (2 cutoff) channels, up to `channel_max`, both doubled in r.
    `critical` of the `depth` layers are critically sampled, maps have a `margin` of pixels, and `magnitude_beta` of
    their mean squares is kept at each forward, for each layer and for what colours are made of. With `conditional`, the
    class's embedding joins the latents. UserError for impossible numbers.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 512,
        style_dim: int = 512,
        mapping_layers: int = 2,
        configuration: str = "t",
        channel_base: int = 32768,
        channel_max: int = 512,
        depth: int = 14,
        critical: int = 2,
        margin: int = 10,
        magnitude_beta: float = 0.999,
        mean_decay: float = 0.998,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        colours, side = image_shape(spec, name, SMALLEST, LARGEST)
        if configuration not in CONFIGURATIONS:
            raise UserError(f"{name}: configuration={configuration}: use {' or '.join(CONFIGURATIONS)}")
        if not 1 <= critical < depth or margin < 0 or min(channel_base / side, channel_max) < 1:
            raise UserError(
                f"{name}: depth={depth}, critical={critical}, margin={margin}, channel_base={channel_base}, "
                f"channel_max={channel_max}: take 1 or more critical layers but fewer than depth, a margin of 0 or "
                f"more, channel_base of the side {side} or more, channel_max 1 or more"
            )
        kernel, radial, widening = CONFIGURATIONS[configuration]
        self.bands = bands(side, depth, critical, margin)
        channels = [round(widening * min(channel_base / (2 * band.cutoff), channel_max)) for band in self.bands]
        self.latent_dim = latent_dim
        self.mapping = Mapping(spec, latent_dim, style_dim, mapping_layers, conditional, decay=mean_decay)
        self.input = FourierInput(style_dim, channels[0], self.bands[0])
        self.levels = nn.ModuleList()
        for layer, (width, band) in enumerate(zip(channels, self.bands, strict=True)):
            before = max(layer - 1, 0)
            convolution = GrowingConv2d(channels[before], width, kernel, style_dim, layer + 1)
            round_filter = radial and layer < depth - critical
            nonlinearity = FilteredLeakyReLU(self.bands[before], band, kernel - 1, round_filter, clamp=CLAMP)
            self.levels.append(nn.Sequential(UnitMagnitude(magnitude_beta), convolution, nonlinearity))
        self.magnitude = UnitMagnitude(magnitude_beta)  # of what colours are made of
        self.to_rgb = ModulatedConv2d(channels[-1], colours, 1, style_dim, depth + 1, demodulate=False)

    @property
    def layers(self) -> int:
        """One style for the input, each layer, and the colours."""
        return len(self.levels) + 2

    def synthesis(self, styles: Tensor) -> Tensor:
        """Images (n, c, h, w), unbounded but about in [-1, 1], for styles (n, layers, style_dim)."""
        with styling(self, styles):
            h = self.input(styles)
            for level in self.levels:
                h = level(h)
            return OUTPUT_SCALE * widened(self.to_rgb(self.magnitude(h)).clamp(-CLAMP, CLAMP))


class StyleGAN3Discriminator(StyleGAN2Discriminator):
    """StyleGAN2's, before which images are blurred by `blur` pixels at first, and not after `blur_fade` images.

    Published with a blur of 10 for configuration r, without one (0) for t.
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
        blur: float = 0.0,
        blur_fade: int = 200_000,
    ) -> None:
        super().__init__(spec, channel_base, channel_max, residual, group, clamp, conditional, mapping_layers)
        self.blur = FadingBlur(blur, blur_fade) if blur else nn.Identity()

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) and the levels' maps (n, c, h, w) for images (n, c, h, w)."""
        return super().forward(self.blur(samples))
