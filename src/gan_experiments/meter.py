"""Means of what happens between two log records, summed on the device, with a watch for NaN and infinity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gan_experiments.errors import NonFinite

NEVER = 2**62


class Meter:
    """Sums of named scalars on the device; nothing is copied to the host until they are read.

    `remedy` says what to change when a number of the player that it is given isn't finite.
    """

    def __init__(self, device: torch.device, remedy: Callable[[str], str]) -> None:
        self.device, self.remedy = device, remedy
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.first_bad: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor, step: int, may_overflow: bool = False) -> None:
        """Count a scalar in; remembers the first step at which it wasn't finite, unless it may overflow."""
        value = value.detach().float()
        if name not in self.sums:
            self.sums[name], self.counts[name] = torch.zeros((), device=self.device), 0
            self.first_bad[name] = torch.full((), NEVER, device=self.device)
        self.sums[name] += value
        self.counts[name] += 1
        if not may_overflow:
            now = torch.where(value.isfinite(), NEVER, step)
            torch.minimum(self.first_bad[name], now, out=self.first_bad[name])

    def check(self) -> None:
        """Raise NonFinite naming the first term or player whose number wasn't finite."""
        if not self.first_bad:
            return
        steps = torch.stack(list(self.first_bad.values())).tolist()
        worst, name = min(zip(steps, self.first_bad, strict=True), key=lambda pair: pair[0])
        if worst < NEVER:
            remedy = self.remedy(name.partition("/")[0])
            raise NonFinite(f"{name} {NonFinite.SAID} at step {worst}: stopped; {remedy}")

    def drain(self) -> dict[str, float]:
        """Means since the last drain, by name; the sums start again. Raises NonFinite as `check` does."""
        self.check()
        if not self.sums:
            return {}
        sums = torch.stack(list(self.sums.values())).tolist()
        means = {name: total / self.counts[name] for name, total in zip(self.sums, sums, strict=True)}
        self.sums, self.counts, self.first_bad = {}, {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts of the interval under way."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; states are only written while everything is finite."""
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.counts = dict(state["counts"])
        self.first_bad = {name: torch.full((), NEVER, device=self.device) for name in self.sums}
