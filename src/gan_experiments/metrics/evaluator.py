"""The evaluator: draws samples from a generator and scores them by every metric in one pass over the extractor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Dataset, Split, to_bytes
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.extractors import Extractor, Features, picks
from gan_experiments.metrics.score import Score

Draw = Callable[[int, torch.Generator], Tensor]
"""n samples, images (n, c, h, w) in [-1, 1] or points (n, d), drawn by the given CPU generator alone."""


class Evaluator:
    """Scores generated samples against the training split, with held-out real samples as the floor.

    Each evaluation starts from the same random state, so successive scores differ by the generator only, and leaves the
    global random state alone. Real features are extracted once. With `world` > 1 ranks share the batches, and all of
    them must call `evaluate` and `floors`; with `world` 1 other ranks aren't waited for.
    Raises UserError when a metric can't score these data with this extractor, or for impossible numbers.
    """

    def __init__(
        self,
        dataset: Dataset,
        extractor: Extractor | None,
        metrics: Mapping[str, AnyMetric],
        samples: int = 10_000,
        batch_size: int = 250,
        seed: int = 0,
        device: torch.device | str = "cpu",
        *,
        reals: int | None = None,
        rank: int = 0,
        world: int = 1,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Score `samples` draws against `reals` training samples (None: all); `progress` is told each batch's size."""
        if samples < 1 or batch_size < 1 or (reals is not None and not 1 <= reals <= len(dataset.train)):
            raise UserError(
                f"evaluation: samples={samples}, batch_size={batch_size}, reals={reals}; expected positive numbers, "
                f"and at most the {len(dataset.train)} training samples of {dataset.name} as reals"
            )
        self.dataset, self.extractor, self.metrics = dataset, extractor, dict(metrics)
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.device = torch.device(device)
        self.reals = len(dataset.train) if reals is None else reals
        self.held_out = min(samples, len(dataset.held_out))
        self.rank, self.world, self.progress = rank, world, progress
        self._floors: dict[str, float] | None = None
        self._reals_seen = False
        if extractor is not None:
            extractor.to(self.device)
        for metric in self.metrics.values():
            metric.bind(dataset, extractor)
            metric.synchronize(world > 1)
            # Sums need float64, which not every accelerator has.
            metric.to(self.device if self.device.type == "cuda" else "cpu")

    def floors(self) -> dict[str, float]:
        """Each score of held-out real samples in place of generated ones, by name; computed once."""
        if self._floors is None:
            self._show_reals()
            readings = self._measure(self._stored(self.dataset.held_out, self.held_out))
            self._floors = {name: reading.value for name, (reading, _) in readings.items()}
        return self._floors

    def evaluate(self, draw: Draw, weights: str, images: int, step: int) -> dict[str, Score]:
        """The scores by name of `draw`'s samples, whose `weights` ("ema" or "raw") have seen `images` in `step` steps.

        Raises NonFinite when samples are NaN or infinite, UserError when they have the wrong shape or are too few.
        """
        if not self.metrics:
            return {}
        floors, extractor = self.floors(), self.extractor
        start = time.perf_counter()
        readings = self._measure(self._generated(draw, step))
        score = partial(
            Score,
            n_floor=self.held_out,
            n_fake=self.samples,
            split="train",
            dataset=self.dataset.name,
            data_fingerprint=self.dataset.fingerprint,
            transform=self.dataset.transform,
            extractor="none" if extractor is None else extractor.name,
            extractor_sha256="" if extractor is None else extractor.sha256,
            resize="none" if extractor is None else extractor.resize,
            weights=weights,
            images=images,
            step=step,
            seed=self.seed,
            batch_size=self.batch_size,
            seconds=time.perf_counter() - start,
        )
        return {
            name: score(
                **(reading._asdict() | {"name": name}),
                floor=floors[name],
                n_real=self.reals if metric.needs_reals else 0,
            )
            for name, (reading, metric) in readings.items()
        }

    @torch.no_grad()
    def _measure(self, batches: Iterator[Features]) -> dict[str, tuple[Reading, AnyMetric]]:
        """All readings, by name, of samples in the place of the generated ones."""
        for metric in self.metrics.values():
            metric.forget_generated()
        for features in batches:
            for metric in self.metrics.values():
                metric.update(features, real=False)
        readings: dict[str, tuple[Reading, AnyMetric]] = {}
        for key, metric in self.metrics.items():
            for reading in metric.compute():
                name = reading.name or key
                if name in readings:
                    raise UserError(f"two metrics give a score named {name}; leave one of them out of metric=[...]")
                readings[name] = (reading, metric)
            metric.forget_generated()
        return readings

    @torch.no_grad()
    def _show_reals(self) -> None:
        """Show the training samples to the metrics that want them, once."""
        wanting = [metric for metric in self.metrics.values() if metric.needs_reals]
        if self._reals_seen or not wanting:
            return
        for features in self._stored(self.dataset.train, self.reals):
            for metric in wanting:
                metric.update(features, real=True)
        self._reals_seen = True

    def _shares(self, total: int) -> Iterator[tuple[int, int]]:
        """Number and size of this rank's batches of `total` samples; one of size 0 if it has none."""
        for k in range(self.rank, max(-(-total // self.batch_size), self.world), self.world):
            yield k, max(0, min(self.batch_size, total - k * self.batch_size))

    def _stored(self, split: Split, total: int) -> Iterator[Features]:
        """Features of this rank's share of `total` seeded picks from a split."""
        places = picks(len(split), total, self.seed).tolist()
        for k, count in self._shares(total):
            start = k * self.batch_size
            if count == 0:
                samples = split.raw(0, 1)
            elif total == len(split):
                samples = split.raw(start, start + count)
            else:
                samples = torch.cat([split.raw(place, place + 1) for place in places[start : start + count]])
            yield self._extract(samples, count)

    def _generated(self, draw: Draw, step: int) -> Iterator[Features]:
        """Features of generated samples, this rank's share; each batch has a random generator of its own."""
        for k, count in self._shares(self.samples):
            samples = draw(self.batch_size, seeding.generator(self.seed, "evaluation", k))
            if samples.shape != (self.batch_size, *self.dataset.spec.shape):
                raise UserError(
                    f"evaluation: the generator made samples of shape {tuple(samples.shape)}, "
                    f"expected {(self.batch_size, *self.dataset.spec.shape)} for data set {self.dataset.name}"
                )
            if not bool(torch.isfinite(samples).all()):
                raise NonFinite(f"evaluation at step {step}: the generator made samples that are NaN or infinite")
            yield self._extract(to_bytes(samples) if self.dataset.spec.is_image else samples.detach().float(), count)

    def _extract(self, samples: Tensor, count: int) -> Features:
        """Features of the first `count` of a batch of bytes or points; the rest were drawn to keep the batch's size."""
        samples = samples.to(self.device)
        features = Features(samples) if self.extractor is None or samples.ndim == 2 else self.extractor(samples)
        if self.progress is not None:
            self.progress(count)
        logits = None if features.logits is None else features.logits[:count]
        return Features(features.features[:count], logits)
