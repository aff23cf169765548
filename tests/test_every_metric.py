"""Every metric on disk, found by itself, as a torchmetrics Metric: shown samples in any batches, computed, reset."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from gan_experiments.config import build_named, compose_option, conf_dir
from gan_experiments.data.base import Dataset, Split
from gan_experiments.data.mnist import FASHION_CLASSES, fashion10k
from gan_experiments.data.toy import ring
from gan_experiments.metrics.base import AnyMetric, Reading, WalkMetric
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.statistics_cache import canonical, metric_facts

ALONE = {"modes", "sliced_wasserstein"}  # of points
WITHOUT_EFFECT = {
    ("perceptual_path_length", "weights"),  # a file, and no real data are kept by this metric
    ("birthday", "pixel_side"),  # of pictures
}
ELSEWHERE = {
    "stacked_modes": "of stacked sets: tests/test_stacked.py",
    "code_accuracy": "of games with codes: tests/test_info.py",
    "equivariance": "of StyleGAN3: tests/test_stylegan3.py",
    "classifier_error": "of games with a classifier: tests/test_semi_supervised.py",
}
SMALLER: dict[str, dict[str, Any]] = {
    "kid": {"subset_size": 100, "subsets": 5},
    "birthday": {"size": 20},
    "ndb": {"bins": 20},
    "swd": {"images": 100, "repeats": 1},
    "ms_ssim": {"pairs": 100},
    "classification_score": {"steps": 4},
    "parzen": {"steps": 3, "tuning": 100},
    "data_copying": {"components": 4},
}


def names() -> list[str]:
    """The options of the group that are one metric each."""
    options = sorted(path.stem for path in (Path(conf_dir()) / "metric").glob("*.yaml"))
    return [name for name in options if list(compose_option("metric", name, "x")) == [name] and name not in ELSEWHERE]


class Projection(Extractor):
    """Eight random projections of the pixels, and ten logits."""

    def __init__(self) -> None:
        """The same projections each time."""
        super().__init__("projection", "0", 8, len(FASHION_CLASSES), "none")
        self.matrix = torch.randn(1024, 18, generator=torch.Generator().manual_seed(0)) / 32

    def extract(self, images: Tensor) -> Features:
        """Features (n, 8) and logits (n, 10)."""
        values = images.flatten(1).float() / 64 @ self.matrix
        return Features(values[:, :8].contiguous(), values[:, 8:].contiguous())


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    """600 training and 400 held-out images."""
    data = fashion10k()
    rows = [Split(part.raw(0, n), part.labels[:n]) for part, n in ((data.train, 600), (data.held_out, 400))]  # type: ignore[index]
    return Dataset("clothes", data.spec, *rows)


def prepared(name: str) -> AnyMetric:
    """The metric that the option names, at a small size."""
    node = compose_option("metric", name, "x")
    node[name] |= SMALLER.get(name, {})
    return build_named(node, "metric")[name]  # type: ignore[no-any-return]


def show(metric: AnyMetric, data: Dataset, fakes: Split, size: int) -> None:
    """All sides of a data set, `size` samples at a time."""
    extractor = Projection()

    def look(split: Split, start: int) -> Features:
        samples = split.raw(start, start + size)
        labels = None if split.labels is None else split.labels[start : start + size]
        said = extractor(samples) if data.spec.is_image else Features(samples)
        return Features(said.features, said.logits, samples, labels)

    def each(split: Split, take: Callable[[Features], None]) -> None:
        for start in range(0, len(split), size):
            take(look(split, start))

    each(data.train, lambda features: metric.update(features, real=True))
    each(fakes, lambda features: metric.update(features, real=False))
    if metric.needs_held_out:
        each(data.held_out, metric.show_held_out)


def same(first: list[Reading], second: list[Reading]) -> bool:
    """Whether values agree, to the rounding of sums in another order."""
    return [r.name for r in first] == [r.name for r in second] and all(
        math.isclose(a.value, b.value, rel_tol=1e-5, abs_tol=1e-5) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("name", names())
def test_a_metric_serves_outside_too(name: str, pictures: Dataset) -> None:
    """The same in batches of 64 and of 7, after a reset and in a copy; honest intervals; no draw from outside."""
    metric = prepared(name)
    if isinstance(metric, WalkMetric):
        pytest.skip("walks through a latent space with VGG16's weights: tests/test_metrics_images.py")
    data = ring(train_points=600, held_out_points=400) if name in ALONE else pictures
    fakes = Split(data.held_out.raw(0, 380), None if data.held_out.labels is None else data.held_out.labels[:380])
    assert isinstance(metric, Metric)
    metric.bind(data, Projection() if data.spec.is_image else None)
    state = torch.get_rng_state()
    show(metric, data, fakes, 64)
    first = metric.compute()
    copied = copy.deepcopy(metric).compute()
    metric.reset()
    show(metric, data, fakes, 7)
    assert same(first, metric.compute()) and same(first, copied)
    assert torch.equal(torch.get_rng_state(), state)
    assert not metric.own_floor or metric.names() == [reading.name for reading in first]
    for reading in first:
        assert math.isfinite(reading.value) and (reading.error is None or reading.error_from)
        if reading.interval is not None:
            low, high = reading.interval
            assert low <= high and reading.interval_from
            assert "bootstrap" in reading.interval_from or low - 1e-9 <= reading.value <= high + 1e-9


def test_readings_have_names_of_their_own(pictures: Dataset) -> None:
    """No two metrics of images give a score of the same name."""
    seen: dict[str, str] = {}
    for name in set(names()) - ALONE:
        metric = prepared(name)
        if isinstance(metric, WalkMetric) or name == "classification_score":
            continue
        metric.bind(pictures, Projection())
        show(metric, pictures, pictures.held_out, 200)
        for reading in metric.compute():
            full = reading.name or name
            assert full not in seen, f"{name} and {seen.get(full)} both give {full}"
            seen[full] = name
    assert len(seen) > 30


def altered(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return {True: False, False: True, None: 7}[value]
    if isinstance(value, str):
        return {"auto": "given", "features": "pixels", "full": "end"}[value]
    if isinstance(value, list):
        return value[1:]
    return value + 1 if isinstance(value, int) else value / 2


@pytest.mark.parametrize("name", names())
def test_every_setting_is_part_of_what_the_cache_goes_by(name: str) -> None:
    """Statistics kept for one setting must never serve another."""
    facts = canonical(metric_facts(prepared(name)))
    node = compose_option("metric", name, "x")[name] | SMALLER.get(name, {})
    for key, value in node.items():
        if key.startswith("_") or (name, key) in WITHOUT_EFFECT:
            continue
        special = {("ms_ssim", "per_class"): True, (name, "ddof"): 0}
        other = special.get((name, key), altered(value))
        changed = build_named({name: {**node, key: other}}, "metric")[name]
        assert canonical(metric_facts(changed)) != facts, f"{name}.{key}"


def test_what_is_tested_elsewhere_exists() -> None:
    """Reasons for leaving a metric out name files that are there."""
    for reason in ELSEWHERE.values():
        assert (Path(__file__).parents[1] / reason.split(": ")[1]).exists()
