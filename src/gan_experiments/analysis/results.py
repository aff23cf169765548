"""The scores in a run's records: each at its last evaluation and at its best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from gan_experiments.errors import UserError
from gan_experiments.logging.records import read_records

PROVENANCE = (
    "dataset", "data_fingerprint", "transform", "quantise", "extractor_sha256", "resize", "n_real", "n_fake", "n_floor",
)  # fmt: skip
"""What two scores must share to be comparable; evaluation seeds and weights are settings' own business."""


@final
@dataclass(frozen=True)
class Result:
    """One score of one run: at its last evaluation and at its best, with the number for real data, if there is one.

    `interval` is what the last evaluation's own samples say of the score (95 %), obtained as `interval_from` says.
    """

    last: float
    best: float
    floor: float | None
    higher_is_better: bool
    provenance: dict[str, Any]
    interval: tuple[float, float] | None = None
    interval_from: str = ""


def read_scores(path: Path) -> dict[str, Result]:
    """Last and best value of each score in a metrics.jsonl; nothing where there is no such file."""
    histories: dict[str, list[dict[str, Any]]] = {}
    for record in read_records(path) if path.exists() else ():
        if record["kind"] == "scores":
            for name, score in record["values"].items():
                if "higher_is_better" not in score:
                    raise UserError(f"{path}: a score {name} doesn't say whether higher_is_better")
                histories.setdefault(name, []).append(score)
    return {name: result(history) for name, history in histories.items()}


def result(history: Sequence[dict[str, Any]]) -> Result:
    """The result of one score's records in their order."""
    last = history[-1]
    finite = [value for score in history if math.isfinite(value := value_of(score))]
    best = (max if last["higher_is_better"] else min)(finite, default=math.nan)
    provenance = {key: last.get(key) for key in (*PROVENANCE, "floor", "fewer_samples")}
    # A metric may define the number for real data itself; there is then no floor from held-out samples.
    floor = last["floor"] if last.get("floor") is not None else last.get("real")
    interval = None if last.get("interval") is None else tuple(last["interval"])
    source = last.get("interval_from", "")
    return Result(value_of(last), best, floor, last["higher_is_better"], provenance, interval, source)


def value_of(score: Mapping[str, Any]) -> float:
    """A recorded score's value; NaN where its record leaves it out."""
    return math.nan if score["value"] is None else float(score["value"])
