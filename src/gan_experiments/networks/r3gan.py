"""R3GAN's networks (Huang et al. 2024): residual blocks of grouped convolutions, without any normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.blocks import Staged, StagedGenerator, image_shape
from gan_experiments.networks.conditional import ClassVectors, class_count
from gan_experiments.networks.heads import Headed

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

SMALLEST, LARGEST = 8, 1024
BROADEST = 32
"""Up to this side all stages have the full width; beyond it the width halves with each doubling of the side."""

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""What keeps the mean square through the leaky ReLU; initial weights carry it, not the activation."""


def draw_weights(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights from N(0, gain^2 / fan-in) (He et al. 2015)."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


def convolution(before: int, after: int, kernel: int = 1, groups: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the side, without a bias: biases are those of activations."""
    return draw_weights(nn.Conv2d(before, after, kernel, 1, kernel // 2, groups=groups, bias=False), gain)


class BiasedLeakyReLU(nn.Module):
    """Leaky ReLU of slope 0.2 after a learned bias a channel, 0 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        return leaky_relu(x + self.bias.to(x.dtype).view(-1, 1, 1), SLOPE)


class ResidualBlock(nn.Module):
    """x + a branch of 1x1 to `expanded` channels, grouped 3x3, and 1x1 back, with activations between (figure 3).

    The branch starts at 0, as its last weights do; the gain of the others is divided by depth^(1/4) for networks of
    `depth` blocks, so that updates stay as large however deep the network is (Zhang et al. 2019, Fixup).
    """

    def __init__(self, channels: int, expanded: int, groups: int, depth: int) -> None:
        super().__init__()
        gain = GAIN * depth**-0.25
        self.branch = nn.Sequential(
            convolution(channels, expanded, gain=gain),
            BiasedLeakyReLU(expanded),
            convolution(expanded, expanded, 3, groups, gain),
            BiasedLeakyReLU(expanded),
            convolution(expanded, channels, gain=0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w)."""
        changed: Tensor = x + self.branch(x)
        return changed


class Resampling(nn.Module):
    """Changes the side by a factor of two with [1, 2, 1] over pixels of the larger side, joined with its 2x2 box.

    The kernel is thus [1, 3, 3, 1] either way, zeros beyond the border.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(line, line).view(1, 1, 4, 4), persistent=False)

    def spread(self, x: Tensor) -> Tensor:
        """The kernel for each channel of x (n, c, h, w)."""
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class Upsampling(Resampling):
    """Doubles the side."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, 2h, 2w) for (n, c, h, w)."""
        return conv_transpose2d(x, 4 * self.spread(x), stride=2, padding=1, groups=x.shape[1])


class Downsampling(Resampling):
    """Halves the side."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h/2, w/2) for (n, c, h, w)."""
        return conv2d(x, self.spread(x), stride=2, padding=1, groups=x.shape[1])


class GenerativeBasis(nn.Module):
    """A learned 4x4 image a channel, multiplied by a linear map of the latent; no image is drawn from it alone."""

    def __init__(self, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(channels, 4, 4))
        self.linear = draw_weights(nn.Linear(latent_dim, channels, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        """(n, c, 4, 4) for (n, latent_dim)."""
        scale: Tensor = self.linear(z)
        return scale[:, :, None, None] * self.basis.to(scale.dtype)


class DiscriminativeBasis(nn.Sequential):
    """One number a channel, its 4x4 map's product with learned weights: (n, c, 4, 4) to (n, c)."""

    def __init__(self, channels: int) -> None:
        super().__init__(draw_weights(nn.Conv2d(channels, channels, 4, groups=channels, bias=False)), nn.Flatten())


class JoinedClasses(nn.Module):
    """Latents joined by a learned vector of `dim` for the sample's class: (n, d) to (n, d + dim)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.vectors = ClassVectors(classes, dim)
        draw_weights(self.vectors.table)

    def forward(self, z: Tensor) -> Tensor:
        """The latents, then the vectors."""
        return torch.cat([z, self.vectors().to(z.dtype)], 1)


class ClassProduct(nn.Module):
    """<W h, e_y>, an inner product with a learned vector of the sample's class, and no logit besides."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = draw_weights(nn.Linear(channels, channels, bias=False))
        self.vectors = ClassVectors(classes, channels)
        draw_weights(self.vectors.table, 1 / math.sqrt(channels))

    def forward(self, h: Tensor) -> Tensor:
        """(n, 1) for (n, c)."""
        logits: Tensor = (self.linear(h) * self.vectors()).sum(1, keepdim=True)
        return logits


PerStage = int | Sequence[int]
"""One number, or one a stage, from 4x4 to the data's side."""


def per_stage(name: str, value: PerStage, stages: int) -> list[int]:
    """The number of each stage; UserError naming `name` unless all are 1 or more, and a list has one a stage."""
    numbers = [value] * stages if isinstance(value, int) else list(value)
    if len(numbers) != stages:
        sides = ", ".join(f"{4 << stage}" for stage in range(stages))
        raise UserError(f"{name}={numbers} has {len(numbers)} numbers; give one for all, or one for each side {sides}")
    if any(not isinstance(number, int) or number < 1 for number in numbers):
        raise UserError(f"{name}={value} must be 1 or more" + ("" if isinstance(value, int) else ", all of them"))
    return numbers


class Plan:
    """Widths and groups of the stages from 4x4 upwards, and how their blocks are made.

    `width` is the number of channels, of which a single one is halved with each doubling of the side beyond 32;
    `groups` the number of groups, of which a single one is for the 4x4 stage: groups stay as wide where the width
    changes. UserError for numbers that can't be divided so.
    """

    def __init__(self, side: int, width: PerStage, groups: PerStage, blocks: PerStage, expansion: int) -> None:
        self.sides = [4 * 2**stage for stage in range(int(math.log2(side // 4)) + 1)]
        self.widths = per_stage("width", width, len(self.sides))
        if isinstance(width, int):
            shares = [max(side // BROADEST, 1) for side in self.sides]
            if width % shares[-1]:
                raise UserError(
                    f"width={width} must be a multiple of {shares[-1]} at side {side}, as it is halved with each "
                    f"doubling beyond {BROADEST}; or give one for each side, width=[...]"
                )
            self.widths = [width // share for share in shares]
        self.groups = per_stage("groups", groups, len(self.sides))
        if isinstance(groups, int):
            if any(groups * after % self.widths[0] for after in self.widths):
                raise UserError(
                    f"groups={groups}: groups as wide as at 4x4 don't divide the widths {self.widths}; choose another "
                    "number, or give one for each side, groups=[...]"
                )
            self.groups = [groups * after // self.widths[0] for after in self.widths]
        if expansion < 1:
            raise UserError(f"expansion={expansion} must be 1 or more")
        for after, count in zip(self.widths, self.groups, strict=True):
            if after * expansion % count:
                raise UserError(f"groups={count} must divide width * expansion = {after * expansion}")
        self.counts, self.expansion = per_stage("blocks", blocks, len(self.sides)), expansion

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Channels and side of each stage."""
        return list(zip(self.widths, self.sides, strict=True))

    def blocks(self, stage: int) -> Sequence[nn.Module]:
        """The residual blocks of a stage."""
        width, groups, depth = self.widths[stage], self.groups[stage], sum(self.counts)
        return [ResidualBlock(width, width * self.expansion, groups, depth) for _ in range(self.counts[stage])]


class R3GANGenerator(StagedGenerator):
    """A learned 4x4 basis scaled by a linear map of the latent, then stages of residual blocks up to the data's side.

    Outputs are linear, without tanh. `width` is the number of channels up to side 32, `groups` that of the grouped
    convolutions there; both halve with each doubling beyond. A list of them, as of `blocks`, has one for each side from
    4 upwards, and nothing is halved. With `conditional`, latents are joined by a vector of `embedding_dim` for the
    class. UserError for sides that aren't a power of two from 8 to 1024, and without classes.
    """

    def __init__(
        self,
        spec: Spec,
        latent_dim: int = 64,
        width: PerStage = 768,
        groups: PerStage = 96,
        blocks: PerStage = 2,
        expansion: int = 2,
        conditional: bool = False,
        embedding_dim: int = 64,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        channels, side = image_shape(spec, name, SMALLEST, LARGEST)
        plan = Plan(side, width, groups, blocks, expansion)
        self.latent_dim, self.shapes = latent_dim, plan.shapes
        start: list[nn.Module] = [GenerativeBasis(latent_dim, plan.widths[0])]
        if conditional:
            classes = class_count(spec, f"{name}: conditional=true")
            start = [JoinedClasses(classes, embedding_dim), GenerativeBasis(latent_dim + embedding_dim, plan.widths[0])]
        self.levels = nn.ModuleList([nn.Sequential(*start, *plan.blocks(0))])
        for stage, (before, after) in enumerate(pairwise(plan.widths), 1):
            change = [] if before == after else [convolution(before, after)]
            self.levels.append(nn.Sequential(*change, Upsampling(), *plan.blocks(stage)))
        self.output = convolution(plan.widths[-1], channels)


class R3GANDiscriminator(Headed, Staged):
    """The generator backwards: stages of residual blocks down to 4x4, a number a channel of its map, one linear logit.

    `width`, `groups` and `blocks` as in the generator, lists in its order too. With `conditional` the logit is the
    inner product of linear features with a vector of the class. Errors as there.
    """

    def __init__(
        self,
        spec: Spec,
        width: PerStage = 768,
        groups: PerStage = 96,
        blocks: PerStage = 2,
        expansion: int = 2,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        channels, side = image_shape(spec, name, SMALLEST, LARGEST)
        plan = Plan(side, width, groups, blocks, expansion)
        self.shapes = plan.shapes[::-1]
        self.levels = nn.ModuleList([nn.Sequential(convolution(channels, plan.widths[-1]), *plan.blocks(-1))])
        for stage in reversed(range(len(plan.widths) - 1)):
            before, after = plan.widths[stage + 1], plan.widths[stage]
            change = [] if before == after else [convolution(before, after)]
            self.levels.append(nn.Sequential(Downsampling(), *change, *plan.blocks(stage)))
        self.pool = DiscriminativeBasis(plan.widths[0])
        self.head: nn.Module = draw_weights(nn.Linear(plan.widths[0], 1, bias=False))
        if conditional:
            self.head = ClassProduct(plan.widths[0], class_count(spec, f"{name}: conditional=true"))
