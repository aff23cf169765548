"""Extractors: what they take, that they stay frozen, where their weights come from, and how they fail."""

from __future__ import annotations

import hashlib
import json
import logging
from importlib.resources import files
from pathlib import Path
from urllib.error import URLError

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.data.mnist import DEBIAN_FOLDER, FASHION_CLASSES, fashion10k
from gan_experiments.errors import UserError
from gan_experiments.metrics.classifier import Classifier, accuracy, shrink, train_classifier
from gan_experiments.metrics.classifier_extractor import ClassifierExtractor, ClassifierSource
from gan_experiments.metrics.extractors import Extractor, Pixels, PixelsSource
from gan_experiments.metrics.inception import InceptionSource
from gan_experiments.metrics.preparation import Antialiased, Preparation, Unchanged
from inception_weights import write_random_weights


def stripes(n: int, seed: int, side: int = 16, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Noisy images that are bright in their upper (class 0) or lower (class 1) half."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 120, (n, channels, side, side), generator=generator, dtype=torch.uint8)
    images[labels == 0, :, : side // 2] += 120
    images[labels == 1, :, side // 2 :] += 120
    return images, labels


def dataset(labelled: bool = True, seed: int = 0) -> Dataset:
    """128 training and 40 held-out stripes."""
    train, held_out = stripes(128, seed), stripes(40, seed + 1)
    if labelled:
        return Dataset("stripes", Spec((1, 16, 16), ("upper", "lower")), Split(*train), Split(*held_out))
    return Dataset("stripes", Spec((1, 16, 16)), Split(train[0]), Split(held_out[0]))


POINTS = Dataset("dots", Spec((2,)), Split(torch.zeros(3, 2)), Split(torch.zeros(3, 2)))


def test_pixels() -> None:
    """Values divided by 255, flattened; no classes."""
    extractor = PixelsSource().build(dataset())
    images = dataset().train.raw(0, 5)
    features = extractor(images)
    assert (extractor.num_features, extractor.num_classes, features.logits) == (256, 0, None)
    assert torch.equal(features.features, images.reshape(5, 256).float() / 255)


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)])
def test_only_bytes_in_four_dimensions(images: Tensor) -> None:
    """Float images and single images are refused with what was found."""
    with pytest.raises(UserError, match=r"extractor pixels: got torch\.\w+ of shape .*, expected uint8"):
        Pixels(64)(images)


def check_frozen(extractor: Extractor) -> None:
    """Nothing can switch on training mode or gradients."""
    extractor.train()
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_shipped_weights() -> None:
    """Fashion-MNIST gets the shipped file, whose hash and accuracy are those of its card; nothing is cached."""
    card = json.loads((files("gan_experiments") / "assets" / "fashion_classifier.json").read_text())
    content = (files("gan_experiments") / "assets" / card["file"]).read_bytes()
    data = fashion10k()
    state = torch.get_rng_state()
    extractor = ClassifierSource("no/such/folder").build(data)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(content) <= 2_000_000
    assert extractor.sha256 == card["sha256"] == hashlib.sha256(content).hexdigest()
    assert extractor.held_out_accuracy == card["held_out_accuracy"] >= 0.91
    assert not Path("no").exists()
    check_frozen(extractor)
    features = extractor(data.held_out.raw(0, 500))
    assert features.features.shape == (500, 256) and features.features.dtype == torch.float32
    assert features.logits is not None and data.held_out.labels is not None
    hits = (features.logits.argmax(1) == data.held_out.labels[:500]).float().mean()
    assert float(hits) > 0.88


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="the Debian package dataset-fashion-mnist isn't installed")
def test_shipped_accuracy_is_that_of_the_official_test_images() -> None:
    """On the first 2,000 of the 10,000 official test images, to sampling error."""
    from gan_experiments.data.mnist import fashion_mnist

    data = fashion_mnist("no/such/folder")
    extractor = ClassifierSource("no/such/folder").build(data)
    assert data.held_out.labels is not None
    measured = accuracy(extractor.net, data.held_out.raw(0, 2000), data.held_out.labels[:2000])
    assert measured == pytest.approx(extractor.held_out_accuracy, abs=0.02)


def test_same_classes_of_another_shape_are_not_served_by_the_shipped_weights(tmp_path: Path) -> None:
    """Both classes and shape decide."""
    images, _ = stripes(20, 0)
    labels = torch.arange(20) % 10
    other = Dataset("small", Spec((1, 16, 16), FASHION_CLASSES), Split(images, labels), Split(images, labels))
    ClassifierSource(str(tmp_path), steps=1).build(other)
    assert len(list(tmp_path.iterdir())) == 1


