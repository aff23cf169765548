"""Tricks that change which samples a player learns from: history of generated images, top-k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gan_experiments.curves import Curve, within
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Game, Round, Verdict
from gan_experiments.objectives.adversarial import Adversarial
from gan_experiments.players import Player
from gan_experiments.trick import Trick


class Replay(Trick):
    """In the discriminator's moves, a `share` of the generated samples comes from a pool of `size` former ones.

    Samples that are exchanged take the places of those drawn (Shrivastava et al. 2017, SimGAN, section 2.3; with a
    share of 1/2 as in Zhu et al. 2017). The pool fills first, and is saved with the game. A move's second update, of
    lazy terms, is shown former samples too, but leaves the pool as it is.
    """

    def __init__(self, size: int = 512, share: float = 0.5) -> None:
        super().__init__()
        if size < 1 or not 0 < share <= 1:
            raise UserError(f"size={size} must be 1 or more, and share={share} within (0, 1]")
        self.size, self.share = size, share

    def bind_pair(self, pair: str, spec: Spec) -> None:
        """An empty pool."""
        self.register_buffer(f"pool{pair}", torch.zeros(self.size, *spec.shape))
        self.register_buffer(f"filled{pair}", torch.zeros((), dtype=torch.int64))

    def kept(self, pair: str) -> tuple[Tensor, Tensor]:
        """The pool (size, ...) of a comparison, and how many of its places are filled, a scalar."""
        return self.get_buffer(f"pool{pair}"), self.get_buffer(f"filled{pair}")

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError for samples of classes."""
        if game.labelled:
            raise UserError(
                f"trick {self.name} mixes in former samples, which are of other classes than this round asks for; "
                "leave the conditioning out, or the trick"
            )

    @torch.no_grad()
    def fakes(self, round: Round, samples: Tensor) -> Tensor:
        """The samples with some former ones among them."""
        if round.deal.player != "discriminator":
            return samples
        random, n = round.deal.random(self.name), len(samples)
        pool, filled = self.kept(round.pair)
        # Free places are filled in order; where the pool is full, places to exchange are drawn without repeats.
        place = filled + torch.arange(n, device=samples.device)
        free = place < self.size
        drawn = torch.randperm(max(n, self.size), generator=random, device=samples.device)[:n]
        exchanged = ~free & (torch.rand(n, generator=random, device=samples.device) < self.share) & (drawn < self.size)
        target = torch.where(free, place, drawn).clamp(max=self.size - 1)
        mask = exchanged.view(-1, *[1] * (samples.ndim - 1))
        former = pool[target]
        if round.deal.update == 0:
            self.keep(pool, filled, samples, target, free | exchanged)
        return torch.where(mask, former.to(samples.dtype), samples)

    def keep(self, pool: Tensor, filled: Tensor, samples: Tensor, target: Tensor, written: Tensor) -> None:
        """Put those of the samples that are to be `written` (n,) into the places `target` (n,) of the pool."""
        index = torch.where(written, target, self.size)
        grown = torch.cat([pool, torch.zeros_like(pool[:1])]).index_copy(0, index, samples.float())
        pool.copy_(grown[: self.size])
        filled.copy_((filled + len(samples)).clamp(max=self.size))


class Narrowed:
    """A contest in which only some generated samples count."""

    def __init__(self, contest: Any, fake: Verdict) -> None:
        self.contest, self.fake = contest, fake

    @property
    def real(self) -> Verdict:
        """The data's verdict as it was."""
        verdict: Verdict = self.contest.real
        return verdict


class TopK(Trick):
    """The generator learns only from the `share` of its samples that the discriminator likes best (Sinha et al. 2020).

    `share`, within (0, 1], is a number or a curve; the paper lowers it to a half.
    """

    def __init__(self, share: float | Curve) -> None:
        super().__init__()
        self.share = within(share, "share", 0.0, 1.0, above=True)

    def check(self, game: Game, players: Mapping[str, Player]) -> None:
        """UserError for losses that compare the two sides sample by sample."""
        for term in players["generator"].terms:
            if isinstance(term, Adversarial) and term.loss.compares_batches:
                raise UserError(
                    f"trick {self.name} leaves out generated samples, which loss {type(term.loss).__name__} compares "
                    "with real ones across the batch; set loss=nonsaturating, hinge or another that does not"
                )

    def contest(self, player: str, contest: Any) -> Any:
        """The best generated samples, in the generator's moves."""
        if player != "generator":
            return contest
        deal, fake = contest.deal, contest.fake
        share, n = self.share(deal.images, deal.total), len(fake.logits)
        best = fake.logits.reshape(n, -1).mean(1).topk(max(round(share * n), 1)).indices
        heads = {name: value[best] for name, value in fake.heads.items()}
        return Narrowed(contest, Verdict(fake.logits[best], heads=heads))
