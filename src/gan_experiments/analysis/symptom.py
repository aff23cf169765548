"""What a symptom of a failing training is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from gan_experiments.analysis.advice import Plan
from gan_experiments.analysis.history import Facts, History


class Finding(NamedTuple):
    """What was found: half a sentence, and the numbers that led to it."""

    text: str
    numbers: dict[str, float]
    players: tuple[str, ...] = ()
    """Whose numbers they are, where that can be told, the first to go first."""


class Symptom(ABC):
    """One known failure: its name, how it is seen, and what helps, in the words of the configuration."""

    name: ClassVar[str]

    @abstractmethod
    def remedy(self, plan: Plan, finding: Finding) -> str:
        """What helps this run: keys of its own, set to what they aren't yet."""

    def applies(self, facts: Facts) -> bool:
        """Whether this run's loss gives its numbers a meaning."""
        return True

    @abstractmethod
    def find(self, history: History, facts: Facts) -> Finding | None:
        """What is there now; None when it isn't, or can't be told."""
