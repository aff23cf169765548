"""Paired translation in miniature: images from their edges, a U-Net of two levels, a patch discriminator, L1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.game import Deal, Game, Term, Verdict, dealt
from gan_experiments.games.compared import ComparedRound
from gan_experiments.trick import Trick


class UNet(nn.Module):
    """Two levels down and up, with a shortcut (Ronneberger et al. 2015)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2))
        self.deep = nn.Sequential(
            nn.Conv2d(width, width, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(width, width, 4, 2, 1)
        )
        self.up = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * width, 1, 4, 2, 1), nn.Tanh())

    def forward(self, edges: Tensor) -> Tensor:
        """Images of the edges' size."""
        down = self.down(edges)
        images: Tensor = self.up(torch.cat([down, self.deep(down)], 1))
        return images


class PatchDiscriminator(nn.Module):
    """Logits (n, patches) of images with their edges on top (Isola et al. 2017)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 4, 2, 1))

    def forward(self, pair: Tensor) -> Verdict:
        """The verdict on each patch."""
        return Verdict(self.net(pair).flatten(1))


class PairedRound(ComparedRound):
    """Images, their edges, and what the generator makes of the edges; the discriminator sees both."""

    @dealt
    def edges(self) -> Tensor:
        return self.batch["edges"]

    def generated_samples(self) -> Tensor:
        return self.generate(self.edges)

    def judge(self, samples: Tensor, name: str, classes: Tensor | None = None) -> Verdict:
        return super().judge(torch.cat([self.edges, samples], 1), name, classes)

    def generate(self, latents: Tensor) -> Tensor:
        return self.game.sample(latents, latents)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        return self.generate(self.edges[:n])


class PairedGame(Game):
    """pix2pix in miniature (Isola et al. 2017)."""

    round_type = PairedRound
    given = ("edges",)

    def __init__(self, spec: Spec, width: int = 8, tricks: Sequence[Trick] = ()) -> None:
        super().__init__(spec, tricks)
        self.generator = self.make("generator", lambda _: UNet(width))
        self.discriminator = self.make("discriminator", lambda _: PatchDiscriminator(width))

    @property
    def sides(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def deal(self, deal: Deal) -> PairedRound:
        return PairedRound(self, deal, self.discriminator)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(n, 0, device=generator.device)

    def sample(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(classes)
        return images.float()

    def probe(self) -> Verdict:
        verdict: Verdict = self.discriminator(torch.zeros(2, 2, *self.spec.shape[1:]))
        return verdict


class L1(Term):
    """<|G(edges) - images|>."""

    needs = ("fakes", "reals", "edges")
    acts_on = ("generator",)

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__("generator", weight)

    def __call__(self, round: Any) -> Tensor:
        distance: Tensor = (round.fakes - round.reals).abs().mean()
        return distance
