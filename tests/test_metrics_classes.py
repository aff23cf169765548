"""Metrics that know classes: histograms, accuracies, distances inside classes, and what classifiers learn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import Tensor

from gan_experiments.data.base import Dataset, Spec
from gan_experiments.data.mnist import fashion10k
from gan_experiments.data.toy import ring
from gan_experiments.errors import UserError
from gan_experiments.metrics import classification_score
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.class_accuracy import ClassAccuracy
from gan_experiments.metrics.class_histogram import ClassHistogram
from gan_experiments.metrics.classification_score import ClassificationScore
from gan_experiments.metrics.classifier_extractor import ClassifierSource
from gan_experiments.metrics.extractors import Extractor, Features, Pixels
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.kernel import squared_discrepancy
from gan_experiments.metrics.per_class import BLOCKS, PerClass, class_discrepancies, class_frechet

Sides = tuple[Features, Features]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return fashion10k()


@pytest.fixture(scope="module")
def extractor(data: Dataset) -> Extractor:
    return ClassifierSource("none").build(data)


@pytest.fixture(scope="module")
def seen(data: Dataset, extractor: Extractor) -> Sides:
    """What the shipped classifier says of 2,000 training and 1,000 held-out images, with these and their labels."""
    sides = []
    for split, n in ((data.train, 2000), (data.held_out, 1000)):
        features, logits, _, _ = extractor(split.raw(0, n))
        assert split.labels is not None
        sides.append(Features(features, logits, split.raw(0, n), split.labels[:n]))
    return sides[0], sides[1]


def rows(features: Features, keep: Tensor) -> Features:
    """The samples at some rows, or where a mask is true."""
    return Features(*(None if part is None else part[keep] for part in features))  # type: ignore[arg-type]


def batches(features: Features, size: int) -> Iterator[Features]:
    for start in range(0, len(features.features), size):
        yield rows(features, torch.arange(start, min(start + size, len(features.features))))


def score(
    metric: AnyMetric,
    generated: Features,
    real: Features | None = None,
    held_out: Features | None = None,
    size: int = 700,
) -> dict[str, Reading]:
    """All readings by name."""
    for side, is_real in ((real, True), (generated, False)):
        for batch in batches(side, size) if side is not None else ():
            metric.update(batch, is_real)
    for batch in batches(held_out, size) if held_out is not None else ():
        metric.show_held_out(batch)
    return {reading.name: reading for reading in metric.compute()}


def certain(classes: Tensor, k: int, labels: Tensor | None = None) -> Features:
    """Samples that a classifier is certain of."""
    logits = torch.nn.functional.one_hot(classes, k).float()
    return Features(logits, logits, None, labels)


# the histogram of classes


def test_histogram_by_hand() -> None:
    """Shares 1/2, 1/4, 1/4, 0 against 1/4 each."""
    result = score(ClassHistogram(), certain(torch.tensor([0, 0, 1, 2] * 20), 4), certain(torch.arange(400) % 4, 4))
    assert result["class_kl"].value == pytest.approx(0.5 * math.log(2))
    assert result["class_entropy"].value == pytest.approx(1.5 * math.log(2))
    assert result["classes_missing"].value == 1
    details = result["class_kl"].details
    assert (details["histogram"], details["training_histogram"]) == ([0.5, 0.25, 0.25, 0], [0.25] * 4)
    assert details["kl_of_perfect_samples"] == pytest.approx(3 / 2 * (1 / 80 + 1 / 400))
    assert result["class_entropy"].details == {"training_entropy": pytest.approx(math.log(4)), "most": math.log(4)}
    assert result["class_entropy"].higher_is_better and not result["class_kl"].higher_is_better


def test_divergence_has_its_direction() -> None:
    """KL(generated || training), as scipy's entropy of the two histograms."""
    generated, real = torch.tensor([5, 3, 2]), torch.tensor([2, 2, 6])
    result = score(
        ClassHistogram(),
        certain(torch.arange(3).repeat_interleave(generated), 3),
        certain(torch.arange(3).repeat_interleave(real), 3),
    )
    assert result["class_kl"].value == pytest.approx(scipy_entropy(generated.numpy(), real.numpy()))


