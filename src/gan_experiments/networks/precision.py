"""Parts of networks that run in full precision whatever the run's."""

from __future__ import annotations

import contextlib

import torch


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A context in which operations on this device keep the precision of their inputs."""
    if device.type == "meta":  # no numbers, and no autocast to turn off
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
