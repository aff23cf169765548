"""The smallest games whose convergence can be proved: one number a player, as networks like any other.

Dirac-GAN (Mescheder, Geiger & Nowozin 2018, definition 2.1): all generated mass at one point against a linear
discriminator. Linear-quadratic GAN (Nagarajan & Kolter 2017): a scaled Gaussian against a quadratic one. Theirs is
the paper's form with larger logits for real, so that psi has the other sign than in Mescheder et al.
Given samples of more than one number, theta and psi get the sample's shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.game import Verdict


class DiracGenerator(nn.Module):
    """All samples at one point theta (...), whatever the latents (n, 1)."""

    def __init__(self, spec: Spec, start: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = 1
        self.theta = nn.Parameter(torch.full(spec.shape, float(start)))

    def forward(self, z: Tensor) -> Tensor:
        """theta, as samples (n, ...)."""
        return self.theta.expand(len(z), *self.theta.shape)


class DiracDiscriminator(nn.Module):
    """D(x) = <psi, x>, with psi (...) of the samples' shape."""

    def __init__(self, spec: Spec, start: float = -1.0) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.full(spec.shape, float(start)))

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) for samples (n, ...)."""
        return Verdict((samples * self.psi).flatten(1).sum(1))


class ScalingGenerator(nn.Module):
    """G(z) = a z, for latents (n, d) of as many numbers as a sample has."""

    def __init__(self, spec: Spec, start: float = 0.5) -> None:
        super().__init__()
        self.latent_dim, self.shape = math.prod(spec.shape), spec.shape
        self.a = nn.Parameter(torch.tensor(float(start)))

    def forward(self, z: Tensor) -> Tensor:
        """Samples (n, ...) for latents (n, d)."""
        return (self.a * z).view(len(z), *self.shape)


class QuadraticDiscriminator(nn.Module):
    """D(x) = w |x|^2."""

    def __init__(self, spec: Spec, start: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(start)))

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n,) for samples (n, ...)."""
        return Verdict(self.w * samples.flatten(1).square().sum(1))
