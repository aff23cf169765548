"""Initial weights of whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from gan_experiments.errors import UserError
from gan_experiments.networks.blocks import LINEAR_MAPS

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

DRAWS: dict[str, Callable[[Tensor], object]] = {
    "glorot": nn.init.xavier_uniform_,
    "orthogonal": lambda weight: nn.init.orthogonal_(weight),
    "normal": lambda weight: nn.init.normal_(weight, 0.0, 0.02),
}
"""Ways to draw first weights: uniform (Glorot & Bengio 2010), orthogonal (Saxe et al. 2014), N(0, 0.02^2)."""


def draw_of(init: str, key: str = "init") -> Callable[[Tensor], object]:
    """The way called `init`; UserError naming the `key` for an unknown one."""
    if init not in DRAWS:
        raise UserError(f"{key}={init!r} is no way to draw initial weights; there are {', '.join(DRAWS)}")
    return DRAWS[init]


def drawn(layer: Layer, init: str | None) -> Layer:
    """The layer with weights drawn by the way called `init` and biases of 0; None: as it is."""
    if init is not None:
        draw_of(init)(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def fill(network: nn.Module, draw: Callable[[Tensor], object], zero_biases: bool = True) -> None:
    """Let `draw` fill the weights of all linear maps and the tables of embeddings; biases are 0, or stay as they are:
    torch's own, uniform up to 1 / sqrt(fan-in)."""
    for layer in network.modules():
        if isinstance(layer, nn.Embedding):
            draw(layer.weight)
        elif isinstance(layer, LINEAR_MAPS):
            draw(layer.weight)
            if zero_biases and layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_orthogonally(network: nn.Module, zero_biases: bool = True) -> None:
    """Orthogonal weights, convolutions as (out, in * h * w), and biases of 0."""
    fill(network, DRAWS["orthogonal"], zero_biases)


def initialise_normally(network: nn.Module, zero_biases: bool = True) -> None:
    """Weights from N(0, 0.02^2) (Radford et al. 2016), and biases of 0; gains of norms stay 1."""
    fill(network, DRAWS["normal"], zero_biases)
