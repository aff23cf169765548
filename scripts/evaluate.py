"""Score a run, all runs of a sweep, checkpoints of a run, or stored images, with any metrics.

python scripts/evaluate.py RUN                                          the run's own metrics
python scripts/evaluate.py RUN --metric fid kid --samples 5000 --seed 1 --json scores.json
python scripts/evaluate.py RUN --best                                   the best generator, by checkpoint.best
python scripts/evaluate.py RUN --checkpoints all                        a row a checkpoint; 1000:5000 for some (steps)
python scripts/evaluate.py SWEEP --raw                                  a row a run; live weights
python scripts/evaluate.py RUN --psi 0.7                                truncated; --truncation 0.7 without styles
python scripts/evaluate.py RUN --statistics standing                    of batch norms: running, standing, batch
python scripts/evaluate.py images/ --dataset cifar10 --extractor inception
python scripts/evaluate.py images/ --reference others/ --extractor efficientnet_lite0 --size 64
python scripts/evaluate.py samples.npz --dataset folder --metric fid dataset.path=photos dataset.size=64

Images are a folder (with one subfolder a class, if they have classes) or an .npz: uint8 (n, h, w, c) or (n, c, h, w)
as arr_0, images or samples, labels as arr_1 or labels, names of the classes as classes. They are compared with the
training part of a data set, whose held-out part gives the floor, or with a folder or an .npz of which the share
--held-out does. Arguments key=value change the configuration. The exit code is 1 if anything could not be scored; the
rest is scored all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gan_experiments.analysis.tables import markdown, number
from gan_experiments.console import Parser, check_file, check_folder, run_command, write_file
from gan_experiments.logging import strict_json
from gan_experiments.logging.score_counts import cautions

if TYPE_CHECKING:
    from gan_experiments.analysis.scoring import Row
    from gan_experiments.metrics.score import Score


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("target", type=Path, help="a run, a folder of runs, a folder of images, or an .npz file")
    add("overrides", nargs="*", metavar="key=value", help="values of the configuration")
    add("--reference", type=Path, metavar="PATH", help="folder or .npz of real images")
    add("--dataset", metavar="NAME", help="conf/dataset option to compare with (that of the run)")
    add("--metric", nargs="+", metavar="NAME", help="conf/metric options (those of the run; fast for images)")
    add("--extractor", nargs="+", metavar="NAME", help="conf/extractor options (those of the run)")
    add("--samples", type=int, metavar="N", help="how many to score (as in the run; all images)")
    add("--seed", type=int, metavar="S", help="of latents and choices (as in the run)")
    add("--raw", action="store_true", help="live weights rather than their moving average")
    add("--best", action="store_true", help="the generator that scored best in training (checkpoint.best)")
    add("--draws", type=int, metavar="K", help="sets of samples; from 2 on scores are their means")
    add("--statistics", choices=["running", "standing", "batch"], help="of batch norms (as in the run)")
    add("--truncation", type=float, metavar="T", help="draw components of normal latents again until within +-T")
    add("--psi", type=float, metavar="P", help="move styles towards the mean style, all the way at 0")
    add("--cutoff", type=int, metavar="N", help="with --psi: in the first N layers only")
    add("--centres", type=int, metavar="K", help="with --psi: towards the nearest of K cluster centres")
    add("--checkpoints", metavar="all|FROM:TO", help="score these states of the run (steps)")
    add("--split", choices=["train", "held_out"], default="train", help="the part to compare with (%(default)s)")
    add("--size", type=int, metavar="PIXELS", help="crop folders of images to squares and resize them")
    add("--held-out", type=float, default=0.1, metavar="SHARE", help="of the reference, for the floor (%(default)s)")
    add("--no-labels", action="store_true", help="ignore class folders and labels of images")
    add("--json", type=Path, metavar="OUT", help="write the scores' full records here")
    add("--pictures", type=Path, metavar="DIR", help="write the metrics' pictures here")
    arguments = parser.parse_intermixed_args()
    # Names may swallow what follows them.
    for names in (arguments.metric, arguments.extractor):
        values = [name for name in names or () if "=" in name]
        arguments.overrides += values
        for value in values:
            names.remove(value)
    return arguments


def arrow(score: Score) -> str:
    """Which way is better."""
    return "↑" if score.higher_is_better else "↓"


def spell(interval: tuple[float, float] | None) -> str:
    """For example `12.1 to 12.9`."""
    return "-" if interval is None else f"{interval[0]:.5g} to {interval[1]:.5g}"


def network(score: Score) -> str:
    """The extractor with the first letters of its hash."""
    return f"{score.extractor} {score.extractor_sha256[:8]}".strip()


def counts(score: Score) -> str:
    """Numbers of real and of generated samples."""
    draws = f" x {score.draws}" if score.draws > 1 else ""
    return f"{score.n_real:,} / {score.n_fake:,}{draws}"


def floor(score: Score) -> float | None:
    """The number for real data: that of held-out samples, or the metric's own."""
    return score.real if score.floor is None else score.floor


