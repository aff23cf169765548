"""No number depends on the order in which samples are listed: all metrics, the evaluator, folders, archives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_experiments.analysis.choices import Choice
from gan_experiments.analysis.scoring import Scorer
from gan_experiments.data.base import Dataset, Split
from gan_experiments.data.mnist import fashion10k
from gan_experiments.data.toy import ring
from gan_experiments.metrics.base import AnyMetric, Reading, WalkMetric
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.inception_score import InceptionScore
from gan_experiments.metrics.order import content_order, digests, keys, repeats, settled
from gan_experiments.metrics.score import Score
from gan_experiments.metrics.statistics_cache import StatisticsCache
from test_every_metric import ALONE, Projection, names, prepared, show

REALS, HELD_OUT, FAKES = 500, 300, 420


def part(split: Split, first: int, count: int) -> Split:
    """So many samples of a split with their labels."""
    labels = None if split.labels is None else split.labels[first : first + count]
    return Split(split.raw(first, first + count).clone(), labels)


def listed(split: Split, order: Tensor) -> Split:
    """The same samples in another order."""
    return Split(split.samples[order], None if split.labels is None else split.labels[order])


def orders(split: Split) -> dict[str, Tensor]:
    """By class (by their first value where there are none), backwards, at random."""
    kinds = split.samples.flatten(1)[:, 0] if split.labels is None else split.labels
    random = torch.Generator().manual_seed(1)
    return {
        "sorted": kinds.argsort(stable=True),
        "backwards": torch.arange(len(split)).flip(0),
        "shuffled": torch.randperm(len(split), generator=random),
    }


@pytest.fixture(scope="module")
def sides() -> dict[bool, tuple[Dataset, Split]]:
    """Images and points (false): a small data set, and samples to score, of which one comes a hundred times."""
    clothes, points = fashion10k(), ring(train_points=REALS, held_out_points=HELD_OUT)
    images = Dataset("clothes", clothes.spec, part(clothes.train, 0, REALS), part(clothes.held_out, 0, HELD_OUT))
    fakes = part(clothes.train, 1000, FAKES - 100)
    again = torch.cat([torch.arange(len(fakes)), torch.full((100,), 7)])
    return {True: (images, listed(fakes, again)), False: (points, part(ring(seed=1).train, 0, FAKES))}


def agree(first: list[Reading], second: list[Reading]) -> None:
    """Fail unless values, errors, intervals and numbers of real data are equal, to the rounding of sums."""
    assert [reading.name for reading in first] == [reading.name for reading in second]
    for a, b in zip(first, second, strict=True):
        for x, y in ((a.value, b.value), (a.error, b.error), (a.real, b.real)):
            assert (x is None) == (y is None) and (x is None or math.isclose(x, y, rel_tol=1e-5, abs_tol=1e-6)), a.name  # type: ignore[arg-type]
        assert (a.interval is None) == (b.interval is None)
        if a.interval is not None and b.interval is not None:
            assert a.interval == pytest.approx(b.interval, rel=1e-4, abs=1e-6), a.name


@pytest.mark.parametrize("name", names())
def test_every_metric_reads_the_same_off_permuted_sides(name: str, sides: dict[bool, tuple[Dataset, Split]]) -> None:
    """Value, error, interval and the number of real data, with all sides listed by class, backwards and at random."""
    metric = prepared(name)
    if isinstance(metric, WalkMetric):
        pytest.skip("has no samples but pairs that it draws itself")
    data, fakes = sides[name not in ALONE]
    found = []
    for kind in ("as they are", "sorted", "backwards", "shuffled"):
        metric = prepared(name)
        own = [data.train, data.held_out, fakes]
        if kind != "as they are":
            own = [listed(split, orders(split)[kind]) for split in own]
        made = Dataset(data.name, data.spec, own[0], own[1], modes=data.modes)
        metric.bind(made, Projection() if data.spec.is_image else None)
        show(metric, made, own[2], len(own[2]))
        found.append(metric.compute())
        if name == "classification_score" and kind == "sorted":
            break  # trains networks
    for other in found[1:]:
        agree(found[0], other)


def evaluated(data: Dataset, fakes: Split, cache: StatisticsCache | None = None, **settings: int) -> dict[str, Score]:
    """Scores by metrics that pick, cut and divide, of fewer samples than there are."""
    metrics: dict[str, AnyMetric] = {
        name: prepared(name) for name in ("fid", "inception_score", "kid", "ms_ssim", "swd", "two_sample", "vendi")
    }
    metrics["data_copying"], metrics["nearest"] = prepared("data_copying"), prepared("nearest_neighbours")
    made = Evaluator(data, {"projection": Projection()}, metrics, 250, 64, cache=cache, **settings)  # type: ignore[arg-type]
    return made.evaluate(fakes, "stored", 0, 0)


def test_picks_halves_and_floors_are_of_the_same_samples(
    sides: dict[bool, tuple[Dataset, Split]], tmp_path: Path
) -> None:
    """Scores and floors of 250 of 420 samples against 300 of 500 reals are equal digit by digit, cache or not."""
    data, fakes = sides[True]
    turned = Dataset("clothes", data.spec, *(listed(s, orders(s)["sorted"]) for s in (data.train, data.held_out)))
    cache = StatisticsCache(tmp_path)
    first = evaluated(data, fakes, cache, reals=300)
    for others in (
        evaluated(turned, listed(fakes, orders(fakes)["sorted"]), cache, reals=300),
        evaluated(turned, listed(fakes, orders(fakes)["shuffled"]), cache, reals=300),
    ):
        for name, score in first.items():
            mine = (score.value, score.interval, score.floor, score.real, score.error)
            theirs = (others[name].value, others[name].interval, others[name].floor, others[name].real)
            assert (*theirs, others[name].error) == mine, name
    assert evaluated(data, fakes, reals=300, seed=1)["fid"].value != first["fid"].value


def test_sorted_by_class_the_inception_score_is_what_it_is_shuffled() -> None:
    """One-hot predictions of ten classes, one after the other: 10 in every split but for chance, not 1."""
    logits = 100 * torch.eye(10)[torch.arange(2000) // 200] + 0.01 * torch.randn(2000, 10)
    metric = InceptionScore(10)
    metric.update(Features(logits, logits), False)
    assert metric.compute()[0].value == pytest.approx(9.8, abs=0.15)


def test_the_interval_of_the_frechet_distance_of_sorted_samples_is_as_wide_as_of_shuffled_ones() -> None:
    """Blocks in turn would each hold every cluster: that interval is an eighth as wide as other sets are apart."""
    random = torch.Generator().manual_seed(0)
    centres = 5 * torch.randn(10, 4, generator=random)
    reals = centres[torch.arange(2000) % 10] + torch.randn(2000, 4, generator=random)
    values, errors = [], []
    for _ in range(40):
        kinds = torch.randint(10, (500,), generator=random).sort().values
        rows = centres[kinds] + 2 + torch.randn(500, 4, generator=random)
        metric = FrechetDistance()
        metric.update(Features(reals), True)
        for some in rows.split(77):
            metric.update(Features(some), False)
        (reading,) = metric.compute()
        assert reading.error is not None
        values.append(reading.value)
        errors.append(reading.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def write(folder: Path, images: Tensor, labels: Tensor, order: Tensor) -> None:
    """Images as files in class folders, named by their place in an order."""
    for place, row in enumerate(order.tolist()):
        path = folder / f"class{int(labels[row])}" / f"{place:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row, 0].numpy()).save(path)


@pytest.mark.parametrize("kind", ["folders", "archives"])
def test_renamed_files_score_the_same(kind: str, tmp_path: Path) -> None:
    """Two folders, and two .npz: values, intervals and floors, with the classifier that is trained for them."""
    data = fashion10k()
    assert data.train.labels is not None
    images, labels = data.train.raw(0, 400)[:, :, ::2, ::2].clone(), data.train.labels[:400] % 3
    reals, fakes = torch.arange(240), torch.arange(240, 400)
    found = []
    for number in range(2):
        paths = []
        for name, rows in (("reals", reals), ("fakes", fakes)):
            order = rows if number == 0 else rows[torch.randperm(len(rows))]
            path = tmp_path / str(number) / name
            if kind == "folders":
                write(path, images, labels, order)
            else:
                path.parent.mkdir(exist_ok=True)
                path = path.with_suffix(".npz")
                np.savez(path, images=images[order].permute(0, 2, 3, 1).numpy(), labels=labels[order].numpy())
            paths.append(path)
        choice = Choice(
            metrics=["fid", "inception_score", "kid", "precision_recall"],
            reference=paths[0],
            held_out=0.3,
            samples=120,
            overrides=["metric.kid.subset_size=30", "extractor.classifier.steps=5", f"run.data={tmp_path / 'data'}",
                       "runtime.threads=1", "runtime.device=cpu"],
        )  # fmt: skip
        (row,) = Scorer(choice).score(paths[1])
        found.append(row.scores)
    for name, score in found[0].items():
        other = found[1][name]
        assert (score.value, score.floor, score.interval) == (other.value, other.floor, other.interval), name


def test_orders_follow_from_content_and_seed() -> None:
    """The same samples first, wherever they are; equal ones apart; another seed, another order; labels count."""
    samples = torch.randint(0, 256, (200, 1, 5, 3), dtype=torch.uint8)
    samples[100:150] = samples[0]
    split = Split(samples, torch.arange(200) % 2)
    turned = listed(split, torch.arange(200).flip(0))
    first, second = (one.samples[content_order(one, 3)] for one in (split, turned))
    assert torch.equal(first, second)
    assert torch.equal(split.labels[content_order(split, 3)], turned.labels[content_order(turned, 3)])  # type: ignore[index]
    assert not torch.equal(first, split.samples[content_order(split, 4)])
    places = (first == samples[0]).flatten(1).all(1).nonzero().flatten().float()
    assert len(places) >= 51 and float(places.std()) > 40  # about 58 where they are spread evenly


def test_digests_tell_rows_apart() -> None:
    """By every bit and for every type; padding changes nothing; keys are uniform and repetitions have their own."""
    rows = torch.zeros(41, 5, dtype=torch.uint8)
    for bit in range(40):
        rows[bit + 1, bit // 8] = 1 << (bit % 8)
    for typed in (rows, rows.float(), rows.double(), rows.long(), rows.int()):
        assert len(digests(typed).unique()) == 41
    assert digests(torch.empty(0, 3)).shape == (0,) and digests(torch.arange(4)).shape == (4,)
    same = torch.zeros(5000, dtype=torch.int64)
    assert repeats(torch.tensor([5, 3, 5, 5, 3])).tolist() == [0, 0, 1, 2, 1]
    drawn = keys(same, repeats(same), 0, "test")
    assert float((drawn.histc(10, 0, 1) - 500).abs().max()) < 110 and len(drawn.unique()) == 5000


def test_settled_rows_stay_where_they_are_under_rounding() -> None:
    """Features that differ in their last digits are in the same order but for a few neighbours."""
    rows = torch.randn(1000, 64)
    order, turned = torch.randperm(1000), settled(rows)
    assert torch.equal(rows[turned], rows[order][settled(rows[order])])
    near = rows * (1 + 1e-7 * torch.randn(1000, 64))
    assert int((settled(near) != turned).sum()) < 10
    kinds = torch.arange(1000) // 100
    assert 5 < int((kinds[turned][1:] == kinds[turned][:-1]).sum()) < 250  # sorted rows come out mixed
