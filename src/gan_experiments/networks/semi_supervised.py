"""The networks of the semi-supervised digits (Salimans et al. 2016): softplus generator, noisy weight-normalised D."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.heads import HeadedPoints


class WeightNormLinear(nn.Linear):
    """A linear map by g v / |v| for each row v of the weight (Salimans & Kingma 2016); biases start at 0.

    The length g of a row starts at 1 and is fixed, or with `learned_length` a parameter: fixed lengths keep a layer
    from outgrowing the noise that is added to what it gives. While `adapting`, a batch sets lengths and biases so that
    each output has mean 0 and deviation 1 on it (their section 3).
    """

    length: Tensor
    adapting = False

    def __init__(self, in_features: int, out_features: int, learned_length: bool = False) -> None:
        super().__init__(in_features, out_features)
        ones = torch.ones(out_features)
        if learned_length:
            self.length = nn.Parameter(ones)
        else:
            self.register_buffer("length", ones)
        nn.init.normal_(self.weight, 0.0, 0.1)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, out_features) for (n, in_features)."""
        # Outputs are scaled, not rows: a batch has fewer of them than a layer has weights.
        shrink = self.weight.square().sum(1).clamp_min(1e-16).rsqrt()
        plain = linear(x, self.weight)
        if self.adapting:
            with torch.no_grad():
                std, mean = torch.std_mean(plain * shrink, 0, correction=0)
                self.length.copy_(1 / std.clamp_min(1e-8))
                self.bias.copy_(-mean * self.length)
        return torch.addcmul(self.bias, plain, self.length * shrink).to(plain.dtype)


@torch.no_grad()
def adapt(network: nn.Module, samples: Tensor) -> None:
    """Let the weight-normalised maps of a network, if any, start with unit outputs on some hundred samples (n, ...)."""
    maps = [part for part in network.modules() if isinstance(part, WeightNormLinear)]
    for part in maps:
        part.adapting = True
    if maps:
        network(samples)
    for part in maps:
        part.adapting = False


class GaussianNoise(nn.Module):
    """Adds N(0, std^2) to every number, in training only."""

    def __init__(self, std: float) -> None:
        super().__init__()
        if std < 0:
            raise UserError(f"noise of standard deviation {std}: must not be negative")
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape given."""
        return x + self.std * torch.randn_like(x) if self.training and self.std else x


class SemiSupervisedGenerator(nn.Module):
    """Latents (n, latent_dim) through layers of `hidden` units with batch norm and softplus, and a weight-normalised
    map of learned lengths, to samples; tanh for images."""

    def __init__(self, spec: Spec, latent_dim: int = 100, hidden: Sequence[int] = (500, 500)) -> None:
        super().__init__()
        self.latent_dim, self.shape = latent_dim, spec.shape
        layers: list[nn.Module] = []
        width = latent_dim
        for size in hidden:
            layers += [nn.Linear(width, size, bias=False), nn.BatchNorm1d(size), nn.Softplus()]
            nn.init.normal_(layers[-3].weight, 0.0, 0.05)  # type: ignore[arg-type]
            width = size
        layers += [WeightNormLinear(width, math.prod(spec.shape), True), nn.Tanh() if spec.is_image else nn.Identity()]
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Samples (n, ...) for latents (n, latent_dim)."""
        samples: Tensor = self.net(z).unflatten(1, self.shape)
        return samples


class SemiSupervisedDiscriminator(HeadedPoints):
    """Samples, flattened, through weight-normalised layers of `hidden` units and length 1, with noise before and ReLU.

    `input_noise` is in the data's units, `hidden_noise` in those of hidden units, the head's input among them;
    features are the hidden layers.
    """

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int] = (1000, 500, 250, 250, 250),
        input_noise: float = 0.6,
        hidden_noise: float = 0.5,
    ) -> None:
        super().__init__()
        sizes = [math.prod(spec.shape), *hidden]
        noises = [input_noise, *[hidden_noise] * (len(hidden) - 1)]
        self.levels = nn.ModuleList(
            nn.Sequential(GaussianNoise(noise), WeightNormLinear(before, after), nn.ReLU())
            for noise, before, after in zip(noises, sizes, sizes[1:], strict=False)
        )
        self.head = nn.Sequential(GaussianNoise(hidden_noise), nn.Linear(sizes[-1], 1))
