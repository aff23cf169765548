"""Discriminators that end in a linear head, and layers that widen it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from gan_experiments.errors import UserError
from gan_experiments.game import Head, Verdict


class Headed(nn.Module):
    """A discriminator of `levels`; `pool` makes vectors (n, d) of the last one, `head`, linear at its end, a logit."""

    levels: nn.ModuleList
    head: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.pool: nn.Module = nn.Flatten()

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) and the levels' outputs (n, ...) for samples (n, ...)."""
        h, features = samples, []
        for level in self.levels:
            h = level(h)
            features.append(h)
        return Verdict(self.head(self.pool(h)).squeeze(1), tuple(features))


class HeadedPoints(Headed):
    """The same on samples flattened at the start."""

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) and hidden layers (n, width) for samples (n, ...)."""
        return super().forward(samples.flatten(1))


class BatchStatistic(nn.Module):
    """A layer that gives each sample `extra` numbers about the whole batch: (n, d) to (n, d + extra)."""

    extra: int

    def fitting_batch(self, n: int) -> int:
        """The smallest batch of `n` or more samples of which its numbers say anything."""
        return max(n, 2)


class MinibatchDiscrimination(BatchStatistic):
    """For each of `kernels` projections to `dims` dimensions, o(x_i) = sum_j exp(-|M_i - M_j|_1), j = i included
    (Salimans et al. 2016, section 3.2)."""

    def __init__(self, in_features: int, kernels: int, dims: int) -> None:
        super().__init__()
        self.extra, self.dims = kernels, dims
        self.project = nn.Linear(in_features, kernels * dims, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """(n, d + kernels) for (n, d); distances in float32."""
        m = self.project(h).float().view(len(h), self.extra, self.dims).transpose(0, 1)
        distances = (m[:, :, None] - m[:, None]).abs().sum(-1)
        closeness = torch.exp(-distances).sum(2).t()
        return torch.cat([h, closeness.to(h.dtype)], 1)


class MinibatchStddev(BatchStatistic):
    """One number a group of `group` samples: their standard deviation, averaged over features
    (Karras et al. 2018, section 3); after it, a linear head sees what it would see of a constant map."""

    extra = 1

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def group_of(self, n: int) -> int:
        """The size of groups in a batch of `n`: its largest divisor up to `group`; in groups of one nothing differs."""
        return next(size for size in range(min(self.group, n), 0, -1) if n % size == 0)

    def fitting_batch(self, n: int) -> int:
        """The smallest batch of `n` or more that groups of several samples divide."""
        return next(size for size in range(n, n + self.group + 1) if self.group_of(size) > 1)

    def forward(self, h: Tensor) -> Tensor:
        """(n, d + 1) for (n, d); the population deviation over groups of samples n / groups apart, in float32."""
        n, group = len(h), self.group_of(len(h))
        grouped = h.float().view(group, n // group, -1)
        spread = grouped.var(0, unbiased=False).add(1e-8).sqrt().mean(1, keepdim=True)
        return torch.cat([h, spread.repeat(group, 1).to(h.dtype)], 1)


def widen_head(network: nn.Module, make: Callable[[int], BatchStatistic], what: str) -> nn.Module:
    """Put a batch statistic before the linear map of the network's head; UserError naming `what` if it has none."""
    if not isinstance(network, Headed):
        raise UserError(
            f"{what} needs a discriminator that ends in a linear head, which {type(network).__name__} does not; "
            "set model=dcgan, model=mlp or model=maxout"
        )
    layers = list(network.head) if isinstance(network.head, nn.Sequential) else [network.head]
    last = layers[-1]
    if not isinstance(last, nn.Linear):
        raise UserError(f"{what} widens the linear map at the end of a discriminator's head, {replaced_by(last)}")
    statistic = make(last.in_features)
    network.head = nn.Sequential(*layers[:-1], statistic, widened(last, statistic.extra))
    return network


def replaced_by(last: nn.Module) -> str:
    """What stands where a head's linear map would be, and what to do about it, for the end of a message."""
    brought_by = last.brought_by if isinstance(last, Head) else ""
    if not brought_by:
        return f"here a {type(last).__name__}; leave out what has replaced it"
    return f"which {brought_by} has replaced by its own; choose one"


def resized(layer: nn.Linear, in_features: int, out_features: int) -> nn.Linear:
    """A linear map of the kind of `layer` (its learning rate equalised, or not), with weights as spread as its own and
    biases of 0."""
    spread = layer.weight.detach().std()
    # A normalised layer shares its class with its copies, which then can't be changed one by one.
    normalised = parametrize.is_parametrized(layer, "weight")
    own = nn.Linear(1, 1, layer.bias is not None) if normalised else copy.deepcopy(layer)
    own.in_features, own.out_features = in_features, out_features
    own.weight = nn.Parameter(spread * torch.randn(out_features, in_features))
    if layer.bias is not None:
        own.bias = nn.Parameter(torch.zeros(out_features))
    return own


def widened(layer: nn.Linear, extra: int) -> nn.Linear:
    """A linear map that does as `layer` does and takes `extra` more inputs; normalised spectrally if `layer` is."""
    wider = resized(layer, layer.in_features + extra, layer.out_features)
    with torch.no_grad():
        wider.weight[:, : layer.in_features] = layer.weight
        if layer.bias is not None:
            wider.bias.copy_(layer.bias)
    return normalised_as(layer, wider)


def normalised_as(layer: nn.Linear, other: nn.Linear) -> nn.Linear:
    """`other`, whose weight is divided by its largest singular value if that of `layer` is."""
    if parametrize.is_parametrized(layer, "weight"):
        spectral_norm(other, "weight")
    return other
