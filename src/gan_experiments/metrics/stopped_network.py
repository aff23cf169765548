"""A small network that tells two sides apart, trained for as many steps as cross-validation finds best."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import seeding

FEW = 1000
"""Training rows up to which every row takes its turn in validation, in one of `FOLDS` parts; beyond, one part does."""

FOLDS = 5

BATCH, EVERY = 256, 10
"""Rows of a step, and steps from one validation to the next."""

FEWEST, MOST = 100, 1000
"""Steps before which training doesn't end, and after which it does."""

RATE, DECAY = 2e-2, 1.0
"""AdamW's learning rate and weight decay: the decay holds back what few rows in many dimensions would fit by chance."""


class StoppedNetworks:
    """Networks of `hidden` ReLU units side by side, from one start: one for each fold, which it never sees, and the
    last one for all rows, whose number of steps is that at which the others' held-out loss is least.

    A fixed patience in epochs would be a few steps of few rows; here training goes on for twice as long as it has
    taken to the best loss so far, and for 100 steps at least.
    """

    def __init__(self, rows: Tensor, sides: Tensor, hidden: int, seed: int) -> None:
        """Untrained ones for rows (n, d), float32, of the sides (n,), 0 or 1, on the CPU."""
        self.rows, self.sides, self.hidden = rows, sides.float()[:, None], hidden
        self.random = seeding.generator(seed, "stopped network")
        n, d = rows.shape
        folds = FOLDS if n <= FEW else 1
        self.count = folds + 1
        first = torch.randn(d, hidden, generator=self.random) / d**0.5
        second = torch.randn(hidden, generator=self.random) / hidden**0.5
        self.weights = [
            first.repeat(1, self.count).requires_grad_(),
            torch.zeros(self.count * hidden).requires_grad_(),
            second.repeat(self.count, 1).requires_grad_(),
            torch.zeros(self.count).requires_grad_(),
        ]
        fold = self.folds()
        self.held = fold[:, None] == torch.arange(self.count)
        self.held[:, folds:] = False
        self.order = torch.empty(0, dtype=torch.long)

    def folds(self) -> Tensor:
        """The fold (n,) of each row, of which every one holds as large a part of either side."""
        fold = torch.empty(len(self.rows), dtype=torch.long)
        for side in (0, 1):
            own = (self.sides[:, 0] == side).nonzero().flatten()
            fold[own] = torch.randperm(len(own), generator=self.random) % FOLDS
        return fold

    def logits(self, rows: Tensor, weights: list[Tensor]) -> Tensor:
        """Logits (n, k) of rows (n, d) by each of the networks."""
        hidden = torch.relu(rows @ weights[0] + weights[1]).view(len(rows), -1, self.hidden)
        return (hidden * weights[2]).sum(2) + weights[3]

    def losses(self, rows: Tensor) -> Tensor:
        """Cross-entropies (m, k) of the training rows at places (m,)."""
        logits = self.logits(self.rows[rows], self.weights)
        return F.binary_cross_entropy_with_logits(logits, self.sides[rows].expand(-1, self.count), reduction="none")

    def train(self) -> list[Tensor]:
        """The weights of the last network where the others' held-out loss was least."""
        optimizer = torch.optim.AdamW(self.weights, RATE, weight_decay=DECAY)
        unseen = self.held.any(1).nonzero().flatten()
        least, best, kept, step = math.inf, 0, self.last(), 0
        while step < min(MOST, max(FEWEST, 2 * best)):
            for _ in range(EVERY):
                rows = self.batch()
                seen = (~self.held[rows]).float()
                loss = ((self.losses(rows) * seen).sum(0) / seen.sum(0).clamp(min=1)).sum()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
            step += EVERY
            with torch.no_grad():
                held_out = float(self.losses(unseen)[self.held[unseen]].mean())
            if held_out < least:
                least, best, kept = held_out, step, self.last()
        return kept

    def batch(self) -> Tensor:
        """Places of the rows of the next step, every row once before any comes again."""
        size = min(BATCH, len(self.rows))
        if len(self.order) < size:
            self.order = torch.randperm(len(self.rows), generator=self.random)
        rows, self.order = self.order[:size], self.order[size:]
        return rows

    def last(self) -> list[Tensor]:
        """A copy of the last network's weights."""
        first, offsets, second, offset = (weight.detach() for weight in self.weights)
        own = (first[:, -self.hidden :], offsets[-self.hidden :], second[-1:], offset[-1:])
        return [weight.clone() for weight in own]


def tell_apart(train: Tensor, sides: Tensor, test: Tensor, hidden: int, seed: int) -> Tensor:
    """The sides (m,), 0 or 1, of rows `test` (m, d), by a network of `hidden` units trained on rows (n, d) of `sides`.

    The same for the same seed; the global random state plays no part.
    """
    networks = StoppedNetworks(train.float().cpu(), sides.cpu(), hidden, seed)
    with torch.enable_grad():
        weights = networks.train()
    with torch.no_grad():
        return (networks.logits(test.float().cpu(), weights)[:, 0] > 0).long()
