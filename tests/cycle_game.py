"""Unpaired translation in miniature: two Gaussians, a translator each way, a discriminator each, cycle consistency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.game import Deal, Game, Term, Verdict, dealt
from gan_experiments.games.compared import ComparedRound, JointRound
from gan_experiments.networks.mlp import MLPDiscriminator
from gan_experiments.trick import Trick


class SideRound(ComparedRound):
    """One of the two sides: real samples of a domain, and translations into it."""

    def __init__(self, both: CycleRound, pair: str) -> None:
        super().__init__(both.game, both.deal, both.game.discriminators[pair], pair)
        self.both = both

    def real_samples(self) -> Tensor:
        return self.both.domain(self.pair)

    def generated_samples(self) -> Tensor:
        samples: Tensor = getattr(self.both, f"fake_{self.pair}")
        return samples

    def generate(self, latents: Tensor) -> Tensor:
        return self.both.game.translate(latents, self.pair)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        return self.generated_samples()[:n]


class CycleRound(JointRound):
    """A batch of each domain, translated."""

    part_type = SideRound
    game: CycleGame

    def part(self, name: str) -> ComparedRound:
        return SideRound(self, name)

    def domain(self, name: str) -> Tensor:
        return self.batch["samples" if name == "a" else "b"]

    @dealt
    def fake_a(self) -> Tensor:
        return self.game.translate(self.domain("b"), "a")

    @dealt
    def fake_b(self) -> Tensor:
        return self.game.translate(self.domain("a"), "b")


class CycleGame(Game):
    """CycleGAN in miniature (Zhu et al. 2017); samples are translations of a into b."""

    round_type = CycleRound
    given = ("samples",)
    compared: Mapping[str, float] = MappingProxyType({"a": 1.0, "b": 1.0})

    def __init__(self, spec: Spec, hidden: Sequence[int] = (16,), tricks: Sequence[Trick] = ()) -> None:
        super().__init__(spec, tricks)
        width = hidden[0]
        self.translators = nn.ModuleDict(
            {side: nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2)) for side in "ab"}
        )
        self.discriminators = nn.ModuleDict(
            {side: self.make("discriminator", lambda s: MLPDiscriminator(s, hidden)) for side in "ab"}
        )

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        return {name: tuple(both.values()) for name, both in
                (("discriminator", self.discriminators), ("generator", self.translators))}  # fmt: skip

    def translate(self, samples: Tensor, to: str) -> Tensor:
        points: Tensor = samples + self.translators[to](samples)
        return points

    def deal(self, deal: Deal) -> CycleRound:
        return CycleRound(self, deal)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(n, 0, device=generator.device)

    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        assert classes is not None
        return self.translate(classes, "b").float()

    def probe(self) -> Verdict:
        verdict: Verdict = self.discriminators["a"](torch.zeros(2, 2))
        return verdict


class CycleConsistency(Term):
    """<|G_a(G_b(a)) - a|> + <|G_b(G_a(b)) - b|> (Zhu et al. 2017, equation 2)."""

    needs = ("fake_a", "fake_b")
    acts_on = ("generator",)

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__("generator", weight)

    def __call__(self, round: Any) -> Tensor:
        back = round.game.translate
        a, b = back(round.fake_b, "a") - round.domain("a"), back(round.fake_a, "b") - round.domain("b")
        distance: Tensor = a.abs().mean() + b.abs().mean()
        return distance
