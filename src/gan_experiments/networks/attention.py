"""Self-attention over the positions of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """x + gamma * W_v softmax(f(x)^T g(x)) h(x), gamma starting at 0 (Zhang et al. 2019, equations 1 to 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.output = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) for (n, c, h, w), the softmax in float32."""
        # Written out: penalties differentiate this twice, which fused attention kernels don't offer.
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        scores = torch.einsum("ncq,nck->nqk", query, key).float()
        shares = scores.softmax(2).to(value.dtype)
        seen = torch.einsum("nqk,nck->ncq", shares, value).view(len(x), -1, *x.shape[2:])
        attended: Tensor = x + self.gamma * self.output(seen)
        return attended
