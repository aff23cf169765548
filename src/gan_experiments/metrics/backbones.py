"""The options extractor=torchvision and extractor=module: any classifier of torchvision, any network of one's own."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from gan_experiments.config import build
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.locations import located
from gan_experiments.metrics.extractors import ExtractorSource, image_shape
from gan_experiments.metrics.network_extractor import LastLinear, Layer, NetworkExtractor, Output
from gan_experiments.metrics.preparation import Antialiased, Preparation, Unchanged
from gan_experiments.metrics.weights_file import fetch_weights, hash_state, load_weights

PENULTIMATE = "penultimate"

GIVEN: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}
"""Arguments that torchvision itself adds when it loads its weights into these networks."""

log = logging.getLogger(__name__)


@located("cache", "weights")
@dataclass(frozen=True)
class TorchvisionSource(ExtractorSource):
    """The option extractor=torchvision: features and ImageNet logits of the classifier that torchvision names `model`.

    `weights` is DEFAULT, another name of torchvision's own weights (downloaded into `cache` on first use), or a file.
    `layer` is penultimate (what the last linear layer reads) or a part's name, whose maps are averaged. Mean,
    deviation, interpolation and, with `size` None, the size are those of the weights (of the default ones, for a
    file); the whole image is resized, never cropped.
    """

    model: str
    cache: str
    weights: str | None = "DEFAULT"
    layer: str = PENULTIMATE
    size: int | None = None

    def build(self, dataset: Dataset) -> NetworkExtractor:
        """The classifier with its weights; UserError when it isn't one, or when the weights can't be had."""
        image_shape("torchvision", dataset)
        entry, file = self.choice()
        settings = entry.transforms()
        name = f"torchvision_{self.model}"
        weights = fetch_weights(file, entry.url, Path(self.cache) / entry.url.rsplit("/", 1)[1], "torchvision")
        # On the meta device, because drawing weights that are replaced at once would disturb the global generator.
        with torch.device("meta"):
            net = models.get_model(self.model, weights=None, **GIVEN.get(self.model, {}))
        weights.load_into(net, f"torchvision's {self.model}")
        whole = self.layer == PENULTIMATE
        backbone = LastLinear(net.eval(), name) if whole else Layer(net.eval(), self.layer, name)
        size = settings.crop_size[0] if self.size is None else self.size
        resizer = Antialiased(settings.interpolation.value, size)
        prepare = Preparation.standardised(resizer, settings.mean, settings.std)
        return NetworkExtractor(name if whole else f"{name}_{self.layer}", weights.sha256, backbone, prepare, dataset)

    def choice(self) -> tuple[Any, str | None]:
        """torchvision's entry for its weights, and the file that takes their place, if one does; UserError if none."""
        names = models.list_models(module=models)
        if self.model not in names:
            close = ", ".join(difflib.get_close_matches(self.model, names, 3, 0.3))
            raise UserError(f"extractor torchvision: torchvision has no classifier {self.model}; close are {close}")
        entries = models.get_model_weights(self.model)
        known = ["DEFAULT", *(entry.name for entry in entries)]
        if self.weights is None:
            raise UserError(
                f"extractor.torchvision.weights is null, and {self.model} without weights gives meaningless features; "
                f"set it to a file or to one of {', '.join(known)}"
            )
        return (entries[self.weights], None) if self.weights in known else (entries["DEFAULT"], self.weights)


@located("weights")
@dataclass(frozen=True)
class ModuleSource(ExtractorSource):
    """The option extractor=module: the features that a network of one's own returns.

    `module` is a node with `_target_` (or an nn.Module): built with the random `seed`, it gets float images from `low`
    to `high`, resized to `size` x `size` (antialiased bilinear) unless that is None, grey ones repeated to three
    channels if `rgb`. It returns features (n, d) or (n, d, h, w), which are averaged, or a pair of features and logits.
    `weights` is a file with its state dict; without one it stays as its constructor left it, which the log says.
    """

    module: Any
    weights: str | None = None
    low: float = -1.0
    high: float = 1.0
    size: int | None = None
    rgb: bool = False
    seed: int = 0

    def build(self, dataset: Dataset) -> NetworkExtractor:
        """The network with its weights; UserError when it can't be built or can't read these images."""
        image_shape("module", dataset, self.rgb)
        net = self.network()
        name = f"module_{type(net).__name__}"
        if self.weights is None:
            sha256 = hash_state(net.state_dict())
            log.warning("extractor %s has no weights file: used as constructed with seed %d", name, self.seed)
        else:
            weights = load_weights(Path(self.weights), "module")
            weights.load_into(net, type(net).__name__)
            sha256 = weights.sha256
        resizer = Unchanged() if self.size is None else Antialiased("bilinear", self.size)
        prepare = Preparation.between(resizer, self.low, self.high, self.rgb)
        return NetworkExtractor(name, sha256, Output(net), prepare, dataset)

    def network(self) -> nn.Module:
        """The network, built without touching the global random state; UserError when the node gives none."""
        if isinstance(self.module, nn.Module):
            return self.module
        place = "extractor.module.module"
        if not isinstance(self.module, Mapping):
            raise UserError(f"{place} names no network; set {place}={{_target_:my_package.Net}} with its arguments")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = build(dict(self.module), place)
        if not isinstance(net, nn.Module):
            raise UserError(f"{place}: {self.module.get('_target_')} gave a {type(net).__name__}, expected a nn.Module")
        return net
