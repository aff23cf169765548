"""What is done to modules from outside: buffers kept, evaluation mode for a while, parameters counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def buffers_kept(*modules: nn.Module) -> Iterator[None]:
    """Put the modules' buffers (batch norm statistics, power iterations) back afterwards."""
    # Copies stand in for the buffers meanwhile: writing to the buffers themselves would upset a backward pass to come.
    saved = [(buffer, buffer.data) for module in modules for buffer in module.buffers()]
    for buffer, value in saved:
        buffer.data = value.clone()
    try:
        yield
    finally:
        for buffer, value in saved:
            buffer.data = value


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every submodule's own mode is put back afterwards."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, training in modes:
            child.training = training


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(math.prod(p.shape) for p in module.parameters())
