"""How far a player's weights have gone from where they began: the first sign that its rate is absurd."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

LEAST = 0.04
"""Weights that begin smaller are measured against this: initial values of 0.02 grow tenfold in healthy runs."""
EXPLODED = 50.0
"""In healthy runs of any length weights stay within about ten times what they began as, or this would be 2."""
EARLY, AT_ONCE = 600, 20.0
"""Moves in which weights have no time to grow by more than a few times, and what is too much for them."""
NEVER = 2**62


class WeightGrowth:
    """Root mean square of weights over that at the start, after every update, and the move in which it first went
    beyond 50, or 20 in the first 600. Nothing leaves the device until it is read."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.count = max(sum(parameter.numel() for parameter in self.parameters), 1)
        self.start = self.size().clamp_min(LEAST)
        self.now = torch.ones_like(self.start)
        self.first = torch.full_like(self.start, NEVER, dtype=torch.int64)

    @torch.no_grad()
    def size(self) -> Tensor:
        """The root mean square of all weights, a scalar on their device."""
        norms = torch._foreach_norm(self.parameters)
        size: Tensor = torch.linalg.vector_norm(torch.stack(norms).float()) / math.sqrt(self.count)
        return size

    def look(self, move: int) -> None:
        """Measure the weights after an update; moves of all players are counted in one row."""
        self.now = self.size() / self.start
        self.first = torch.where(
            self.now <= (AT_ONCE if move < EARLY else EXPLODED), self.first, self.first.clamp_max(move)
        )

    @property
    def exploded(self) -> int | None:
        """The move in which the weights first were far beyond what they began as, or not finite."""
        first = int(self.first)
        return None if first == NEVER else first

    def state_dict(self) -> dict[str, Any]:
        """Size at the start, and when it was left behind."""
        return {"start": self.start, "now": self.now, "first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; states of older versions have nothing, and the start is now."""
        if not state:
            self.start = self.size().clamp_min(LEAST)
            return
        for name in ("start", "now", "first"):
            setattr(self, name, state[name].to(self.start.device))


def first_to_go(growths: Iterable[tuple[str, WeightGrowth]]) -> list[str]:
    """Names of those whose weights have exploded, the first one first; of two in the same move the larger."""
    gone = [
        (growth.exploded, -float(growth.now.nan_to_num(torch.inf)), name)
        for name, growth in growths
        if growth.exploded is not None
    ]
    return [name for _, _, name in sorted(gone)]
