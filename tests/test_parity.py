"""The same numbers as other implementations, from equal images, weights and features; where they differ, why."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.metrics.base import AnyMetric, Reading
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.frechet import FrechetDistance, frechet_distance
from gan_experiments.metrics.inception import InceptionSource
from gan_experiments.metrics.inception_score import InceptionScore
from gan_experiments.metrics.kernel import KernelDistance
from gan_experiments.metrics.order import settled
from inception_weights import write_random_weights

N, D, CLASSES = 240, 24, 10


def correlated(seed: int, shift: float) -> Tensor:
    """Features (240, 24), float32, positive and correlated as pooled activations are."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, generator=torch.Generator().manual_seed(99))
    return (torch.randn(N, D, generator=generator) @ mixing / 5 + shift).relu()


REAL, FAKE = correlated(0, 0.5), correlated(1, 0.8)
LOGITS = 2 * torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(2))


def read(metric: AnyMetric) -> Reading:
    """The main number for these features and logits, shown in uneven batches."""
    for side, real in ((REAL, True), (FAKE, False)):
        for features, logits in zip(side.split(70), LOGITS.split(70), strict=True):
            metric.update(Features(features, logits), real=real)
    reading: Reading = metric.compute()[0]
    assert reading.name == ""
    return reading


class Given(nn.Module):
    """An extractor for other packages: images (n, 1, 1, d) are the features themselves."""

    num_features = D

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, d)."""
        return images.flatten(1)


def as_images(features: Tensor) -> Tensor:
    """Features as images that `Given` gives back."""
    return features[:, None, None]


class TestTorchFidelity:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("torch_fidelity", reason="torch-fidelity, the extra inception, isn't installed")

    def test_the_inception_networks_features_and_logits(self, tmp_path: Path) -> None:
        """Equal images of bytes through the same weights, at 299 and at 32 pixels, where resizing counts."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = write_random_weights(tmp_path / "weights.pth")
        small = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        large = torch.randint(0, 256, (1, 3, 299, 299), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        ours = InceptionSource("unused", str(path)).build(Dataset("x", Spec((3, 32, 32)), Split(small), Split(small)))
        with torch.random.fork_rng():
            theirs = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))
        for images in (small, large):
            features, logits = theirs(images)
            assert float(features.std()) > 1e-3
            found = ours(images)
            assert found.logits is not None
            assert torch.allclose(found.features, features, rtol=1e-5, atol=1e-5 * float(features.abs().max()))
            assert torch.allclose(found.logits, logits, rtol=1e-5, atol=1e-5 * float(logits.abs().max()))

    def test_frechet_distance(self) -> None:
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

        statistics = [fid_features_to_statistics(side.double()) for side in (REAL, FAKE)]
        expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        assert read(FrechetDistance()).value == pytest.approx(expected, rel=1e-6)

    def test_kernel_distance(self) -> None:
        """On one subset of everything, since the packages draw different ones; their float64 kernel is the truth."""
        from torch_fidelity.metric_kid import kid_features_to_metric

        sizes = {"kid_subsets": 1, "kid_subset_size": N, "verbose": False}
        expected = kid_features_to_metric(REAL.double(), FAKE.double(), **sizes)["kernel_inception_distance_mean"]
        assert read(KernelDistance(subsets=1, subset_size=N)).value == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("splits", [1, 7, 10])
    def test_inception_score(self, splits: int) -> None:
        """In our order instead of theirs; 7 doesn't divide 240."""
        from torch_fidelity.metric_isc import isc_features_to_metric

        expected = isc_features_to_metric(LOGITS[settled(LOGITS)], splits=splits, shuffle=False)
        reading = read(InceptionScore(splits))
        assert reading.value == pytest.approx(expected["inception_score_mean"], rel=1e-6)


class TestPytorchFid:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_frechet_distance_of_equal_statistics(self) -> None:
        theirs = pytest.importorskip("pytorch_fid.fid_score", reason="pytorch-fid isn't installed")
        moments = [
            (side.double().numpy().mean(0), numpy.cov(side.double().numpy(), rowvar=False)) for side in (REAL, FAKE)
        ]
        expected = float(theirs.calculate_frechet_distance(*moments[0], *moments[1]))
        assert read(FrechetDistance()).value == pytest.approx(expected, rel=1e-6)
        mean1, covariance1, mean2, covariance2 = (torch.from_numpy(part) for pair in moments for part in pair)
        assert frechet_distance(mean1, covariance1, mean2, covariance2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("ignore:Metric `:UserWarning")
class TestTorchmetrics:
    def shown(self, metric: Any) -> Any:
        """Their metric after both sides."""
        metric.update(as_images(REAL), real=True)
        metric.update(as_images(FAKE), real=False)
        return metric

    def test_frechet_distance(self) -> None:
        """Their result is cast to the features' float32."""
        theirs = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics has no FID")
        expected = self.shown(theirs.FrechetInceptionDistance(feature=Given())).compute()
        assert read(FrechetDistance()).value == pytest.approx(expected.item(), rel=1e-6)

    def test_kernel_distance(self) -> None:
        """Their kernel is float32 unless features are float64."""
        theirs = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics has no KID")
        metric = theirs.KernelInceptionDistance(feature=Given(), subsets=1, subset_size=N)
        metric.update(as_images(REAL.double()), real=True)
        metric.update(as_images(FAKE.double()), real=False)
        expected, _ = metric.compute()
        assert read(KernelDistance(subsets=1, subset_size=N)).value == pytest.approx(expected.item(), rel=1e-5)

    def test_inception_score(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Their standard deviation over splits divides by splits - 1, that of papers and of ours by splits."""
        theirs = pytest.importorskip("torchmetrics.image.inception", reason="torchmetrics has no Inception Score")
        metric = theirs.InceptionScore(feature=nn.Identity(), splits=10)
        metric.update(LOGITS[settled(LOGITS)])
        reading = read(InceptionScore(10))
        monkeypatch.setattr(torch, "randperm", torch.arange)  # they shuffle by the global generator
        mean, spread = metric.compute()
        assert reading.value == pytest.approx(mean.item(), rel=1e-5)
        assert reading.error is not None
        assert reading.error == pytest.approx(spread.item() * math.sqrt(9 / 10), rel=1e-4)
