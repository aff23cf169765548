"""Consistency regularization: the discriminator should say the same of a sample and of a slight change of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_experiments.curves import Curve
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round, Term
from gan_experiments.trick import Trick


def flip_and_shift(images: Tensor, flip: float, shift: float, random: torch.Generator) -> Tensor:
    """Each image (n, c, h, w) mirrored left-right with probability `flip`, then moved by whole pixels, up to the share
    `shift` of its height and width either way, reflected at the border; `random` is on the images' device."""
    n, _, height, width = images.shape
    mirrored = torch.rand(n, 1, generator=random, device=images.device) < flip
    rows = positions(n, height, shift, random)
    columns = positions(n, width, shift, random)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    moved = images.gather(2, rows[:, None, :, None].expand_as(images))
    return moved.gather(3, columns[:, None, None, :].expand_as(images))


def positions(n: int, size: int, shift: float, random: torch.Generator) -> Tensor:
    """The pixels 0 .. size - 1 (n, size), moved by one random step an image and reflected at both ends."""
    most = int(size * shift)
    steps = torch.randint(-most, most + 1, (n, 1), generator=random, device=random.device)
    moved = torch.arange(size, device=random.device) + steps
    return (size - 1) - (moved.abs() - (size - 1)).abs()


ACTS_ON = {"reals": ("discriminator",), "fakes": ("discriminator", "generator")}
"""Who can change the verdict on a set of samples."""


class Consistency(Term):
    """<(D(x) - D(T(x)))^2> at one set of images, T a random flip and shift.

    On reals it is CR (Zhang et al. 2020); with a second such term on fakes it is bCR (Zhao et al. 2021).
    Raises UserError for samples that are no images.
    """

    of_each_discriminator = True

    def __init__(
        self,
        at: str = "reals",
        flip: float = 0.5,
        shift: float = 0.125,
        player: str = "discriminator",
        weight: float | Curve = 10.0,
        every: int = 1,
    ) -> None:
        super().__init__(player, weight, every)
        if at not in ACTS_ON:
            raise UserError(f"Consistency: at={at!r}: use {' or '.join(ACTS_ON)}")
        if not 0 <= flip <= 1 or not 0 <= shift < 1:
            raise UserError(f"Consistency: flip={flip} must be a probability, and shift={shift} a share of the side")
        self.at, self.flip, self.shift = at, flip, shift
        self.needs = (at,)
        self.acts_on = ACTS_ON[at]

    def check(self, game: Game) -> None:
        """Only images can be flipped and shifted."""
        if not game.spec.is_image:
            raise UserError(
                f"{self.player}/{self.name}: flips and shifts are for images, but the samples are points; "
                "regularizer=[zcr] fits them"
            )

    def __call__(self, round: Round) -> Tensor:
        """The mean squared change of the logit."""
        samples, logits = round.points(self.at)
        changed = flip_and_shift(samples, self.flip, self.shift, round.deal.random(f"transform {self.at}"))
        verdict = round.judge(changed, f"transformed {self.at}", round.classes_of(self.at))
        return (logits() - verdict.logits).square().mean()


class LatentNeighbours(Term):
    """A term that compares G(z) with G(z'), z' = z + `std` N(0, 1) (Zhao et al. 2021, zCR)."""

    needs = ("latents", "fakes")

    def __init__(self, player: str, std: float, weight: float | Curve, every: int) -> None:
        super().__init__(player, weight, every)
        if std < 0:
            raise UserError(f"{type(self).__name__}: std={std} must not be negative")
        self.std = std

    def check(self, game: Game) -> None:
        """The round's samples must be those of its latents."""
        for trick in game.tricks.values():
            if type(trick).fakes is not Trick.fakes:
                raise UserError(
                    f"{self.player}/{self.name}: trick {trick.name} replaces generated samples, which then are not "
                    "those of the latents that this term moves; leave one of the two out"
                )

    def neighbours(self, round: Any) -> Tensor:
        """Samples (n, ...) of latents close to the round's own."""
        z: Tensor = round.latents
        noise = torch.randn(z.shape, generator=round.deal.random("neighbours"), device=z.device)
        samples: Tensor = round.generate(z + self.std * noise)
        return samples


class LatentConsistency(LatentNeighbours):
    """D: <(D(G(z)) - D(G(z')))^2> (Zhao et al. 2021)."""

    acts_on = ("discriminator",)

    def __init__(
        self,
        std: float = 0.05,
        player: str = "discriminator",
        weight: float | Curve = 20.0,
        every: int = 1,
    ) -> None:
        super().__init__(player, std, weight, every)

    def __call__(self, round: Round) -> Tensor:
        """The mean squared change of the logit."""
        _, logits = round.points("fakes")
        neighbours = round.judge(self.neighbours(round), "neighbours", round.classes_of("fakes"))
        return (logits() - neighbours.logits).square().mean()


class LatentSensitivity(LatentNeighbours):
    """G: minus the mean squared difference of G(z) and G(z'), over batch and components (Zhao et al. 2021).

    The discriminator learns to overlook a step in the latents; without this, the generator would learn to as well.
    """

    acts_on = ("generator",)

    def __init__(
        self,
        std: float = 0.05,
        player: str = "generator",
        weight: float | Curve = 0.5,
        every: int = 1,
    ) -> None:
        super().__init__(player, std, weight, every)

    def __call__(self, round: Any) -> Tensor:
        """Minus the mean squared change of the samples."""
        change: Tensor = round.fakes - self.neighbours(round)
        return -change.square().mean()
