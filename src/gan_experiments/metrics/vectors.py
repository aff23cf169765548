"""Metrics of feature vectors: what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.metrics.base import A, QualityMetric, Rows, require_vectors
from gan_experiments.metrics.extractors import Extractor, Features

T = TypeVar("T")


class VectorMetric(QualityMetric[A]):
    """A metric that keeps the features (n, d) of both sides, or points as they are; `name` is for messages."""

    name: ClassVar[str]

    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """UserError when images come without an extractor."""
        require_vectors(self.name, dataset, extractor)

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d)."""
        (self.real if real else self.generated).update(features.features)


class RowsMetric(VectorMetric[Rows]):
    """A metric of all rows, which keeps what follows from the reals alone until these change."""

    def __init__(self, held_out: Rows | None = None) -> None:
        """No rows yet, on two sides or three."""
        super().__init__(Rows(), Rows(), held_out)
        self._of_reals: Any = None

    def update(self, features: Features, real: bool) -> None:
        """Take features (n, d)."""
        super().update(features, real)
        if real:
            self._of_reals = None

    def from_reals(self, make: Callable[[Tensor], T]) -> T:
        """What `make` makes of the reals (n, d), made once for the same reals."""
        if self._of_reals is None:
            self._of_reals = make(self.real.compute())
        result: T = self._of_reals
        return result

    def reset(self) -> None:
        """Drop all sides."""
        super().reset()
        self._of_reals = None
