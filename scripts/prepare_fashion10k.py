"""Write the embedded data set: 10,000 training and 2,000 held-out images of Fashion-MNIST, evenly over the classes.

    python scripts/prepare_fashion10k.py FOLDER [--output FILE]

FOLDER holds the four official files, each decompressed or .gz. The same input gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gan_experiments import seeding
from gan_experiments.console import Parser, check_file, run_command
from gan_experiments.data import idx
from gan_experiments.errors import UserError

SEED = 0
PER_CLASS = {"train": 1_000, "held_out": 200}
OUTPUT = Path(__file__).parent.parent / "src" / "gan_experiments" / "assets" / "fashion10k.npz"


def balanced(labels: NDArray[np.uint8], per_class: int, split: str) -> NDArray[np.int64]:
    """Ascending indices of `per_class` seeded picks from each class."""
    picks = []
    for label in range(10):
        members = np.flatnonzero(labels == label)
        order = torch.randperm(len(members), generator=seeding.generator(SEED, "fashion10k", split, label)).numpy()
        picks.append(members[order[:per_class]])
    return np.sort(np.concatenate(picks))


def prepare(folder: Path, output: Path) -> None:
    """Read the four files in `folder`, check their md5 sums, and write the picked images to `output`."""
    files = idx.find(folder)
    if files is None:
        raise UserError(f"{folder}: expected {', '.join(idx.FILES.values())}, each decompressed or .gz")
    whole = {part: idx.read(path, idx.FASHION_MNIST_MD5[idx.FILES[part]]) for part, path in files.items()}
    arrays = {}
    for split, per_class in PER_CLASS.items():
        picked = balanced(whole[f"{split}_labels"], per_class, split)
        for part in (f"{split}_images", f"{split}_labels"):
            arrays[part] = whole[part][picked]
    # numpy stamps every member with 1980-01-01, so the bytes don't depend on the clock.
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, allow_pickle=False, **arrays)


def main() -> None:
    """Command line: see the module's text."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the four official files")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    check_file(arguments.output, "--output")
    prepare(arguments.folder, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    run_command(main)
