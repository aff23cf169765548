"""Tricks that add to the layers of any network: spectral norm, self-attention, noise injection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.attention import SelfAttention
from gan_experiments.networks.blocks import LINEAR_MAPS, Staged, normalise_spectrally
from gan_experiments.trick import Factory, Trick

PLAYERS = ("discriminator", "generator")


def check_players(players: list[str]) -> list[str]:
    """`players` if they are a list of different players; UserError otherwise."""
    if isinstance(players, str) or not players or len(set(players)) != len(players) or set(players) - set(PLAYERS):
        raise UserError(f"players={players!r}: must be a list of {' and '.join(PLAYERS)}, or one of them in a list")
    return players


class SpectralNorm(Trick):
    """Every weight of the players' networks divided by its largest singular value (Miyato et al. 2018).

    The singular value of a convolution is that of its weight reshaped to (out, in * h * w), as in the paper.
    """

    rank = 40

    def __init__(self, players: list[str], iterations: int = 1) -> None:
        super().__init__()
        if iterations < 1:
            raise UserError(f"iterations={iterations}: a power iteration takes 1 or more steps")
        self.players, self.iterations = check_players(players), iterations

    def network(self, player: str, make: Factory) -> Factory:
        """The network with all its linear maps normalised."""
        return lambda spec: normalise_spectrally(make(spec), self.iterations, f"trick {self.name}")


class Attention(Trick):
    """Self-attention after the level of `resolution` in both networks (Zhang et al. 2019, SAGAN)."""

    rank = 5

    def __init__(self, players: list[str], resolution: int | None = None) -> None:
        super().__init__()
        self.players, self.resolution = check_players(players), resolution

    def network(self, player: str, make: Factory) -> Factory:
        """The network with attention in its level of that side; half the side of the data by default."""

        def attentive(spec: Spec) -> nn.Module:
            network = make(spec)
            if not isinstance(network, Staged):
                raise UserError(f"trick {self.name}: {type(network).__name__} has no feature maps; set model=dcgan")
            wanted = self.resolution or spec.shape[-1] // 2
            places = [place for place, (_, side) in enumerate(network.shapes) if side == wanted]
            if not places:
                sides = ", ".join(str(side) for _, side in network.shapes)
                raise UserError(
                    f"trick {self.name}, resolution={wanted}: {type(network).__name__} has feature maps of side {sides}"
                )
            level = network.levels[places[-1]]
            network.levels[places[-1]] = nn.Sequential(level, SelfAttention(network.shapes[places[-1]][0]))
            return network

        return attentive


class NoiseLayer(nn.Module):
    """x + scale * N(0, 1): one noise map a sample with a learned scale a channel, 0 at first (Karras et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w), or (n, c) where each unit has its own noise; drawn anew each time, for samples too."""
        if x.ndim == 2:
            return x + self.scale * torch.randn_like(x)
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return x + self.scale.view(-1, *[1] * (x.ndim - 2)) * noise


class NoiseInjection(Trick):
    """Noise after each hidden linear map of the generator, by learned amounts (Karras et al. 2019, StyleGAN)."""

    rank = 0
    players = ("generator",)

    def network(self, player: str, make: Factory) -> Factory:
        """The generator with noise layers."""

        def noisy(spec: Spec) -> nn.Module:
            network = make(spec)
            places = [
                (parent, name, child)
                for parent in list(network.modules())
                for name, child in parent.named_children()
                if isinstance(child, LINEAR_MAPS)
            ]
            if len(places) < 2:
                raise UserError(
                    f"trick {self.name}: {type(network).__name__} has no hidden layer to add noise to; set model=mlp"
                )
            for parent, name, child in places[:-1]:
                width = child.out_features if isinstance(child, nn.Linear) else child.out_channels
                setattr(parent, name, nn.Sequential(child, NoiseLayer(int(width))))
            return network

        return noisy
