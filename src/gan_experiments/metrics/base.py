"""What a metric of sample quality is: two accumulators, one of real and one of generated samples, and a comparison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.order import settled

if TYPE_CHECKING:
    from gan_experiments.game import Game
    from gan_experiments.runtime import Runtime

Walk = Callable[[int, torch.Generator, float, bool], tuple[Tensor, Tensor]]
"""n pairs of float images (n, c, h, w) in [-1, 1] at t and t + epsilon between two latents; t is 0 if the last is true.

Arguments: n, a CPU generator from which alone latents and t are drawn, epsilon, end.
"""

Detail = int | float | str | list[float]


class Reading(NamedTuple):
    """One number a metric read off: `name` is empty for the metric's main number, which goes by the metric's own name.

    `error` is a standard deviation or error, obtained as `error_from` says; `interval` holds the value with 95 %
    confidence, obtained as `interval_from` says. `details` are the metric's settings and what else it found. `real` is
    the number for real data, where the metric itself defines one (otherwise held-out samples give it: the floor).
    """

    name: str
    value: float
    details: dict[str, Detail]
    error: float | None = None
    error_from: str = ""
    higher_is_better: bool = False
    interval: tuple[float, float] | None = None
    interval_from: str = ""
    real: float | None = None


class Accumulator(Metric, ABC):
    """What a metric keeps of one side's samples; states are summed or concatenated over ranks when computed.

    A `compact` one keeps sums rather than samples, and is worth keeping on disk.
    """

    full_state_update = False
    compact = False

    def __init__(self) -> None:
        """An empty accumulator."""
        super().__init__(compute_with_cache=False)

    def export(self) -> dict[str, Tensor]:
        """The states of all ranks together, by name; every rank must ask where several compute."""
        if self.sync_on_compute and distributed.is_initialized():
            self.sync()
        states = {name: getattr(self, name) for name in self._defaults}
        result = {name: joined(state).clone() for name, state in states.items()}
        if self._is_synced:
            self.unsync()
        return result

    def restore(self, states: dict[str, Tensor], empty: bool) -> None:
        """Take what `export` gave, or, with `empty`, nothing of the same shapes (another rank has taken it)."""
        for name, default in self._defaults.items():
            state = states[name].to(self.device)
            if isinstance(default, list):
                setattr(self, name, [state[:0] if empty else state])
            else:
                setattr(self, name, torch.zeros_like(state) if empty else state)
        self._update_count = 1  # torchmetrics warns of computing what was never updated


def joined(state: Tensor | list[Tensor]) -> Tensor:
    """A state of rows as one tensor: a list, or what syncing ranks has already concatenated."""
    return state if isinstance(state, Tensor) else torch.cat(state)


class Arrivals(Accumulator):
    """All rows (n, ...) seen, as they came."""

    rows: list[Tensor]

    def __init__(self) -> None:
        """No rows yet."""
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor) -> None:
        """Keep rows (n, ...)."""
        self.rows.append(rows.to(self.device))

    def compute(self) -> Tensor:
        """All rows (n, ...)."""
        return joined(self.rows)


class Rows(Arrivals):
    """All rows (n, ...) seen: features, logits or images, in an order that doesn't depend on how they came."""

    def compute(self) -> Tensor:
        """All rows (n, ...), at random places that follow from what they hold."""
        rows = super().compute()
        return rows[settled(rows)]


A = TypeVar("A", bound=Accumulator)


