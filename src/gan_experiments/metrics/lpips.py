"""The perceptual distance LPIPS of pairs of images (Zhang et al. 2018) on VGG16."""

from __future__ import annotations

import hashlib
import io
import pickle
from importlib import resources
from pathlib import Path
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.errors import UserError

LAYERS = (3, 8, 15, 22, 29)
"""The ReLUs of torchvision's VGG16 that LPIPS compares: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and deviation of ImageNet's colours for values in [-1, 1]."""

SIDE = 256
"""Pixels of the shorter side above which images are averaged down by a whole factor (as in StyleGAN's code)."""

SMALLEST = 16
"""Pixels that four halvings leave something of."""

PREFIX = "metric.perceptual_path_length.weights"


class PairDistance(nn.Module):
    """A distance of pairs of float images in [-1, 1] by `forward(first, second) -> (n,)`, known by name and SHA-256."""

    name = ""
    sha256 = ""


@final
class Lpips(PairDistance):
    """LPIPS 0.1 on VGG16: squared differences of unit-length activations, weighted by channel, averaged over places."""

    name = "LPIPS 0.1 on VGG16"
    shift: Tensor
    scale: Tensor

    def __init__(self, features: nn.Sequential, weights: list[Tensor], sha256: str) -> None:
        """A distance from VGG16's convolutions and five vectors of channel weights."""
        super().__init__()
        self.features = features
        self.weights = nn.ParameterList([nn.Parameter(weight.flatten(), requires_grad=False) for weight in weights])
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))
        self.sha256 = sha256
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (n,) of float images (n, 1 or 3, h, w) in [-1, 1]."""
        x, y = ((shrink(images).expand(-1, 3, -1, -1) - self.shift) / self.scale for images in (first, second))
        total = x.new_zeros(len(x), dtype=torch.float64)
        weights = iter(self.weights)
        for place, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if place in LAYERS:
                squares = (unit_length(x) - unit_length(y)).square()
                total += torch.einsum("nchw,c->nhw", squares, next(weights)).mean((1, 2), dtype=torch.float64)
        return total


def unit_length(activations: Tensor) -> Tensor:
    """Activations (n, c, h, w) divided by their length over channels."""
    return activations / (activations.square().sum(1, keepdim=True) + 1e-8).sqrt()


def shrink(images: Tensor) -> Tensor:
    """Images (n, c, h, w) averaged over squares of the whole factor by which they exceed 256 pixels."""
    factor = min(images.shape[2:]) // SIDE
    return F.avg_pool2d(images, factor) if factor > 1 else images


def load_lpips(weights: str | None) -> Lpips:
    """LPIPS with VGG16's weights from a file, or downloaded by torchvision's address into torch's cache.

    Raises UserError when they can't be had or aren't torchvision's VGG16.
    """
    from torchvision.models import VGG16_Weights, vgg16

    url = VGG16_Weights.IMAGENET1K_V1.url
    path = Path(weights) if weights else download(url)
    try:
        content = path.read_bytes()
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        with torch.device("meta"):
            features = vgg16(weights=None).features[: LAYERS[-1] + 1]
        own = {name: state[f"features.{name}"].float() for name in features.state_dict()}
        # In place, so that activations aren't copied; assigned, so that no random weights are made first.
        features.load_state_dict(own, assign=True)
    except OSError as error:
        raise UserError(f"{PREFIX}: {path} can't be read ({error.strerror}); leave it null to download it") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{PREFIX}: {path} doesn't hold the state dict of torchvision's vgg16; expected {url}"
        ) from error
    return Lpips(features, channel_weights(), hashlib.sha256(content).hexdigest())


def channel_weights() -> list[Tensor]:
    """LPIPS's five vectors of channel weights for VGG16, which torchmetrics brings along."""
    file = resources.files("torchmetrics") / "functional" / "image" / "lpips_models" / "vgg.pth"
    state = torch.load(io.BytesIO(file.read_bytes()), map_location="cpu", weights_only=True)
    return [state[f"lin{level}.model.1.weight"].float() for level in range(len(LAYERS))]


def download(url: str) -> Path:
    """The file of `url` in torch's cache, downloaded when it isn't there; its name holds the start of its SHA-256."""
    name = url.rsplit("/", 1)[1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            prefix = name.removesuffix(".pth").rsplit("-", 1)[1]
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"metric perceptual_path_length: {path} is missing and its download failed ({error}); put the file of "
                f"{url} there, or set {PREFIX} to a copy of it"
            ) from error
    return path