def test_own_classifier_is_trained_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Trained on the data's labels, cached with its accuracy, found again; the global random state stays."""
    source = ClassifierSource(str(tmp_path / "cache"), steps=10)
    state = torch.get_rng_state()
    with caplog.at_level(logging.INFO):
        first = source.build(dataset())
        second = source.build(dataset())
    assert torch.equal(torch.get_rng_state(), state)
    assert first.held_out_accuracy > 0.9
    assert (first.sha256, first.held_out_accuracy) == (second.sha256, second.held_out_accuracy)
    assert caplog.text.count("training the extractor") == 1
    assert f"held-out accuracy {first.held_out_accuracy:.4f}" in caplog.text
    path = next((tmp_path / "cache").iterdir())
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    images = dataset().held_out.raw(0, 8)
    assert torch.equal(first(images).features, second(images).features)
    check_frozen(first)


def test_the_cache_is_keyed_by_content_and_settings(tmp_path: Path) -> None:
    """Other images, steps or seeds are other classifiers."""
    sources = [ClassifierSource("c", 5), ClassifierSource("c", 6), ClassifierSource("c", 5, seed=1)]
    keys = {source.key(dataset(seed=seed)) for source in sources for seed in (0, 3)}
    assert len(keys) == 6
    assert sources[0].key(dataset()) == sources[0].key(dataset())


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-50], lambda content: b"", lambda content: b"x" * 99,
     lambda content: content[:-50] + bytes([content[-50] ^ 1]) + content[-49:]],
)  # fmt: skip
def test_a_broken_cache_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object) -> None:
    """Truncated, empty or foreign files are named and replaced."""
    source = ClassifierSource(str(tmp_path), steps=2)
    extractor = source.build(dataset())
    path = next(tmp_path.iterdir())
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert source.build(dataset()).sha256 == extractor.sha256
    assert f"{path} is broken" in caplog.text
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_shipped_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The card's hash guards the weights."""
    assets = files("gan_experiments") / "assets"
    (tmp_path / "fashion_classifier.json").write_text((assets / "fashion_classifier.json").read_text())
    monkeypatch.setattr("gan_experiments.metrics.classifier_extractor.assets", lambda: tmp_path)
    with pytest.raises(UserError, match="missing from the package.*reinstall"):
        ClassifierSource("c").build(fashion10k())
    (tmp_path / "fashion_classifier.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="sha256 .*, expected .*reinstall"):
        ClassifierSource("c").build(fashion10k())


def test_classifier_refusals() -> None:
    """Unlabelled images and points, with the option that would work."""
    with pytest.raises(UserError, match="stripes has none; set extractor=inception"):
        ClassifierSource("c").build(dataset(labelled=False))
    with pytest.raises(UserError, match="dots holds points; set extractor=none"):
        ClassifierSource("c").build(POINTS)
    with pytest.raises(UserError, match="dots holds points"):
        InceptionSource("c").build(POINTS)


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 32), (3, 50)])
def test_any_size_and_one_or_three_channels(channels: int, side: int) -> None:
    """Other sizes are averaged to 32x32; 256 features that are never negative."""
    images, _ = stripes(4, 0, side, channels)
    with torch.random.fork_rng():
        extractor = ClassifierExtractor(Classifier(channels, 7), "0", 0.5).freeze()
    features = extractor(images)
    assert features.features.shape == (4, 256) and (features.features >= 0).all()
    assert features.logits is not None and features.logits.shape == (4, 7)
    assert shrink(images.float()).shape == (4, channels, 32, 32)


def test_shrink_averages() -> None:
    """From 64 to 32 every pixel is the mean of four; 32 stays as it is."""
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = images.reshape(2, 1, 32, 2, 32, 2).mean((3, 5))
    assert torch.allclose(shrink(images), expected, atol=1e-6)
    assert torch.equal(shrink(expected), expected)