def test_perfect_samples_reach_the_floor_of_few_samples() -> None:
    """The mean divergence of two sets of one distribution is (k - 1)/2 (1/n + 1/m)."""
    random = torch.Generator().manual_seed(0)
    share = torch.tensor([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    found = [
        score(
            ClassHistogram(),
            certain(torch.multinomial(share, 400, True, generator=random), 7),
            certain(torch.multinomial(share, 800, True, generator=random), 7),
        )["class_kl"]
        for _ in range(150)
    ]
    assert np.mean([one.value for one in found]) == pytest.approx(found[0].details["kl_of_perfect_samples"], rel=0.12)
    assert found[0].details["kl_of_perfect_samples"] == 3 * (1 / 400 + 1 / 800)
    inside = [one.interval is not None and one.interval[0] <= 0 for one in found]
    assert np.mean(inside) > 0.95


def test_interval_of_the_divergence_covers_it() -> None:
    """Of uneven classes, in about 95 of 100 sets."""
    random = torch.Generator().manual_seed(1)
    share = torch.tensor([0.5, 0.3, 0.1, 0.1])
    truth = {"class_kl": scipy_entropy(share.numpy(), np.full(4, 0.25)), "class_entropy": scipy_entropy(share.numpy())}
    metric = ClassHistogram()
    metric.update(certain(torch.arange(40_000) % 4, 4), True)
    inside = []
    for _ in range(150):
        metric.forget_generated()
        result = score(metric, certain(torch.multinomial(share, 500, True, generator=random), 4))
        for name, value in truth.items():
            interval = result[name].interval
            assert interval is not None
            inside.append(interval[0] <= value <= interval[1])
    assert 0.9 < np.mean(inside) < 0.99


@pytest.mark.parametrize(("count", "missing"), [(29, 1), (30, 0), (31, 0)])
def test_a_class_below_three_tenths_of_its_share_is_missing(count: int, missing: int) -> None:
    generated = torch.cat([torch.zeros(count, dtype=torch.long), torch.ones(200 - count, dtype=torch.long)])
    result = score(ClassHistogram(), certain(generated, 2), certain(torch.arange(60) % 2, 2))
    assert result["classes_missing"].value == missing


def test_a_class_that_training_samples_lack_counts_as_half_an_image() -> None:
    """The divergence stays finite; such a class can't be missing."""
    result = score(ClassHistogram(), certain(torch.tensor([0, 2]), 3), certain(torch.tensor([0] * 7 + [1] * 3), 3))
    assert result["class_kl"].value == pytest.approx(
        0.5 * math.log(0.5 / (7 / 10.5)) + 0.5 * math.log(0.5 / (0.5 / 10.5))
    )
    assert result["classes_missing"].value == 1
    assert result["class_kl"].interval is None and "fewer than 10" in result["class_kl"].interval_from


@pytest.mark.parametrize("dropped", [6, 0])
def test_a_dropped_class_is_seen_through_the_classifiers_errors(seen: Sides, dropped: int) -> None:
    """Shirts and T-shirts are those whose place errors fill most: a fifth of it."""
    real, held_out = seen
    assert score(ClassHistogram(), held_out, real)["classes_missing"].value == 0
    assert held_out.labels is not None
    result = score(ClassHistogram(), rows(held_out, held_out.labels != dropped), real)
    assert result["classes_missing"].value == 1
    kl = result["class_kl"]
    assert kl.interval is not None and kl.interval[0] > kl.details["kl_of_perfect_samples"]


def test_histogram_refusals(data: Dataset) -> None:
    with pytest.raises(UserError, match=r"metric class_histogram: least_share=0; expected above 0"):
        ClassHistogram(0)
    with pytest.raises(UserError, match="class_histogram needs a classifier of the 10 classes of fashion10k"):
        ClassHistogram().bind(data, Pixels(1024))
    with pytest.raises(UserError, match="class_histogram needs class logits"):
        ClassHistogram().update(Features(torch.zeros(2, 2)), True)
    with pytest.raises(UserError, match="got 4 training, 0 generated"):
        metric = ClassHistogram()
        metric.update(certain(torch.zeros(0, dtype=torch.long), 3), False)
        score(metric, certain(torch.zeros(0, dtype=torch.long), 3), certain(torch.arange(4) % 3, 3))


# the accuracy of conditional samples


def test_accuracy_by_hand() -> None:
    """Classes asked for 0, 0, 0, 2, found 0, 0, 1, 2: 3 of 4, and nothing of class 1 was asked for."""
    asked, found = torch.tensor([0, 0, 0, 2]), torch.tensor([0, 0, 1, 2])
    reading = score(ClassAccuracy(), certain(found, 3, asked), size=3)[""]
    assert reading.value == 0.75 and reading.higher_is_better
    assert reading.details == {"per_class": [pytest.approx(2 / 3), 1.0], "classes": [0.0, 2.0]}
    assert reading.interval == pytest.approx((0.300642, 0.954413), abs=1e-5)  # Wilson's for 3 of 4


def test_accuracy_ignores_the_reals_and_needs_labels() -> None:
    metric = ClassAccuracy()
    metric.update(certain(torch.tensor([0, 1]), 2, torch.tensor([1, 0])), True)
    assert score(metric, certain(torch.tensor([0, 1]), 2, torch.tensor([0, 1])))[""].value == 1
    assert ClassAccuracy.needs_labels and not ClassAccuracy.needs_reals
    with pytest.raises(UserError, match="class_accuracy needs the classes that were asked for"):
        metric.update(certain(torch.tensor([0]), 2), False)


def test_accuracy_of_held_out_images_is_the_classifiers(seen: Sides, extractor: Any) -> None:
    reading = score(ClassAccuracy(), seen[1])[""]
    assert reading.value == pytest.approx(extractor.held_out_accuracy, abs=0.015)
    assert seen[1].labels is not None
    mean = np.average(reading.details["per_class"], weights=seen[1].labels.bincount().numpy())
    assert mean == pytest.approx(reading.value, rel=1e-10)


# distances inside classes


def cloud(n: int, d: int, seed: int, classes: int, apart: float = 4.0) -> Features:
    """Normal rows around a centre a class, with labels and certain logits."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = apart * torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    features = centres[labels] + torch.randn(n, d, generator=random)
    return certain(labels, classes, labels)._replace(features=features)


def fid(real: Tensor, generated: Tensor) -> float:
    metric = FrechetDistance()
    metric.update(Features(real), True)
    metric.update(Features(generated), False)
    return metric.compute()[0].value


@pytest.mark.parametrize("d", [8, 60])
def test_values_of_a_class_are_those_of_its_rows(d: int) -> None:
    """With more (d 8) and with fewer rows a class (d 60) than features; 40 generated and 50 training rows a class."""
    real, generated, held_out = cloud(150, d, 0, 3), cloud(120, d, 1, 3), cloud(90, d, 2, 3)
    result = score(PerClass(), generated, real, held_out)
    fids, kids, floors = [], [], []
    for number in range(3):
        x, y, z = (side.features[side.labels == number] for side in (real, generated, held_out))
        fids.append(fid(x, y))
        floors.append(fid(x, z))
        kids.append(float(squared_discrepancy(x, y)))
    assert result["per_class_fid"].details["per_class"] == pytest.approx(fids, rel=1e-8)
    assert result["per_class_fid"].value == pytest.approx(np.mean(fids), rel=1e-8)
    assert result["per_class_fid"].real == pytest.approx(np.mean(floors), rel=1e-8)
    assert result["per_class_kid"].details["per_class"] == pytest.approx(kids, rel=1e-4, abs=1e-5)
    assert result["per_class_kid"].value == pytest.approx(np.mean(kids), rel=1e-4, abs=1e-5)
    assert result["per_class_fid"].details["training_samples"] == 50
    assert (result["per_class_absent"].value, result["per_class_absent"].real) == (0, 0)


def test_discrepancies_without_a_block_are_those_of_the_rest() -> None:
    x, y = cloud(41, 5, 0, 2).features, cloud(37, 5, 1, 2).features + 0.2
    i, j = torch.arange(41) % BLOCKS, torch.arange(37).flip(0) % BLOCKS
    whole, *without = class_discrepancies(x, y, i, j)
    assert whole == pytest.approx(float(squared_discrepancy(x, y)), rel=1e-5)
    expected = [float(squared_discrepancy(x[i != b], y[j != b])) for b in range(BLOCKS)]
    assert without == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ddof", [0, 1])
def test_ddof_reaches_both_ways(ddof: int) -> None:
    """Three rows twice the others, in one dimension: (2 - 1)^2 of the variance; the same from rows and covariances."""
    x = torch.tensor([[-1.0], [0.0], [1.0]])
    expected = 2 / (3 - ddof)
    assert class_frechet(x, 2 * x, ddof) == pytest.approx(expected, rel=1e-10)
    wide = torch.cat([x, torch.zeros(3, 9)], 1)
    assert class_frechet(wide, 2 * wide, ddof) == pytest.approx(expected, rel=1e-10)


def test_mixed_up_classes_have_a_large_distance_though_all_samples_together_have_a_small_one(seen: Sides) -> None:
    real, held_out = seen
    assert held_out.labels is not None
    mixed = held_out._replace(labels=held_out.labels.roll(1))
    right, wrong = (score(PerClass(), side, real, held_out) for side in (held_out, mixed))
    assert fid(real.features, mixed.features) < 6
    assert right["per_class_fid"].value == right["per_class_fid"].real < 20 < 300 < wrong["per_class_fid"].value
    assert wrong["per_class_fid"].real == right["per_class_fid"].real
    assert abs(right["per_class_kid"].value) < 0.2 < 10 < wrong["per_class_kid"].value
    # Where the classifier names the classes, on both sides, mixing them up changes nothing.
    named = [score(PerClass("predicted"), side, real, held_out)["per_class_fid"] for side in (held_out, mixed)]
    assert named[0].value == pytest.approx(named[1].value, rel=1e-9) and named[0].details["labels"] == "predicted"
    assert right["per_class_fid"].details["labels"] == "given"


def test_without_classes_asked_for_the_classifier_names_them(seen: Sides) -> None:
    real, held_out = seen
    result = score(PerClass(), held_out._replace(labels=None), real, held_out)
    assert result["per_class_fid"].details["labels"] == "predicted"
    assert real.logits is not None and held_out.logits is not None
    x, y = (side.features[side.logits.argmax(1) == 6] for side in (real, held_out))  # type: ignore[union-attr]
    assert result["per_class_fid"].details["per_class"][6] == pytest.approx(fid(x, y), rel=1e-8)  # type: ignore[index]
    assert result["per_class_fid"].value == pytest.approx(result["per_class_fid"].real, rel=1e-9)


def test_absent_classes_are_counted_and_left_out() -> None:
    """Class 2 has one generated sample: no covariance. Class 1 has two."""
    real, generated = cloud(300, 4, 0, 3), cloud(300, 4, 1, 3)
    keep = torch.cat([torch.arange(0, 300, 3), torch.tensor([1, 4, 2])])
    result = score(PerClass(), rows(generated, keep), real, generated)
    assert result["per_class_absent"].value == 1 and result["per_class_absent"].real == 0
    assert result["per_class_fid"].details["classes"] == [0, 1]
    first, second = (
        fid(real.features[n::3], generated.features[places])
        for n, places in ((0, torch.arange(0, 300, 3)), (1, torch.tensor([1, 4])))
    )
    assert result["per_class_fid"].value == pytest.approx((first + second) / 2, rel=1e-8)
    assert result["per_class_fid"].interval is None  # two samples can't be cut into blocks
    with pytest.raises(UserError, match="none of 3 classes has two samples on both sides"):
        score(PerClass(), rows(generated, torch.tensor([0, 1, 2])), real, generated)


def test_intervals_hold_the_expectation_at_these_numbers() -> None:
    """In most of 40 sets; the error is about the spread over sets."""
    found = []
    for seed in range(40):
        sets = (cloud(n, 8, 3 * seed + place, 2) for place, n in enumerate((400, 300, 10)))
        generated, real, held_out = sets
        found.append(score(PerClass(), generated._replace(features=1.2 * generated.features), real, held_out))
    for name in ("per_class_fid", "per_class_kid"):
        readings = [result[name] for result in found]
        mean, spread = np.mean([r.value for r in readings]), np.std([r.value for r in readings])
        assert np.mean([r.interval[0] <= mean <= r.interval[1] for r in readings if r.interval]) >= 0.85
        assert np.mean([r.error for r in readings if r.error]) == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("size", [1, 64])
def test_batch_size_does_not_matter(size: int) -> None:
    real, generated, held_out = cloud(90, 6, 0, 3), cloud(80, 6, 1, 3), cloud(60, 6, 2, 3)
    whole, parts = (score(PerClass(), generated, real, held_out, size) for size in (1000, size))
    assert [r.value for r in whole.values()] == [r.value for r in parts.values()]
    assert [r.interval for r in whole.values()] == [r.interval for r in parts.values()]
    whole, parts = (score(ClassHistogram(), generated, real, size=size) for size in (1000, size))
    assert whole == parts


def test_per_class_refusals(data: Dataset) -> None:
    with pytest.raises(UserError, match="metric per_class: labels=guessed; expected auto, given or predicted"):
        PerClass("guessed")
    with pytest.raises(UserError, match="metric per_class: ddof=2"):
        PerClass(ddof=2)
    with pytest.raises(UserError, match="per_class needs a classifier of the 10 classes"):
        PerClass().bind(data, Pixels(1024))
    PerClass("given").bind(data, Pixels(1024))
    PerClass("given").bind(ring(100, 50), None)
    with pytest.raises(UserError, match="metric per_class needs the classes that were asked for"):
        PerClass("given").update(Features(torch.zeros(2, 2)), False)
    bare = Dataset("bare", Spec((1, 32, 32)), *(unlabelled(split) for split in (data.train, data.held_out)))
    for metric in (PerClass("given"), PerClass(), ClassificationScore(), ClassAccuracy(), ClassHistogram()):
        with pytest.raises(UserError, match="needs classes, but data set bare has none"):
            metric.bind(bare, Pixels(1024))


def unlabelled(split: Any) -> Any:
    return type(split)(split.samples)


# what classifiers learn


@pytest.fixture(scope="module")
def parts(seen: Sides) -> tuple[Features, Features, Features]:
    """100 training images, 100 others that play perfect samples, 300 held-out ones."""
    return rows(seen[0], torch.arange(100)), rows(seen[0], torch.arange(100, 200)), rows(seen[1], torch.arange(300))


def test_what_classifiers_learn_from_real_and_from_wrong_samples(
    data: Dataset, parts: tuple[Features, Features, Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others' real images score like real ones and help where these are few; with shuffled classes all is by chance.

    No held-out image is ever trained on.
    """
    trained: list[Tensor] = []
    training = classification_score.train_classifier

    def watched(images: Tensor, labels: Tensor, classes: int, **settings: Any) -> Any:
        trained.append(images)
        return training(images, labels, classes, **settings)

    monkeypatch.setattr(classification_score, "train_classifier", watched)
    real, generated, held_out = parts
    before = torch.get_rng_state()
    metric = ClassificationScore(15, (1,))
    metric.bind(data, None)
    with torch.no_grad():  # as the evaluator computes
        result = score(metric, generated, real, held_out)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(result) == ["cas", "gan_test", "cas_augmented_1"]
    for name in ("cas", "gan_test"):
        reading = result[name]
        assert reading.real is not None and 0.4 < reading.value == pytest.approx(reading.real, abs=0.12)
        assert reading.interval is not None and reading.interval[0] < reading.value < reading.interval[1]
    helped = result["cas_augmented_1"]
    assert helped.real is not None and helped.value > helped.real + 0.1 and helped.higher_is_better
    assert [len(images) for images in trained] == [100, 10, 100, 110]
    own = {image.numpy().tobytes() for image in held_out.samples}  # type: ignore[union-attr]
    used = {image.numpy().tobytes() for images in trained for image in images}
    assert len(own) == 300 and len(used) == 200 and not own & used

    assert generated.labels is not None
    random = torch.Generator().manual_seed(0)
    metric.forget_generated()
    metric.percents = ()
    wrong = score(metric, generated._replace(labels=generated.labels[torch.randperm(100, generator=random)]))
    assert wrong["cas"].value == pytest.approx(0.1, abs=0.12) and wrong["gan_test"].value == pytest.approx(
        0.1, abs=0.12
    )
    assert (wrong["cas"].real, wrong["gan_test"].real) == (result["cas"].real, result["gan_test"].real)
    assert wrong["cas"].details == {"steps": 15, "trained_images": 100, "tested_images": 300, "seed": 0}
    assert wrong["gan_test"].details["tested_images"] == 100


def test_trainings_on_reals_are_kept_until_these_change(
    data: Dataset, parts: tuple[Features, Features, Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four trainings with one percentage, then two; more generated images than training images are cut to as many."""
    trained: list[int] = []
    real_training = classification_score.train_classifier
    monkeypatch.setattr(
        classification_score,
        "train_classifier",
        lambda images, *rest, **settings: trained.append(len(images)) or real_training(images, *rest, **settings),
    )
    real, generated, held_out = (rows(side, torch.arange(n)) for side, n in zip(parts, (40, 60, 30), strict=True))
    metric = ClassificationScore(1, (50, 100))
    metric.bind(data, None)
    first = score(metric, generated, real, held_out)
    assert trained == [40, trained[1], 40, trained[1] + 40, 80] and 16 <= trained[1] <= 24
    assert first["cas_augmented_100"].real == first["cas"].real == first["gan_test"].real
    metric.forget_generated()
    second = score(metric, generated)
    assert len(trained) == 8 and second == first
    metric.forget_held_out()
    metric.forget_generated()
    score(metric, generated, None, held_out)
    assert len(trained) == 13
    metric.reset()
    score(metric, generated, real, held_out)
    assert len(trained) == 18


def test_shares_are_balanced_and_nested(data: Dataset, seen: Sides) -> None:
    real = classification_score.Images(seen[0].samples, seen[0].labels)  # type: ignore[arg-type]
    metric = ClassificationScore()
    metric.bind(data, None)
    small, large = metric.share(real, 1), metric.share(real, 10)
    counts = real.labels.bincount()
    assert small.labels.bincount().tolist() == [max(1, round(n / 100)) for n in counts.tolist()]
    assert large.labels.bincount().tolist() == [round(n / 10) for n in counts.tolist()]
    names = [{image.numpy().tobytes() for image in share.images} for share in (small, large)]
    assert names[0] < names[1]


def test_large_images_are_kept_small(data: Dataset) -> None:
    metric = ClassificationScore()
    images = torch.full((2, 1, 64, 64), 7, dtype=torch.uint8)
    metric.update(Features(torch.zeros(2, 1), None, images, torch.tensor([0, 1])), True)
    kept, _ = metric.real.compute()
    assert kept.shape == (2, 1, 32, 32) and kept.dtype == torch.uint8 and bool((kept == 7).all())


def test_classification_score_refusals(data: Dataset) -> None:
    with pytest.raises(UserError, match="metric classification_score: steps=0"):
        ClassificationScore(0)
    for percents in ((0, 1), (5, 5), (101,)):
        with pytest.raises(UserError, match="expected different numbers from 1 to 100"):
            ClassificationScore(percents=percents)
    with pytest.raises(UserError, match="classification_score looks at images"):
        ClassificationScore().bind(ring(100, 50), None)
    with pytest.raises(UserError, match="needs the images' classes"):
        ClassificationScore().update(Features(torch.zeros(2, 2), None, torch.zeros(2, 1, 8, 8)), True)
    assert replace(data, name="x").spec.classes
