"""Ways between latents: tours that pass some of them, and planes between four."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan_experiments.errors import UserError
from gan_experiments.sampling import slerp


def lerp(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    """Points at shares t (n,) of the lines from rows of `first` to rows of `second` (n, ...), by way of float64.

    Between normal latents they are shorter than latents that the generator was trained on: by 30 % half way.
    """
    share = t.to(first.device).double().view(-1, *[1] * (first.ndim - 1))
    return torch.lerp(first.double(), second.double(), share).to(first.dtype)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"lerp": lerp, "slerp": slerp}
"""From one latent to another: on a straight line (for uniform latents), or on an arc (for normal ones)."""


def tour(stops: Tensor, steps: int, way: str, closed: bool = False) -> Tensor:
    """Latents (points, n, d) of n walks past their `stops` (s, n, d), `steps` steps from one to the next.

    An open tour has (s - 1) steps + 1 points and ends at the last stop; a closed one has s steps points, the one after
    the last of them being the first. UserError for less than one step or two stops.
    """
    if steps < 1 or len(stops) < 2:
        raise UserError(f"a walk of {steps} steps past {len(stops)} latents: expected 1 or more, past 2 or more")
    between, n = WAYS[way], stops.shape[1]
    shares = torch.arange(steps, dtype=torch.float64) / steps
    aims = torch.cat([stops[1:], stops[:1]]) if closed else stops[1:]
    points = [
        between(start, aim, share.expand(n))
        for start, aim in zip(stops[: len(aims)], aims, strict=True)
        for share in shares
    ]
    return torch.stack(points if closed else [*points, stops[-1]])


def plane(corners: Tensor, steps: int, way: str) -> Tensor:
    """Latents (rows, columns, d), steps + 1 either way, between `corners` (4, d): top left, top right, bottom left,
    bottom right. The left and the right edge are ways between corners, each row is one between the edges."""
    edges = tour(torch.stack([corners[:2], corners[2:]]), steps, way)
    return tour(edges.transpose(0, 1), steps, way).transpose(0, 1)
