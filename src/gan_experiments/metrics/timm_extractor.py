"""The options extractor=dinov2 and extractor=clip: image networks of the library timm, with its settings for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.locations import located
from gan_experiments.metrics.extractors import ExtractorSource, image_shape, require_extra
from gan_experiments.metrics.network_extractor import NetworkExtractor, Output
from gan_experiments.metrics.preparation import Antialiased, Preparation
from gan_experiments.metrics.weights_file import Weights, fetch_weights


@located("cache", "weights")
@dataclass(frozen=True)
class TimmSource(ExtractorSource):
    """The features of a network that timm names `model`, which the option `name` stands for.

    Mean, deviation, interpolation and, with `size` None, the size are those of timm's settings for its weights. The
    whole image is resized, never cropped. `head` keeps the network's own last layer (CLIP's projection to 768 values
    shared with texts), otherwise the pooled output before it is used (DINOv2: class token after the last norm).
    `unit_norm` scales features to length 1; `rounded` rounds resized pixels, as images resized by PIL are. Position
    embeddings of other sizes are resampled as timm does it. Weights come from the file `weights` (safetensors or
    PyTorch), or are downloaded into `cache` on first use. FD-DINOv2: Stein et al. 2023; CMMD: Jayasumana et al. 2024.
    """

    name: str
    model: str
    cache: str
    weights: str | None = None
    size: int | None = None
    head: bool = False
    unit_norm: bool = False
    rounded: bool = False

    def build(self, dataset: Dataset) -> NetworkExtractor:
        """The network with its weights; UserError when timm, the model or the weights can't be had."""
        image_shape(self.name, dataset)
        require_extra(self.name, "timm", "timm", "timm")
        settings = self.settings()
        size = settings.input_size[1] if self.size is None else self.size
        resizer = Antialiased(settings.interpolation, size, self.rounded)
        url = weights_url(settings)
        full = f"{settings.architecture}.{settings.tag}" if settings.tag else self.model
        if self.weights is None and url is None:
            raise UserError(f"extractor {self.name}: timm has no weights of {self.model}; {self.advice()}")
        weights = fetch_weights(self.weights, url or "", Path(self.cache) / f"{full}.safetensors", self.name)
        net = Output(self.restore(weights, size, settings), self.unit_norm)
        prepare = Preparation.standardised(resizer, settings.mean, settings.std)
        parts = [full, "head" if self.head else "", "unit" if self.unit_norm else ""]
        return NetworkExtractor("_".join(filter(None, parts)), weights.sha256, net, prepare, dataset)

    def settings(self) -> Any:
        """timm's settings for the model's weights: size, interpolation, mean, deviation; UserError if it has none."""
        import timm

        settings = timm.get_pretrained_cfg(self.model)
        if settings is None:
            raise UserError(f"extractor {self.name}: timm has no model {self.model}; {self.advice()}")
        return settings

    def advice(self) -> str:
        """How to find a model that timm has weights of."""
        return f"set extractor.{self.name}.model to one that timm.list_pretrained() gives"

    def restore(self, weights: Weights, size: int, settings: Any) -> nn.Module:
        """The network with these weights, without its last layer unless `head`; UserError when they don't fit."""
        import timm

        sized: dict[str, Any] = {"img_size": size} if settings.fixed_input_size else {}
        overlay = {"state_dict": weights.state, "custom_load": False}
        try:
            with torch.random.fork_rng(devices=[]):
                net: Any = timm.create_model(self.model, pretrained=True, pretrained_cfg_overlay=overlay, **sized)
                if not self.head:
                    net.reset_classifier(0)
        except (RuntimeError, KeyError, AssertionError) as error:
            raise weights.misfit(error, f"{self.model} at {size}x{size}") from error
        module: nn.Module = net.float()
        return module


def weights_url(settings: Any) -> str | None:
    """Where timm's weights are: safetensors on the hub, whose mirror the environment may name; None if nowhere."""
    from huggingface_hub import hf_hub_url

    if not settings.hf_hub_id:
        return None
    return str(hf_hub_url(settings.hf_hub_id, settings.hf_hub_filename or "model.safetensors"))
