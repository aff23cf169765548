"""Pictures that show what a trained generator does with its latents: classes, mixed styles, ways between latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_experiments import seeding
from gan_experiments.data.base import Spec
from gan_experiments.data.natural import numbered
from gan_experiments.errors import UserError
from gan_experiments.inference import TrainedGenerator
from gan_experiments.latent_walks import WAYS, plane, tour
from gan_experiments.modules import evaluating
from gan_experiments.pictures import grid
from gan_experiments.runtime import seed_networks
from gan_experiments.sampling import alike, slerp
from gan_experiments.truncation import StyleTruncation, draws_normals, synthesise, with_styles

Pixels = NDArray[np.uint8]

GREY = 0.0
"""Of an empty place, for images in [-1, 1]."""


def require_images(trained: TrainedGenerator, what: str) -> None:
    """UserError naming `what` for generators of points."""
    if not trained.game.spec.is_image:
        raise UserError(f"{what} are pictures of images, and this run makes points")


def require_way(trained: TrainedGenerator, way: str) -> None:
    """UserError for arcs between latents that lie on no sphere: uniform ones, and those that hold codes."""
    if WAYS[way] is slerp and not draws_normals(trained.game):
        raise UserError(
            f"{way}: latents of this {type(trained.game).__name__} are uniform or hold codes, and arcs are for normal "
            "ones; take lerp, straight walks"
        )


def class_numbers(trained: TrainedGenerator, names: Sequence[str]) -> list[int]:
    """The numbers of classes given by name or else by number, all for none; UserError for unknown ones, and for a
    generator that is told no classes."""
    spec: Spec = trained.game.spec
    if not trained.game.labelled:
        raise UserError("classes can't be asked for: this generator is told none (conditioning=[none])")
    numbers = {str(number): place for number, place in numbered(spec.classes).items()}
    places = numbers | {name: number for number, name in enumerate(spec.classes)}
    if strange := [name for name in names if name not in places]:
        places_too = "" if set(numbers) <= set(spec.classes) else f", or 0 to {len(spec.classes) - 1}"
        raise UserError(f"no class {strange[0]}; there is {', '.join(spec.classes)}{places_too}")
    return [places[name] for name in names] or list(range(len(spec.classes)))


def class_rows(trained: TrainedGenerator, classes: Sequence[int], columns: int, seed: int) -> Pixels:
    """A row a class; each column has latents of its own, the same in all rows."""
    require_images(trained, "rows of classes")
    (latents,) = stops(trained, 1, columns, seed)
    sets = ((latents, torch.full((columns,), number)) for number in classes)
    rows = list(alike(trained.game, sets, trained.runtime, trained.truncation))
    return grid(torch.cat(rows), columns)


def stops(trained: TrainedGenerator, count: int, n: int, seed: int) -> list[Tensor]:
    """`count` sets of latents (n, ...), truncated if samples are."""
    found = []
    for place in range(count):
        generator = seeding.generator(seed, "stop", place)
        found.append(trained.truncation.latents(trained.game.latents(n, generator), generator))
    return found


def asked(trained: TrainedGenerator, n: int, seed: int, classes: Sequence[int]) -> Tensor | None:
    """Classes (n,) for n walks: the given ones in turn, or as frequent as in the data; None without classes."""
    if classes:
        return torch.tensor(classes).repeat(-(-n // len(classes)))[:n]
    return trained.game.ask(n, seeding.generator(seed, "asked"))


def walk_samples(
    trained: TrainedGenerator, n: int, count: int, steps: int, way: str, seed: int, classes: Sequence[int], closed: bool
) -> Iterator[Tensor]:
    """Images (n, c, h, w) at each point of n tours past `count` latents; what layers draw themselves stays the same."""
    require_way(trained, way)
    points = tour(torch.stack(stops(trained, count, n, seed)), steps, way, closed)
    labels = asked(trained, n, seed, classes)
    return alike(trained.game, ((point, labels) for point in points), trained.runtime, trained.truncation)


def walk_rows(
    trained: TrainedGenerator, n: int, count: int, steps: int, way: str, seed: int, classes: Sequence[int] = ()
) -> Pixels:
    """A row a walk, from its first latent to its last."""
    require_images(trained, "walks")
    images = torch.stack(list(walk_samples(trained, n, count, steps, way, seed, classes, closed=False)), 1)
    return grid(images.flatten(0, 1), images.shape[1])


def walk_frames(
    trained: TrainedGenerator, n: int, count: int, steps: int, way: str, seed: int, classes: Sequence[int] = ()
) -> Iterator[Pixels]:
    """A frame a point of closed walks, n side by side, so that the film can be repeated."""
    require_images(trained, "walks")
    return map(grid, walk_samples(trained, n, count, steps, way, seed, classes, closed=True))


def plane_sheet(trained: TrainedGenerator, steps: int, way: str, seed: int, classes: Sequence[int] = ()) -> Pixels:
    """Images between four at the corners, steps + 1 either way, of one class."""
    require_images(trained, "walks")
    require_way(trained, way)
    (corners,) = stops(trained, 1, 4, seed)
    points = plane(corners, steps, way)
    label = asked(trained, 1, seed, classes)
    # One image a set: all places are alike in what layers draw themselves.
    sets = ((point[None], label) for point in points.flatten(0, 1))
    return grid(torch.cat(list(alike(trained.game, sets, trained.runtime, trained.truncation))), steps + 1)


def spans(layers: int, crossovers: tuple[int, int] | None) -> list[slice]:
    """The layers of coarse, middle and fine styles: by `crossovers`, else the first 4, the next 4 and the rest (sides 4
    to 8, 16 to 32 and above, as published), or thirds of fewer than 10 layers. UserError for an empty span."""
    thirds = (round(layers / 3), round(2 * layers / 3))
    first, second = crossovers or (thirds if layers < 10 else (4, 8))
    if not 0 < first < second < layers:
        raise UserError(f"crossovers {first} {second}: expected two rising layers between 1 and {layers - 1}")
    return [slice(0, first), slice(first, second), slice(second, None)]


@torch.no_grad()
def mixing_sheet(
    trained: TrainedGenerator,
    rows: int,
    columns: int,
    seed: int,
    crossovers: tuple[int, int] | None = None,
    classes: Sequence[int] = (),
) -> Pixels:
    """Images of the sources at the left with the coarse, middle or fine styles of those at the top, one block of rows
    after the other (Karras et al. 2019, figure 3). UserError for a generator without styles."""
    game, runtime = with_styles(trained.game, "mixing"), trained.runtime
    truncation = trained.truncation if isinstance(trained.truncation, StyleTruncation) else StyleTruncation(1.0)
    parts = spans(game.styled.layers, crossovers)
    left, top = stops(trained, 2, max(rows, columns), seed)
    labels = asked(trained, rows + columns, seed, classes)
    labels = None if labels is None else labels.to(runtime.device)
    label, label_top = (None, None) if labels is None else (labels[:rows], labels[rows:])

    def paint(styles: Tensor, classes: Tensor | None) -> Tensor:
        seed_networks(0, runtime.device)
        return synthesise(game, styles, classes).float().cpu()

    with evaluating(game), runtime.autocast():
        own = truncation.styles(game, left[:rows].to(runtime.device), label)
        others = truncation.styles(game, top[:columns].to(runtime.device), label_top)
        header, stub = paint(others, label_top), paint(own, label)
        sheet = [torch.full_like(header[:1], GREY), header]
        for part in parts:
            block = [stub]
            for other in others:
                mixed = own.clone()
                mixed[:, part] = other[part]
                block.append(paint(mixed, label))
            sheet.append(torch.stack(block, 1).flatten(0, 1))
    return grid(torch.cat(sheet), columns + 1)
