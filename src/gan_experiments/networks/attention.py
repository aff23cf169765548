"""Self-attention over the positions of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from gan_experiments.errors import UserError
from gan_experiments.networks.blocks import Staged


class SelfAttention(nn.Module):
    """x + gamma * W_v softmax(f(x)^T g(x)) h(x), gamma starting at 0 (Zhang et al. 2019, equations 1 to 3).

    With `pool`, keys and values are the largest of pool x pool positions, as in the paper's own code and in BigGAN.
    """

    def __init__(self, channels: int, pool: int = 1) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.pool = pool
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.output = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w), the softmax in float32."""
        # Written out: penalties differentiate this twice, which fused attention kernels don't offer.
        query = self.query(x).flatten(2)
        key, value = (max_pool2d(layer(x), self.pool).flatten(2) for layer in (self.key, self.value))
        scores = torch.einsum("ncq,nck->nqk", query, key).float()
        shares = scores.softmax(2).to(value.dtype)
        seen = torch.einsum("nqk,nck->ncq", shares, value).view(len(x), -1, *x.shape[2:])
        attended: Tensor = x + self.gamma * self.output(seen)
        return attended


def attend(network: Staged, resolution: int, pool: int = 2) -> None:
    """Put self-attention after the first level with feature maps of side `resolution`; UserError if there is none."""
    places = [place for place, (_, side) in enumerate(network.shapes) if side == resolution]
    if not places:
        sides = ", ".join(str(side) for side in sorted({side for _, side in network.shapes}))
        raise UserError(f"attention_resolution={resolution}: {type(network).__name__} has feature maps of side {sides}")
    level = network.levels[places[0]]
    network.levels[places[0]] = nn.Sequential(level, SelfAttention(network.shapes[places[0]][0], pool))