def spell_floor(score: Score) -> str:
    """The number for real data, with their number where it isn't that of the scored ones: some scores depend on it."""
    value = floor(score)
    return number(value) + ("" if value is None or score.n_floor in (0, score.n_fake) else f" (n {score.n_floor:,})")


def one(row: Row) -> str:
    """A row a score, for one target."""
    rows = [
        [f"{name} {arrow(score)}", f"{score.value:.5g}", spell(score.interval), spell_floor(score), counts(score),
         network(score)]
        for name, score in row.scores.items()
    ]  # fmt: skip
    table = markdown(["score", "value", "95 % interval", "held-out real", "real / fake", "extractor"], rows)
    return "\n".join([table, *(f"\n- {line}" for line in caution(row.scores))])


def caution(scores: Mapping[str, Score]) -> list[str]:
    """What to mind where floors are of other numbers of samples than scores."""
    return cautions({name: score.to_record() for name, score in scores.items()})


def several(rows: Sequence[Row]) -> str:
    """A row a target, a column a score, and below how they were made."""
    first = {name: score for row in reversed(rows) for name, score in row.scores.items()}
    header = ["target", "weights", "images", *(f"{name} {arrow(score)}" for name, score in first.items())]
    body = [
        [row.target, row.weights, f"{row.images:,}", *(cell(row.scores.get(name)) for name in first)]
        for row in rows
        if not row.error
    ]
    notes = [*provenance(rows, first), *caution(first)]
    return "\n".join([markdown(header, body), "", *(f"- {line}" for line in notes)])


def cell(score: Score | None) -> str:
    """Value and interval."""
    if score is None:
        return "-"
    return f"{score.value:.5g}" + ("" if score.interval is None else f" ({spell(score.interval)})")


def provenance(rows: Sequence[Row], names: Sequence[str] | dict[str, Score]) -> Iterator[str]:
    """How each score was made, once for all rows that agree."""
    for name in names:
        scores = [row.scores[name] for row in rows if name in row.scores]
        texts = dict.fromkeys(
            f"held-out real {spell_floor(score)}, real / fake {counts(score)}, {score.dataset}, {network(score)}"
            f"{making(score)}"
            for score in scores
        )
        yield f"{name}: {'; or '.join(texts)}"


def making(score: Score) -> str:
    """What was done to make samples other than those of training: truncation, and statistics of batch norms."""
    truncated = "" if score.truncation in ("none", "unknown") else f", {score.truncation}"
    return truncated + (f", {score.batch_norm} statistics" if score.batch_norm in ("standing", "batch") else "")


def origin(row: Row) -> str:
    """Where a target's samples come from, or for stored ones, what they were compared with."""
    score = next(iter(row.scores.values()), None)
    if row.weights != "stored":
        how = "" if score is None else making(score)
        return f": {row.weights} weights after {row.images:,} images{how}"
    return "" if score is None else f" against {score.dataset} ({score.transform})"


def save_pictures(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write each row's pictures, in a folder of its own where there are several rows; their paths."""
    from gan_experiments.pictures import save_png

    paths = []
    for place, row in enumerate(rows):
        own = folder if len(rows) == 1 else folder / f"{place:03d}-{Path(row.target).stem}"
        for name, picture in row.pictures.items():
            paths.append(own / f"{name}.png")
            save_png(paths[-1], picture.permute(1, 2, 0).cpu().contiguous().numpy())
    return paths


def main() -> int:
    """Print a table of scores, write records and pictures if asked, and return the exit code."""
    arguments = vars(parse())
    target, out, folder = (arguments.pop(name) for name in ("target", "json", "pictures"))
    check_file(out, "--json")
    check_folder(folder, "--pictures")
    from gan_experiments.analysis.choices import Choice
    from gan_experiments.analysis.scoring import Scorer
    from gan_experiments.truncation import TruncationChoice

    truncation = TruncationChoice(*(arguments.pop(name) for name in ("truncation", "psi", "cutoff", "centres")))
    names = {"metric": "metrics", "extractor": "extractors"}
    chosen = {names.get(name, name): value for name, value in arguments.items() if name != "no_labels"}
    rows = []
    choice = Choice(**chosen, truncation=truncation, labels=not arguments["no_labels"])
    for row in Scorer(choice).score(target):
        rows.append(row)
        if row.error:
            print(f"evaluate.py: {row.target}: not scored: {row.error}", file=sys.stderr, flush=True)
    if out:
        write_file(out, strict_json.dumps([row.to_record() for row in rows], indent=2) + "\n")
    pictures = save_pictures(rows, folder) if folder else []
    if len(rows) == 1 and not rows[0].error:
        print(f"{rows[0].target}{origin(rows[0])}\n\n{one(rows[0])}")
    elif any(row.scores for row in rows):
        print(several(rows))
    for path in pictures:
        print(path)
    return 1 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    run_command(main)
