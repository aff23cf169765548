"""What a metric of sample quality is: two accumulators, one of real and one of generated samples, and a comparison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.extractors import Extractor, Features


class Reading(NamedTuple):
    """One number a metric read off: `name` is empty for the metric's main number, which goes by the metric's own name.

    `error` is a standard deviation obtained as `error_from` says, or None; `details` are the metric's settings.
    """

    name: str
    value: float
    details: dict[str, int | float | str]
    error: float | None = None
    error_from: str = ""
    higher_is_better: bool = False


class Accumulator(Metric, ABC):
    """What a metric keeps of one side's samples; states are summed or concatenated over ranks when computed."""

    full_state_update = False

    def __init__(self) -> None:
        """An empty accumulator."""
        super().__init__(compute_with_cache=False)


class Rows(Accumulator):
    """All rows (n, d) seen, as they came."""

    rows: list[Tensor]

    def __init__(self) -> None:
        """No rows yet."""
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor) -> None:
        """Keep rows (n, d)."""
        self.rows.append(rows.to(self.device))

    def compute(self) -> Tensor:
        """All rows (n, d)."""
        rows = self.rows
        # Syncing ranks has already concatenated the list.
        return rows if isinstance(rows, Tensor) else torch.cat(rows)


A = TypeVar("A", bound=Accumulator)


class QualityMetric(Metric, ABC, Generic[A]):
    """A comparison of generated samples with real ones, in extracted features, class probabilities or the points.

    `update` takes one batch of one side, `compute` gives one Reading or several, `forget_generated` keeps the reals.
    `needs_reals` says whether real samples must be shown at all.
    """

    full_state_update = False
    real: A
    generated: A
    needs_reals = True

    def __init__(self, real: A, generated: A) -> None:
        """A metric that keeps the two sides in the given accumulators."""
        super().__init__(compute_with_cache=False)
        self.real = real
        self.generated = generated

    @abstractmethod
    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Take the facts needed of the data and the extractor; UserError when they can't serve this metric."""

    @abstractmethod
    def update(self, features: Features, real: bool) -> None:
        """Take one batch of the real or of the generated side."""

    @abstractmethod
    def compute(self) -> list[Reading]:
        """The readings for all samples seen; UserError when they are too few."""

    def forget_generated(self) -> None:
        """Drop the generated side, keep the real one."""
        self.generated.reset()

    def reset(self) -> None:
        """Drop both sides."""
        super().reset()
        self.real.reset()
        self.generated.reset()

    def synchronize(self, ranks: bool) -> None:
        """Whether computing gathers the states of all ranks (every rank must then compute) or reads only this one's."""
        for metric in (self, self.real, self.generated):
            metric.sync_on_compute = ranks
            metric._to_sync = ranks

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered: call `update` and `compute`."""
        raise NotImplementedError("call update and compute")


AnyMetric = QualityMetric[Any]


def require_vectors(metric: str, dataset: Dataset, extractor: Extractor | None) -> None:
    """UserError unless there are feature vectors: those of an extractor, or points as they are."""
    if dataset.spec.is_image and extractor is None:
        raise UserError(
            f"metric {metric} compares features, but data set {dataset.name} holds images and there is no extractor; "
            "set extractor=classifier, extractor=inception or extractor=pixels"
        )


def require_points(metric: str, dataset: Dataset) -> None:
    """UserError unless the data are points."""
    if dataset.spec.is_image:
        raise UserError(
            f"metric {metric} scores points, but data set {dataset.name} holds images; "
            "set metric=fid, metric=kid or metric=inception_score, or a data set of points"
        )
