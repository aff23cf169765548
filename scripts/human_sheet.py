"""Ask people which images are real: a page for raters, and the score of their answers (HYPE, Zhou et al. 2019).

python scripts/human_sheet.py make REAL_FOLDER FAKE_FOLDER --out DIR     DIR/page/index.html for raters, DIR/key.json
python scripts/human_sheet.py make RUN --out DIR                         held-out images against the run's generator
python scripts/human_sheet.py make ... --count 100 --seed 0 --size 64 --seconds 0.5
python scripts/human_sheet.py score DIR/key.json answers/*.json --json score.json

Give raters the folder `page` only: the key says which is which. The page works without a network. With --seconds each
image disappears after that time, without it raters take theirs (HYPE-infinity). A share of wrong answers of 50 % means
that nobody can tell.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gan_experiments.console import Parser, check_file, check_folder, run_command, write_file
from gan_experiments.errors import UserError

if TYPE_CHECKING:
    from gan_experiments.analysis.human import Pixels, Share


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write a page and its key")
    make.add_argument("sources", nargs="+", type=Path, help="a folder of real and one of fake images, or a run")
    make.add_argument("--out", type=Path, required=True, help="folder for page/index.html and key.json")
    make.add_argument("--count", type=int, default=100, help="images in all, half of them real (100)")
    make.add_argument("--seed", type=int, default=0, help="of the choice of images (0)")
    make.add_argument("--size", type=int, help="centre squares resized to so many pixels (as they are); for folders")
    make.add_argument("--seconds", type=float, help="how long an image is shown (without limit)")
    make.add_argument("--raw", action="store_true", help="for a run: live weights rather than their moving average")
    score = commands.add_parser("score", help="the score of answers")
    score.add_argument("key", type=Path, help="key.json")
    score.add_argument("answers", nargs="+", type=Path, help="one file a rater, saved by the page")
    score.add_argument("--json", type=Path, help="write the score here")
    arguments = parser.parse_args()
    if arguments.command == "make":
        if len(arguments.sources) > 2:
            parser.error("make takes two folders (real, fake) or one run")
        if arguments.count < 2 or arguments.count % 2:
            parser.error(f"--count {arguments.count}: must be even, 2 or more")
        if arguments.seconds is not None and arguments.seconds <= 0:
            parser.error(f"--seconds {arguments.seconds}: must be more than 0")
        if arguments.size is not None and (arguments.size < 1 or len(arguments.sources) == 1):
            parser.error("--size: 1 or more, and for folders only (a run's images have one size)")
    return arguments


def from_run(run: Path, half: int, seed: int, raw: bool) -> tuple[list[Pixels], list[Pixels], dict[str, object]]:
    """Held-out images of a run's data set, as many of its generator, and where they come from."""
    from gan_experiments.analysis.human import from_bytes
    from gan_experiments.config import build
    from gan_experiments.data.base import to_bytes
    from gan_experiments.inference import load_generator
    from gan_experiments.metrics.extractors import picks

    trained = load_generator(run, raw)
    if not trained.game.spec.is_image:
        raise UserError(f"{run}: makes points; people can be asked about images only")
    dataset = build(trained.settings.dataset, "dataset")
    if len(dataset.held_out) < half:
        raise UserError(f"data set {dataset.name} has {len(dataset.held_out)} held-out images; set --count lower")
    reals = dataset.held_out.take(picks(len(dataset.held_out), half, seed)).samples
    facts: dict[str, object] = {
        "real": f"held-out images of {dataset.name} ({dataset.fingerprint})",
        "fake": f"{run}, {trained.weights} weights after {trained.images} images",
    }
    return from_bytes(to_bytes(reals)), from_bytes(to_bytes(trained.sample(half, seed))), facts


def make(arguments: argparse.Namespace) -> None:
    """Write the page and the key, and say where."""
    from gan_experiments.analysis.human import from_folder, make_sheet

    check_folder(arguments.out, "--out")
    if (arguments.out / "key.json").exists():
        raise UserError(f"--out {arguments.out}: holds a key.json already, which answers need; give another folder")
    half = arguments.count // 2
    if len(arguments.sources) == 2:
        real, fake = arguments.sources
        reals, fakes = (from_folder(folder, half, arguments.seed, arguments.size) for folder in (real, fake))
        facts: dict[str, object] = {"real": str(real), "fake": str(fake)}
    else:
        reals, fakes, facts = from_run(arguments.sources[0], half, arguments.seed, arguments.raw)
    facts |= {"seed": arguments.seed, "size": arguments.size}
    page = make_sheet(reals, fakes, arguments.out, arguments.seconds, facts)
    print(f"{page}: {half} real and {half} fake images for raters; keep {arguments.out / 'key.json'} to yourself")


def score(arguments: argparse.Namespace) -> None:
    """Print the score and, if asked, write its record."""
    from gan_experiments.analysis.human import Key, read_answers
    from gan_experiments.analysis.human import score as score_answers

    check_file(arguments.json, "--json")
    key = Key.read(arguments.key)
    result = score_answers(key, [read_answers(path, key) for path in arguments.answers])
    if arguments.json:
        write_file(arguments.json, json.dumps(result.to_record(), indent=2) + "\n")
    for name, part in (
        ("all images", result.overall),
        ("real images", result.on_real),
        ("fake images", result.on_fake),
    ):
        print(f"wrong on {name:<12} {describe(part)}")
    for rater, parts in result.raters.items():
        print(f"{rater}: " + ", ".join(f"{kind} {describe(part)}" for kind, part in parts.items()))
    print(f"50 % wrong means indistinguishable; intervals: {result.interval_from}")


def describe(share: Share) -> str:
    """A share in words."""
    reach = "" if share.interval is None else f" [{100 * share.interval[0]:.1f}, {100 * share.interval[1]:.1f}]"
    return f"{100 * share.error:.1f} %{reach} of {share.n}"


def main() -> None:
    """What the command line asks for."""
    chosen = parse()
    {"make": make, "score": score}[chosen.command](chosen)


if __name__ == "__main__":
    run_command(main)
