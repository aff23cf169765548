"""The recent records of a run, and what has been found in them: a pure function of metrics.jsonl."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

from gan_experiments.analysis.advice import Plan
from gan_experiments.analysis.orbits import RECORDS

WARM_UP = 300
"""Steps that are left out of account: networks as they were made look collapsed, dead or sure."""
WINDOW = 5
"""Training records over which numbers are averaged: enough to still a batch's noise, few enough to be of today."""


class Sure(NamedTuple):
    """The players' losses where D is all but sure of every sample: D's at most, G's at least."""

    discriminator: float
    generator: float


@dataclass(frozen=True)
class Facts:
    """What symptoms must know of a run: the losses of a sure D, if the loss has them, its images in all, and what it is
    made of.

    `anchored` says whether the loss fixes where logits lie: where it only sees differences they may drift together.
    An `unbounded` one rewards D for any difference; `span` is the mean distance of training samples. `worst` are the
    largest losses within its range, by player.
    """

    sure: Sure | None = None
    total: int = 0
    plan: Plan = Plan()
    anchored: bool = True
    unbounded: bool = False
    span: float = 1.0
    worst: Mapping[str, float] = field(default_factory=dict)

    @property
    def players(self) -> tuple[str, ...]:
        """Names of the players, as far as a plan knows them."""
        return tuple(self.plan.levers) or ("discriminator", "generator")


class Scored(NamedTuple):
    """A score and what it is for real data."""

    value: float
    floor: float


@final
class History:
    """The last training records, as far back as symptoms look, and the last two evaluations after the warm-up."""

    def __init__(self) -> None:
        self.images = 0
        self.trained: deque[tuple[int, Mapping[str, Any]]] = deque(maxlen=RECORDS)
        self.scored: deque[Mapping[str, Any]] = deque(maxlen=2)

    def take(self, record: Mapping[str, Any]) -> bool:
        """Count a record in; whether it is one that symptoms look at."""
        if record["kind"] == "train":
            self.trained.append((record["step"], record["values"]))
        elif record["kind"] == "scores":
            if record["step"] >= WARM_UP:
                self.scored.append(record["values"])
        else:
            return False
        self.images = record["images"]
        return True

    def window(self, name: str, count: int = WINDOW, first: int = WARM_UP) -> list[float] | None:
        """The last `count` values of a number, oldest first; None unless all are there, finite, and from step `first`
        on."""
        records = list(self.trained)[-count:]
        values = [record.get(name) for step, record in records if step >= first]
        numbers = [float(value) for value in values if value is not None and math.isfinite(value)]
        return numbers if len(numbers) == count else None

    def latest(self, name: str) -> float | None:
        """The last record's value of a number, if it is there and finite."""
        value = self.trained[-1][1].get(name) if self.trained else None
        return float(value) if value is not None and math.isfinite(value) else None

    def mean(self, name: str) -> float | None:
        """The mean of a number over the window, if it is all there."""
        values = self.window(name)
        return None if values is None else math.fsum(values) / len(values)

    def score(self, name: str, before: int = 0) -> Scored | None:
        """A score of the last evaluation, or of `before` evaluations earlier, if there is one with a floor."""
        record = None if len(self.scored) <= before else self.scored[-1 - before].get(name)
        if record is None or record["value"] is None:
            return None
        floor = record["floor"] if record.get("floor") is not None else record.get("real")
        return None if floor is None else Scored(float(record["value"]), float(floor))
