"""Distributions of bytes, or of points, around what a network says; images are in [-1, 1] in steps of a level.

A level's probability is that of the interval around its value; the lowest and the highest reach to infinity.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot
from torch.special import log_ndtr

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks.precision import without_autocast

LOWEST, HIGHEST = -7.0, 1.0
"""Of logarithms of scales: an eighth of a byte, below which nothing is gained (Salimans et al. 2017), and more than the
range of images, where half of everything falls to either end and slopes vanish."""


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^-x) for x >= 1e-30, to full precision at either end (Mächler 2012); that of 1e-30 for less."""
    middle = math.log(2)
    small = torch.log(-torch.expm1(-x.clamp(1e-30, 1)))
    return torch.where(x < middle, small, torch.log1p(-torch.exp(-x.clamp(min=middle))))


def logistic_log_mass(values: Tensor, centre: Tensor, log_scale: Tensor, levels: int = 256) -> Tensor:
    """Log-probabilities of `values`, among `levels` of them in [-1, 1], under logistic distributions; nats, exact.

    sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - e^(b - a)) for the interval's ends a > b, in units of the scale.
    """
    half = torch.exp(-log_scale) / (levels - 1)
    offset = (values - centre) * torch.exp(-log_scale)
    below, above = logsigmoid(offset + half), logsigmoid(half - offset)
    return by_level(values, levels, below, above, below + above + log1mexp(2 * half))


def normal_log_mass(values: Tensor, centre: Tensor, log_scale: Tensor, levels: int = 256) -> Tensor:
    """The same under normal distributions."""
    half = torch.exp(-log_scale) / (levels - 1)
    offset = (values - centre) * torch.exp(-log_scale)
    below, above = log_ndtr(offset + half), log_ndtr(half - offset)
    # Between two points of the lower tail: by symmetry, the nearer of the two tails is always there.
    far = -offset.abs()
    high, low = log_ndtr(far + half), log_ndtr(far - half)
    return by_level(values, levels, below, above, high + log1mexp(high - low))


def by_level(values: Tensor, levels: int, lowest: Tensor, highest: Tensor, between: Tensor) -> Tensor:
    """The first for the lowest level, the second for the highest, the third for all others."""
    half = 1 / (levels - 1)
    return torch.where(values < half - 1, lowest, torch.where(values > 1 - half, highest, between))


