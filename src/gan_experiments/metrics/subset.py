"""A random subset of bounded size of all samples seen, for metrics that look at whole images."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gan_experiments.metrics.base import Accumulator, joined
from gan_experiments.metrics.order import StreamKeys


@final
class RandomRows(Accumulator):
    """`keep` random ones of all rows (n, ...) seen, with tags (n, k) where given: those with the smallest random keys.

    Keys follow from the seed and from what rows hold, and equal rows have keys of their own: the choice depends neither
    on the order nor on the batches of rows. Each rank keeps that many, of which `compute` takes `keep`.
    """

    rows: list[Tensor]
    tags: list[Tensor]
    keys: list[Tensor]

    def __init__(self, keep: int, seed: int) -> None:
        """No rows yet."""
        super().__init__()
        self.keep = keep
        self.seed = seed
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("tags", default=[], dist_reduce_fx="cat")
        self.add_state("keys", default=[], dist_reduce_fx="cat")
        self._stream = StreamKeys(seed, "subset")

    def update(self, rows: Tensor, tags: Tensor | None = None) -> None:
        """Take rows (n, ...), int64 tags (n, k), and let go of what is no longer among the smallest keys."""
        tags = torch.empty(len(rows), 0, dtype=torch.int64) if tags is None else tags
        for state, new in ((self.rows, rows), (self.tags, tags), (self.keys, self._stream.draw(rows, tags))):
            state.append(new.to(self.device))
        if sum(len(part) for part in self.keys) > 2 * self.keep:
            chosen = self.chosen()
            for state in (self.rows, self.tags, self.keys):
                state[:] = [torch.cat(state)[chosen]]

    def chosen(self) -> Tensor:
        """Places of the `keep` smallest keys among the kept rows, the smallest first."""
        return joined(self.keys).argsort(stable=True)[: self.keep]

    def compute(self) -> tuple[Tensor, Tensor]:
        """The chosen rows (n, ...) in a random order that follows from what they hold, and their tags (n, k)."""
        chosen = self.chosen()
        return joined(self.rows)[chosen], joined(self.tags)[chosen]

    def reset(self) -> None:
        """Drop all rows."""
        super().reset()
        self._stream = StreamKeys(self.seed, "subset")
