"""Draw samples from a run: a grid, one file a sample, classes, mixed styles, or ways between latents.

python scripts/sample.py RUN                         RUN/samples/grid-seed0.png, 100 images
python scripts/sample.py RUN --count 64 --seed 3 --out grid.png
python scripts/sample.py RUN --count 5000 --out folder/     one PNG an image, or points.csv
python scripts/sample.py RUN --raw                   the live weights instead of their moving average
python scripts/sample.py RUN --best                  the weights that scored best in training, not the last ones
python scripts/sample.py RUN --truncation 0.7        components of normal latents drawn again until within +-0.7
python scripts/sample.py RUN --psi 0.7 --cutoff 8    styles moved towards the mean one, in the first 8 layers
python scripts/sample.py RUN --psi 0.5 --centres 64  towards the nearest of 64 cluster centres
python scripts/sample.py RUN --statistics standing   batch norms with averages over fresh batches; or batch. Those of
                            training don't fit truncated latents: --truncation 0.5 wants --statistics standing
python scripts/sample.py RUN --classes               a row a class, the same latents in each; --classes cat 3: these
python scripts/sample.py RUN --classes --count 100 --out folder/    100 files a class in folder/CLASS
python scripts/sample.py RUN --mix 4 6               styles of 4 images with coarse, middle, fine ones of 6 others
python scripts/sample.py RUN --interpolate slerp --steps 8          a row a walk between two latents
python scripts/sample.py RUN --interpolate slerp --plane            all between four latents
python scripts/sample.py RUN --interpolate slerp --stops 5 --steps 24 --out walk.gif    or walk.mp4, 9 walks that return
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gan_experiments.console import Parser, check_file, check_folder, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging.progress import stages

if TYPE_CHECKING:
    from torch import Tensor

    from gan_experiments.inference import TrainedGenerator

FILMS = (".gif", ".mp4")
MOST_PIXELS = 2**26


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="directory of a run")
    add("--count", type=int, help="samples (100), columns of classes (10), walks (8, in films 9), files a class (100)")
    add("--seed", type=int, default=0, help="of the latents (0)")
    add("--raw", action="store_true", help="live weights rather than their moving average")
    add("--best", action="store_true", help="the generator that scored best in training (checkpoint.best)")
    add("--out", type=Path, help="a .png file, a folder for one file a sample, or .gif or .mp4 for walks")
    add("--truncation", type=float, metavar="T", help="limit of normal latents; smaller is less varied")
    add("--psi", type=float, metavar="P", help="styles moved: 0 all to the mean one, 1 not at all, more away from it")
    add("--cutoff", type=int, metavar="N", help="with --psi: in the first N layers only")
    add("--centres", type=int, metavar="K", help="with --psi: cluster centres in place of the mean style")
    add("--statistics", choices=["running", "standing", "batch"], default="running", help="of batch norms (running)")
    add("--classes", nargs="*", metavar="CLASS", help="names or numbers; all if none is given")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--mix", nargs=2, type=int, metavar=("ROWS", "COLUMNS"), help="a sheet of mixed styles")
    modes.add_argument("--interpolate", choices=["lerp", "slerp"], help="walks: straight, or on arcs (normal latents)")
    add("--crossovers", nargs=2, type=int, metavar="LAYER", help="first layers of middle and of fine styles (4 8)")
    add("--steps", type=int, default=8, metavar="N", help="of a walk, from one latent to the next (8)")
    add("--stops", type=int, default=2, metavar="N", help="latents that a walk passes (2)")
    add("--plane", action="store_true", help="one sheet between four latents")
    add("--rate", type=int, default=24, metavar="FPS", help="frames a second of films (24)")
    arguments = parser.parse_args()
    counts = {"count": arguments.count, "steps": arguments.steps, "stops": arguments.stops - 1}
    for name, value in counts.items():
        if value is not None and value < 1:
            least = 2 if name == "stops" else 1
            parser.error(f"--{name} {getattr(arguments, name)}: must be {least} or more")
    if arguments.mix and min(arguments.mix) < 1:
        parser.error("--mix: must be 1 or more rows and columns")
    return arguments


def check(arguments: argparse.Namespace) -> None:
    """UserError for options that don't go together."""
    film = arguments.out is not None and arguments.out.suffix in FILMS
    picture = arguments.out is None or arguments.out.suffix == ".png"
    if not (film or picture or arguments.out.is_dir()) and arguments.out.suffix:
        raise UserError(
            f"{arguments.out}: files end in .png, .gif or .mp4; a folder with a dot in its name must be there already"
        )
    if film and (arguments.interpolate is None or arguments.plane):
        raise UserError(f"{arguments.out}: films are of walks; add --interpolate slerp, without --plane")
    if not (film or picture):
        check_folder(arguments.out, "--out")
        if arguments.out.is_dir() and any(arguments.out.iterdir()):
            raise UserError(f"--out {arguments.out}: holds files already; give another folder, or delete it")
    else:
        check_file(arguments.out, "--out")
    if not (film or picture) and (arguments.mix or arguments.interpolate):
        raise UserError(f"{arguments.out}: a sheet is a .png, and a walk may be a .gif or an .mp4")
    if arguments.plane and arguments.interpolate is None:
        raise UserError("--plane is a way to interpolate; add --interpolate slerp")
    if arguments.crossovers and not arguments.mix:
        raise UserError("--crossovers are those of --mix; give both")
    grouped = arguments.mix or arguments.interpolate or (arguments.classes is not None and picture)
    if grouped and arguments.statistics == "batch":
        raise UserError("--statistics batch: images of a sheet or walk would depend on those beside them; use standing")


