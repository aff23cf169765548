"""The evaluator: draws samples once, runs each feature network once, and hands what they say to every metric."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Batch, Dataset, Split
from gan_experiments.errors import NonFinite, UserError
from gan_experiments.metrics.base import AnyMetric, Walk, WalkMetric
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.found import Found, average
from gan_experiments.metrics.order import content_order
from gan_experiments.metrics.quantisation import Quantisation
from gan_experiments.metrics.reals import Reals, part, shares, stored
from gan_experiments.metrics.score import Score
from gan_experiments.metrics.stations import arrange
from gan_experiments.metrics.statistics_cache import StatisticsCache, extractor_facts, metric_facts

Draw = Callable[[int, torch.Generator], Tensor | Batch]
"""n samples drawn by the given CPU generator alone: images (n, c, h, w) in [-1, 1] or points (n, d), or a Batch of
them with the classes that were asked for."""

Progress = Callable[[str, int, int], None]
"""Told what is under way, and how many of how many samples or metrics are done."""


class Evaluator:
    """Scores generated samples against the training split, with held-out real samples as the floor.

    Samples are picked and shown in an order that follows from the seed and from what they hold, so that no number
    depends on how they are listed. Each evaluation starts from the same random state, so successive scores differ by
    the generator only, and leaves the global random state alone. What follows from real data alone is computed once
    and, with a `cache`, kept on disk.
    With `world` > 1 ranks share the batches, and all of them must call `evaluate` and `floors`; with `world` 1 other
    ranks aren't waited for. Raises UserError when a metric can't score these data with these extractors, or for
    impossible numbers.
    """

    def __init__(
        self,
        dataset: Dataset,
        extractors: Mapping[str, Extractor],
        metrics: Mapping[str, AnyMetric],
        samples: int = 10_000,
        batch_size: int = 250,
        seed: int = 0,
        device: torch.device | str = "cpu",
        *,
        reals: int | None = None,
        draws: int = 1,
        labelled: bool = True,
        quantise: str = "round",
        cache: StatisticsCache | None = None,
        rank: int = 0,
        world: int = 1,
        progress: Progress | None = None,
    ) -> None:
        """Score `draws` sets of `samples` samples against `reals` training samples (None: all).

        `labelled` says whether the samples to be scored come with their classes, `quantise` how images become bytes.
        """
        if min(samples, batch_size, draws) < 1 or (reals is not None and not 1 <= reals <= len(dataset.train)):
            raise UserError(
                f"evaluation: samples={samples}, batch_size={batch_size}, draws={draws}, reals={reals}; expected "
                f"positive numbers, and at most the {len(dataset.train)} training samples of {dataset.name} as reals"
            )
        self.dataset, self.metrics = dataset, dict(metrics)
        self.samples, self.batch_size, self.seed, self.draws = samples, batch_size, seed, draws
        self.device, self.quantise = torch.device(device), Quantisation(quantise)
        self.held_out = min(samples, len(dataset.held_out))
        self.rank, self.world, self.progress, self.cache = rank, world, progress, cache
        self.stations = arrange(dataset, extractors, self.metrics, labelled)
        for metric in self.metrics.values():
            metric.expect(len(dataset.train) if reals is None else reals, samples, self.held_out)
        for station in self.stations:
            station.settle(self.device, world > 1)
        self.reals = Reals(
            dataset, self.stations, reals, self.held_out, batch_size, seed, cache, rank, world, self._say
        )
        self._floors: dict[str, float] | None = None

    def floors(self) -> dict[str, float]:
        """Each score of held-out real samples in place of generated ones, by name; computed once."""
        if self._floors is None:
            facts = self._floor_facts()
            kept = self.reals.agreed(None if self.cache is None else self.cache.load(facts))
            if kept is None:
                kept = self._measure_floors()
                if self.cache is not None and self.rank == 0:
                    self.cache.save(facts, kept)
            self._floors = {name: float(value) for name, value in kept.items()}
        return self._floors

    def names(self) -> list[str]:
        """The names of all scores that an evaluation will give."""
        own = [
            (name or key) + station.suffix[key]
            for station in self.stations
            for key, metric in station.metrics.items()
            if metric.own_floor
            for name in metric.names()
        ]
        return [*self.floors(), *own]

    def evaluate(
        self,
        source: Draw | Split,
        weights: str,
        images: int,
        step: int,
        walk: Walk | None = None,
        *,
        batch_norm: str = "none",
        truncation: str = "none",
    ) -> dict[str, Score]:
        """The scores by name of samples from `source`: draws of a generator, or samples stored in a split.

        The generator's `weights` ("ema" or "raw") have seen `images` in `step` steps; `walk` is for metrics of its
        latent space. `batch_norm` and `truncation` are put on record. Raises NonFinite when samples are NaN or
        infinite, UserError when they have the wrong shape, are too few, or lack what a metric needs.
        """
        if not self.metrics:
            return {}
        floors = self.floors()
        start = time.perf_counter()
        self.reals.show(self.reals.metrics())
        self.reals.show_held_out(half=False)
        found, count = self._draws(source, step, walk)
        facts = self._facts(source, count) | {
            "batch_norm": batch_norm,
            "truncation": truncation,
            "weights": weights,
            "images": images,
            "step": step,
            "seconds": time.perf_counter() - start,
        }
        return {name: self._score(name, one, floors, facts) for name, one in found.items()}

    def pictures(self) -> dict[str, Tensor]:
        """Pictures that belong to the last evaluation, uint8 (c, h, w), by name."""
        return {
            name: picture
            for station in self.stations
            for metric in station.metrics.values()
            for name, picture in metric.pictures().items()
        }

    def _facts(self, source: Draw | Split, count: int) -> dict[str, Any]:
        """How `count` samples of each draw are measured, for the record."""
        return {
            "n_fake": count,
            "draws": 1 if isinstance(source, Split) else self.draws,
            "split": "train",
            "dataset": self.dataset.name,
            "data_fingerprint": self.dataset.fingerprint,
            "transform": self.dataset.transform,
            "quantise": self._bytes_by(source),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "device": self.device.type,
        }

    def _score(self, name: str, found: Found, floors: Mapping[str, float], facts: Mapping[str, Any]) -> Score:
        given: dict[str, Any] = {**facts, **extractor_facts(found.extractor), **found.reading._asdict(), "name": name}
        return Score(
            **given,
            fewer_samples=found.metric.fewer_samples.get(found.reading.name, ""),
            floor=floors.get(name),
            n_floor=0 if name not in floors else self.held_out // 2 if found.metric.needs_held_out else self.held_out,
            n_real=self.reals.count if found.metric.needs_reals else 0,
        )

    def _measure_floors(self) -> dict[str, Tensor]:
        """The numbers of held-out samples; metrics that also want held-out reals see one half beside the other."""
        wanting = [metric for metric in self.reals.metrics() if not metric.own_floor]
        self.reals.show(wanting)
        values: dict[str, float] = {}
        for halved in (False, True):
            chosen = [metric for metric in wanting if metric.needs_held_out == halved]
            if not chosen:
                continue
            rows = content_order(self.dataset.held_out, self.seed)[: self.held_out]
            if halved:
                self.reals.show_held_out(half=True)
                rows = rows[1::2]
            batches = self._stored(self.dataset.held_out, rows, "held-out images")
            values |= {name: one.reading.value for name, one in self._measure(batches, chosen).items()}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def _floor_facts(self) -> dict[str, Any]:
        """All that the floors depend on."""
        stations = [
            extractor_facts(station.extractor) | {key: metric_facts(metric) for key, metric in station.metrics.items()}
            for station in self.stations
        ]
        return self.reals.facts("floors") | {"stations": stations}

    def _draws(self, source: Draw | Split, step: int, walk: Walk | None) -> tuple[dict[str, Found], int]:
        """All readings of all draws, their means where there are several, and the number of samples a draw."""
        everything = self.reals.metrics()
        if isinstance(source, Split):
            rows = content_order(source, self.seed)[: self.samples]
            return self._measure(self._stored(source, rows, "generated images"), everything), len(rows)
        found = [self._measure(self._generated(source, step, number), everything, walk) for number in range(self.draws)]
        return (found[0] if self.draws == 1 else average(found)), self.samples

    @torch.no_grad()
    def _measure(
        self, batches: Iterator[list[Features]], chosen: list[AnyMetric], walk: Walk | None = None
    ) -> dict[str, Found]:
        """All readings of the chosen metrics, by name, of samples in the place of the generated ones."""
        wanted = {id(metric) for metric in chosen}  # by identity: torchmetrics' == makes a metric of any two
        for metric in chosen:
            metric.forget_generated()
        for views in batches:
            for station, features in zip(self.stations, views, strict=True):
                for metric in station.metrics.values():
                    if id(metric) in wanted:
                        metric.update(features, real=False)
        found: dict[str, Found] = {}
        for station in self.stations:
            for number, (key, metric) in enumerate(station.metrics.items()):
                if id(metric) not in wanted:
                    continue
                self._say(f"score {key}", number, len(station.metrics))
                if isinstance(metric, WalkMetric):
                    self._walk(key, metric, walk)
                for reading in metric.compute():
                    name = station.name(key, reading)
                    if name in found:
                        raise UserError(f"two metrics give a score named {name}; leave one out of metric=[...]")
                    found[name] = Found(reading, metric, station.extractor)
                metric.forget_generated()
        return found

    def _walk(self, key: str, metric: WalkMetric[Any], walk: Walk | None) -> None:
        """Show a metric its pairs of images, this rank's share."""
        if walk is None:
            raise UserError(f"metric {key} walks through a generator's latent space; stored samples have none")
        for k, count in shares(metric.pairs, self.batch_size, self.rank, self.world):
            pair = walk(self.batch_size, seeding.generator(self.seed, "walk", k), metric.epsilon, metric.end)
            metric.update_pair(pair[0][:count], pair[1][:count])

    def _stored(self, split: Split, rows: Tensor, what: str) -> Iterator[list[Features]]:
        """What the stations say of this rank's share of a split's rows."""
        for k, count in shares(len(rows), self.batch_size, self.rank, self.world):
            samples, labels = stored(split, part(rows, k, count, self.batch_size))
            yield self._look(samples, labels, count)
            self._say(what, min((k + 1) * self.batch_size, len(rows)), len(rows))

    def _generated(self, draw: Draw, step: int, number: int) -> Iterator[list[Features]]:
        """What the stations say of this rank's share of generated samples; each batch has a generator of its own."""
        for k, count in shares(self.samples, self.batch_size, self.rank, self.world):
            place = (k,) if number == 0 else (k, f"draw {number}")
            batch = draw(self.batch_size, seeding.generator(self.seed, "evaluation", *place))
            samples, labels = batch if isinstance(batch, Batch) else (batch, None)
            if samples.shape != (self.batch_size, *self.dataset.spec.shape):
                raise UserError(
                    f"evaluation: the generator made samples of shape {tuple(samples.shape)}, "
                    f"expected {(self.batch_size, *self.dataset.spec.shape)} for data set {self.dataset.name}"
                )
            if not bool(torch.isfinite(samples).all()):
                raise NonFinite(f"evaluation at step {step}: the generator's samples {NonFinite.SAID}")
            plain = self.quantise(samples) if self.dataset.spec.is_image else samples.detach().float()
            yield self._look(plain, labels, count)
            self._say("generated images", min((k + 1) * self.batch_size, self.samples), self.samples)

    def _bytes_by(self, source: Draw | Split) -> str:
        """How the samples have become bytes."""
        if not self.dataset.spec.is_image:
            return "none"
        return "stored" if isinstance(source, Split) else self.quantise.value

    def _look(self, samples: Tensor, labels: Tensor | None, count: int) -> list[Features]:
        samples = samples.to(self.device)
        return [station.look(samples, labels, count, self.batch_size) for station in self.stations]

    def _say(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)
