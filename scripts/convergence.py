"""Which GANs converge: Dirac-GAN and the linear-quadratic GAN, method by method, as a figure and a table.

python scripts/convergence.py --out outputs/convergence                  # convergence.png, .md, .json and W&B
python scripts/convergence.py --out outputs/convergence --logger none

Each panel shows the vector field of a method, the path of simultaneous and of alternating gradient descent, and the
eigenvalues of the field's Jacobian at the equilibrium by automatic differentiation of the losses and penalties that
gan-train uses. The table sets them beside the proved ones (Mescheder, Geiger & Nowozin 2018, "Which training methods
for GANs do actually converge?", section 3 and figure 3; Nagarajan & Kolter 2017 for the linear-quadratic game).
About a minute of one core. Needs matplotlib (the extra `plots`).
"""

from __future__ import annotations

import cmath
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_experiments import runtime as machine
from gan_experiments.analysis import convergence
from gan_experiments.analysis.convergence import Field, Map, alternating, follow, iterate, simultaneous
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.config import build, compose_option, composed
from gan_experiments.console import Parser, check_folder, run_command
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.schema import Config, typed
from gan_experiments.trainer import Trainer
from phase_portraits import Panel, picture

SIGMA = 1.3
"""Standard deviation of the linear-quadratic game's data."""
TOGETHER, ALTERNATING = "simultaneous", "alternating"
SHORT = {TOGETHER: "SimGD", ALTERNATING: "AltGD"}


@dataclass(frozen=True)
class Method:
    """A way to train one of the two games: overrides of its experiment, and the eigenvalues that theory gives.

    `proved` is None where the field has no derivative at the equilibrium. `change` turns the field into another one,
    for methods that alter the gradients. `together` says whether simultaneous moves make sense.
    """

    name: str
    overrides: Sequence[str]
    proved: Sequence[complex] | None
    game: str = "dirac"
    change: Callable[[Map], Map] | None = None
    together: bool = True


@dataclass
class Result:
    """What was found of a method: its flow, equilibrium (k,), eigenvalues and paths (steps + 1, k) by kind of step."""

    method: Method
    flow: Map
    equilibrium: Tensor
    eigenvalues: Sequence[complex]
    paths: dict[str, Tensor] = field(default_factory=dict)

    @property
    def distances(self) -> dict[str, float]:
        """Distance from the equilibrium after the last step."""
        return {kind: float((path[-1] - self.equilibrium).norm()) for kind, path in self.paths.items()}

    @property
    def error(self) -> float | None:
        """Largest difference between an eigenvalue and its proved value."""
        if self.method.proved is None:
            return None
        return max(abs(a - b) for a, b in zip(self.eigenvalues, self.method.proved, strict=True))

    @property
    def verdict(self) -> str:
        """What theory and eigenvalues say of the flow."""
        if self.method.proved is None:
            return "no derivative at 0, no local convergence"
        return convergence.verdict(self.eigenvalues)


def quadratic(trace: float, determinant: float) -> list[complex]:
    """The eigenvalues of a 2 x 2 matrix of this trace and determinant, as convergence.eigenvalues sorts them."""
    root = cmath.sqrt(trace**2 / 4 - determinant)
    return [trace / 2 + root, trace / 2 - root]


def r1(weight: float, *others: str) -> list[str]:
    """R1, or R1 and others, of this weight."""
    names = ("r1", *others)
    return [f"regularizer=[{','.join(names)}]", *(f"regularizer.{name}.weight={weight}" for name in names)]


