"""A classifier of few labels with and without unlabelled images: errors on held-out images over choices of labels.

python scripts/reproduce/semi_supervised.py --dir outputs/semi_supervised --jobs 2
python scripts/reproduce/semi_supervised.py --dir outputs/semi_supervised --labels 100 --draws 1 schedule.images=100000
python scripts/reproduce/semi_supervised.py --dir outputs/semi_supervised --table

The protocol of Salimans et al. 2016, section 5, by experiment=semi_supervised: --labels in all, equally many a class,
in --draws class-balanced choices. Beside the GAN stands the same discriminator on the same labels, for as many steps,
without the adversarial half of its objective (schedule.discriminator.adversarial=0). Each cell is the mean ± standard
deviation of the classifier's error over choices, in %. Further overrides go to all runs. Runs are kept in DIR: given
again, the command continues what was interrupted and takes over what is complete; --table only reads.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runs import check_overrides, train_all

from gan_experiments.analysis.tables import markdown
from gan_experiments.console import Parser, check_folder, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging.status import State, read_status

CLASSES = 10
METHODS = {
    "GAN, feature matching": ("gan", ()),
    "supervised only": ("supervised", ("schedule.discriminator.adversarial=0",)),
}
"""Rows of the table: their folders' name and overrides of their own."""

RESERVED = ("run.dir", "run.seed", "logger", "experiment", "model.labels_per_class", "model.labels_seed",
            "schedule.discriminator.adversarial")  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One run: a method with so many labels in one choice of them, in its directory."""

    method: str
    labels: int
    directory: Path
    overrides: tuple[str, ...]


def plan(directory: Path, labels: Sequence[int], draws: int, extra: Sequence[str]) -> list[Task]:
    """All runs, the first choice of labels of everything before the second; both methods share seed and labels."""
    tasks = []
    for draw in range(draws):
        for count in labels:
            for method, (name, own) in METHODS.items():
                overrides = (
                    "experiment=semi_supervised", "logger=none", "runtime.threads=1", *own, *extra, f"run.seed={draw}",
                    f"model.labels_per_class={count // CLASSES}", f"model.labels_seed={draw}",
                )  # fmt: skip
                tasks.append(Task(method, count, directory / f"{name}-{count}-{draw}", overrides))
    return tasks


def cell(tasks: Sequence[Task]) -> str:
    """Mean ± standard deviation of the error in % over completed runs, and how many these are."""
    errors, failed = [], 0
    for task in tasks:
        status = read_status(task.directory / "status.json")
        failed += status is not None and status.state is State.FAILED
        if status is not None and status.state is State.COMPLETED:
            errors.append(100 * float(status.scores["classifier_error"]["value"]))
    notes = f"{len(errors)} runs{f', {failed} failed' if failed else ''}"
    if not errors:
        return f"- ({notes})"
    spread = f" ± {statistics.stdev(errors):.1f}" if len(errors) > 1 else ""
    return f"{statistics.fmean(errors):.1f}{spread} ({notes})"


def table(tasks: Sequence[Task]) -> str:
    """A row a method, a column a number of labels."""
    counts = list(dict.fromkeys(task.labels for task in tasks))
    rows = [
        [method, *(cell([t for t in tasks if t.method == method and t.labels == count]) for count in counts)]
        for method in METHODS
    ]
    note = "Errors on held-out images in %, mean ± standard deviation over choices of labels."
    return markdown(["method", *(f"{count} labels" for count in counts)], rows) + f"\n\n{note}"


def main() -> None:
    """Run what is missing, several at a time, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 100, 400], help="labels in all (10 100 400)")
    parser.add_argument("--draws", type=int, default=5, help="choices of labels (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (%(default)s)")
    parser.add_argument("--table", action="store_true", help="only read the runs there are")
    arguments, extra = parser.parse_known_args()
    if min(arguments.draws, arguments.jobs) < 1:
        raise UserError("--draws and --jobs must be 1 or more")
    if any(count < 1 or count % CLASSES for count in arguments.labels):
        raise UserError(f"--labels {arguments.labels}: each must be divisible by the {CLASSES} classes")
    check_overrides(extra, RESERVED)
    check_folder(arguments.dir, "--dir")
    tasks = plan(arguments.dir, arguments.labels, arguments.draws, extra)
    if not arguments.table:
        train_all(tasks, arguments.jobs)
    print(table(tasks))


if __name__ == "__main__":
    run_command(main, "interrupted; the same command continues")
