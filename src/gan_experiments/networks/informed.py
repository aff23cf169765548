"""Layers that are told something about the samples at hand, or about the time, without an argument of every forward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from gan_experiments.errors import UserError


class Classwise(nn.Module):
    """A layer or network that has to do with classes: it is told them, or tells them."""


class Informed(Classwise):
    """A layer or network that uses the classes (n,), int64, of the samples it is given.

    The game tells them for the length of one call (`informing`), so that a layer at any depth of any network, wrapped
    by whatever trick, can read them, and networks keep the signature of their unconditional kind.
    """

    told: Tensor | None = None

    @property
    def classes(self) -> Tensor:
        """The classes of this call; UserError where nobody told them."""
        if self.told is None:
            raise UserError(
                f"{type(self).__name__} needs the classes of samples, which this game does not tell: choose a "
                "conditional one, e.g. conditioning=[native]"
            )
        return self.told


class ClassesByItself(nn.Module):
    """A network that uses classes in its own way when made with `conditional`, and whose latents a layer around it
    can't widen: more than its first linear map reads them."""


@contextmanager
def informing(network: nn.Module, classes: Tensor | None) -> Iterator[None]:
    """Tell every informed part of `network` the classes (n,) of the call made meanwhile."""
    parts = [module for module in network.modules() if isinstance(module, Informed)]
    for part in parts:
        part.told = classes
    try:
        yield
    finally:
        for part in parts:
            part.told = None


def uses_classes(network: nn.Module) -> bool:
    """Whether a network is told classes, or tells them."""
    return any(isinstance(part, Classwise) for part in network.modules())


class Timed(nn.Module, ABC):
    """A layer or network that changes with images seen (stages that fade in, blurs that fade out).

    What it is told must be kept in buffers, so that checkpoints and averages of weights have it.
    """

    @abstractmethod
    def at(self, images: int, total: int) -> None:
        """Be as after `images` of the run's `total` images; called before each step."""

    @abstractmethod
    def readings(self) -> dict[str, float]:
        """Where it stands, by name, for the records."""


def readings(networks: Iterable[nn.Module]) -> dict[str, float]:
    """Where the timed parts of networks stand, by name; of those that share a name, the last one's."""
    found: dict[str, float] = {}
    for network in networks:
        for part in network.modules():
            if isinstance(part, Timed):
                found |= part.readings()
    return found
