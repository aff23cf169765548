"""Mismatched pairs: a discriminator that is told classes also learns to reject real samples of another class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.game import Comparison, Game, Round, Verdict
from gan_experiments.networks.informed import Informed
from gan_experiments.players import Player
from gan_experiments.trick import Trick


class MismatchedSamples:
    """A comparison of real samples with the same ones under wrong classes (n,)."""

    def __init__(self, round: Any, wrong: Tensor) -> None:
        self.round, self.wrong = round, wrong

    @property
    def real(self) -> Verdict:
        """Verdict on real samples with their own classes."""
        verdict: Verdict = self.round.real
        return verdict

    @cached_property
    def fake(self) -> Verdict:
        """Verdict on real samples with wrong classes."""
        verdict: Verdict = self.round.judge(self.round.reals, "mismatched", self.wrong)
        return verdict

    def contest(self, player: str) -> MismatchedSamples:
        """What the loss compares."""
        return self


class Mismatched(Trick):
    """In the discriminator's moves, real samples with wrong classes count as generated ones, with the share `weight` of
    that side (Reed et al. 2016, algorithm 1, GAN-CLS: one half)."""

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        if not 0 < weight < 1:
            raise UserError(f"weight={weight} must lie between 0 and 1: the share of mismatched samples")
        self.weight = weight

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError where the discriminator is not told classes."""
        modules = [module for network in game.sides.get("discriminator", ()) for module in network.modules()]
        if not any(isinstance(module, Informed) for module in modules):
            raise UserError(
                f"trick {self.name} shows real samples with wrong classes, but this discriminator is told none; add "
                "conditioning=[one_hot,projection], or leave the trick out"
            )

    def comparisons(self, player: str, round: Round, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """In the discriminator's moves a second comparison, and as much less weight for the first."""
        if player != "discriminator":
            return found
        own: Comparison = found[round.pair]
        labels = round.classes_of("reals")
        assert labels is not None
        kinds = len(round.game.spec.classes)  # type: ignore[attr-defined]
        steps = torch.randint(1, kinds, labels.shape, generator=round.deal.random(self.name), device=labels.device)
        name, weight = f"{round.pair}mismatched", own.weight
        mismatched = MismatchedSamples(round, (labels + steps) % kinds)
        return {
            **found,
            round.pair: Comparison(own.round, (1 - self.weight) * weight),
            name: Comparison(mismatched, self.weight * weight),
        }
