"""From latents to styles (Karras et al. 2019), and layers that are told the style of each sample."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_experiments.data.base import Spec
from gan_experiments.game import widened
from gan_experiments.networks.conditional import class_count
from gan_experiments.networks.equalised import ROOT_2, EqualLinear, LeakyReLU, PixelNorm
from gan_experiments.networks.informed import ClassesByItself, Informed
from gan_experiments.networks.precision import without_autocast

MAPPING_RATE = 0.01
"""The mapping learns a hundred times more slowly than the other layers."""


class ClassEmbedding(Informed):
    """An affine map of the class's one-hot vector, brought to mean square 1: (n, dim)."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.count = classes
        self.embed = EqualLinear(classes, dim)
        self.norm = PixelNorm()

    def forward(self) -> Tensor:
        """The embeddings of the samples at hand."""
        normal: Tensor = self.norm(self.embed(one_hot(self.classes, self.count).float()))
        return normal


class Mapping(nn.Module):
    """Styles (n, style_dim) of latents (n, latent_dim) of mean square 1: `depth` layers with leaky ReLU.

    With `conditional`, the class's embedding joins the latents (Karras et al. 2020, ADA, appendix C). `weight_gain` and
    `gain` multiply weights and activations: sqrt(2) and 1 as in StyleGAN, 1 and sqrt(2) from StyleGAN2 on.
    `mean` is a moving average of styles of training samples, `decay` of it kept each time; see `follow`.
    """

    mean: Tensor

    def __init__(
        self,
        spec: Spec,
        latent_dim: int,
        style_dim: int,
        depth: int,
        conditional: bool = False,
        weight_gain: float = 1.0,
        gain: float = ROOT_2,
        decay: float = 0.995,
    ) -> None:
        super().__init__()
        self.embedding = ClassEmbedding(class_count(spec, "conditional: true"), style_dim) if conditional else None
        self.norm = PixelNorm()
        sizes = [latent_dim + (style_dim if conditional else 0)] + [style_dim] * depth
        self.body = mapping_layers(sizes, weight_gain, gain)
        self.decay = decay
        self.register_buffer("mean", torch.zeros(style_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Styles (n, style_dim), float32."""
        with without_autocast(z.device):
            h = self.norm(widened(z))
            if self.embedding is not None:
                h = torch.cat([h, self.embedding()], 1)
            styles: Tensor = self.body(h)
        return styles

    @torch.no_grad()
    def follow(self, styles: Tensor) -> None:
        """Move the mean towards that of styles (n, style_dim), in training only."""
        if self.training:
            self.mean.lerp_(styles.mean(0), 1 - self.decay)


def mapping_layers(sizes: list[int], weight_gain: float = 1.0, gain: float = ROOT_2) -> nn.Sequential:
    """Linear layers between vectors of these sizes, each with a leaky ReLU, at the mapping's learning rate."""
    layers: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers += [EqualLinear(before, after, gain=weight_gain, lr_multiplier=MAPPING_RATE), LeakyReLU(gain)]
    return nn.Sequential(*layers)


class ClassProduct(nn.Module):
    """The logit <Wh + b, m> / sqrt(dim), where m is made of the class by `depth` layers (Karras et al. 2020, ADA,
    appendix C)."""

    def __init__(self, features: int, classes: int, depth: int) -> None:
        super().__init__()
        self.project = EqualLinear(features, features)
        self.embedding = ClassEmbedding(classes, features)
        self.body = mapping_layers([features] * (depth + 1))

    def forward(self, h: Tensor) -> Tensor:
        """(n, 1) for features (n, d), float32."""
        with without_autocast(h.device):
            projected, vector = self.project(widened(h)), self.body(self.embedding())
            logits: Tensor = (projected * vector).sum(1, keepdim=True) / math.sqrt(vector.shape[1])
        return logits


class StyleGenerator(ClassesByItself, ABC):
    """A generator that makes styles of latents by its `mapping`, and images of one style a sample and layer."""

    latent_dim: int
    mapping: Mapping

    @property
    @abstractmethod
    def layers(self) -> int:
        """How many styles a sample has."""

    @abstractmethod
    def synthesis(self, styles: Tensor) -> Tensor:
        """Images (n, c, h, w) for styles (n, layers, style_dim)."""

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, h, w) for latents (n, latent_dim), the same style in all layers."""
        styles = self.mapping(z)
        self.mapping.follow(styles)
        return self.synthesis(styles.unsqueeze(1).expand(-1, self.layers, -1))


class Styled(nn.Module):
    """A layer that uses the style numbered `place` of each sample.

    It is told (`styling`) for the length of one synthesis, so that layers have one input, whatever is put around them.
    """

    place: int
    told: Tensor | None = None

    @property
    def style(self) -> Tensor:
        """The styles (n, style_dim) of this synthesis."""
        assert self.told is not None, "styles are told by StyleGenerator.synthesis"
        return self.told


@contextmanager
def styling(network: nn.Module, styles: Tensor) -> Iterator[None]:
    """Tell every styled part of `network` its own of the styles (n, layers, style_dim), while there are any."""
    each = styles.unbind(1)
    parts = [module for module in network.modules() if isinstance(module, Styled) and module.place < len(each)]
    for part in parts:
        part.told = each[part.place]
    try:
        yield
    finally:
        for part in parts:
            part.told = None
