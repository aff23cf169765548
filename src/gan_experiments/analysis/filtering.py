"""Self-filtering of a data set: images that a network trained on all of them can't reconstruct are left out.

After Mokady et al. (2022, Self-Distilled StyleGAN), who train a StyleGAN with an encoder for it and measure LPIPS: a
network of few numbers keeps what is frequent, and what it spends none on is an outlier. Here the network is a
convolutional autoencoder trained by squared error, without a generator of noise and without an adversary, and the
distance is LPIPS or that of any extractor's features.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from gan_experiments import seeding
from gan_experiments.data.base import Spec, Split, to_bytes, to_unit
from gan_experiments.data.sampler import Sampler
from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.lpips import PairDistance
from gan_experiments.modules import evaluating
from gan_experiments.networks.autoencoder import Autoencoder, DCGANAutoencoder
from gan_experiments.pictures import as_pixels, grid
from gan_experiments.runtime import Runtime, seed_networks

Progress = Callable[[str, int, int], None]

SHOWN = 10
"""Images of either end in the picture."""


@final
class FeatureDistance(PairDistance):
    """The squared Euclidean distance of an extractor's features, brought to length 1: 0 to 4."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.name, self.sha256 = f"features of {extractor.name}", extractor.sha256

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (n,) of float images (n, c, h, w) in [-1, 1], seen as bytes."""
        x, y = (normalize(self.extractor(to_bytes(images)).features) for images in (first, second))
        return (x - y).square().sum(1)


@final
@dataclass(frozen=True)
class Recipe:
    """An autoencoder with codes of `code_dim` numbers, `width` channels at first, its training by Adam, and the share
    of images to `keep`. UserError for numbers out of range."""

    keep: float = 0.9
    steps: int = 2000
    batch_size: int = 64
    width: int = 32
    code_dim: int = 32
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UserError(f"keep {self.keep:g}: expected a share above 0 and up to 1, such as 0.9")
        if min(self.steps, self.batch_size - 1, self.width, self.code_dim) < 1:
            raise UserError(
                f"steps {self.steps}, batch size {self.batch_size}, width {self.width}, code {self.code_dim}: expected "
                "1 or more, and batches of 2 or more"
            )


class Filtered(NamedTuple):
    """A trained autoencoder with its error (mean square a number), each image's distance (n,) from its reconstruction,
    and the ascending rows of those kept."""

    autoencoder: Autoencoder
    error: float
    distances: Tensor
    kept: Tensor


def self_filter(
    spec: Spec, data: Split, distance: PairDistance, recipe: Recipe, runtime: Runtime, tell: Progress = lambda *_: None
) -> Filtered:
    """Train on all of `data`, and keep the share whose reconstructions are nearest by `distance`."""
    seed_networks(seeding.derive(recipe.seed, "autoencoder"), runtime.device)
    network = DCGANAutoencoder(spec, recipe.code_dim, recipe.width)
    runtime.place(network)
    error = train(network, data, recipe, runtime, tell)
    values = distances(network, data, distance, runtime, tell)
    kept = values.argsort(stable=True)[: max(1, round(recipe.keep * len(values)))].sort().values
    return Filtered(network, error, values, kept)


def train(autoencoder: Autoencoder, data: Split, recipe: Recipe, runtime: Runtime, tell: Progress) -> float:
    """Minimise the mean reconstruction error of images of `data`; returns the mean over the last hundred steps."""
    optimizer = torch.optim.Adam(autoencoder.parameters(), recipe.lr)
    sampler = Sampler(len(data), recipe.batch_size, recipe.seed, "filtering")
    autoencoder.train()
    errors = []
    for step in range(recipe.steps):
        images = runtime.layout(data.take(sampler.indices(step)).samples)
        with runtime.autocast():
            error = autoencoder(images).heads["energy"].mean()
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        errors.append(error.detach())
        tell("training", step + 1, recipe.steps)
    return float(torch.stack(errors[-100:]).mean())


def reconstruct(autoencoder: Autoencoder, images: Tensor, runtime: Runtime) -> Tensor:
    """What is left of images (n, c, h, w) in [-1, 1] after the bottleneck, in [-1, 1]."""
    with evaluating(autoencoder), runtime.autocast():
        codes, _ = autoencoder.encode(runtime.layout(images))
        return autoencoder.decode(codes).float().view_as(images).clamp(-1, 1)


@torch.no_grad()
def distances(
    autoencoder: Autoencoder, data: Split, distance: PairDistance, runtime: Runtime, tell: Progress, size: int = 100
) -> Tensor:
    """How far each image (n,) is from its reconstruction, float64 on the CPU."""
    found = []
    for start in range(0, len(data), size):
        images = to_unit(data.raw(start, start + size)).to(runtime.device)
        found.append(distance(images, reconstruct(autoencoder, images, runtime)).double().cpu())
        tell("scoring", min(start + size, len(data)), len(data))
    return torch.cat(found)


def extremes(autoencoder: Autoencoder, data: Split, values: Tensor, runtime: Runtime) -> NDArray[np.uint8]:
    """Four rows: the images with the smallest values (n,) and what they are reconstructed as, and so the largest, the
    very worst at the right."""
    order = values.argsort(stable=True)
    count = min(SHOWN, len(order))
    rows = []
    for chosen in (order[:count], order[-count:]):
        images = data.take(chosen).samples.to(runtime.device)
        rows += [images.cpu(), reconstruct(autoencoder, images, runtime).cpu()]
    return grid(torch.cat(rows), count)


def names_of(data: Split, classes: Sequence[str]) -> list[str]:
    """Names of files for images that have none: their row, in a folder of their class where there are classes."""
    if data.labels is None:
        return [f"{row:06d}.png" for row in range(len(data))]
    folders = [name.replace("/", "-") for name in classes]
    return [f"{folders[label]}/{row:06d}.png" for row, label in enumerate(data.labels.tolist())]


def copies(root: Path, names: Sequence[str]) -> Callable[[int, Path], None]:
    """A writer that copies the image of a row from the folder `root` as it is."""

    def write(row: int, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / names[row], path)

    return write


def pictures(data: Split) -> Callable[[int, Path], None]:
    """A writer that saves the image of a row as PNG."""

    def write(row: int, path: Path) -> None:
        pixels = as_pixels(data.take(torch.tensor([row])).samples[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not whole or not at all, as other files are: to wait for the disk after each of thousands takes minutes.
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)

    return write


def require_empty(out: Path) -> Path:
    """The folder out/kept; UserError where it holds something already."""
    folder = out / "kept"
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds files already; give another --out, or delete it")
    return folder


def write_filtered(
    out: Path, names: Sequence[str], values: Tensor, kept: Tensor, write: Callable[[int, Path], None]
) -> None:
    """Put the kept rows' images below out/kept, for dataset=folder, and all names, distances and fates, from the best
    to the worst, into out/distances.csv. UserError where out/kept holds something already."""
    folder = require_empty(out)
    chosen = set(kept.tolist())
    for row in kept.tolist():
        write(row, folder / names[row])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "distance", "kept"])
    table.writerows(lines(names, values, chosen))
    write_atomic(out / "distances.csv", text.getvalue())


def lines(names: Sequence[str], values: Tensor, chosen: set[int]) -> Iterator[tuple[str, str, str]]:
    """A line an image, from the smallest value to the largest."""
    for row in cast(list[int], values.argsort(stable=True).tolist()):
        yield names[row], f"{float(values[row]):.6g}", "yes" if row in chosen else "no"
