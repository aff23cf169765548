"""What an evaluation has found under one name, and the mean of several such."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import final

from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.intervals import of_mean


@final
@dataclass(frozen=True)
class Found:
    """A reading, the metric that gave it, and the extractor that it read."""

    reading: Reading
    metric: AnyMetric
    extractor: Extractor | None


def average(draws: list[dict[str, Found]]) -> dict[str, Found]:
    """Means over draws, with the interval that their spread gives."""
    result = {}
    for name, first in draws[0].items():
        values = [found[name].reading.value for found in draws]
        reading = first.reading._replace(
            value=statistics.fmean(values),
            error=statistics.stdev(values),
            error_from=f"standard deviation of {len(draws)} draws",
            interval=of_mean(values),
            interval_from=f"Student's t over {len(draws)} draws, for their mean",
        )
        result[name] = Found(reading, first.metric, first.extractor)
    return result
