"""Extractors around any network: images are prepared and read in chunks, features and logits are picked out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.metrics.preparation import Preparation

CHUNK = 50
"""Images a forward pass, so that memory stays small and float32 results don't depend on the caller's batch size."""


class Backbone(nn.Module, ABC):
    """A network that gives Features of prepared float32 images (n, c, h, w)."""

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Features (n, d), and logits (n, k) where the network has classes."""


@final
class NetworkExtractor(Extractor):
    """A backbone behind its preparation; the numbers of features and classes are found by reading a black image."""

    def __init__(self, name: str, sha256: str, net: Backbone, prepare: Preparation, dataset: Dataset) -> None:
        """An extractor for images of that data set; UserError when the network can't read them."""
        super().__init__(name, sha256, 0, 0, prepare.describe())
        # Convolutions on CPUs are twice as fast with it.
        self.net = net.to(memory_format=torch.channels_last)
        self.prepare = prepare
        self.freeze()
        shape = dataset.spec.shape
        try:
            found = self(torch.zeros(1, *shape, dtype=torch.uint8))
        except (RuntimeError, AssertionError, TypeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"extractor {name} can't read images of shape {shape} of {dataset.name}: {reason}"
            ) from error
        self.num_features = found.features.shape[1]
        self.num_classes = 0 if found.logits is None else found.logits.shape[1]

    def extract(self, images: Tensor) -> Features:
        """Features (n, d) and logits (n, k) in float32."""
        chunks = torch.tensor_split(images, list(range(CHUNK, len(images), CHUNK)))
        read = [self.net(self.prepare(chunk).contiguous(memory_format=torch.channels_last)) for chunk in chunks]
        logits = [part.logits for part in read if part.logits is not None]
        return Features(torch.cat([part.features for part in read]), torch.cat(logits) if logits else None)


@final
class Output(Backbone):
    """What a network returns: features, (n, d) or averaged from (n, d, h, w), or a pair of features and logits."""

    def __init__(self, net: nn.Module, unit_norm: bool = False) -> None:
        """The output of `net`, with `unit_norm` scaled to Euclidean length 1."""
        super().__init__()
        self.net, self.unit_norm = net, unit_norm

    def forward(self, images: Tensor) -> Features:
        """Features (n, d), and logits (n, k) of a network that returns a pair."""
        output = self.net(images)
        first, logits = output if isinstance(output, tuple | list) and len(output) == 2 else (output, None)
        features = pooled(first, len(images))
        if logits is not None and (not isinstance(logits, Tensor) or logits.ndim != 2):
            refuse(logits, "logits (n, k) as the second of a pair")
        return Features(F.normalize(features) if self.unit_norm else features, logits)


@final
class LastLinear(Backbone):
    """What the last linear layer of a classifier reads, its penultimate features, and the logits it returns."""

    def __init__(self, net: nn.Module, name: str) -> None:
        """Features of the classifier `net`; UserError, with its `name`, when it has no linear layer."""
        super().__init__()
        linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise UserError(f"{name} has no linear layer, so no penultimate features; set layer to a part's name")
        self.net, self.last = net, linear[-1]

    def forward(self, images: Tensor) -> Features:
        """Features (n, d) and logits (n, k)."""
        read: list[Tensor] = []
        handle = self.last.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
        try:
            logits = self.net(images)
        finally:
            handle.remove()
        return Features(pooled(read[-1], len(images)), logits)


@final
class Layer(Backbone):
    """What a named part of a classifier returns, (n, d) or averaged from (n, d, h, w), and the classifier's logits."""

    def __init__(self, net: nn.Module, layer: str, name: str) -> None:
        """Features of that part of `net`; UserError, with the network's `name`, when it has no such part."""
        super().__init__()
        parts = dict(net.named_modules())
        if layer not in parts or not layer:
            some = [part for part in parts if part and part.count(".") <= 1]
            more = "..., " if len(some) > 12 else ""
            raise UserError(f"{name} has no layer {layer}; there is {more}{', '.join(some[-12:])}")
        self.net, self.layer = net, parts[layer]

    def forward(self, images: Tensor) -> Features:
        """Features (n, d) and logits (n, k)."""
        written: list[Any] = []
        handle = self.layer.register_forward_hook(lambda module, inputs, output: written.append(output))
        try:
            logits = self.net(images)
        finally:
            handle.remove()
        return Features(pooled(written[-1], len(images)), logits)


def pooled(output: Any, n: int) -> Tensor:
    """Features (n, d) of outputs (n, d), or of (n, d, h, w) averaged over places; UserError for any others."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 4) or len(output) != n:
        refuse(output, f"features (n, d) or (n, d, h, w) of n={n} images")
    return output.float() if output.ndim == 2 else output.float().mean((2, 3))


def refuse(output: Any, expected: str) -> NoReturn:
    """UserError for an output of a network."""
    found = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise UserError(f"extractor: the network returned {found}; expected {expected}")
