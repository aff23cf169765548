"""Leave out the images of a data set that an autoencoder trained on it reconstructs worst (self-filtering).

python scripts/filter_dataset.py photos/ --size 64 --distance efficientnet_lite0 --out filtered
python scripts/filter_dataset.py --dataset fashion10k --keep 0.8 --out filtered
python scripts/filter_dataset.py images.npz --distance lpips --steps 5000 --out filtered
gan-train dataset=folder dataset.path=filtered/kept dataset.size=64

Writes OUT/kept (copies of the files, or PNGs of what isn't in files), OUT/distances.csv (all images from the best to
the worst), OUT/extremes.png (the best, each above its reconstruction, then the worst) and OUT/report.json. Of a
--dataset the training part is filtered. Distances are those of an extractor's features, brought to length 1, or LPIPS,
which downloads VGG16. Arguments key=value change the configuration.

What differs from Mokady et al. (2022): they train a StyleGAN and an encoder, adversarially, and measure LPIPS; here it
is a convolutional autoencoder, trained by squared error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gan_experiments.console import Parser, check_folder, run_command
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.logging.progress import stages

if TYPE_CHECKING:
    from gan_experiments.data.base import Dataset
    from gan_experiments.metrics.lpips import PairDistance
    from gan_experiments.schema import Config

Writer = Callable[[int, Path], None]
"""Writes the image of a row to a file."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("given", nargs="*", metavar="images|key=value", help="a folder or .npz, and values of the configuration")
    add("--dataset", metavar="NAME", help="conf/dataset option to filter instead")
    add("--out", type=Path, required=True, metavar="DIR", help="where to write")
    add("--keep", type=float, default=0.9, metavar="SHARE", help="of the images (%(default)s)")
    add("--distance", metavar="NAME", help="lpips or a conf/extractor option (classifier where there are classes)")
    add("--size", type=int, metavar="PIXELS", help="side to which folders of images are cropped and resized")
    add("--steps", type=int, default=2000, help="of training (%(default)s)")
    add("--batch-size", type=int, default=64, help="(%(default)s)")
    add("--width", type=int, default=32, help="channels of the autoencoder's first level (%(default)s)")
    add("--code-dim", type=int, default=32, help="numbers in its bottleneck (%(default)s)")
    add("--seed", type=int, default=0, help="of weights and order (%(default)s)")
    arguments = parser.parse_intermixed_args()
    arguments.overrides = [value for value in arguments.given if "=" in value]
    paths = [Path(value) for value in arguments.given if "=" not in value]
    if len(paths) + (arguments.dataset is not None) != 1:
        parser.error("give a folder or .npz of images, or --dataset NAME")
    arguments.images = paths[0] if paths else None
    return arguments


def source(arguments: argparse.Namespace, settings: Config) -> tuple[Dataset, list[str], Writer]:
    """The data set whose training part is to be filtered, of images all that there are; their names and a writer."""
    from gan_experiments.analysis.filtering import copies, names_of, pictures
    from gan_experiments.analysis.targets import Folder, common_shape, stored
    from gan_experiments.config import build
    from gan_experiments.data.base import rows_of
    from gan_experiments.data.natural import readable
    from gan_experiments.data.picture_cache import PictureCache

    if arguments.images is None:
        dataset: Dataset = build(settings.dataset, "dataset")
        return dataset, names_of(dataset.train, dataset.spec.classes), pictures(dataset.train)
    images, cache = stored(arguments.images), Path(settings.run.data) / "cache"
    channels, height, width = common_shape(images, images, arguments.size)
    dataset = images.dataset((channels, height, width), cache, 0.0, True)
    if isinstance(images, Folder):
        every = PictureCache(images.path, cache, height, channels, refuse_broken=False).open()[1].names
        names = [every[row] for row in rows_of(dataset.train)]
        return dataset, [readable(name) for name in names], copies(images.path, names)
    return dataset, names_of(dataset.train, dataset.spec.classes), pictures(dataset.train)


def configured(arguments: argparse.Namespace, extractors: list[str] | None) -> Config:
    """The default configuration with what was chosen."""
    from gan_experiments.analysis.choices import Choice

    choice = Choice(
        extractors=extractors, dataset=arguments.dataset, overrides=arguments.overrides, size=arguments.size
    )
    return choice.settings(None)


def measure(name: str, settings: Config, dataset: Dataset) -> PairDistance:
    """The distance of that name."""
    from gan_experiments.analysis.filtering import FeatureDistance
    from gan_experiments.config import build_named
    from gan_experiments.metrics.lpips import load_lpips

    if name == "lpips":
        return load_lpips(None)
    (extractor,) = build_named(settings.extractor, "extractor").values()
    return FeatureDistance(extractor.build(dataset))


def main() -> None:
    """Train, score, write, and say what was left out."""
    arguments = parse()
    from gan_experiments import runtime as machine
    from gan_experiments.analysis import filtering
    from gan_experiments.analysis.scoring import default_extractors
    from gan_experiments.pictures import save_sheet

    given = {name: getattr(arguments, name) for name in ("keep", "steps", "batch_size", "width", "code_dim", "seed")}
    recipe, out, name = filtering.Recipe(**given), arguments.out, arguments.distance
    check_folder(out, "--out")
    filtering.require_empty(out)
    settings = configured(arguments, None if name in (None, "lpips") else [name])
    dataset, names, write = source(arguments, settings)
    if name is None:
        (name,) = default_extractors(dataset)
        settings = configured(arguments, [name])
    runtime = machine.choose(settings.runtime, images=True)
    with machine.applied(runtime), stages() as tell:
        distance = measure(name, settings, dataset).to(runtime.device)
        data = dataset.train.to(runtime.device)
        found = filtering.self_filter(dataset.spec, data, distance, recipe, runtime, tell)
        ends = filtering.extremes(found.autoencoder, data, found.distances, runtime)
        save_sheet(out / "extremes.png", ends, dataset.spec.shape[-1])
    filtering.write_filtered(out, names, found.distances, found.kept, write)
    report = given | {
        "dataset": dataset.name, "data_fingerprint": dataset.train.fingerprint, "transform": dataset.transform,
        "distance": distance.name, "distance_sha256": distance.sha256, "reconstruction_error": found.error,
        "images": len(names), "kept": len(found.kept), "largest_kept": float(found.distances[found.kept].max()),
    }  # fmt: skip
    write_atomic(out / "report.json", strict_json.dumps(report, indent=2) + "\n")
    print(f"{out / 'kept'}: {len(found.kept):,} of {len(names):,} images, by {distance.name}")


if __name__ == "__main__":
    run_command(main)
