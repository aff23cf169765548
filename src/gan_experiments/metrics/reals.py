"""The real side of an evaluation: shown to the metrics once, from the cache where it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor, distributed

from gan_experiments.data.base import Dataset, Split
from gan_experiments.metrics.base import AnyMetric, Arrivals
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.order import content_order
from gan_experiments.metrics.stations import Station
from gan_experiments.metrics.statistics_cache import StatisticsCache, code_version, extractor_facts, metric_facts

Say = Callable[[str, int, int], None]


@final
class Reals:
    """Training and held-out samples for the metrics of some stations.

    Two things are kept in the cache, each under all that it depends on: what a metric accumulates when that is small
    (sums), and otherwise what the extractor says of the samples, from which any metric is shown its reals again.
    """

    def __init__(
        self,
        dataset: Dataset,
        stations: list[Station],
        count: int | None,
        held_out: int,
        batch_size: int,
        seed: int,
        cache: StatisticsCache | None,
        rank: int,
        world: int,
        say: Say,
    ) -> None:
        """`count` training samples (None: all) and `held_out` held-out ones, picked at random by content and seed."""
        self.dataset, self.stations, self.held_out = dataset, stations, held_out
        self.count = len(dataset.train) if count is None else count
        self.batch_size, self.seed, self.cache = batch_size, seed, cache
        self.rank, self.world, self.say = rank, world, say
        self.seen: set[int] = set()
        self.half: bool | None = None

    def metrics(self) -> list[AnyMetric]:
        """All metrics of all stations."""
        return [metric for station in self.stations for metric in station.metrics.values()]

    @torch.no_grad()
    def show(self, wanted: list[AnyMetric]) -> None:
        """Show training samples to those of the wanted metrics that need them and have not seen them."""
        open_ones = {id(metric) for metric in wanted if metric.needs_reals} - self.seen
        for station in self.stations:
            wanting = [metric for metric in station.metrics.values() if id(metric) in open_ones]
            missing = [metric for metric in wanting if not self._recall(station, metric)]
            if missing:
                for features in self.views(station, self.dataset.train, self.count, "training images", missing):
                    for metric in missing:
                        metric.update(features, real=True)
                for metric in missing:
                    self._keep(station, metric)
            self.seen |= {id(metric) for metric in wanting}

    @torch.no_grad()
    def show_held_out(self, half: bool) -> None:
        """Show held-out samples, or the first of two halves, to the metrics that want them beside the others."""
        if self.half == half:
            return
        self.half = half
        for station in self.stations:
            wanting = [metric for metric in station.metrics.values() if metric.needs_held_out]
            for metric in wanting:
                metric.forget_held_out()
            if wanting:
                step = 2 if half else 1
                for features in self.views(
                    station, self.dataset.held_out, self.held_out, "held-out images", wanting, step
                ):
                    for metric in wanting:
                        metric.show_held_out(features)

    @torch.no_grad()
    def views(
        self, station: Station, split: Split, count: int, what: str, metrics: list[AnyMetric], step: int = 1
    ) -> Iterator[Features]:
        """What a station says of this rank's share of every `step`-th of `count` picks from a split."""
        rows = content_order(split, self.seed)[:count:step]
        facts = self.facts(f"features-{what.split()[0]}") | extractor_facts(station.extractor) | {"step": step}
        keeping = self.cache is not None and station.extractor is not None and not all(m.real.compact for m in metrics)
        kept = self.agreed(self.cache.load(facts)) if self.cache is not None and keeping else None
        fresh: list[Features] = []
        for k, size in shares(len(rows), self.batch_size, self.rank, self.world):
            samples, labels = stored(split, part(rows, k, size, self.batch_size))
            if kept is None:
                features = station.look(samples, labels, size, self.batch_size)
                if keeping:
                    fresh.append(features)
            else:
                place = slice(k * self.batch_size, k * self.batch_size + size)
                logits = kept["logits"][place] if "logits" in kept else None
                features = Features(
                    kept["features"][place], logits, samples[:size], None if labels is None else labels[:size]
                )
            yield features
            self.say(what, min((k + 1) * self.batch_size, len(rows)), len(rows))
        if fresh and self.cache is not None:
            tensors = self._gathered(fresh, len(rows))
            if self.rank == 0:
                self.cache.save(facts, tensors)

    def facts(self, kind: str) -> dict[str, Any]:
        """What everything kept depends on; `kind` says what it is."""
        return {
            "kind": kind,
            "code": code_version(),
            "data": self.dataset.fingerprint,
            "reals": self.count,
            "held_out": self.held_out,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }

    def agreed(self, kept: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
        """What was kept if every rank has found it, so that all of them go the same way; else None."""
        if self.world == 1:
            return kept
        there = torch.tensor(int(kept is not None))
        distributed.all_reduce(there, distributed.ReduceOp.MIN)
        return kept if int(there) else None

    def _recall(self, station: Station, metric: AnyMetric) -> bool:
        """Give a metric the sums that were kept for it, if there are any."""
        if self.cache is None or not metric.real.compact:
            return False
        kept = self.agreed(self.cache.load(self._sums_facts(station, metric)))
        if kept is not None:
            metric.real.restore(kept, empty=self.rank > 0)
        return kept is not None

    def _keep(self, station: Station, metric: AnyMetric) -> None:
        """Keep a metric's sums over all ranks."""
        if self.cache is None or not metric.real.compact:
            return
        tensors = metric.real.export()
        if self.rank == 0:
            self.cache.save(self._sums_facts(station, metric), tensors)

    def _sums_facts(self, station: Station, metric: AnyMetric) -> dict[str, Any]:
        return self.facts("sums") | extractor_facts(station.extractor) | metric_facts(metric)

    def _gathered(self, fresh: list[Features], total: int) -> dict[str, Tensor]:
        """The features and logits of all ranks in the order of the rows."""
        places = [
            k * self.batch_size + torch.arange(size)
            for rank in range(self.world)
            for k, size in shares(total, self.batch_size, rank, self.world)
        ]
        order = torch.cat(places).argsort()
        parts: dict[str, list[Tensor | None]] = {
            "features": [view.features for view in fresh],
            "logits": [view.logits for view in fresh],
        }
        result = {}
        for name, batches in parts.items():
            rows = Arrivals()
            rows.sync_on_compute = rows._to_sync = self.world > 1
            for batch in batches:
                if batch is not None:
                    rows.update(batch.cpu())
            if rows.rows:
                result[name] = rows.compute()[order]
        return result


def stored(split: Split, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """A split's samples and labels at `rows` (n,)."""
    return split.gather(rows), None if split.labels is None else split.labels[rows.to(split.labels.device)]


def part(rows: Tensor, k: int, size: int, batch_size: int) -> Tensor:
    """The rows (n,) of the k-th batch; one row for a batch of size 0, which a rank without work still looks at."""
    return rows[k * batch_size : k * batch_size + size] if size else rows[:1]


def shares(total: int, batch_size: int, rank: int, world: int) -> Iterator[tuple[int, int]]:
    """Number and size of a rank's batches of `total` samples; one of size 0 if it has none."""
    for k in range(rank, max(-(-total // batch_size), world), world):
        yield k, max(0, min(batch_size, total - k * batch_size))
