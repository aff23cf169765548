"""Stacked sets, the classifier on their channels, mode coverage of 1,000 modes, and the tiny networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_experiments.data.base import Dataset, Spec, Split, to_bytes
from gan_experiments.data.mnist import FASHION_CLASSES, fashion10k
from gan_experiments.data.stacked import StackedDataset, StackedSplit, stacked
from gan_experiments.data.toy import ring
from gan_experiments.errors import UserError
from gan_experiments.metrics.classifier_extractor import ClassifierSource
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import Features, Pixels
from gan_experiments.metrics.stacked_modes import StackedClassifierSource, StackedModes
from gan_experiments.networks.tiny import TinyDiscriminator, TinyGenerator

LN_1000 = math.log(1000)


@pytest.fixture(scope="module")
def whole() -> StackedDataset:
    return stacked(fashion10k(), 3000, 2500)


def grey(count: int, classes: int = 10, channels: int = 1) -> Split:
    """Images whose every pixel is their own number, labelled by their number's last digit."""
    pixels = torch.arange(count).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, 8, 8).contiguous()
    return Split(pixels, torch.arange(count) % classes)


def plain(classes: int = 10, channels: int = 1) -> Dataset:
    names = tuple(map(str, range(classes)))
    return Dataset("plain", Spec((channels, 8, 8), names), grey(100, classes, channels), grey(60, classes, channels))


# the data set


def test_labels_are_the_digits_of_the_channels() -> None:
    dataset = stacked(plain(), 500, 200)
    for split, most in ((dataset.train, 100), (dataset.held_out, 60)):
        samples, labels = split.take(torch.arange(len(split)))
        numbers = to_bytes(samples)[:, :, 0, 0].long()
        assert samples.shape == (len(split), 3, 8, 8) and labels is not None
        assert torch.equal(labels, 100 * (numbers[:, 0] % 10) + 10 * (numbers[:, 1] % 10) + numbers[:, 2] % 10)
        assert numbers.max() == most - 1 and numbers.min() == 0
        names = [dataset.spec.classes[label] for label in labels.tolist()]
        assert names[7] == ", ".join(str(int(number) % 10) for number in numbers[7])
    assert (dataset.name, len(dataset.spec.classes), dataset.spec.shape) == ("stacked_plain", 1000, (3, 8, 8))


def test_channels_are_images_of_the_base(whole: StackedDataset) -> None:
    split, base = whole.train, whole.base.train
    assert isinstance(split, StackedSplit)
    chosen = torch.tensor([7, 0, 2999, 7])
    samples, labels = split.take(chosen)
    assert labels is not None and base.labels is not None
    for row, place in enumerate(chosen.tolist()):
        for channel, number in enumerate(split.triples[place].tolist()):
            assert torch.equal(to_bytes(samples[row, channel]), base.samples[number, 0])
    first, second, third = base.labels[split.triples[7]].tolist()
    names = [FASHION_CLASSES[label] for label in (first, second, third)]
    assert whole.spec.classes[int(labels[0])] == ", ".join(names)
    assert torch.equal(split.raw(5, 9), torch.stack([base.samples[triple, 0] for triple in split.triples[5:9]]))
    assert torch.equal(split.raw(2998, 3005), split.raw(2998, 3000)) and len(split.raw(2998, 3005)) == 2


def test_composition_follows_from_the_seed(whole: StackedDataset) -> None:
    again, other = stacked(fashion10k(), 3000, 2500), stacked(fashion10k(), 3000, 2500, seed=1)
    assert torch.equal(again.train.raw(0, 50), whole.train.raw(0, 50))
    assert again.fingerprint == whole.fingerprint != other.fingerprint
    assert not torch.equal(other.train.raw(0, 50), whole.train.raw(0, 50))
    more = stacked(fashion10k(), 3001, 2500)
    assert more.fingerprint != whole.fingerprint and more.held_out.fingerprint == whole.held_out.fingerprint
    assert stacked(plain(), 10, 10).train.fingerprint != stacked(plain(), 10, 10).held_out.fingerprint


