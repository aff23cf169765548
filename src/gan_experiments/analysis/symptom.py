"""What a symptom of a failing training is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from gan_experiments.analysis.history import Facts, History


class Finding(NamedTuple):
    """What was found: half a sentence, and the numbers that led to it."""

    text: str
    numbers: dict[str, float]


class Symptom(ABC):
    """One known failure: its name, how it is seen, and what helps, in the words of the configuration."""

    name: ClassVar[str]
    remedy: ClassVar[str]

    def applies(self, facts: Facts) -> bool:
        """Whether this run's loss gives its numbers a meaning."""
        return True

    @abstractmethod
    def find(self, history: History, facts: Facts) -> Finding | None:
        """What is there now; None when it isn't, or can't be told."""
