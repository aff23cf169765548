"""Initial weights of whole networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from gan_experiments.networks.blocks import LINEAR_MAPS


def fill(network: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Let `draw` fill the weights of all linear maps and the tables of embeddings; biases are 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Embedding):
            draw(layer.weight)
        elif isinstance(layer, LINEAR_MAPS):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_orthogonally(network: nn.Module) -> None:
    """Orthogonal weights (Saxe et al. 2014), convolutions as (out, in * h * w), and biases of 0."""
    fill(network, nn.init.orthogonal_)


def initialise_normally(network: nn.Module) -> None:
    """Weights from N(0, 0.02^2) (Radford et al. 2016), and biases of 0; gains of norms stay 1."""
    fill(network, lambda weight: nn.init.normal_(weight, 0.0, 0.02))
