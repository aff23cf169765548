"""Packing: the discriminator judges several samples with one logit (PacGAN)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.trick import Factory, Trick


class PackedDiscriminator(nn.Module):
    """Joins every `size` consecutive samples on their first dimension before `network` judges them."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, samples: Tensor) -> Verdict:
        """Logits (n / size,) for samples (n, c, h, w) or (n, d); n must be a multiple of the size."""
        first, *others = samples.shape[1:]
        verdict: Verdict = self.network(samples.reshape(len(samples) // self.size, self.size * first, *others))
        return verdict


class Packing(Trick):
    """The discriminator sees packs of `size` samples, all real or all generated (Lin et al. 2018, section 3).

    A generator that lacks variety is easier to tell from the data in packs than sample by sample.
    """

    rank = 50
    players = ("discriminator",)

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        if size < 2:
            raise UserError(f"size={size}: a pack holds 2 or more samples")
        self.pack = size

    def network(self, player: str, make: Factory) -> Factory:
        """The discriminator made for packed samples."""

        def packed(spec: Spec) -> nn.Module:
            first, *others = spec.shape
            return PackedDiscriminator(make(replace(spec, shape=(first * self.pack, *others))), self.pack)

        return packed
