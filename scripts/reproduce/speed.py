"""Images a second of the default run's training steps, for several machine settings, as a Markdown table.

python scripts/reproduce/speed.py
python scripts/reproduce/speed.py --rounds 7 --seconds 5 loss=hinge model.generator.width=64

All settings take turns of a few seconds, round after round, so that other load on the machine meets all of them; the
table shows the median of the rounds. Scores, grids, logging and files aren't part of it. Overrides are gan-train's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from runs import check_overrides

from gan_experiments import runtime as machine
from gan_experiments.analysis.tables import markdown, number
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.config import build, conf_dir, register
from gan_experiments.console import Parser, run_command
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.runtime import Runtime
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer

PENALTIES = "penalties in the networks' precision"
VARIANTS: dict[str, tuple[str, ...]] = {
    "auto": (),
    "auto again": (),
    "float32": ("runtime.precision=float32",),
    "bfloat16": ("runtime.precision=bfloat16",),
    "channels_last on": ("runtime.channels_last=true",),
    "channels_last off": ("runtime.channels_last=false",),
    "one thread": ("runtime.threads=1",),
    "all threads": ("runtime.threads=null",),
    PENALTIES: ("runtime.penalties=reduced",),
    "deterministic": ("runtime.deterministic=true",),
}
"""Settings by name; `auto` is what the others are compared with, and shows against `auto again` how noisy it is."""

MINIMUM_STEPS = 2


@dataclass(frozen=True)
class Contestant:
    """A run ready to step, and the machine settings it steps with."""

    trainer: Trainer
    runtime: Runtime

    @property
    def penalized(self) -> bool:
        """Whether a term of it takes slopes."""
        return any(term.watches for player in self.trainer.players for term in player.terms)

    def steps(self, count: int) -> None:
        """That many training steps, finished when this returns."""
        for _ in range(count):
            self.trainer.step()
        if self.runtime.device.type == "cuda":
            torch.cuda.synchronize(self.runtime.device)

    def turn(self, seconds: float, clock: Callable[[], float]) -> float:
        """Images a second over at least `seconds` and two steps; one step before them isn't counted."""
        with machine.applied(self.runtime):
            self.steps(1)
            taken, start, elapsed = 0, clock(), 0.0
            while taken < MINIMUM_STEPS or elapsed < seconds:
                self.steps(1)
                taken, elapsed = taken + 1, clock() - start
        return taken * self.trainer.images_per_step / elapsed


def compose_run(overrides: Sequence[str]) -> DictConfig:
    """The configuration that gan-train would run with these overrides."""
    register()
    with initialize_config_dir(config_dir=conf_dir(), version_base="1.3"):
        return compose("config", ["run.dir=unused", *overrides])


def prepare(overrides: Sequence[str], datasets: dict[str, Dataset], warm_up: int) -> Contestant:
    """A run as gan-train builds it, after `warm_up` steps; data sets are kept in `datasets` for the next one."""
    settings = typed(compose_run(overrides))
    key = str(settings.dataset)
    if key not in datasets:
        datasets[key] = cast(Dataset, build(settings.dataset, "dataset"))
    dataset = datasets[key]
    runtime = machine.choose(settings.runtime, dataset.spec.is_image)
    with machine.applied(runtime):
        game = build_game(settings, dataset.spec)
        runtime.place(game)
        trainer, _ = build_trainer(settings, game, dataset.to(runtime.device), runtime)
        contestant = Contestant(trainer, runtime)
        contestant.steps(warm_up)
    return contestant


def measure(
    variants: Mapping[str, Sequence[str]],
    overrides: Sequence[str],
    rounds: int,
    seconds: float,
    warm_up: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Images a second, one for each round, and the settings that were chosen, both by variant.

    The variant with reduced penalties is left out when the run has no slope penalty.
    """
    datasets: dict[str, Dataset] = {}
    contestants = {name: prepare([*overrides, *own], datasets, warm_up) for name, own in variants.items()}
    if PENALTIES in contestants and not contestants[PENALTIES].penalized:
        del contestants[PENALTIES]
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for place in range(rounds):
        # Every other round goes backwards, so that nobody always follows the same neighbour.
        for name in list(contestants)[:: 1 if place % 2 == 0 else -1]:
            speeds[name].append(contestants[name].turn(seconds, clock))
    return speeds, {name: contestant.runtime.describe() for name, contestant in contestants.items()}


def table(speeds: Mapping[str, Sequence[float]], chosen: Mapping[str, str]) -> str:
    """A row a variant: median images/s, slowest and fastest round, ratio to the first variant, settings.

    The ratio is the median of the rounds' own ratios, as neighbours in time share the machine's other load.
    """
    first = next(iter(speeds.values()))
    rows = []
    for name, values in speeds.items():
        ratio = statistics.median(value / other for value, other in zip(values, first, strict=True))
        span = f"{number(min(values))} to {number(max(values))}"
        settings = chosen[name].removeprefix("runtime: ")
        rows.append([name, number(statistics.median(values)), span, f"{ratio:.2f}", settings])
    return markdown(["setting", "images/s", "rounds", f"to {next(iter(speeds))}", "chosen"], rows)


def main() -> None:
    """Measure all variants and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each setting (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn (%(default)s)")
    arguments, overrides = parser.parse_known_args()
    if arguments.rounds < 1 or not arguments.seconds > 0:
        raise UserError(f"--rounds {arguments.rounds} --seconds {arguments.seconds}: must be positive")
    check_overrides(overrides, ["run.dir"])
    print(table(*measure(VARIANTS, overrides, arguments.rounds, arguments.seconds)))


if __name__ == "__main__":
    run_command(main)
