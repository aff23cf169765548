"""Networks compared at an equal budget of images of fashion10k: scores, speed and size over seeds, as a Markdown table.

python scripts/reproduce/architectures.py --dir outputs/architectures --seeds 2 --jobs 2
python scripts/reproduce/architectures.py --dir outputs/architectures --table

Each run is experiment=architectures with a network narrow enough for a CPU, and a loss, a penalty and rates with which
it learns in so short a time: residual networks without spectral norm, with which D would keep up with G only near the
end, and lazy penalties. Rates fall to 0 by the end. Cells are mean ± standard deviation over seeds. Speed is that of
training steps of one thread, the median over a run's records. Runs are kept in DIR: given again, the command continues
what was interrupted and takes over what is complete; --table only reads. --grids writes the first seed's last samples,
a strip of 20 images a method, to a PNG.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import train_all

from gan_experiments.analysis.tables import markdown, number
from gan_experiments.console import Parser, check_file, check_folder, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging.status import State, read_status

SCORES = ("fid", "kid", "precision", "recall", "class_accuracy")


def rates(generator: float, discriminator: float) -> tuple[str, ...]:
    """Where the players' linear schedules start."""
    return tuple(
        f"schedule.{player}.optimizer.lr.start={rate}"
        for player, rate in (("generator", generator), ("discriminator", discriminator))
    )


def both(*settings: str) -> tuple[str, ...]:
    """Settings of both networks."""
    return tuple(f"model.{player}.{setting}" for player in ("generator", "discriminator") for setting in settings)


PAIRED = ("loss=relativistic", "regularizer=[r1]", "regularizer.r1.every=4", "regularizer.r1.weight=0.05")
RESNET = (
    *PAIRED, "model.generator.width=12", "model.discriminator.width=24", *both("spectral_norm=false"),
    *rates(1e-3, 2e-3),
)  # fmt: skip
CONDITIONAL = ("conditioning=[batch_norm,projection]", "metric=[fid,kid,precision_recall,class_accuracy]")
METHODS = {
    "dcgan": ("model=dcgan",),
    "resnet (SNGAN's)": ("model=resnet", *RESNET),
    "resnet, classes by projection": ("model=resnet", *RESNET, *CONDITIONAL),
    "sagan": ("model=sagan", *RESNET),
    "stylegan2": (
        "model=stylegan2", *both("channel_base=512", "channel_max=64"), "model.generator.style_dim=64",
        "model.generator.latent_dim=64", "model.generator.mapping_layers=2", "model.mixing=0", *PAIRED,
        *rates(4e-3, 4e-3),
    ),
    "r3gan": (
        "model=r3gan", *both("width=32", "groups=4", "blocks=1"), "loss=relativistic", "regularizer=[r1,r2]",
        *(f"regularizer.{name}.{setting}" for name in ("r1", "r2") for setting in ("every=4", "weight=0.5")),
        *rates(1e-3, 1e-3),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One run: a method with a seed, in its directory."""

    method: str
    directory: Path
    overrides: tuple[str, ...]


def plan(directory: Path, methods: Sequence[str], seeds: int) -> list[Task]:
    """All runs, the first seed of everything before the second."""
    common = ("experiment=architectures", "logger=none")
    return [
        Task(method, directory / f"{slug(method)}-{seed}", (*common, *METHODS[method], f"run.seed={seed}"))
        for seed in range(seeds)
        for method in methods
    ]


def slug(method: str) -> str:
    """A method's name as part of a folder's."""
    return "".join(letter if letter.isalnum() else "-" for letter in method)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; a dash for no value."""
    if not values:
        return "-"
    mean = number(statistics.fmean(values))
    return f"{mean} ± {statistics.stdev(values):.2g}" if len(values) > 1 else mean


def speed(directory: Path) -> float:
    """The median images/s of a run's records."""
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [record["values"].get("progress/images_per_second") for record in records if record["kind"] == "train"]
    return float(statistics.median(value for value in found if value is not None))


def sizes(directory: Path) -> dict[str, int]:
    """Trainable parameters by player."""
    from gan_experiments.inference import load_generator
    from gan_experiments.modules import count_parameters

    sides = load_generator(directory).game.sides
    return {player: sum(map(count_parameters, networks)) for player, networks in sides.items()}


def row(method: str, tasks: Sequence[Task]) -> list[str]:
    """The cells of a method: scores, speed, parameters, runs and failures."""
    complete, failed = [], 0
    for task in tasks:
        status = read_status(task.directory / "status.json")
        failed += status is not None and status.state is State.FAILED
        if status is not None and status.state is State.COMPLETED:
            complete.append((task, status))
    scores = [
        spread([float(status.scores[name]["value"]) for _, status in complete if name in status.scores])
        for name in SCORES
    ]
    speeds = spread([speed(task.directory) for task, _ in complete])
    count: dict[str, Any] = sizes(complete[0][0].directory) if complete else {}
    parameters = [f"{count[player]:,}" if count else "-" for player in ("generator", "discriminator")]
    return [method, *scores, speeds, *parameters, str(len(complete)), str(failed)]


def table(tasks: Sequence[Task]) -> str:
    """A row a method."""
    methods = dict.fromkeys(task.method for task in tasks)
    header = ["network", "FID", "KID", "precision", "recall", "class accuracy", "images/s, one thread", "G", "D",
              "runs", "failed"]  # fmt: skip
    return markdown(header, [row(method, [task for task in tasks if task.method == method]) for method in methods])


def strips(tasks: Sequence[Task], path: Path) -> None:
    """A strip of samples a method, in the table's order; those of labelled runs one a class."""
    import torch

    from gan_experiments import seeding
    from gan_experiments.inference import load_generator
    from gan_experiments.pictures import grid, save_sheet
    from gan_experiments.sampling import by_class, draw

    rows: list[torch.Tensor] = []
    for task in {task.method: task for task in reversed(tasks)}.values():
        status = read_status(task.directory / "status.json")
        if status is not None and status.state is State.COMPLETED:
            own = load_generator(task.directory)
            random = seeding.generator(0, "strip")
            rows.insert(0, draw(own.game, 20, random, own.runtime, by_class(own.game, 20)).samples.cpu())
    save_sheet(path, grid(torch.cat(rows), 20), rows[0].shape[-1])


def main() -> None:
    """Run what is missing, several at a time, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="rows (all)")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds, from 0 (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (%(default)s)")
    parser.add_argument("--table", action="store_true", help="only read the runs there are")
    parser.add_argument("--grids", type=Path, help="a PNG file for samples of each method")
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.jobs) < 1:
        raise UserError("--seeds and --jobs must be 1 or more")
    check_folder(arguments.dir, "--dir")
    check_file(arguments.grids, "--grids")
    tasks = plan(arguments.dir, arguments.methods, arguments.seeds)
    if not arguments.table:
        train_all(tasks, arguments.jobs)
    print(table(tasks))
    if arguments.grids:
        strips(tasks, arguments.grids)


if __name__ == "__main__":
    run_command(main, "interrupted; the same command continues")
