"""Tricks that let the discriminator compare the samples of a batch."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.networks import heads
from gan_experiments.networks.heads import BatchStatistic, widen_head
from gan_experiments.trick import Factory, Trick


class BatchAware(Trick):
    """Gives the discriminator's head a statistic of the batch."""

    rank = 10
    players = ("discriminator",)

    def network(self, player: str, make: Factory) -> Factory:
        """The discriminator with a wider head."""

        def widened(spec: Spec) -> nn.Module:
            return widen_head(make(spec), self.statistic, f"trick {self.name}")

        return widened

    @abstractmethod
    def statistic(self, in_features: int) -> BatchStatistic:
        """The layer, for features (n, in_features)."""


class MinibatchDiscrimination(BatchAware):
    """How close each sample is to the others of its batch, by learned distances (Salimans et al. 2016, section 3.2)."""

    def __init__(self, kernels: int = 32, dims: int = 8) -> None:
        super().__init__()
        if kernels < 1 or dims < 1:
            raise UserError(f"kernels={kernels}, dims={dims}: both must be 1 or more")
        self.kernels, self.dims = kernels, dims

    def statistic(self, in_features: int) -> BatchStatistic:
        """One number a kernel."""
        return heads.MinibatchDiscrimination(in_features, self.kernels, self.dims)


class MinibatchStddev(BatchAware):
    """The standard deviation over groups of samples as one more feature (Karras et al. 2018, section 3)."""

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        if group < 2:
            raise UserError(f"group={group}: the spread of fewer than 2 samples says nothing")
        self.group = group

    def statistic(self, in_features: int) -> BatchStatistic:
        """One number a group."""
        return heads.MinibatchStddev(self.group)