def test_modes_are_equally_likely_and_parts_are_apart(whole: StackedDataset) -> None:
    labels = stacked(fashion10k(), 100_000, 10).train.labels
    assert labels is not None
    counts = labels.bincount(minlength=1000).double()
    chi2 = ((counts - 100) ** 2 / 100).sum().item()
    assert abs(chi2 - 999) < 5 * math.sqrt(2 * 999)
    train = {image.numpy().tobytes() for image in whole.train.raw(0, 500).flatten(0, 1)}
    held_out = {image.numpy().tobytes() for image in whole.held_out.raw(0, 500).flatten(0, 1)}
    assert len(train & held_out) == 0


def test_moving_takes_the_base_along() -> None:
    # The meta device stands in for an accelerator: it has shapes and places, no values.
    dataset = stacked(plain(), 500, 200)
    size = 100 * 64
    for limit, place in ((size, "meta"), (size - 1, "cpu")):
        moved = dataset.train.to("meta", limit)
        assert isinstance(moved, StackedSplit)
        assert moved.base.samples.device.type == moved.triples.device.type == place
        batch = moved.take(torch.tensor([1, 2]))
        assert batch.samples.device.type == "meta" and batch.samples.shape == (2, 3, 8, 8)
        assert batch.labels is not None and batch.labels.device.type == "meta"
        assert moved.raw(0, 4).shape == (4, 3, 8, 8) and moved.raw(0, 4).device.type == "meta"
    stays = dataset.to("cpu")
    assert isinstance(stays, StackedDataset) and stays.train is dataset.train and stays.base is dataset.base


def test_flips_mirror_all_channels_together(whole: StackedDataset) -> None:
    assert not whole.flip and stacked(fashion10k(flip=True), 10, 10).flip
    one = torch.tensor([3])
    mirrored = whole.train.take(one, torch.tensor([True])).samples
    assert torch.equal(mirrored, whole.train.take(one).samples.flip(-1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: stacked(ring(100, 50)), r"stacked_ring: the base set has shape \(2,\) and 8 classes; expected grey"),
        (lambda: stacked(plain(classes=9)), r"shape \(1, 8, 8\) and 9 classes; expected .* of 10 classes"),
        (lambda: stacked(plain(channels=3)), r"shape \(3, 8, 8\) and 10 classes"),
        (lambda: stacked(plain(), 0), "train_images=0, held_out_images=26000; both must be at least 1"),
        (lambda: stacked(plain(), 5, 0), "held_out_images=0"),
    ],
)
def test_what_cannot_be_stacked_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


# the classifier


def test_each_channel_is_read_by_the_shipped_classifier(whole: StackedDataset, tmp_path: Path) -> None:
    extractor = StackedClassifierSource(str(tmp_path / "cache")).build(whole)
    single = ClassifierSource(str(tmp_path / "cache")).build(fashion10k())
    assert extractor.sha256 == single.sha256 and extractor.held_out_accuracy == single.held_out_accuracy == 0.9173
    assert not (tmp_path / "cache").exists()
    images = whole.held_out.raw(0, 100)
    features, logits, _, _ = extractor(images)
    assert logits is not None and features.shape == (100, 768) and logits.shape == (100, 1000)
    assert (extractor.num_features, extractor.num_classes) == (768, 1000)
    apart = [single(images[:, channel : channel + 1]) for channel in range(3)]
    torch.testing.assert_close(features, torch.cat([part.features for part in apart], 1))
    one, two, three = (part.logits.softmax(1) for part in apart if part.logits is not None)
    torch.testing.assert_close(logits.softmax(1), torch.einsum("na,nb,nc->nabc", one, two, three).flatten(1))
    digits = [part.argmax(1) for part in (one, two, three)]
    assert torch.equal(logits.argmax(1), 100 * digits[0] + 10 * digits[1] + digits[2])


def test_real_images_get_their_own_labels(whole: StackedDataset, tmp_path: Path) -> None:
    """As often as three channels are all right: the cube of the accuracy."""
    extractor = StackedClassifierSource(str(tmp_path)).build(whole)
    logits = extractor(whole.held_out.raw(0, 600)).logits
    assert logits is not None and whole.held_out.labels is not None
    share = (logits.argmax(1) == whole.held_out.labels[:600]).float().mean().item()
    assert share == pytest.approx(0.9173**3, abs=0.05)


