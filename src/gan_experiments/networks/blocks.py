"""Small pieces that several networks share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError

NORMALISATIONS: dict[str, Callable[[int, float], nn.Module]] = {
    "none": lambda channels, eps: nn.Identity(),
    "batch": lambda channels, eps: nn.BatchNorm2d(channels, eps),
    "instance": lambda channels, eps: nn.InstanceNorm2d(channels, eps, affine=True),
    "layer": lambda channels, eps: nn.GroupNorm(1, channels, eps),
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2, inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "tanh": nn.Tanh,
}


UPSAMPLINGS: dict[str, Callable[[], nn.Module]] = {
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
}


class Staged(nn.Module):
    """A network of `levels`, the k-th of which gives feature maps of `shapes[k]`: channels and side."""

    levels: nn.ModuleList
    shapes: list[tuple[int, int]]


class StagedGenerator(Staged):
    """Latents through the levels, then `output`."""

    output: nn.Module
    latent_dim: int

    def forward(self, z: Tensor) -> Tensor:
        """Images (n, c, h, w) in [-1, 1] for latents (n, latent_dim)."""
        h = z
        for level in self.levels:
            h = level(h)
        images: Tensor = self.output(h)
        return images


LINEAR_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def normalise_spectrally(network: nn.Module, iterations: int = 1, what: str = "spectral_norm=true") -> nn.Module:
    """Divide every weight of linear maps by its largest singular value (Miyato et al. 2018), found by a power iteration
    a training forward; UserError naming `what` when that is done already, or there is nothing to normalise."""
    maps = [module for module in network.modules() if isinstance(module, LINEAR_MAPS)]
    name = type(network).__name__
    if not maps:
        raise UserError(f"{what}: {name} has no linear or convolutional layer; set model=dcgan or model=mlp")
    for module in maps:
        if parametrize.is_parametrized(module, "weight"):
            raise UserError(
                f"{what}: {name} has it already; leave it out, or set the network's own spectral_norm=false"
            )
        if not module.weight.is_meta and not module.weight.any():
            raise UserError(f"{what}: {name} starts with weights of 0, which have no singular value; leave it out")
        spectral_norm(module, "weight", iterations)
    return network


def normalisation(name: str, channels: int, eps: float = 1e-5) -> nn.Module:
    """The normalisation of (n, channels, h, w) called `name`, which adds `eps` to variances; UserError unless known."""
    if name not in NORMALISATIONS:
        raise UserError(f"unknown normalisation {name!r}; there are {', '.join(NORMALISATIONS)}")
    check_eps(eps)
    return NORMALISATIONS[name](channels, eps)


def doubled(upsampling: str) -> nn.Module:
    """Feature maps (n, c, h, w) to (n, c, 2h, 2w), in the way called `upsampling`."""
    if upsampling not in UPSAMPLINGS:
        raise UserError(f"unknown upsampling={upsampling!r}; there are {', '.join(UPSAMPLINGS)}")
    return UPSAMPLINGS[upsampling]()


def check_eps(eps: float) -> None:
    """UserError unless the number that norms add to variances is positive."""
    if not 0 < eps < math.inf:
        raise UserError(f"norm_eps={eps}: what batch norm adds to variances is positive, 1e-5 as a rule")


def batch_norm(eps: float) -> Callable[[int], nn.BatchNorm2d]:
    """Batch norms that add `eps` to variances; UserError unless it is positive."""
    check_eps(eps)
    return partial(nn.BatchNorm2d, eps=eps)


def check_sizes(network: str, **sizes: int) -> None:
    """UserError naming the network and the first of the `sizes` that is below 1."""
    for key, size in sizes.items():
        if size < 1:
            raise UserError(f"{network}: {key}={size} must be 1 or more")


def activation(name: str) -> nn.Module:
    """The activation called `name`."""
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def has_bias(norm: str) -> bool:
    """Whether a layer before this normalisation needs a bias of its own; after a shift by the norm it is dead."""
    return norm != "batch"


def image_shape(spec: Spec, network: str, smallest: int, largest: int) -> tuple[int, int]:
    """Channels and side of square images whose side is a power of two; UserError naming the network otherwise."""
    if not spec.is_image:
        raise UserError(f"{network} makes images, but the data are points of shape {spec.shape}: choose model=mlp")
    channels, height, width = spec.shape
    if height != width or height & (height - 1) or not smallest <= height <= largest:
        raise UserError(
            f"{network} takes square images of side {smallest} to {largest}, a power of two; the data are "
            f"{height}x{width}: set the data set's size (dataset=folder dataset.size=64), or choose another model"
        )
    return channels, height


def initialise(module: nn.Module, std: float | None) -> None:
    """Draw weights of convolutions and linear maps from N(0, std^2), as Radford et al. 2016; None keeps torch's own."""
    if std is None:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)
            nn.init.zeros_(layer.bias)