class QualityMetric(Metric, ABC, Generic[A]):
    """A comparison of generated samples with real ones, in extracted features, class probabilities or the samples.

    `update` takes one batch of one side, `compute` gives one Reading or several, `forget_generated` keeps the reals.
    `needs_reals` says whether training samples must be shown at all. A metric with `needs_held_out` is shown held-out
    samples too, on a side of their own (half of them, while the other half plays the generated side for the floor).
    One with `needs_labels` wants samples whose classes are known; one with `own_floor` puts the numbers of real data
    into its readings instead of seeing held-out samples in the generated samples' place. `reads_features` is false for
    those that look at the samples only. `fewer_samples` says of which readings, by name, fewer generated samples alone
    make more or less on average: "higher" or "lower".
    """

    full_state_update = False
    real: A
    generated: A
    held_out: A | None
    needs_reals = True
    needs_held_out = False
    needs_labels = False
    own_floor = False
    reads_features = True
    fewer_samples: ClassVar[Mapping[str, str]] = {}

    def __init__(self, real: A, generated: A, held_out: A | None = None) -> None:
        """A metric that keeps the two or three sides in the given accumulators."""
        super().__init__(compute_with_cache=False)
        self.real = real
        self.generated = generated
        self.held_out = held_out

    @abstractmethod
    def bind(self, dataset: Dataset, extractor: Extractor | None) -> None:
        """Take the facts needed of the data and the extractor; UserError when they can't serve this metric."""

    @abstractmethod
    def update(self, features: Features, real: bool) -> None:
        """Take one batch of the real or of the generated side."""

    def expect(self, reals: int, samples: int, held_out: int) -> None:
        """Take how many samples each side will hold, before anything is done; UserError when they are too few."""

    def meet(self, game: Game, runtime: Runtime) -> None:
        """Take the game whose samples will be shown, for metrics that ask its networks; UserError when it won't do."""

    def show_held_out(self, features: Features) -> None:
        """Take one batch of held-out samples; only metrics with `needs_held_out` are shown any."""
        raise NotImplementedError(f"{type(self).__name__} takes no held-out samples")

    @abstractmethod
    def compute(self) -> list[Reading]:
        """The readings for all samples seen; UserError when they are too few."""

    def names(self) -> list[str]:
        """The names of its readings, known beforehand; asked of metrics with `own_floor`, which no floor announces."""
        return [""]

    def pictures(self) -> dict[str, Tensor]:
        """Pictures that belong to what was last computed, uint8 (c, h, w), by name; none for most metrics."""
        return {}

    def forget_generated(self) -> None:
        """Drop the generated side, keep the real ones."""
        self.generated.reset()

    def forget_held_out(self) -> None:
        """Drop the held-out side."""
        if self.held_out is not None:
            self.held_out.reset()

    def reset(self) -> None:
        """Drop all sides."""
        super().reset()
        self.real.reset()
        self.forget_generated()
        self.forget_held_out()

    def synchronize(self, ranks: bool) -> None:
        """Whether computing gathers the states of all ranks (every rank must then compute) or reads only this one's."""
        parts: list[Metric] = [self, *self.sides()]
        for part in parts:
            part.sync_on_compute = ranks
            part._to_sync = ranks

    def sides(self) -> list[A]:
        """Its accumulators."""
        return [side for side in (self.real, self.generated, self.held_out) if side is not None]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered: call `update` and `compute`."""
        raise NotImplementedError("call update and compute")


AnyMetric = QualityMetric[Any]


class WalkMetric(QualityMetric[A]):
    """A metric of a generator's `pairs` pairs of images at latents `epsilon` apart, instead of single samples.

    `end`: each pair begins at a drawn latent, instead of anywhere between two.
    """

    needs_reals = False
    own_floor = True
    reads_features = False
    pairs: int
    epsilon: float
    end: bool

    @abstractmethod
    def update_pair(self, first: Tensor, second: Tensor) -> None:
        """Take a batch of pairs, float images (n, c, h, w) in [-1, 1], never rounded."""

    def update(self, features: Features, real: bool) -> None:
        """Single samples play no part."""


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


def require_images(metric: str, dataset: Dataset) -> None:
    """UserError unless the data are images."""
    if not dataset.spec.is_image:
        raise UserError(
            f"metric {metric} looks at images, but data set {dataset.name} holds points; "
            "set metric=sliced_wasserstein or metric=modes, or a data set of images"
        )


def require_classes(metric: str, dataset: Dataset, extractor: Extractor | None) -> int:
    """The number of the data's classes; UserError unless it has some and the extractor gives their logits."""
    if not dataset.spec.classes:
        raise UserError(
            f"metric {metric} needs classes, but data set {dataset.name} has none; leave it out, "
            "or sort the images into one subfolder a class"
        )
    classes = len(dataset.spec.classes)
    if extractor is None or extractor.num_classes != classes:
        found = "none" if extractor is None else f"{extractor.name} with {extractor.num_classes or 'no'} classes"
        raise UserError(
            f"metric {metric} needs a classifier of the {classes} classes of {dataset.name}, but the extractor is "
            f"{found}; set extractor=classifier, or add it: extractor=[...,classifier]"
        )
    return classes


def known(part: Tensor | None, metric: str, what: str) -> Tensor:
    """A part of Features that must be there; UserError naming metric and part when it isn't."""
    if part is None:
        raise UserError(f"metric {metric} needs {what}, which were not given")
    return part