def plain(trained: TrainedGenerator, arguments: argparse.Namespace, classes: list[int]) -> str:
    """Samples as a grid or map, or one file a sample; what they are."""
    from gan_experiments.pictures import grid, save_png, save_sheet, scatter

    out, count = arguments.out, arguments.count or 100
    if out.suffix == ".png":
        require_size(trained, count, "--count")
        samples = torch_cat(drawn(trained, count, arguments.seed, None))
        if trained.game.spec.is_image:
            save_sheet(out, grid(samples), samples.shape[-1])
        else:
            save_png(out, scatter(samples, samples))
        return f"{count} samples"
    names = trained.game.spec.classes
    labels: list[int | None] = [*classes] or [None]
    for label in labels:
        folder = out if label is None else out / names[label].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, drawn(trained, count, arguments.seed, label), trained.game.spec.is_image)
    return f"{count} samples" + (f" of {len(classes)} classes each" if classes else "")


def drawn(trained: TrainedGenerator, count: int, seed: int, label: int | None) -> Iterator[Tensor]:
    """Samples a batch at a time, with how many there are on the terminal."""
    done = 0
    with stages("samples") as tell:
        for samples in trained.batches(count, seed, label=label):
            yield samples
            done += len(samples)
            tell("drawing", done, count)


def torch_cat(batches: Iterator[Tensor]) -> Tensor:
    """All batches as one."""
    import torch

    return torch.cat(list(batches))


def write_files(folder: Path, batches: Iterator[Tensor], images: bool) -> None:
    """One PNG an image, or all points as points.csv."""
    from gan_experiments.pictures import as_pixels, save_png

    if not images:
        rows = (",".join(f"{value:.6g}" for value in point) for batch in batches for point in batch.tolist())
        with open(folder / "points.csv", "w", encoding="utf-8") as file:
            file.writelines(f"{row}\n" for row in rows)
        return
    for place, image in enumerate(image for batch in batches for image in batch):
        save_png(folder / f"{place:06d}.png", as_pixels(image))


def require_size(trained: TrainedGenerator, cells: int, options: str) -> None:
    """UserError for a picture of more pixels than programs open."""
    shape = trained.game.spec.shape
    pixels = cells * (shape[-2] + 1) * (shape[-1] + 1) if trained.game.spec.is_image else 0
    if pixels > MOST_PIXELS:
        raise UserError(
            f"{options}: {cells:,} images in one picture are {pixels:,} pixels, more than {MOST_PIXELS:,}; ask for "
            "fewer, or with --out FOLDER for one file a sample"
        )


