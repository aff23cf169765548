"""The option extractor=inception: the Inception network of the published FID, IS and KID numbers (2015-12-05)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.locations import located
from gan_experiments.metrics.extractors import ExtractorSource, Features, image_shape, require_extra
from gan_experiments.metrics.network_extractor import Backbone, NetworkExtractor
from gan_experiments.metrics.preparation import Antialiased, Preparation, Resizer, Unchanged
from gan_experiments.metrics.weights_file import Weights, fetch_weights

SIDE = 299
"""Height and width in pixels that the network was trained at."""

LEAST = 75
"""Smallest height and width in pixels that its layers can read."""


@final
class TensorFlowBilinear(Resizer):
    """TensorFlow 1's bilinear resizing, source = place * before / after without half a pixel, by torch-fidelity."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images (n, c, 299, 299)."""
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as resize

        resized: Tensor = resize(images, size=(SIDE, SIDE), align_corners=False)
        return resized

    def describe(self) -> str:
        """Its name."""
        return f"TensorFlow 1 bilinear to {SIDE}x{SIDE}"


RESIZERS: dict[str, Resizer] = {
    "tf_bilinear": TensorFlowBilinear(),
    "clean": Antialiased("bicubic", SIDE, label="clean"),
    "none": Unchanged(),
}


@final
class Inception(Backbone):
    """2048 pool features and 1008 unbiased logits of torch-fidelity's network, whose own resizing is left out."""

    def __init__(self, net: nn.Module) -> None:
        """The layers of that network, in the order of their definition."""
        super().__init__()
        layers = dict(net.named_children())
        self.weight = layers.pop("fc").get_parameter("weight")
        self.layers = nn.Sequential(*layers.values())

    def forward(self, images: Tensor) -> Features:
        """Features (n, 2048) and logits without bias (n, 1008) of float images in [-1, 1)."""
        features = self.layers(images).flatten(1)
        return Features(features, features @ self.weight.T)


@located("cache", "weights")
@dataclass(frozen=True)
class InceptionSource(ExtractorSource):
    """The option extractor=inception: weights from the file `weights`, or downloaded into `cache` on first use.

    `resize` is tf_bilinear (inside the network, as published FIDs have it), clean (Parmar et al. 2022: PIL's bicubic,
    antialiased, float, clamped, never rounded again) or none (images at their own size, at least 75 pixels). Sizes by
    different methods give different scores: the two lie half a pixel apart already for 32 to 299.
    """

    cache: str
    weights: str | None = None
    resize: str = "tf_bilinear"

    def __post_init__(self) -> None:
        """UserError for an unknown `resize`."""
        if self.resize not in RESIZERS:
            raise UserError(f"extractor inception: resize={self.resize}; expected one of {', '.join(RESIZERS)}")

    def build(self, dataset: Dataset) -> NetworkExtractor:
        """The network with its weights; UserError when the package or the weights can't be had."""
        _, height, width = image_shape("inception", dataset)
        if self.resize == "none" and min(height, width) < LEAST:
            raise UserError(
                f"extractor inception: resize=none reads images of at least {LEAST}x{LEAST} pixels, but those of "
                f"{dataset.name} have {height}x{width}; set extractor.inception.resize=tf_bilinear"
            )
        require_extra("inception", "torch_fidelity", "torch-fidelity", "inception")
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3 as url

        weights = fetch_weights(self.weights, url, Path(self.cache) / url.rsplit("/", 1)[1], "inception")
        prepare = Preparation(RESIZERS[self.resize], [128], [128])
        return NetworkExtractor("inception-2015-12-05", weights.sha256, restore(weights, url), prepare, dataset)


def restore(weights: Weights, url: str) -> Inception:
    """The network with these weights; UserError when they are of another network than those at `url`."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity unpickles its file without restriction, so it gets a copy of what the restricted loader took.
    safe = io.BytesIO()
    torch.save(weights.state, safe)
    safe.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):
            return Inception(FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], safe))
    except RuntimeError as error:
        raise weights.misfit(error, f"this network, which are at {url}") from error