def methods() -> list[Method]:
    """All panels. On Dirac-GAN f'(0) = 1/2 and f''(0) = -1/4 for the logistic losses, and f' = 1 for Wasserstein's."""
    noise = "+trick.noise={_target_: gan_experiments.analysis.convergence.TwoPointNoise, std: 0.7}"
    clip = ["regularizer=[weight_clipping]", "regularizer.weight_clipping.limit=1.0"]
    penalty = ["regularizer=[gradient_penalty]", "regularizer.gradient_penalty.weight=0.35"]
    w, s = "loss=wasserstein", SIGMA
    slow = [f"schedule.{player}.optimizer.lr=0.02" for player in ("discriminator", "generator")]
    circle, lq = quadratic(0, 0.25), "linear_quadratic"
    return [
        Method("minimax", [], circle),
        Method("minimax, 5 D moves", ["schedule.discriminator.moves=5"], circle, together=False),
        Method("non-saturating", ["loss=nonsaturating"], circle),
        Method("RpGAN", ["loss=relativistic"], circle),
        Method("WGAN, clipped at 1", [w, *clip], quadratic(0, 1)),
        Method("WGAN-GP", [w, *penalty], None),
        Method("instance noise, σ = 0.7", [noise], quadratic(-0.5 * 0.49, 0.25)),
        Method("consensus, γ = 1", [], quadratic(-0.5, 0.25 + 0.0625), change=lambda v: convergence.consensus(v, 1.0)),
        Method("R1, γ = 0.3", r1(0.3), quadratic(-0.3, 0.25)),
        Method("R1, γ = 1 (critical)", r1(1.0), quadratic(-1, 0.25)),
        Method("R1 + R2, γ = 0.3", r1(0.3, "r2"), quadratic(-0.6, 0.25)),
        Method("RpGAN + R1, γ = 0.3", ["loss=relativistic", *r1(0.3)], quadratic(-0.3, 0.25)),
        Method("linear-quadratic: minimax", [], quadratic(-1.5 * s**4, s**2), lq),
        Method("linear-quadratic: non-saturating", ["loss=nonsaturating"], quadratic(-1.5 * s**4, s**2), lq),
        Method("linear-quadratic: WGAN, h = 0.02", [w, *slow], quadratic(0, 4 * s**2), lq),
        Method("linear-quadratic: WGAN, R1 γ 0.3", [w, *r1(0.3)], quadratic(-1.2 * s**2, 4 * s**2), lq),
    ]


def settings_of(game: str, overrides: Sequence[str]) -> Config:
    """The configuration that gan-train would run with experiment=`game` and these overrides."""
    return typed(composed(f"experiment={game}", *overrides))


def make_trainer(settings: Config, dataset: Dataset) -> Trainer:
    """The trainer of a configuration, on these data."""
    runtime = machine.choose(settings.runtime, images=False)
    return build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)[0]


def examine(method: Method, steps: int) -> Result:
    """Eigenvalues and paths: the trainer's own, or those of its field where that is changed or an average."""
    settings = settings_of(method.game, [f"schedule.steps={steps}", *method.overrides])
    if method.game == "linear_quadratic":  # a quadrature instead of samples, so that nothing is drawn
        settings.schedule.batch_size = 6
        return examine_field(method, make_trainer(settings, convergence.exact_gaussian(SIGMA)), steps)
    dataset: Dataset = build(settings.dataset, "dataset")
    trainer = make_trainer(settings, dataset)
    if method.change:
        return examine_field(method, trainer, steps)
    field, centre = Field(trainer), torch.zeros(2)
    result = Result(method, field, centre, convergence.eigenvalues(field, centre))
    if method.together:
        settings.schedule.simultaneous = True
        result.paths[TOGETHER] = follow(make_trainer(settings, dataset))
    result.paths[ALTERNATING] = follow(trainer)
    return result


def examine_field(method: Method, trainer: Trainer, steps: int) -> Result:
    """Eigenvalues and paths of gradient descent along the trainer's field, or what the method makes of it."""
    lq = method.game == "linear_quadratic"
    field = Field(trainer, convergence.quadrature(1.0) if lq else None)
    flow = method.change(field) if method.change else field
    centre = torch.tensor([0.0, SIGMA if lq else 0.0])
    result = Result(method, flow, centre, convergence.eigenvalues(flow, centre))
    h, start = trainer.players[0].tuned.lr, field.state
    result.paths[TOGETHER] = iterate(simultaneous(flow, h), start, steps)
    result.paths[ALTERNATING] = iterate(alternating(flow, h, field.turns), start, steps)
    return result


