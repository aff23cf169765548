"""Metrics on the feature networks that serve them: each network runs once, whoever reads it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.extractors import Extractor, Features


@final
@dataclass(frozen=True)
class Station:
    """One extractor (None: samples as they are) with the metrics that read it, by key.

    `suffix` goes behind the names of metrics that read another extractor already.
    """

    extractor: Extractor | None
    metrics: dict[str, AnyMetric]
    suffix: dict[str, str]

    def settle(self, device: torch.device, ranks: bool) -> None:
        """Move to the device; with `ranks`, metrics gather the states of all of them."""
        if self.extractor is not None:
            self.extractor.to(device)
        for metric in self.metrics.values():
            metric.synchronize(ranks)
            # Sums need float64, which not every accelerator has.
            metric.to(device if device.type == "cuda" else "cpu")

    def look(self, samples: Tensor, labels: Tensor | None, count: int, batch_size: int) -> Features:
        """What metrics are told of the first `count` of a batch of bytes or points.

        The network always runs on whole batches, since float32 results depend a little on their size.
        """
        if self.extractor is None or samples.ndim == 2:
            return Features(samples[:count], None, samples[:count], None if labels is None else labels[:count])
        missing = batch_size - len(samples)
        whole = samples if missing <= 0 else torch.cat([samples, samples[:1].expand(missing, *samples.shape[1:])])
        features, logits, _, _ = self.extractor(whole)
        return Features(
            features[:count],
            None if logits is None else logits[:count],
            samples[:count],
            None if labels is None else labels[:count],
        )

    def name(self, key: str, reading: Reading) -> str:
        """A reading's name in the table of scores."""
        return (reading.name or key) + self.suffix[key]


def arrange(
    dataset: Dataset, extractors: Mapping[str, Extractor], metrics: Mapping[str, AnyMetric], labelled: bool
) -> list[Station]:
    """A station for each extractor, in their order: each metric is bound to every one that can serve it.

    The first goes by the metric's own name, a further one by name_extractor; metrics that need no network
    (`reads_features` false) are bound once. Raises UserError when no extractor serves a metric, or when it needs
    classes that the samples don't have.
    """
    places: Sequence[tuple[str, Extractor | None]] = list(extractors.items()) or [("none", None)]
    stations = [Station(extractor, {}, {}) for _, extractor in places]
    for key, metric in metrics.items():
        if metric.needs_labels and not labelled:
            raise UserError(
                f"metric {key} needs samples of known classes, but these are drawn without; leave it out, or score a "
                "conditional model or a folder with one subfolder a class"
            )
        served, refusals = 0, []
        for station, (name, extractor) in zip(stations, places, strict=True):
            own = metric if served == 0 else copy.deepcopy(metric)
            try:
                own.bind(dataset, extractor)
            except UserError as error:
                refusals.append(error)
                continue
            station.metrics[key] = own
            station.suffix[key] = f"_{name}" if served else ""
            served += 1
            if not metric.reads_features:
                break
        if not served:
            raise refusals[0]
    return stations
