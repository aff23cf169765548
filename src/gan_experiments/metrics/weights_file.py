"""Files of weights: downloaded once, read without executing code, known by their SHA-256."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gan_experiments.data.caches import place_for
from gan_experiments.errors import UserError

OFFLINE = "extractor=classifier works offline for labelled data, extractor=efficientnet_lite0 for any images"

UNREADABLE = (
    pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError,
    ValueError, KeyError, IndexError, AttributeError,
)  # fmt: skip
"""What the restricted loaders raise for files that aren't weights."""


@dataclass(frozen=True)
class Weights:
    """A state dict, the file it came from and that file's SHA-256 (hex)."""

    path: Path
    state: dict[str, Tensor]
    sha256: str

    def load_into(self, net: nn.Module, what: str) -> None:
        """Make these the float32 weights of a network; UserError when they aren't weights of `what`."""
        try:
            net.load_state_dict(self.state, assign=True)
        except RuntimeError as error:
            raise self.misfit(error, what) from error
        net.float()

    def misfit(self, error: Exception, what: str) -> UserError:
        """The error that says in one line why these aren't weights of `what`."""
        reason = " ".join(str(error).split())
        return UserError(f"{self.path}: not the weights of {what} ({reason[:200]}{'...' if len(reason) > 200 else ''})")


def load_weights(path: Path, extractor: str) -> Weights:
    """The weights in a safetensors or PyTorch file, read without executing code, for the option `extractor`.

    UserError when the file can't be read or holds anything but tensors by name.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{setting(extractor)}: {path} can't be read ({error.strerror}); {OFFLINE}") from error
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        kind = "safetensors" if path.suffix == ".safetensors" else "PyTorch"
        raise UserError(f"{path}: not a {kind} weights file; download it again or name another; {OFFLINE}") from error
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: holds a {type(state).__name__}, expected a state dict (tensors by name)")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {name} is a {type(value).__name__}, expected a state dict (tensors by name)")
    return Weights(path, dict(state), sha256)


def fetch_weights(weights: str | None, url: str, cached: Path, extractor: str) -> Weights:
    """The weights in the file `weights`, or, when that is None, those at `url`, kept as `cached`."""
    if weights:
        return load_weights(Path(weights), extractor)
    return load_weights(download(url, place_for(cached, f"extractor.{extractor}.cache"), extractor), extractor)


def download(url: str, path: Path, extractor: str) -> Path:
    """The file `path`, downloaded when it isn't there; eight or more hexadecimal digits in its URL check its SHA-256.

    UserError when it can't be had, with the setting that names a file at hand.
    """
    if path.exists():
        return path
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digits[1] if digits else None)
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(
            f"extractor {extractor}: {path} is missing and its download failed ({error}); put the file of {url} there "
            f"or set {setting(extractor)} to a copy of it; {OFFLINE}"
        ) from error
    return path


def hash_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of the names, kinds, shapes and bytes of a state dict's tensors."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def setting(extractor: str) -> str:
    """The configuration key that names an extractor's weights file."""
    return f"extractor.{extractor}.weights"
