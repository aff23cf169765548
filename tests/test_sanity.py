"""Metrics on real and spoilt images of known quality: each must move the way its definition says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gan_experiments.analysis.sanity import Bench, blurred
from gan_experiments.config import build_named, compose_option
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.data.mnist import fashion10k
from gan_experiments.errors import UserError
from gan_experiments.metrics.classifier_extractor import ClassifierSource
from gan_experiments.metrics.evaluator import Evaluator

FRESH, TRAINING, NOISY, BLURRED = "fresh real images", "training images", "training images, faintly noisy", "blurred"
HALF, ONE, NOISE = "half the classes", "one image repeated", "uniform noise"
SMALLER: dict[str, dict[str, Any]] = {
    "kid": {"subset_size": 400, "subsets": 10},
    "birthday": {"size": 80},
    "ndb": {"bins": 50},
    "swd": {"images": 200, "repeats": 1},
    "prd": {"repeats": 2},
    "ms_ssim": {"pairs": 200},
}


@pytest.fixture(scope="module")
def values() -> dict[str, dict[str, float]]:
    """All scores of `full` and `labelled` but FID at infinity, by set and name; 1,000 images a side."""
    bench = Bench(fashion10k(), 1000)
    nodes = {key: node for name in ("full", "labelled") for key, node in compose_option("metric", name, "x").items()}
    del nodes["fid_infinity"]  # needs more samples, and has a simulation of its own
    for name, settings in SMALLER.items():
        nodes[name] |= settings
    extractor = ClassifierSource("x").build(bench.data)
    evaluator = Evaluator(bench.data, {"classifier": extractor}, build_named(nodes, "metric"), 1000)
    return {
        name: {key: score.value for key, score in evaluator.evaluate(images, "none", 0, 0).items()}
        for name, images in bench.sets().items()
    }


@pytest.mark.parametrize(
    "score",
    ["fid", "kid", "swd", "ndb", "ndb_js", "two_sample", "nn_accuracy", "per_class_fid", "class_kl",
     "spectrum_detector", "spectrum_distance", "birthday"],
)  # fmt: skip
def test_every_fault_costs(values: dict[str, dict[str, float]], score: str) -> None:
    """Each spoilt set is worse than fresh images, for the measures that are small when all is well."""
    blind = {"per_class_fid": {HALF}, "birthday": {HALF, BLURRED}, "class_kl": {BLURRED}}.get(score, set())
    for fault in {BLURRED, HALF, ONE, NOISE} - blind:
        assert values[fault][score] > 1.1 * values[FRESH][score] + 1e-3, fault


@pytest.mark.parametrize("score", ["recall", "coverage", "prd_recall", "inception_score", "vendi"])
def test_every_fault_lowers_variety(values: dict[str, dict[str, float]], score: str) -> None:
    """Blurred images, half of the classes, one image and noise leave out much of the real ones."""
    for fault in (BLURRED, HALF, ONE, NOISE):
        assert values[fault][score] < 0.95 * values[FRESH][score], fault


def test_half_of_the_classes(values: dict[str, dict[str, float]]) -> None:
    """Precision and density are blind to it, recall is not; five classes are missing and KL is about ln 2."""
    half, fresh = values[HALF], values[FRESH]
    assert half["precision"] == pytest.approx(fresh["precision"], abs=0.06)
    assert half["recall"] < 0.7 * fresh["recall"]
    assert half["classes_missing"] == half["per_class_absent"] == 5 and fresh["classes_missing"] == 0
    assert half["class_kl"] == pytest.approx(0.693, abs=0.15)
    assert half["diversity"] == pytest.approx(5, abs=1)


def test_one_image(values: dict[str, dict[str, float]]) -> None:
    """Every pair of samples is the same, one class is left, the support is one."""
    one = values[ONE]
    assert (one["ms_ssim"], one["vendi"], one["inception_score"]) == pytest.approx((1, 1, 1), abs=1e-3)
    assert one["recall"] == 0 and one["birthday"] == 1 and one["birthday_support"] < 2
    assert one["classes_missing"] == 9


@pytest.mark.parametrize("copies", [TRAINING, NOISY])
def test_a_model_that_returns_training_images_is_caught(values: dict[str, dict[str, float]], copies: str) -> None:
    """By the metrics made for it, also when noise is added; distances and precision praise it."""
    caught, fresh = values[copies], values[FRESH]
    assert caught["authenticity"] < 0.05 < 0.4 < fresh["authenticity"]
    assert caught["data_copying"] < -15 and abs(fresh["data_copying"]) < 4
    assert caught["nearest_feature_closer"] > 0.95 and fresh["nearest_feature_closer"] < 0.15
    assert caught["nearest_pixel_closer"] > 0.95 and fresh["nearest_pixel_closer"] < 0.15
    assert caught["nn_accuracy"] < 0.05 and fresh["nn_accuracy"] == pytest.approx(0.5, abs=0.06)
    assert caught["fid"] < fresh["fid"] and caught["precision"] > fresh["precision"]


def test_fresh_images_are_told_from_nothing(values: dict[str, dict[str, float]]) -> None:
    """Two-sample tests are near chance, densities near 1, coverage near what equality gives."""
    fresh = values[FRESH]
    for score in ("two_sample", "nn_accuracy", "spectrum_detector"):
        assert fresh[score] == pytest.approx(0.5, abs=0.06)
    assert fresh["density"] == pytest.approx(1, abs=0.1) and fresh["coverage"] == pytest.approx(0.969, abs=0.02)


def test_benches_that_cannot_be() -> None:
    """Too few images, or none with classes."""
    with pytest.raises(UserError, match="needs labelled images, and 10400 of them"):
        Bench(fashion10k(), 2600)
    plain = Split(torch.zeros(20, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(UserError, match="labelled images"):
        Bench(Dataset("plain", Spec((1, 2, 2)), plain, plain), 2)


def test_blur_is_a_normalised_gaussian() -> None:
    """A flat image stays; a bright point spreads with variance 1 in each direction."""
    assert torch.equal(blurred(torch.full((1, 1, 9, 9), 77, dtype=torch.uint8)), torch.full((1, 1, 9, 9), 77).byte())
    point = torch.zeros(1, 1, 15, 15, dtype=torch.uint8)
    point[0, 0, 7, 7] = 255
    row = blurred(point)[0, 0].double()
    places = torch.arange(15) - 7.0
    assert float((row.sum(0) * places.square()).sum() / row.sum()) == pytest.approx(1, abs=0.1)