def spell(values: Sequence[complex]) -> str:
    """Two eigenvalues in few letters, a conjugate pair in one."""
    first, second = (complex(round(value.real, 3), round(value.imag, 3)) for value in values)
    if first.imag:
        text = f"{first.real:.3f} ± {abs(first.imag):.3f}i" if first.real else f"±{abs(first.imag):.3f}i"
    else:
        text = f"{first.real:.3f} (double)" if first == second else f"{first.real:.3f}, {second.real:.3f}"
    return text.replace("-", "−")


def panel(result: Result) -> Panel:
    """What is drawn of a result; the generator's weight goes to the right."""
    eigenvalues = "" if result.method.proved is None else f"λ = {spell(result.eigenvalues)}: "
    distances = ", ".join(f"{SHORT[kind]} {value:.2g}" for kind, value in result.distances.items())
    labels = {"dirac": ("θ", "ψ"), "linear_quadratic": ("a", "w")}[result.method.game]
    return Panel(
        result.method.name, f"{eigenvalues}{result.verdict}\nfinal distance: {distances}", labels,
        lambda point: result.flow(point.flip(0)).flip(0), result.equilibrium.flip(0),
        {f"{SHORT[kind]}: {kind} gradient descent, square at its end": path.flip(1) for kind, path in
         result.paths.items()},
    )  # fmt: skip


def row(result: Result) -> dict[str, Any]:
    """A row of the table as plain values."""
    proved = result.method.proved
    return {
        "method": result.method.name,
        "eigenvalues": [[value.real, value.imag] for value in result.eigenvalues],
        "proved": None if proved is None else [[value.real, value.imag] for value in map(complex, proved)],
        "error": result.error,
        "verdict": result.verdict,
        "final_distance": result.distances,
    }


def markdown(results: Sequence[Result]) -> str:
    """The table."""
    lines = ["| method | eigenvalues | proved | flow | simultaneous | alternating |", "|---|---|---|---|---|---|"]
    for result in results:
        proved = "–" if result.method.proved is None else spell(result.method.proved)
        found = "–" if result.method.proved is None else spell(result.eigenvalues)
        ends = [f"{result.distances[kind]:.4g}" if kind in result.distances else "–" for kind in SHORT]
        lines.append(f"| {' | '.join([result.method.name, found, proved, result.verdict, *ends])} |")
    return "\n".join(lines) + "\n"


def report(results: Sequence[Result], folder: Path, logger_name: str, steps: int) -> None:
    """Write figure and tables to `folder`, and show them on the dashboard; UserError when they can't be written."""
    logger = build(compose_option("logger", logger_name, "data"), "logger")
    png, image = picture([panel(result) for result in results])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "convergence.png").write_bytes(png)
        (folder / "convergence.md").write_text(markdown(results), encoding="utf-8")
        (folder / "convergence.json").write_text(
            json.dumps([row(result) for result in results], indent=1) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    logger.open({"script": "convergence", "steps": steps}, folder, f"convergence-{time.time_ns()}")
    logger.log_images("convergence", image, 0, "vector fields and paths")
    logger.summary({f"distance/{r.method.name}/{kind}": value for r in results for kind, value in r.distances.items()})
    logger.close(0, "completed")


def main() -> None:
    """Examine all methods, draw, save, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where figure and tables go")
    parser.add_argument("--steps", type=int, default=500, help="steps of gradient descent (%(default)s)")
    parser.add_argument("--logger", default="wandb", help="name of a conf/logger option (%(default)s)")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        raise UserError(f"--steps {arguments.steps}: must be 1 or more")
    check_folder(arguments.out, "--out")
    results = [examine(method, arguments.steps) for method in methods()]
    report(results, arguments.out, arguments.logger, arguments.steps)
    print(markdown(results), end="")


if __name__ == "__main__":
    run_command(main)
