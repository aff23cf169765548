"""Random numbers as pure functions of a seed and a name, so that resuming needs no generator state."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *path: object) -> int:
    """A 63-bit seed for the stream named by `path`; equal arguments give equal seeds on every machine."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *path: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` at the start of the stream named by `path`."""
    return torch.Generator(device).manual_seed(derive(seed, *path))
