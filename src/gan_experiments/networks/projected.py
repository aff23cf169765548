"""Projected GAN's discriminator: small ones on a frozen network's features, mixed at random (Sauer et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.networks.blocks import normalise_spectrally
from gan_experiments.networks.features import FeatureSource, freeze

FINAL = 8
"""Feature maps are halved until their side is this at most."""


class FixedMixing(nn.Module):
    """A 1x1 convolution with weights and biases as they were drawn, U(+-1 / sqrt(channels before)), for good."""

    weight: Tensor
    bias: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        limit = 1 / math.sqrt(before)
        self.register_buffer("weight", torch.empty(after, before, 1, 1).uniform_(-limit, limit))
        self.register_buffer("bias", torch.empty(after).uniform_(-limit, limit))

    def forward(self, x: Tensor) -> Tensor:
        """(n, after, h, w) for (n, before, h, w)."""
        return conv2d(x, self.weight, self.bias)


class Unmixed(nn.Module):
    """Feature maps as they are."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.channels = list(channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps."""
        return list(maps)


class MixedChannels(nn.Module):
    """Each map through a fixed 1x1 convolution, to width, 2 width, 4 width ... channels (section 3.2.1)."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.channels = [width * 2**scale for scale in range(len(channels))]
        self.across = nn.ModuleList(map(FixedMixing, channels, self.channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """As many maps, of the same sizes."""
        return [mixing(x) for mixing, x in zip(self.across, maps, strict=True)]


class MixedScales(nn.Module):
    """Mixed channels, then from coarse to fine: what comes from below is added to the map, enlarged to the side of the
    next and passed through a fixed 1x1 convolution that halves the channels, but for the finest (section 3.2.2).

    Enlarging is bilinear, with corners on corners; the finest map's side doubles.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.mixed = MixedChannels(channels, width)
        self.channels = [width, *self.mixed.channels[:-1]]
        self.upwards = nn.ModuleList(map(FixedMixing, self.mixed.channels, self.channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """As many maps, each of the next finer one's size."""
        mixed = self.mixed(maps)
        height, width = mixed[0].shape[2:]
        sizes = [(2 * height, 2 * width), *(x.shape[2:] for x in mixed[:-1])]
        outputs: list[Tensor] = []
        for mixing, x, size in reversed(list(zip(self.upwards, mixed, sizes, strict=True))):
            x = x + outputs[-1] if outputs else x
            outputs.append(mixing(interpolate(x, size, mode="bilinear", align_corners=True)))
        return outputs[::-1]


MIXINGS: dict[str, Callable[[Sequence[int], int], Any]] = {
    "none": Unmixed,
    "channels": MixedChannels,
    "scales": MixedScales,
}


def halving(before: int, after: int, separable: bool) -> nn.Sequential:
    """Half the side by a 4x4 convolution of stride 2, or by a separable 3x3 one and the mean of 2x2 pixels."""
    ending = [nn.BatchNorm2d(after), nn.LeakyReLU(0.2, inplace=True)]
    if not separable:
        return nn.Sequential(nn.Conv2d(before, after, 4, 2, 1), *ending)
    depthwise = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(before, after, 1, bias=False), *ending, nn.AvgPool2d(2))


class ScaleDiscriminator(nn.Module):
    """Halvings of one feature map to a side of 8 at most, the last to `width` channels, then a logit a 4x4 patch."""

    def __init__(self, channels: int, side: int, width: int, separable: bool) -> None:
        super().__init__()
        count = max(math.ceil(math.log2(side / FINAL)), 0)
        widths = [channels, *(max(width // 2 ** (count - 1 - step), 1) for step in range(count))]
        pairs = zip(widths, widths[1:], strict=False)
        self.body = nn.Sequential(*(halving(before, after, separable) for before, after in pairs))
        side = math.ceil(side / 2**count)
        self.head = nn.Conv2d(widths[-1], 1, min(4, side), bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, patches) for (n, channels, side, side), and the map they are made of."""
        h = self.body(x)
        return self.head(h).flatten(1), h


class ProjectedDiscriminator(nn.Module):
    """Spectrally normalised discriminators, one a scale, on the mixed maps of a frozen feature network.

    Its verdict has as many logits a sample as there are patches in all; features are the last hidden maps. `features`
    is a source of networks.features, or a network from images (n, 3, h, w) in [-1, 1] to a list of maps from fine to
    coarse. Images are resized to `size` first (None: not at all). `mixing` is none, channels or scales, `mixed_width`
    the number of channels of the finest mixed map. Raises UserError for data that aren't grey or colour images.
    """

    def __init__(
        self,
        spec: Spec,
        features: FeatureSource | nn.Module,
        size: int | None = 224,
        mixing: str = "scales",
        mixed_width: int = 64,
        width: int = 512,
        separable: bool = False,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not spec.is_image or spec.shape[0] not in (1, 3):
            raise UserError(
                f"{name} sees grey or colour images, and the data are of shape {spec.shape}; choose other data, or "
                "leave out what joins samples or classes to them, such as trick=[packing]"
            )
        if mixing not in MIXINGS:
            raise UserError(f"{name}: mixing={mixing!r}: use {', '.join(MIXINGS)}")
        if size is not None and size < 1 or mixed_width < 1 or width < 1:
            raise UserError(f"{name}: size={size}, mixed_width={mixed_width} and width={width} must be 1 or more")
        self.size, self.frozen = size, freeze(features)
        with torch.no_grad():
            maps = self.maps(spec)
            self.mixing = MIXINGS[mixing]([x.shape[1] for x in maps], mixed_width)
            maps = self.mixing(maps)
        self.scales = nn.ModuleList(ScaleDiscriminator(x.shape[1], x.shape[-1], width, separable) for x in maps)
        if spectral_norm:
            normalise_spectrally(self)

    def maps(self, spec: Spec) -> list[Tensor]:
        """The feature maps of one blank sample; UserError for a network that gives none."""
        maps = self.look(torch.zeros(1, *spec.shape))
        if not isinstance(maps, list | tuple) or not maps or any(x.ndim != 4 for x in maps):
            raise UserError(
                f"features: {type(self.frozen.hidden[0]).__name__} must return a list of feature maps (n, c, h, w), "
                f"from fine to coarse, and returned a {type(maps).__name__}"
            )
        return list(maps)

    def look(self, samples: Tensor) -> Any:
        """What the feature network makes of samples (n, c, h, w)."""
        if self.size is not None and samples.shape[2:] != (self.size, self.size):
            samples = interpolate(samples, (self.size, self.size), mode="bilinear", align_corners=False)
        return self.frozen(samples.expand(-1, 3, -1, -1))

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n, k) and hidden maps, one a scale, for samples (n, c, h, w)."""
        maps = self.mixing(self.look(samples))
        verdicts = [scale(x) for scale, x in zip(self.scales, maps, strict=True)]
        return Verdict(torch.cat([logits for logits, _ in verdicts], 1), tuple(h for _, h in verdicts))