class Observation(nn.Module, ABC):
    """Independent numbers around a decoder's output, with a learned scale for each number of a sample.

    The numbers are bytes for images, real numbers for points; `scale` is what all scales are at first, in units of
    images in [-1, 1] or of points. Raises UserError unless it is positive.
    """

    def __init__(self, spec: Spec, scale: float = 0.5) -> None:
        super().__init__()
        if not scale > 0:
            raise UserError(f"{type(self).__name__}: scale={scale} must be positive")
        self.bytes = spec.is_image
        self.log_scale = nn.Parameter(torch.full(spec.shape, math.log(scale)))

    def forward(self, centre: Tensor, samples: Tensor) -> Tensor:
        """Log-likelihoods (n,) in nats of samples (n, ...) given what the decoder makes (n, ...); float32."""
        log_scale = self.log_scale.clamp_min(LOWEST)
        with without_autocast(samples.device):
            values, centre = samples.to(log_scale.dtype), centre.to(log_scale.dtype)
            each = (self.mass if self.bytes else self.density)(values, centre, log_scale)
            return each.flatten(1).sum(1)

    @abstractmethod
    def mass(self, values: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
        """Log-probability of each byte."""

    @abstractmethod
    def density(self, values: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
        """Log-density of each real number."""


class Normal(Observation):
    """Normal distributions (Kingma & Welling 2014, appendix C.2), integrated over each byte's interval."""

    def mass(self, values: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
        """See `normal_log_mass`."""
        return normal_log_mass(values, centre, log_scale)

    def density(self, values: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
        """-1/2 ((x - m)/s)^2 - log s - 1/2 log 2 pi."""
        offset = (values - centre) * torch.exp(-log_scale)
        return -0.5 * offset.square() - log_scale - 0.5 * math.log(2 * math.pi)


class Logistic(Observation):
    """Logistic distributions (Kingma et al. 2016, appendix D), integrated over each byte's interval."""

    def mass(self, values: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
        """See `logistic_log_mass`."""
        return logistic_log_mass(values, centre, log_scale)

    def density(self, values: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
        """log sigma(t) + log sigma(-t) - log s, t = (x - m)/s."""
        offset = (values - centre) * torch.exp(-log_scale)
        return logsigmoid(offset) + logsigmoid(-offset) - log_scale


class Levels(ABC):
    """What a network's `parameters` numbers say of one level among `levels`, by number."""

    parameters: int

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def start(self) -> Tensor:
        """Parameters (k,) of a network's first guess."""
        return torch.zeros(self.parameters)

    @abstractmethod
    def log_likelihood(self, parameters: Tensor, level: Tensor) -> Tensor:
        """Log-probabilities (...) in nats of levels (...), int64, given parameters (..., k); float32."""

    @abstractmethod
    def invert(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """The levels (...) at which distributions of parameters (..., k) reach `uniform` (...) in [0, 1].

        For a uniform number this is a draw.
        """

    def value(self, level: Tensor) -> Tensor:
        """Levels as numbers in [-1, 1], float32."""
        return level.float() * (2 / (self.levels - 1)) - 1

    def nearest(self, values: Tensor) -> Tensor:
        """The levels, int64, nearest to numbers."""
        return ((values.float() + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).long()


class Categorical(Levels):
    """A logit a level (van den Oord et al. 2016, section 3.3)."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.parameters = levels

    def log_likelihood(self, parameters: Tensor, level: Tensor) -> Tensor:
        """Of the softmax."""
        return parameters.float().log_softmax(-1).gather(-1, level[..., None]).squeeze(-1)

    def invert(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """The first level at which the cumulated probability exceeds the number."""
        reached = parameters.float().softmax(-1).cumsum(-1) <= uniform[..., None]
        return reached.sum(-1).clamp(max=self.levels - 1)


class LogisticMixture(Levels):
    """A mixture of `mixtures` logistic distributions: for each a logit, a centre and the logarithm of its scale
    (Salimans et al. 2017, section 2.1)."""

    def __init__(self, levels: int, mixtures: int) -> None:
        super().__init__(levels)
        self.mixtures, self.parameters = mixtures, 3 * mixtures

    def start(self) -> Tensor:
        """Equally likely distributions, evenly spread, that just meet."""
        places = torch.arange(1, 2 * self.mixtures, 2) / self.mixtures - 1
        return torch.cat([torch.zeros(self.mixtures), places, torch.full_like(places, -math.log(2 * self.mixtures))])

    def log_likelihood(self, parameters: Tensor, level: Tensor) -> Tensor:
        """log sum_m pi_m P_m(level)."""
        logits, centre, log_scale = parameters.float().chunk(3, -1)
        values = self.value(level)[..., None]
        parts = logistic_log_mass(values, centre, log_scale.clamp(LOWEST, HIGHEST), self.levels)
        return (logits.log_softmax(-1) + parts).logsumexp(-1)

    def invert(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """The number chooses a part of the mixture, and by what is left of it a place within the part.

        Levels are ordered by part first, and so are not monotonous in the number; draws are the same.
        """
        logits, centre, log_scale = parameters.float().chunk(3, -1)
        shares = logits.softmax(-1)
        ends = shares.cumsum(-1)
        part = (ends <= uniform[..., None]).sum(-1).clamp(max=self.mixtures - 1)
        chosen = one_hot(part, self.mixtures).float()
        share, end = (shares * chosen).sum(-1), (ends * chosen).sum(-1)
        rest = ((uniform - (end - share)) / share.clamp_min(1e-12)).clamp(1e-6, 1 - 1e-6)
        scale = (log_scale.clamp(LOWEST, HIGHEST) * chosen).sum(-1).exp()
        return self.nearest((centre * chosen).sum(-1) + scale * torch.logit(rest))