def test_autocast_does_not_reach_the_extractor() -> None:
    """Features stay float32 and unchanged under autocast."""
    extractor = ClassifierSource("no/such/folder").build(fashion10k())
    images = fashion10k().train.raw(0, 4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = extractor(images).features
    assert inside.dtype == torch.float32
    assert torch.equal(inside, extractor(images).features)


def test_training_is_repeatable() -> None:
    """The same seed gives the same weights, another seed others."""
    images, labels = stripes(64, 0)
    nets = [train_classifier(images, labels, 2, steps=3, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (net.output.weight for net in nets)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights in the layout of the FID Inception network."""
    pytest.importorskip("torch_fidelity", reason="the extra inception isn't installed")
    return write_random_weights(tmp_path_factory.mktemp("inception") / "weights.pth")


def test_inception(weights: Path) -> None:
    """2048 features and 1008 logits without bias; grey is repeated to RGB; the state of the world is left alone."""
    source = InceptionSource("c", str(weights))
    state = torch.get_rng_state()
    extractor = source.build(dataset())
    assert torch.equal(torch.get_rng_state(), state)
    assert extractor.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    check_frozen(extractor)
    grey = dataset().train.raw(0, 1)
    features = extractor(grey)
    assert features.features.shape == (1, extractor.num_features) == (1, 2048)
    assert features.logits is not None and features.logits.shape == (1, extractor.num_classes) == (1, 1008)
    colour = extractor(grey.repeat(1, 3, 1, 1))
    assert torch.equal(colour.features, features.features)
    weight = torch.load(weights, weights_only=True)["fc.weight"]
    assert torch.allclose(features.logits, features.features @ weight.T, atol=1e-4)
    assert extractor.resize == "TensorFlow 1 bilinear to 299x299"


def test_inception_resizes_as_asked(weights: Path) -> None:
    """The same images, larger ones resized by PIL without rounding: clean reads what the network gets from PIL."""
    images = torch.randint(0, 256, (1, 3, 90, 90), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    data = Dataset("noise", Spec((3, 90, 90)), Split(images), Split(images))
    clean, none = (InceptionSource("c", str(weights), resize).build(data) for resize in ("clean", "none"))
    assert clean.resize == "clean (bicubic, antialiased, float) to 299x299"
    assert none.resize == "none"
    resized = torch.stack([pil_resize(image, 299, Image.Resampling.BICUBIC) for image in images]).clamp(0, 255)
    expected = clean.net((resized - 128) / 128).features
    assert torch.allclose(clean(images).features, expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(none(images).features, clean.net((images.float() - 128) / 128).features, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(none(images).features, expected, rtol=1e-2)


def test_inception_refuses_sizes_and_methods() -> None:
    """Unknown methods are refused at once, and so are images too small for the layers."""
    with pytest.raises(UserError, match="resize=bilinear; expected one of tf_bilinear, clean, none"):
        InceptionSource("c", resize="bilinear")
    with pytest.raises(UserError, match="at least 75x75 pixels, but those of stripes have 16x16"):
        InceptionSource("c", resize="none").build(dataset())


def pil_resize(image: Tensor, size: int, method: Image.Resampling) -> Tensor:
    """A uint8 image (c, h, w) resized by PIL in mode F, channel by channel: float (c, size, size)."""
    channels = [Image.fromarray(channel.float().numpy()).resize((size, size), method) for channel in image]
    return torch.stack([torch.from_numpy(numpy.array(channel)) for channel in channels])


@pytest.mark.parametrize(("filter", "method"), [("bicubic", 3), ("bilinear", 2)])
@pytest.mark.parametrize(("shape", "size"), [((32, 32), 299), ((28, 28), 64), ((300, 200), 64), ((64, 64), 64)])
def test_antialiased_resizing_is_pils(filter: str, method: int, shape: tuple[int, int], size: int) -> None:
    """Equal to mode F to 1e-4 of 255 steps, larger, smaller and unchanged; clamped; rounded to whole steps if asked."""
    images = torch.randint(0, 256, (2, 2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = torch.stack([pil_resize(image, size, Image.Resampling(method)) for image in images]).clamp(0, 255)
    resized = Antialiased(filter, size)(images.float())
    assert torch.allclose(resized, expected, atol=1e-4, rtol=0)
    assert torch.equal(Antialiased(filter, size, rounded=True)(images.float()), resized.round())


def test_preparation() -> None:
    """(x / 255 - mean) / std by channel, grey repeated to three; black and white at the ends of a range."""
    grey = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    prepared = Preparation.standardised(Unchanged(), mean, std)(grey)
    assert prepared.shape == (1, 3, 1, 3)
    for channel in range(3):
        expected = [(value - mean[channel]) / std[channel] for value in (0, 0.2, 1)]
        assert prepared[0, channel, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(Preparation.standardised(Unchanged(), mean, std)(grey.repeat(1, 3, 1, 1)), prepared)
    ranged = Preparation.between(Unchanged(), -1, 3, rgb=False)(grey)
    assert ranged.flatten().tolist() == pytest.approx([-1, -0.2, 3], abs=1e-6)
    with pytest.raises(UserError, match="low=1, high=1: expected low < high"):
        Preparation.between(Unchanged(), 1, 1, rgb=False)
    with pytest.raises(UserError, match="nearest to 8 pixels; expected bilinear or bicubic"):
        Antialiased("nearest", 8)


def test_inception_failures(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, foreign and dangerous files, no network: one line with the file and the way out."""

    def offline(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"weights-inception-2015-12-05-6726825d.pth is missing .*extractor=classifier"):
        InceptionSource(str(tmp_path)).build(dataset())
    with pytest.raises(UserError, match="absent.pth can't be read.*extractor=classifier"):
        InceptionSource("c", str(tmp_path / "absent.pth")).build(dataset())
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(UserError, match="text.pth: not a PyTorch weights file"):
        InceptionSource("c", str(tmp_path / "text.pth")).build(dataset())
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="other.pth: not the weights of this network"):
        InceptionSource("c", str(tmp_path / "other.pth")).build(dataset())
    torch.save(dataset(), tmp_path / "code.pth")
    with pytest.raises(UserError, match="code.pth: not a PyTorch weights file"):
        InceptionSource("c", str(tmp_path / "code.pth")).build(dataset())


def test_inception_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra to install and the extractor that needs none."""
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"gan-experiments\[inception\].*extractor=classifier"):
        InceptionSource("c").build(dataset())
