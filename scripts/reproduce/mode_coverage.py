"""Modes found on the ring and the grid: PacGAN's own networks, and losses and tricks on one bench, over seeds.

python scripts/reproduce/mode_coverage.py --dir outputs/modes --methods bench recipe --seeds 10 --jobs 2
python scripts/reproduce/mode_coverage.py --dir outputs/modes --methods pacgan --seeds 4 --pacgan-steps 20000
python scripts/reproduce/mode_coverage.py --dir outputs/modes --results scripts/reproduce/results/modes.json --table

Each cell is the mean ± standard error over seeds of the last evaluation (2,500 samples, high quality within three
standard deviations of a mode). Runs are kept in DIR: given again, the command continues what was interrupted and takes
over what is complete; --table only reads. --results keeps the scores of complete runs, with all their settings, in a
file: what stands there isn't run again, so that a table may be made in several sittings and on several machines. Rows
beside them are the published ones, with the budget each was given.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import train_all

from gan_experiments.analysis.tables import markdown
from gan_experiments.console import Parser, check_file, check_folder, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.logging.status import State, read_status

Results = Mapping[str, Mapping[str, Any]]
"""By the name of a run's folder: its overrides and, unless it failed, scores and seconds."""

DATASETS = {"ring": 8, "grid": 25}
SCORES = ("modes_captured", "high_quality_share", "reverse_kl")


@dataclass(frozen=True)
class Method:
    """A row of the table: its family, overrides of gan-train (`{data}` is the data set) and published cells, if any."""

    family: str
    overrides: tuple[str, ...]
    published: tuple[str, str] = ("", "")


def packed(size: int) -> tuple[str, ...]:
    """PacGAN's protocol with packs of `size`: batches of 100 packs."""
    trick = () if size == 1 else ("trick=[packing]", f"trick.packing.size={size}")
    return ("experiment=pacgan_{data}", *trick, f"schedule.batch_size={100 * size}", "runtime.threads=1")


