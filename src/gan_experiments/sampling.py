"""Drawing samples from a game."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gan_experiments.data.base import Batch
from gan_experiments.game import Game
from gan_experiments.modules import evaluating
from gan_experiments.runtime import Runtime, seed_networks
from gan_experiments.truncation import NONE, Truncation


def draw(
    game: Game,
    n: int,
    generator: torch.Generator,
    runtime: Runtime,
    classes: Tensor | None = None,
    truncation: Truncation = NONE,
) -> Batch:
    """`n` samples (n, ...) in evaluation mode and the run's precision; latents come from `generator` alone.

    A labelled game is asked for `classes` (n,), by default for classes as frequent as in the data. With `truncation`
    samples are nearer to typical ones, from the same latents as without as far as it allows.

    What layers draw themselves (noise injection) follows from the generator's state, so that samples can be repeated.
    """
    seed_networks(zlib.crc32(generator.get_state().numpy().tobytes()), runtime.device)
    latents = game.latents(n, generator)
    if classes is None:
        classes = game.ask(n, generator)
    classes = None if classes is None else classes.to(runtime.device)
    latents = truncation.latents(latents, generator).to(runtime.device)
    with evaluating(game), runtime.autocast():
        samples = truncation.sample(game, latents, classes).float()
    return Batch(samples, classes if game.labelled else None)


def alike(
    game: Game, sets: Iterable[tuple[Tensor, Tensor | None]], runtime: Runtime, truncation: Truncation = NONE
) -> Iterator[Tensor]:
    """Samples (n, ...) on the CPU for each set of latents (n, ...) and classes (n,), as `draw` makes them.

    What layers draw themselves is the same for the sets' first samples, for their second ones and so on.
    """
    for latents, classes in sets:
        seed_networks(0, runtime.device)
        asked = None if classes is None else classes.to(runtime.device)
        with evaluating(game), runtime.autocast():
            samples = truncation.sample(game, latents.to(runtime.device), asked).float().cpu()
        yield samples


def by_class(game: Game, n: int) -> Tensor | None:
    """`n` classes (n,) in their order, all equally often up to one: the rows of a grid; None for a game without."""
    return torch.arange(n) * len(game.spec.classes) // n if game.labelled else None


def walk(
    game: Game,
    n: int,
    generator: torch.Generator,
    runtime: Runtime,
    epsilon: float,
    end: bool,
    truncation: Truncation = NONE,
) -> tuple[Tensor, Tensor]:
    """`n` pairs of samples at t and t + epsilon on the arcs between pairs of latents; t is 0 with `end`, else uniform.

    Latents, classes and t come from `generator` alone; what layers draw themselves is the same for both of a pair.
    Networks run in float32 whatever the run's precision, as reduced precision would drown steps of epsilon.
    """
    seed = zlib.crc32(generator.get_state().numpy().tobytes())
    first, second = game.latents(n, generator), game.latents(n, generator)
    asked = game.ask(n, generator)
    classes = None if asked is None else asked.to(runtime.device)
    t = torch.zeros(n) if end else torch.rand(n, generator=generator)
    first, second = truncation.latents(first, generator), truncation.latents(second, generator)
    samples = []
    for place in (t.double(), t.double() + epsilon):
        seed_networks(seed, runtime.device)
        with evaluating(game), full_precision():
            latents = slerp(first, second, place).to(runtime.device)
            samples.append(truncation.sample(game, latents, classes).float())
    return samples[0], samples[1]


def slerp(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    """Points at shares t (n,) of the arcs from rows of `first` to rows of `second` (n, ...), by way of float64.

    Directions turn evenly, lengths change evenly (Shoemake 1985); rows in the same or opposite directions, which have
    no one arc between them, and those of length 0 are joined by a straight line.
    """
    a, b = first.double().flatten(1), second.double().flatten(1)
    t = t.to(a).view(-1, 1)
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    u, v = (side / length.where(length > 0, 1.0) for side, length in ((a, length_a), (b, length_b)))
    # The arc cosine of u.v would have no digits left for small angles (Kahan).
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    sine = angle.sin()
    arc = (sine > 1e-9) & (length_a > 0) & (length_b > 0)
    turned = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine.where(arc, 1.0)
    points = torch.where(arc, turned * torch.lerp(length_a, length_b, t), torch.lerp(a, b, t))
    return points.view(first.shape).to(first.dtype)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """No autocast and no TensorFloat-32: float32 products keep their 24 bits."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
