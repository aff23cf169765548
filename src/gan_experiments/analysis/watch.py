"""Keeps watch over a run's records: which symptoms there are, since when, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from gan_experiments.analysis.divergence import Diverged
from gan_experiments.analysis.history import Facts, History
from gan_experiments.analysis.symptom import Symptom
from gan_experiments.analysis.symptoms import SYMPTOMS

PATIENCE = 3
"""Looks in a row that must find nothing before a symptom is over, so that one at its threshold is told of once."""


@final
@dataclass(frozen=True)
class Diagnosed:
    """A symptom of a run: what it is and what helps, the numbers behind it, images at its last and first sight."""

    name: str
    sentence: str
    numbers: Mapping[str, float]
    images: int
    since: int


@final
class Watch:
    """What is wrong with a run, from its records alone: fed the same ones, it says the same, whoever feeds them."""

    def __init__(self, facts: Facts, symptoms: Sequence[Symptom] = SYMPTOMS) -> None:
        self.facts, self.history = facts, History()
        self.symptoms = [symptom for symptom in symptoms if symptom.applies(facts)]
        self.active: dict[str, Diagnosed] = {}
        self.missed: dict[str, int] = {}

    def feed(self, records: Iterable[Mapping[str, Any]]) -> bool:
        """Take all records of one step, then look; whether there was anything to look at."""
        if not any([self.history.take(record) for record in records]):
            return False
        for symptom in self.symptoms:
            if Diverged.name in self.active and symptom.name != Diverged.name:
                self.active.pop(symptom.name, None)  # its remedy is for a run within bounds
            else:
                self.look(symptom)
        return True

    def look(self, symptom: Symptom) -> None:
        """Note a symptom that is there, and drop one that has been away for long enough."""
        finding, former = symptom.find(self.history, self.facts), self.active.get(symptom.name)
        images = self.history.images
        if finding is not None:
            remedy = symptom.remedy(self.facts.plan, finding)
            sentence, since = f"{finding.text}; {remedy}", images if former is None else former.since
            self.active[symptom.name] = Diagnosed(symptom.name, sentence, finding.numbers, images, since)
            self.missed[symptom.name] = 0
        elif former is not None:
            self.missed[symptom.name] += 1
            if self.missed[symptom.name] == PATIENCE:
                del self.active[symptom.name]
