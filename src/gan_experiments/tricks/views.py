"""Tricks that change what the discriminator is shown, of real and generated samples alike, in both players' moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from gan_experiments.curves import Curve, within
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round
from gan_experiments.players import Player
from gan_experiments.trick import Trick


class InstanceNoise(Trick):
    """Adds N(0, std^2) to every sample before the discriminator sees it; `std` is a number or a curve.

    It gives data and samples overlapping supports (Sønderby et al. 2017; Arjovsky & Bottou 2017).
    """

    rank = 60

    def __init__(self, std: float | Curve) -> None:
        super().__init__()
        self.std = within(std, "std")

    def view(self, round: Round, name: str, samples: Tensor) -> Tensor:
        """Samples with fresh noise."""
        std = self.std(round.deal.images, round.deal.total)
        if std == 0:
            return samples
        random = round.deal.random(f"{self.name}/{name}")
        return samples + std * torch.randn(samples.shape, generator=random, device=samples.device)


class ImageTrick(Trick):
    """A trick for images only."""

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError for points."""
        if not game.spec.is_image:
            raise UserError(
                f"trick {self.name} changes images, but the data are points of shape {game.spec.shape}; "
                "choose a data set of images, or trick=[instance_noise] for points"
            )


Operation = Callable[[Tensor, torch.Generator], Tensor]


def uniform(images: Tensor, low: float, high: float, random: torch.Generator) -> Tensor:
    """One number a sample (n, 1, 1, 1), uniform in [low, high)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=random, device=images.device)


def color(images: Tensor, random: torch.Generator) -> Tensor:
    """Brightness by up to 0.5 either way, saturation times 0 to 2, contrast times 0.5 to 1.5."""
    images = images + uniform(images, -0.5, 0.5, random)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * uniform(images, 0, 2, random) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * uniform(images, 0.5, 1.5, random) + mean


def translation(images: Tensor, random: torch.Generator) -> Tensor:
    """A shift by whole pixels, up to an eighth of the side either way, zeros coming in."""
    n, _, height, width = images.shape
    reach = [int(side / 8 + 0.5) for side in (height, width)]
    shifts = [torch.randint(-r, r + 1, (n, 1, 1), generator=random, device=images.device) for r in reach]
    rows = torch.arange(height, device=images.device).view(1, -1, 1) + shifts[0] + reach[0]
    columns = torch.arange(width, device=images.device).view(1, 1, -1) + shifts[1] + reach[1]
    padded = pad(images, (reach[1], reach[1], reach[0], reach[0])).permute(0, 2, 3, 1)
    sample = torch.arange(n, device=images.device).view(-1, 1, 1)
    return padded[sample, rows, columns].permute(0, 3, 1, 2)


def cutout(images: Tensor, random: torch.Generator) -> Tensor:
    """A square of half the side, around a random pixel, set to zero."""
    n, _, height, width = images.shape
    masks = []
    for side, shape in ((height, (1, 1, -1, 1)), (width, (1, 1, 1, -1))):
        size = int(side / 2 + 0.5)
        centre = torch.randint(0, side + (1 - size % 2), (n, 1, 1, 1), generator=random, device=images.device)
        offset = torch.arange(side, device=images.device).view(shape) - (centre - size // 2)
        masks.append((offset >= 0) & (offset < size))
    return images * ~(masks[0] & masks[1])


OPERATIONS: dict[str, Operation] = {"color": color, "translation": translation, "cutout": cutout}


class DiffAugment(ImageTrick):
    """Differentiable augmentation of real and generated images in both players' moves (Zhao et al. 2020)."""

    rank = 60

    def __init__(self, policy: Sequence[str] = ("color", "translation", "cutout")) -> None:
        super().__init__()
        if isinstance(policy, str) or not policy or set(policy) - set(OPERATIONS) or len(set(policy)) < len(policy):
            raise UserError(f"policy={policy!r}: must be a list of different operations of {', '.join(OPERATIONS)}")
        self.operations = [OPERATIONS[name] for name in OPERATIONS if name in policy]

    def view(self, round: Round, name: str, samples: Tensor) -> Tensor:
        """Images, each with draws of its own; colour, then translation, then cutout."""
        random = round.deal.random(f"{self.name}/{name}")
        for operation in self.operations:
            samples = operation(samples, random)
        return samples