BENCH = ("experiment=mixtures", "dataset={data}", "runtime.threads=1")
PUBLISHED = {  # Lin et al. 2018, section 4.1: ten runs, mean ± standard error
    1: ("6.3±.5 / 98.2±.2 / .45±.09", "17.3±.8 / 94.8±.7 / .70±.07"),
    2: ("7.9±.1 / 95.6±2.0 / .07±.03", "23.8±.7 / 91.3±.8 / .13±.04"),
    3: ("7.8±.1 / 97.7±.3 / .10±.02", "24.6±.4 / 94.2±.4 / .06±.02"),
}
METHODS = {
    "GAN (PacGAN's networks)": Method("pacgan", packed(1), PUBLISHED[1]),
    "packs of 2 (PacGAN's)": Method("pacgan", packed(2), PUBLISHED[2]),
    "packs of 3 (PacGAN's)": Method("pacgan", packed(3), PUBLISHED[3]),
    "non-saturating": Method("bench", BENCH),
    "packs of 2": Method("bench", (*BENCH, "trick=[packing]")),
    "minibatch discrimination": Method("bench", (*BENCH, "trick=[minibatch_discrimination]")),
    "Wasserstein, gradient penalty": Method(
        "bench",
        (*BENCH, "loss=wasserstein", "regularizer=[gradient_penalty]", "regularizer.gradient_penalty.weight=0.1",
         "schedule.discriminator.moves=5"),
    ),
    "relativistic, R1 + R2": Method("bench", ("experiment={data}", "schedule.images=400000", "runtime.threads=1")),
    "unrolled (5 steps)": Method("unrolled", (*BENCH, "trick=[unrolled]")),
    "relativistic, R1 + R2, whole recipe": Method("recipe", ("experiment={data}", "runtime.threads=1")),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One run: a method on a data set with a seed, in its directory."""

    method: str
    data: str
    seed: int
    directory: Path
    overrides: tuple[str, ...]


def plan(directory: Path, families: Sequence[str], seeds: int, steps: int) -> list[Task]:
    """All runs, the first seed of everything before the second."""
    tasks = []
    for seed in range(seeds):
        for name, method in METHODS.items():
            for data in DATASETS if method.family in families else ():
                overrides = [override.format(data=data) for override in method.overrides]
                if method.family == "pacgan":
                    batch = next(int(o.split("=")[1]) for o in overrides if o.startswith("schedule.batch_size"))
                    overrides += [f"schedule.images={batch * steps}", f"evaluation.every={batch * steps // 4}"]
                    overrides += [f"log.every={batch * 1000}", f"checkpoint.every={batch * 2500}"]
                    overrides += [f"samples.every={batch * steps}"]
                place = directory / f"{slug(name)}-{data}-{seed}"
                own = (*overrides, f"run.seed={seed}", "logger=none")
                tasks.append(Task(name, data, seed, place, own))
    return tasks


def slug(name: str) -> str:
    """A method's name as part of a folder's."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def collect(tasks: Sequence[Task], results: Results) -> Results:
    """The results with those of runs that have ended added; a run counts with the settings that it had."""
    ended = dict(results)
    for task in tasks:
        status = read_status(task.directory / "status.json")
        if status is None or status.state not in (State.COMPLETED, State.FAILED):
            continue
        entry: dict[str, Any] = {"overrides": list(task.overrides)}
        if status.state is State.COMPLETED:
            entry["scores"] = {name: float(status.scores[name]["value"]) for name in SCORES}
            entry["seconds"] = trained_seconds(task.directory)
        ended[task.directory.name] = entry
    return ended


def found(task: Task, results: Results) -> Mapping[str, Any] | None:
    """What is known of a run: without scores if it failed, None if it isn't known or had other settings."""
    entry = results.get(task.directory.name)
    return entry if entry is not None and entry["overrides"] == list(task.overrides) else None


def cell(tasks: Sequence[Task], results: Results) -> str:
    """Modes / high quality in % / reverse KL, each mean ± standard error, how many runs, and seconds a run."""
    entries = [entry for task in tasks if (entry := found(task, results)) is not None]
    complete = [entry for entry in entries if "scores" in entry]
    failed = len(entries) - len(complete)
    if not complete:
        return f"- ({failed} failed)" if failed else "-"
    rows = [[entry["scores"][name] for name in SCORES] for entry in complete]
    columns = list(zip(*rows, strict=True))
    texts = [error(columns[0], 1, 1), error(columns[1], 100, 1), error(columns[2], 1, 3)]
    whole = sum(row[0] == DATASETS[tasks[0].data] and row[1] >= 0.9 for row in rows)
    notes = f"{len(rows)} runs{f', {failed} failed' if failed else ''}, {whole} whole"
    return f"{' / '.join(texts)} ({notes}; {statistics.median(entry['seconds'] for entry in complete):.0f} s)"


def trained_seconds(directory: Path) -> float:
    """Seconds between the first and the last record of a run that was not interrupted."""
    times = [
        json.loads(line)["time"] for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return float(times[-1] - times[0])


def error(values: Sequence[float], scale: float, digits: int) -> str:
    """Mean ± standard error."""
    mean = scale * statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f}±{scale * statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def table(tasks: Sequence[Task], results: Results, steps: int) -> str:
    """A row a method: both data sets, ours and published."""
    rows = []
    for name, method in METHODS.items():
        own = [task for task in tasks if task.method == name]
        if own:
            cells = [cell([task for task in own if task.data == data], results) for data in DATASETS]
            budget = f" ({steps:,} of 400,000 steps)" if method.family == "pacgan" else ""
            rows.append([name + budget, cells[0], method.published[0], cells[1], method.published[1]])
    note = "Modes / % high quality / reverse KL; whole: all modes and 90 % or more; seconds from first to last record."
    return markdown(["method", "ring", "published", "grid", "published"], rows) + f"\n\n{note}"


def main() -> None:
    """Run what is missing, several at a time, and print the table."""
    parser = Parser(description=__doc__)
    families = sorted({method.family for method in METHODS.values()})
    parser.add_argument("--dir", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--methods", nargs="+", choices=families, default=families, help="families of rows (all)")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from 0 (%(default)s)")
    parser.add_argument("--pacgan-steps", type=int, default=400_000, help="steps of PacGAN's own runs (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (%(default)s)")
    parser.add_argument("--results", type=Path, help="a JSON file that keeps what came out")
    parser.add_argument("--table", action="store_true", help="only read what there is")
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.jobs, arguments.pacgan_steps) < 1:
        raise UserError("--seeds, --jobs and --pacgan-steps must be 1 or more")
    check_folder(arguments.dir, "--dir")
    check_file(arguments.results, "--results")
    tasks = plan(arguments.dir, arguments.methods, arguments.seeds, arguments.pacgan_steps)
    kept = arguments.results is not None and arguments.results.exists()
    results: Results = json.loads(arguments.results.read_text(encoding="utf-8")) if kept else {}
    if not arguments.table:
        train_all([task for task in tasks if found(task, results) is None], arguments.jobs)
    results = collect(tasks, results)
    if arguments.results is not None:
        write_atomic(arguments.results, (json.dumps(dict(sorted(results.items())), indent=1) + "\n").encode())
    print(table(tasks, results, arguments.pacgan_steps))


if __name__ == "__main__":
    run_command(main, "interrupted; the same command continues")
