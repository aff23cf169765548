"""The option extractor=inception: the Inception network of the published FID, IS and KID numbers (2015-12-05)."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.metrics.extractors import Extractor, ExtractorSource, Features, image_shape

CHUNK = 50
"""Images a forward pass, so that memory stays small and float32 results don't depend on the caller's batch size."""

OFFLINE = "extractor=classifier works offline for labelled data"


class InceptionExtractor(Extractor):
    """2048 pool features and 1008 unbiased logits of the TensorFlow Inception-v3; grey images are repeated to RGB."""

    def __init__(self, net: nn.Module, sha256: str) -> None:
        """An extractor around loaded weights."""
        super().__init__("inception-2015-12-05", sha256, 2048, 1008, "TensorFlow 1 bilinear to 299x299")
        self.net = net

    def extract(self, images: Tensor) -> Features:
        """Features (n, 2048) and logits without bias (n, 1008)."""
        rgb = images.expand(-1, 3, -1, -1)
        bounds = list(range(CHUNK, len(images), CHUNK))
        features, logits = zip(*(self.net(chunk) for chunk in torch.tensor_split(rgb, bounds)), strict=True)
        return Features(torch.cat(features), torch.cat(logits))


@dataclass(frozen=True)
class InceptionSource(ExtractorSource):
    """The option extractor=inception: weights from the file `weights`, or downloaded into `cache` on first use."""

    cache: str
    weights: str | None = None

    def build(self, dataset: Dataset) -> InceptionExtractor:
        """The network with its weights; UserError when the package or the weights can't be had."""
        image_shape("inception", dataset)
        try:
            from torch_fidelity import feature_extractor_inceptionv3 as inception
        except ImportError as error:
            raise UserError(
                "extractor inception needs the package torch-fidelity: pip install 'gan-experiments[inception]'; "
                f"{OFFLINE}"
            ) from error
        path = Path(self.weights) if self.weights else self.download(inception.URL_INCEPTION_V3)
        content = read_weights(path)
        # torch-fidelity unpickles its file without restriction, so it gets a copy of what the restricted loader took.
        safe = io.BytesIO()
        torch.save(load_state(content, path), safe)
        safe.seek(0)
        try:
            with torch.random.fork_rng(devices=[]):
                net = inception.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], safe)
        except RuntimeError as error:
            raise UserError(
                f"{path}: not the weights of this network ({str(error).splitlines()[0]}); "
                f"expected those of {inception.URL_INCEPTION_V3}"
            ) from error
        return InceptionExtractor(net, hashlib.sha256(content).hexdigest()).freeze()

    def download(self, url: str) -> Path:
        """The weights file in the cache, downloaded when it isn't there; its name holds the start of its SHA-256."""
        name = url.rsplit("/", 1)[1]
        path = Path(self.cache) / name
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            prefix = name.removesuffix(".pth").rsplit("-", 1)[1]
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"extractor inception: {path} is missing and its download failed ({error}); put the file of {url} "
                f"there or set extractor.weights to a copy of it; {OFFLINE}"
            ) from error
        return path


def read_weights(path: Path) -> bytes:
    """The bytes of a weights file; UserError when it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"extractor.weights: {path} can't be read ({error.strerror}); leave it null to download the file; {OFFLINE}"
        ) from error


def load_state(content: bytes, path: Path) -> dict[str, Tensor]:
    """The state dict in a weights file, loaded without executing code; UserError when it isn't one."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: not a PyTorch weights file; download it again or name another; {OFFLINE}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}, expected a state dict of the FID Inception network")
    return state
