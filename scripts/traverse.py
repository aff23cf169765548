"""Sheets of what the codes of an InfoGAN run mean: one code swept from row to row, all else fixed along a column.

python scripts/traverse.py RUN                       RUN/samples/traversal-category-0.png and others
python scripts/traverse.py RUN --columns 12 --seed 3 --out folder
python scripts/traverse.py RUN --raw                 the live weights instead of their moving average

Categorical codes take each value, continuous ones go from -2 to 2 (Chen et al. 2016, figure 2).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gan_experiments.console import Parser, check_folder, run_command
from gan_experiments.errors import UserError


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("run", type=Path, help="directory of a run")
    parser.add_argument("--columns", type=int, default=10, help="different fixed latents (10)")
    parser.add_argument("--seed", type=int, default=0, help="of what is fixed (0)")
    parser.add_argument("--raw", action="store_true", help="live weights rather than their moving average")
    parser.add_argument("--best", action="store_true", help="the generator that scored best in training")
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    if arguments.columns < 2:
        parser.error(f"--columns {arguments.columns}: must be 2 or more")
    return arguments


def main() -> None:
    """Write the sheets and say where."""
    arguments = parse()
    check_folder(arguments.out, "--out")
    from gan_experiments import seeding
    from gan_experiments.games.traversal import sheets
    from gan_experiments.inference import load_generator
    from gan_experiments.pictures import save_sheet

    trained = load_generator(arguments.run, arguments.raw, best=arguments.best)
    generator = seeding.generator(arguments.seed, "traversals")
    pictures = sheets(trained.game, arguments.columns, generator, trained.runtime)
    if not pictures:
        raise UserError(f"{arguments.run}: its latents have no codes to sweep; give a run of model=infogan on images")
    for name, pixels in pictures.items():
        path = (arguments.out or arguments.run / "samples") / f"traversal-{name}.png"
        save_sheet(path, pixels, trained.game.spec.shape[-1])
        print(f"{path}: {trained.origin}")


if __name__ == "__main__":
    run_command(main)
