"""Keeps the generator with the best score so far beside the last states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from gan_experiments.observers.ema import Ema
from gan_experiments.observers.evaluation import Evaluation
from gan_experiments.trainer import Observer, Trainer


@final
class Best(Observer):
    """The weights whose `score` (None: the first one) is the best of all evaluations, with its record; of equal ones
    those that came first.

    A score that is NaN or infinite is never the best. The weights are those that were scored: averaged ones, or the
    live ones of a score called raw_... . They are part of the run's state, so a continued run has the same best.
    """

    def __init__(self, score: str | None, evaluation: Evaluation, ema: Ema) -> None:
        self.score, self.evaluation, self.ema = score, evaluation, ema
        self.record: Mapping[str, Any] | None = None
        self.weights: list[dict[str, Tensor]] = []

    @property
    def value(self) -> float | None:
        """The best score so far; None before the first."""
        return None if self.record is None else float(self.record["value"])

    def after_step(self, trainer: Trainer) -> None:
        """Take the generator as it is if it has just been scored and is better."""
        latest = self.evaluation.latest
        self.score = self.score or next(iter(latest), None)
        record = latest.get(self.score or "")
        if record is None or record["step"] != trainer.step_count or not self.improves(record):
            return
        with trainer.aside():
            self.record = {key: value for key, value in record.items() if key != "seconds"}
            if record["weights"] == "raw":
                self.weights = self.copied(trainer)
            else:
                with self.ema.applied():
                    self.weights = self.copied(trainer)

    def improves(self, record: Mapping[str, Any]) -> bool:
        """Whether a score is finite and better than the best one."""
        value, best = float(record["value"]), self.value
        if not math.isfinite(value) or best is None:
            return math.isfinite(value)
        return value > best if record["higher_is_better"] else value < best

    @staticmethod
    def copied(trainer: Trainer) -> list[dict[str, Tensor]]:
        """The generator's tensors, copied to the CPU, a dict a network."""
        return [
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}
            for module in trainer.game.sides["generator"]
        ]

    def state_dict(self) -> dict[str, Any]:
        """The best so far; nothing before the first."""
        return {} if self.record is None else {"score": self.score, "record": self.record, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, unless another score counts now: the best of that begins anew."""
        if state and self.score in (None, state["score"]):
            self.score, self.record, self.weights = state["score"], state["record"], state["weights"]
