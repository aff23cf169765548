"""Draw samples from a run: a grid, or one file a sample.

python scripts/sample.py RUN                         RUN/samples/grid-seed0.png, 100 images
python scripts/sample.py RUN --count 64 --seed 3 --out grid.png
python scripts/sample.py RUN --count 5000 --out folder/     one PNG an image, or points.csv
python scripts/sample.py RUN --raw                   the live weights instead of their moving average
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gan_experiments.errors import UserError


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a run")
    parser.add_argument("--count", type=int, default=100, help="number of samples (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the latents (0)")
    parser.add_argument("--raw", action="store_true", help="live weights rather than their moving average")
    parser.add_argument("--out", type=Path, help="a .png file for a grid, a folder for one file a sample")
    arguments = parser.parse_args()
    if arguments.count < 1:
        parser.error(f"--count {arguments.count}: must be 1 or more")
    return arguments


def main() -> None:
    """Write the samples and say where."""
    arguments = parse()
    from gan_experiments.inference import load_generator
    from gan_experiments.pictures import as_pixels, grid, save_png, scatter

    trained = load_generator(arguments.run, arguments.raw)
    samples = trained.sample(arguments.count, arguments.seed)
    out = arguments.out or arguments.run / "samples" / f"grid-seed{arguments.seed}.png"
    if out.suffix == ".png":
        save_png(out, grid(samples) if trained.game.spec.is_image else scatter(samples, samples))
    elif trained.game.spec.is_image:
        for place, image in enumerate(samples):
            save_png(out / f"{place:06d}.png", as_pixels(image))
    else:
        out.mkdir(parents=True, exist_ok=True)
        rows = "\n".join(",".join(f"{value:.6g}" for value in point) for point in samples.tolist())
        (out / "points.csv").write_text(rows + "\n")
    print(f"{out}: {arguments.count} samples, {trained.weights} weights after {trained.images:,} images")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"sample: {error}")