def walks(trained: TrainedGenerator, arguments: argparse.Namespace, classes: list[int]) -> str:
    """Ways between latents as a sheet or a film; what they are."""
    from gan_experiments.films import check_film, save_film
    from gan_experiments.pictures import save_sheet
    from gan_experiments.sheets import plane_sheet, walk_frames, walk_rows

    points = arguments.steps * (arguments.stops - 1) + 1
    cells = (arguments.steps + 1) ** 2 if arguments.plane else points * (arguments.count or 8)
    require_size(trained, cells, "--count, --steps, --stops")
    out, steps, way, seed = arguments.out, arguments.steps, arguments.interpolate, arguments.seed
    tile = trained.game.spec.shape[-1]
    if arguments.plane:
        save_sheet(out, plane_sheet(trained, steps, way, seed, classes), tile)
        return f"a plane of {steps + 1}x{steps + 1} images"
    if out.suffix in FILMS:
        check_film(out, arguments.rate)
        count = arguments.count or 9
        save_film(out, walk_frames(trained, count, arguments.stops, steps, way, seed, classes), arguments.rate)
    else:
        count = arguments.count or 8
        save_sheet(out, walk_rows(trained, count, arguments.stops, steps, way, seed, classes), tile)
    return f"{count} walks past {arguments.stops} latents"


def sheet(trained: TrainedGenerator, arguments: argparse.Namespace, classes: list[int]) -> str:
    """A row a class, or mixed styles; what they are."""
    from gan_experiments.pictures import save_sheet
    from gan_experiments.sheets import class_rows, mixing_sheet

    tile = trained.game.spec.shape[-1]
    per_row = 1 + arguments.mix[1] if arguments.mix else arguments.count or 10
    require_size(trained, per_row * (1 + 3 * arguments.mix[0] if arguments.mix else len(classes)), "--mix, --count")
    if not arguments.mix:
        save_sheet(arguments.out, class_rows(trained, classes, arguments.count or 10, arguments.seed), tile)
        return f"{len(classes)} classes"
    rows, columns = arguments.mix
    crossovers = None if arguments.crossovers is None else tuple(arguments.crossovers)
    save_sheet(arguments.out, mixing_sheet(trained, rows, columns, arguments.seed, crossovers, classes), tile)
    return f"styles of {rows} images mixed with those of {columns}"


def main() -> None:
    """Write the samples and say where."""
    arguments = parse()
    check(arguments)
    from gan_experiments.batch_statistics import BatchStatistics, Statistics
    from gan_experiments.inference import load_generator
    from gan_experiments.sheets import class_numbers
    from gan_experiments.truncation import TruncationChoice

    choice = TruncationChoice(arguments.truncation, arguments.psi, arguments.cutoff, arguments.centres)
    trained = load_generator(arguments.run, arguments.raw, best=arguments.best)
    classes = [] if arguments.classes is None else class_numbers(trained, arguments.classes)
    truncation = choice.build(trained.game, trained.runtime.device, arguments.seed)
    trained = replace(trained, truncation=truncation)
    kind = "walk" if arguments.interpolate else "mix" if arguments.mix else "classes" if classes else "grid"
    name = f"best-{kind}" if arguments.best else kind
    arguments.out = arguments.out or arguments.run / "samples" / f"{name}-seed{arguments.seed}.png"
    files = kind == "classes" and arguments.out.suffix != ".png"
    make = {"walk": walks, "mix": sheet, "grid": plain, "classes": plain if files else sheet}[kind]
    statistics = BatchStatistics(Statistics(arguments.statistics), seed=arguments.seed)
    with statistics.applied(trained.game, trained.runtime, truncation) as norms:
        said = make(trained, arguments, classes)
    how = [] if truncation.name == "none" else [truncation.name]
    how += [f"{norms} statistics"] if norms in ("standing", "batch") else []
    how.append(trained.origin)
    print(f"{arguments.out}: {said}, {', '.join(how)}")


if __name__ == "__main__":
    run_command(main)
