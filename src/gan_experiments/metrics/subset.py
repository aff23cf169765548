"""A random subset of bounded size of all samples seen, for metrics that look at whole images."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.metrics.base import Accumulator, joined

CHUNK = 1024
"""Samples whose random keys are drawn together: a key depends on a sample's place, not on the batch it came in."""


@final
class RandomRows(Accumulator):
    """`keep` random ones of all rows (n, ...) seen, with tags (n, k) where given: those with the smallest random keys.

    The choice depends on seed and number of rows alone. Each rank keeps that many, of which `compute` takes `keep`.
    """

    rows: list[Tensor]
    tags: list[Tensor]
    keys: list[Tensor]
    seen: Tensor

    def __init__(self, keep: int, seed: int) -> None:
        """No rows yet."""
        super().__init__()
        self.keep = keep
        self.seed = seed
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("tags", default=[], dist_reduce_fx="cat")
        self.add_state("keys", default=[], dist_reduce_fx="cat")
        self.add_state("seen", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, rows: Tensor, tags: Tensor | None = None) -> None:
        """Take rows (n, ...), int64 tags (n, k), and let go of what is no longer among the smallest keys."""
        first = int(self.seen)
        keys = self.draw_keys(first, first + len(rows))
        tags = torch.empty(len(rows), 0, dtype=torch.int64) if tags is None else tags
        self.seen = self.seen + len(rows)
        for state, new in ((self.rows, rows), (self.tags, tags), (self.keys, keys)):
            state.append(new.to(self.device))
        if sum(len(part) for part in self.keys) > 2 * self.keep:
            chosen = self.chosen()
            for state in (self.rows, self.tags, self.keys):
                state[:] = [torch.cat(state)[chosen]]

    def draw_keys(self, first: int, stop: int) -> Tensor:
        """The keys in [0, 1) of the samples from `first` to `stop`, float64."""
        chunks = range(first // CHUNK, -(-stop // CHUNK))
        drawn = [
            torch.rand(CHUNK, generator=seeding.generator(self.seed, "subset", chunk), dtype=torch.float64)
            for chunk in chunks
        ]
        start = chunks.start * CHUNK
        return torch.cat([*drawn, torch.empty(0, dtype=torch.float64)])[first - start : stop - start]

    def chosen(self) -> Tensor:
        """Ascending places of the `keep` smallest keys among the kept rows."""
        return joined(self.keys).argsort(stable=True)[: self.keep].sort().values

    def compute(self) -> tuple[Tensor, Tensor]:
        """The chosen rows (n, ...) in the order they came, and their tags (n, k)."""
        chosen = self.chosen()
        return joined(self.rows)[chosen], joined(self.tags)[chosen]