def test_other_data_have_their_classifier_trained_once(tmp_path: Path) -> None:
    dataset = stacked(plain(), 10, 10)
    source = StackedClassifierSource(str(tmp_path), steps=1)
    first, again = source.build(dataset), source.build(dataset)
    assert len(list(tmp_path.iterdir())) == 1 and first.sha256 == again.sha256
    assert first(dataset.train.raw(0, 4)).features.shape == (4, 768)


def test_plain_data_and_extractors_are_refused(whole: StackedDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stacked_classifier reads stacked sets, which data set fashion10k isn't; set"):
        StackedClassifierSource(str(tmp_path)).build(fashion10k())
    with pytest.raises(UserError, match="classes of a stacked set's channels; set extractor=stacked_classifier$"):
        StackedModes().bind(whole, Pixels(3072))
    with pytest.raises(UserError, match="set extractor=stacked_classifier and dataset=stacked_fashion10k"):
        StackedModes().bind(fashion10k(), None)
    with pytest.raises(UserError, match="logits"):
        StackedModes().update(Features(torch.zeros(2, 5)), False)


# the metric


def score(modes: Tensor) -> dict[str, float]:
    """All readings for samples that the classifier is certain of, in batches."""
    metric = StackedModes()
    for part in modes.split(7000):
        logits = torch.nn.functional.one_hot(part, 1000).to(torch.uint8)
        metric.update(Features(logits, logits), False)
    return {reading.name: reading.value for reading in metric.compute()}


def simulate(true: int, accuracy: float, samples: int = 26_000, seed: int = 0) -> Tensor:
    """Modes that a classifier of that accuracy a channel reads off samples of `true` equally likely modes."""
    random = np.random.default_rng(seed)
    own = random.choice(1000, true, replace=False)[random.integers(true, size=samples)]
    digits = own[:, None] // np.array([100, 10, 1]) % 10
    wrong = (digits + random.integers(1, 10, size=digits.shape)) % 10
    read = np.where(random.random(digits.shape) < accuracy, digits, wrong)
    return torch.from_numpy(read @ np.array([100, 10, 1]))


def test_one_mode_and_all_modes() -> None:
    assert score(torch.full((500,), 123)) == pytest.approx(
        {"modes_captured": 1, "modes_at_half_share": 1, "reverse_kl": LN_1000}
    )
    assert score(torch.arange(2000) % 1000) == pytest.approx(
        {"modes_captured": 1000, "modes_at_half_share": 1000, "reverse_kl": 0}, abs=1e-12
    )
    half = score(torch.arange(4000) % 500)
    assert (half["modes_captured"], half["reverse_kl"]) == (500, pytest.approx(math.log(2)))


def test_divergence_of_uneven_counts() -> None:
    """p = (3/4, 1/4) on two modes."""
    expected = 0.75 * math.log(750) + 0.25 * math.log(250)
    assert score(torch.tensor([5, 5, 5, 999]))["reverse_kl"] == pytest.approx(expected)


def test_half_a_share_counts_and_less_does_not() -> None:
    """Of 26,000 samples, 13 are half of a mode's share."""
    modes = torch.cat([torch.full((13,), 1), torch.full((12,), 2), torch.full((25_975,), 3)])
    result = score(modes)
    assert (result["modes_captured"], result["modes_at_half_share"]) == (3, 2)


def test_perfect_samples_reach_999_over_2n() -> None:
    runs = [score(simulate(1000, 1.0, seed=seed)) for seed in range(3)]
    assert np.mean([run["reverse_kl"] for run in runs]) == pytest.approx(0.0194, abs=0.0012)
    assert all(run["modes_captured"] == 1000 for run in runs)


@pytest.mark.parametrize(("true", "captured", "kept"), [(1, 32, 1), (10, 223, 10)])
def test_errors_of_the_classifier_count_as_modes_unless_half_a_share_is_asked_for(
    true: int, captured: int, kept: int
) -> None:
    """At 99.25 % a channel; with one true mode, each of the 27 neighbours is read off 21 samples, above 13."""
    runs = [score(simulate(true, 0.9925, seed=seed)) for seed in range(3)]
    assert np.mean([run["modes_captured"] for run in runs]) == pytest.approx(captured, rel=0.06)
    if true == 10:
        assert all(run["modes_at_half_share"] == kept for run in runs)
    else:
        assert np.mean([run["modes_at_half_share"] for run in runs]) == pytest.approx(26, abs=2)


def test_evaluator_gives_the_floor_of_real_stacked_images(whole: StackedDataset, tmp_path: Path) -> None:
    """A generator of one real image has one mode; held-out images have nearly all, classifier errors included."""
    extractor = StackedClassifierSource(str(tmp_path)).build(whole)
    evaluator = Evaluator(
        whole, {"stacked_classifier": extractor}, {"stacked_modes": StackedModes()}, samples=800, batch_size=250
    )
    image = whole.train.take(torch.tensor([0])).samples
    scores = evaluator.evaluate(lambda n, generator: image.expand(n, -1, -1, -1), "raw", 0, 0)
    assert [scores[name].value for name in ("modes_captured", "reverse_kl")] == pytest.approx([1, LN_1000])
    captured = scores["modes_captured"]
    assert captured.higher_is_better and not scores["reverse_kl"].higher_is_better
    # With 0.8 samples a mode on average, 1000 (1 - e^-0.8) = 551 are met; Poisson counts have a divergence of 0.695.
    assert captured.floor == pytest.approx(540, abs=35) and scores["reverse_kl"].floor == pytest.approx(0.71, abs=0.07)
    assert (captured.n_fake, captured.n_floor, captured.n_real) == (800, 800, 0)
    assert captured.details == {"modes": 1000, "classifier_accuracy": 0.9173}
    assert scores["modes_at_half_share"].details["least_samples"] == 0.4
    assert scores["reverse_kl"].interval is None and "fewer than 10" in scores["reverse_kl"].interval_from


def test_interval_of_the_divergence_holds_that_of_the_modes() -> None:
    """0 for equally likely ones, ln 2 for half of them, at 26,000 samples, whose own divergence is 0.0194 above."""
    for true, truth in ((1000, 0.0), (500, math.log(2))):
        metric = StackedModes()
        logits = torch.nn.functional.one_hot(simulate(true, 1.0), 1000).to(torch.uint8)
        metric.update(Features(logits, logits), False)
        reading = metric.compute()[2]
        assert reading.interval is not None and reading.interval[0] <= truth <= reading.interval[1] <= reading.value


# the tiny networks


def test_tiny_networks_have_the_published_widths() -> None:
    spec = Spec((3, 32, 32))
    generator = TinyGenerator(spec)
    assert generator.shapes == [(64, 4), (32, 8), (16, 16), (8, 32)]
    samples = generator(torch.randn(5, 256))
    assert samples.shape == (5, 3, 32, 32) and samples.abs().max() < 1
    for width, widths in ((2, (2, 4, 8)), (4, (4, 8, 16))):
        discriminator = TinyDiscriminator(spec, width)
        verdict = discriminator(samples)
        assert verdict.logits.shape == (5,)
        sides = zip(widths, (16, 8, 4), strict=True)
        assert [tuple(level.shape) for level in verdict.features] == [(5, wide, side, side) for wide, side in sides]
    convolutions = 9 * (3 * 4 + 4 * 8 + 8 * 16)
    assert sum(p.numel() for p in discriminator.parameters()) == convolutions + 2 * 28 + 16 * 16 + 1
    maps = 256 * 1024 + 9 * (64 * 32 + 32 * 16 + 16 * 8 + 8 * 3) + 3
    assert sum(p.numel() for p in generator.parameters()) == maps + 2 * 120


def test_tiny_networks_normalise_and_start_as_published() -> None:
    """Batch norm also after the first convolution, so that brightness and contrast of the batch don't matter."""
    torch.manual_seed(0)
    discriminator = TinyDiscriminator(Spec((3, 32, 32)))
    images = torch.rand(16, 3, 32, 32)
    first = discriminator(images).features[0]
    torch.testing.assert_close(discriminator(2 * images).features[0], first, rtol=0.02, atol=0.05)
    assert (first.detach() < 0).any()
    generator = TinyGenerator(Spec((3, 32, 32)))
    assert next(generator.parameters()).std().item() == pytest.approx(0.02, rel=0.02)
    with pytest.raises(UserError, match="TinyGenerator makes images, but the data are points"):
        TinyGenerator(Spec((2,)))
