"""Tricks whose strength follows a sign of overfitting: adaptive augmentation (ADA) and pseudo-reals (APA)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gan_experiments.curves import Curve, within
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round
from gan_experiments.objectives.adversarial import Adversarial
from gan_experiments.players import Player
from gan_experiments.trick import Report, Trick
from gan_experiments.tricks import pipeline


class Adaptive(Trick):
    """A probability driven by r_t, the mean sign of the discriminator's logits on real samples.

    Every `interval` moves of the discriminator it goes up if r_t > `target`, else down, by as much as would take it
    from 0 to 1 in `length` real images; it stays within [0, 1]. (Karras et al. 2020, ADA, section 3.1; without their
    missing upper bound.) `probability`, a number or a curve within [0, 1], fixes it instead.
    """

    probability: Tensor
    sign_sum: Tensor
    sign_count: Tensor

    def __init__(
        self,
        target: float = 0.6,
        length: int = 500_000,
        interval: int = 4,
        probability: float | Curve | None = None,
    ) -> None:
        super().__init__()
        if not -1 < target < 1 or length < 1 or interval < 1:
            raise UserError(f"target={target} must be within (-1, 1), length={length} and interval={interval} positive")
        self.target, self.length, self.interval = target, length, interval
        self.boundary = 0.0
        self.fixed = None if probability is None else within(probability, "probability", 0.0, 1.0)
        for name in ("probability", "sign_sum", "sign_count"):
            self.register_buffer(name, torch.zeros(()))

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError when the loss's logits have no sign to go by."""
        for term in players["discriminator"].terms:
            if self.fixed is not None or not isinstance(term, Adversarial):
                continue
            if term.loss.boundary is None:
                raise UserError(
                    f"trick {self.name} follows the sign of logits, which loss {type(term.loss).__name__} gives no "
                    f"meaning; fix its strength with trick.{self.name}.probability=0.2, or set loss=nonsaturating"
                )
            self.boundary = term.loss.boundary

    def strength(self, round: Round) -> Tensor:
        """The probability now, a scalar on the device."""
        if self.fixed is None:
            return self.probability
        return torch.as_tensor(self.fixed(round.deal.images, round.deal.total), device=self.probability.device)

    @torch.no_grad()
    def after_move(self, round: Round, report: Report) -> None:
        """Count the signs of a discriminator's move in, and adapt when it is time; nothing leaves the device."""
        if round.deal.player != "discriminator":
            return
        report(f"trick/{self.name}_probability", self.strength(round))
        if self.fixed is not None:
            return
        logits = torch.stack([part.points("reals")[1]().detach() for part in round.parts()]) - self.boundary
        self.sign_sum += logits.sign().mean()
        self.sign_count += 1
        step = self.interval * round.deal.batch_size / self.length
        moved = self.probability + step * (self.sign_sum / self.sign_count - self.target).sign()
        full = self.sign_count >= self.interval
        self.probability.copy_(torch.where(full, moved.clamp(0, 1), self.probability))
        self.sign_sum.copy_(torch.where(full, 0, self.sign_sum))
        self.sign_count.copy_(torch.where(full, 0, self.sign_count))


class AdaptiveAugmentation(Adaptive):
    """Each of many augmentations happens to each image with the probability (Karras et al. 2020, ADA, pipe bgc)."""

    rank = 60

    def __init__(
        self,
        target: float = 0.6,
        length: int = 500_000,
        interval: int = 4,
        probability: float | Curve | None = None,
        blit: bool = True,
        geometry: bool = True,
        color: bool = True,
    ) -> None:
        super().__init__(target, length, interval, probability)
        if not (blit or geometry or color):
            raise UserError("blit, geometry and color are all false: nothing to do")
        self.blit, self.geometry, self.color = blit, geometry, color

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError for points, too."""
        if not game.spec.is_image:
            raise UserError(
                f"trick {self.name} augments images, but the data are points of shape {game.spec.shape}; "
                "choose a data set of images, or trick=[apa] for points"
            )
        super().check(game, players)

    def view(self, round: Round, name: str, samples: Tensor) -> Tensor:
        """Images, each with draws of its own."""
        random, p = round.deal.random(f"{self.name}/{name}"), self.strength(round)
        with torch.autocast(samples.device.type, enabled=False):  # positions in half precision would miss pixels
            if self.blit or self.geometry:
                samples = pipeline.warp(samples, p, random, self.blit, self.geometry)
            return pipeline.recolor(samples, p, random) if self.color else samples


class PseudoReals(Adaptive):
    """In the discriminator's moves each real sample is replaced by a generated one with the probability
    (Jiang et al. 2021, APA)."""

    def reals(self, round: Round, samples: Tensor) -> Tensor:
        """Real samples, some of them generated from latents of their own."""
        if round.deal.player != "discriminator":
            return samples
        random = round.deal.random(self.name)
        with torch.no_grad():
            pseudo = round.draw(len(samples), random).to(samples.dtype)
        chosen = torch.rand(len(samples), generator=random, device=samples.device) < self.strength(round)
        return torch.where(chosen.view(-1, *[1] * (samples.ndim - 1)), pseudo, samples)
