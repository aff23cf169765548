"""The default run against the tutorial's DCGAN at equal wall-clock time, over several seeds, as a Markdown table.

python scripts/reproduce/side_by_side.py --seeds 3 --out outputs/side_by_side/results.json
python scripts/reproduce/side_by_side.py --seeds 1 --out outputs/short/results.json schedule.images=100000

For each seed first gan-train, timed from the command to its end with start-up, scores and files, then the tutorial
with that many seconds of training alone; one after the other, each with the whole machine. Runs stand beside the
results; given again, the command goes on with the first seed that the results lack. Overrides go to gan-train.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import check_overrides, train

from gan_experiments.analysis.tables import Summary, markdown, number, summarize
from gan_experiments.console import Parser, check_file, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.rundir import read_config

TUTORIAL = Path(__file__).with_name("tutorial.py")
SAME = ("dataset", "data_fingerprint", "extractor_sha256", "resize", "n_real", "n_fake", "n_floor", "seed", "floor")
"""What two scores must share to be comparable."""


def compare(seed: int, directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run both sides for one seed; UserError when a side fails or the scores don't compare."""
    if directory.exists():
        raise UserError(f"{directory}: has an unfinished comparison, whose time is unknown; remove it to start it anew")
    ours = train(directory, [*overrides, f"run.seed={seed}", "logger=none"])
    if ours.failure:
        raise UserError(f"seed {seed}: gan-train failed: {ours.failure}; it is kept in {directory}")
    for name in ("fid", "inception_score"):
        if name not in ours.scores:
            raise UserError(f"seed {seed}: the run has no score {name}, which the tutorial is compared by")
    config = read_config(directory)
    theirs = run_tutorial(seed, ours.seconds, config["evaluation"]["samples"], config["runtime"]["threads"])
    check_comparable(ours.scores["fid"], theirs["scores"]["fid"])
    return {
        "seed": seed,
        "wall_seconds": ours.seconds,
        "floor": ours.scores["fid"]["floor"],
        "ours": {name: ours.scores[name]["value"] for name in ("fid", "inception_score")} | {"images": ours.images},
        "tutorial": {name: value for name, value in theirs.items() if name != "scores"},
    }


def run_tutorial(seed: int, seconds: float, samples: int, threads: int | None) -> dict[str, Any]:
    """What tutorial.py prints, run in a process of its own."""
    command = [sys.executable, str(TUTORIAL), "--seconds", f"{seconds:.3f}", "--seed", str(seed)]
    command += ["--samples", str(samples), *([] if threads is None else ["--threads", str(threads)])]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise UserError(f"seed {seed}: the tutorial ended with code {done.returncode}; its message stands above")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def check_comparable(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """UserError naming what differs in how two scores came about."""
    differing = [f"{key} {ours[key]} and {theirs[key]}" for key in SAME if ours[key] != theirs[key]]
    if differing:
        raise UserError(f"the scores of the run and of the tutorial don't compare: {'; '.join(differing)}")


def summaries(pairs: Sequence[dict[str, Any]]) -> list[Summary]:
    """Mean and deviation of each column but the seed."""
    return [summarize(column) for column in zip(*map(columns, pairs), strict=True)]


def columns(pair: dict[str, Any]) -> list[float]:
    """One row of numbers: FID and IS of both, ratio of the FIDs, floor, seconds."""
    ours, theirs = pair["ours"], pair["tutorial"]
    scores = [ours["fid"], ours["inception_score"], theirs["fid"], theirs["inception_score"]]
    return [*scores, theirs["fid"] / ours["fid"], pair["floor"], pair["wall_seconds"]]


def table(pairs: Sequence[dict[str, Any]]) -> str:
    """A row a seed, then mean ± standard deviation."""
    header = ["seed", "FID", "IS", "tutorial FID", "tutorial IS", "FID ratio", "FID floor", "wall seconds"]
    rows = [[str(pair["seed"]), *map(number, columns(pair))] for pair in pairs]
    return markdown(header, [*rows, ["mean ± sd", *map(str, summaries(pairs))]])


def load(path: Path, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs that an earlier command with the same overrides has finished; UserError for another command's."""
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        former, pairs = list(content["overrides"]), list(content["pairs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of results ({error}); give another --out") from error
    if former != list(overrides):
        raise UserError(f"{path}: results with other overrides ({' '.join(former) or 'none'}); give another --out")
    return pairs


def main() -> None:
    """Go through the seeds, saving after each, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of results; runs are kept beside it")
    arguments, overrides = parser.parse_known_args()
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: must be 1 or more")
    check_overrides(overrides, ["run.seed", "run.dir", "logger"])
    check_file(arguments.out, "--out")
    pairs = load(arguments.out, overrides)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done = {pair["seed"] for pair in pairs}
    for seed in range(arguments.seeds):
        if seed not in done:
            pairs.append(compare(seed, arguments.out.parent / f"seed-{seed}", overrides))
            write_atomic(arguments.out, json.dumps({"overrides": overrides, "pairs": pairs}, indent=2) + "\n")
    print(table(pairs))


if __name__ == "__main__":
    run_command(main, "interrupted; finished seeds are kept")
