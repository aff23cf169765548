"""Why the generator does not minimise log(1 - D(G(z))): its gradient vanishes as the discriminator improves.

python scripts/vanishing_gradients.py --out outputs/vanishing_gradients
python scripts/vanishing_gradients.py --out outputs/vanishing_gradients --steps 100 model=dcgan

A generator is trained a little and then kept. A new discriminator is trained alone against it, and the norm of the
generator's gradient is measured under both losses of Goodfellow et al. 2014: minimax (equation 1) and non-saturating
(section 3). The experiment is that of Arjovsky & Bottou 2017, "Towards principled methods for training generative
adversarial networks", figures 2 and 3; theorem 2.4 bounds the first, theorem 2.6 says that the second is noisy.
Overrides go to gan-train's configuration as they are. About 20 seconds; needs matplotlib (the extra `plots`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from gan_experiments import runtime as machine
from gan_experiments.analysis.figures import blank, make_log
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.config import build, composed
from gan_experiments.console import Parser, check_folder, run_command
from gan_experiments.data.base import Dataset
from gan_experiments.errors import UserError
from gan_experiments.games.noise import NoiseGame
from gan_experiments.objectives.adversarial import Adversarial, Loss, Minimax, NonSaturating
from gan_experiments.runtime import Runtime
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULTS = (
    "model=mlp", "schedule=constant", "schedule.batch_size=128", "schedule.images=null", "schedule.steps=1",
    "runtime.precision=float32", "schedule.discriminator.optimizer.lr=1e-3", "schedule.generator.optimizer.lr=1e-3",
)  # fmt: skip
COLOURS = {"minimax": "#d1495b", "nonsaturating": "#1f6f8b"}


@dataclass(frozen=True)
class Point:
    """After `step` moves of the discriminator: its loss and accuracy, and the generator's gradient norms."""

    step: int
    discriminator_loss: float
    accuracy: float
    minimax: float
    nonsaturating: float


def make_trainers(overrides: Sequence[str]) -> tuple[Runtime, Trainer, Trainer]:
    """Two trainers of one configuration, networks and all; UserError when it does not compose."""
    given = {override.partition("=")[0] for override in overrides}
    settings = typed(composed(*(line for line in DEFAULTS if line.partition("=")[0] not in given), *overrides))
    dataset = cast(Dataset, build(settings.dataset, "dataset"))
    runtime = machine.choose(settings.runtime, dataset.spec.is_image)
    dataset = dataset.to(runtime.device)
    trainers = []
    for _ in range(2):
        game = build_game(settings, dataset.spec)
        if not isinstance(game, NoiseGame):
            raise UserError(f"model: {type(game).__name__} has more than a generator and a discriminator")
        runtime.place(game)
        trainers.append(build_trainer(settings, game, dataset, runtime)[0])
    first, second = trainers
    return runtime, first, second


def gradient_norm(trainer: Trainer, loss: Loss) -> Tensor:
    """The norm of all gradients of the generator under `loss`, at the same latents every time."""
    player = trainer.sides["generator"]
    term = Adversarial(loss, "generator")
    player.watch(True)
    try:
        slopes = torch.autograd.grad(term(trainer.deal(player, [term])), player.parameters, allow_unused=True)
    finally:
        player.watch(False)
    norm: Tensor = torch.linalg.vector_norm(torch.stack([slope.norm() for slope in slopes if slope is not None]))
    return norm


def measure(trainer: Trainer, step: int) -> Point:
    """Both losses' gradients against the discriminator as it is, and how good it is on the same samples."""
    player = trainer.sides["generator"]
    with torch.no_grad():
        round = trainer.deal(player, [])
        contest = round.contest("discriminator")
        loss, real, fake = NonSaturating().discriminator(contest), contest.real.logits, contest.fake.logits
        accuracy = torch.cat([real > 0, fake <= 0]).float().mean()
    norms = [gradient_norm(trainer, chosen).item() for chosen in (Minimax(), NonSaturating())]
    return Point(step, loss.item(), accuracy.item(), *norms)


def experiment(overrides: Sequence[str], warm_up: int, steps: int, points: int = 30) -> list[Point]:
    """Train generator and discriminator for `warm_up` steps, then a new discriminator alone for `steps`."""
    runtime, first, second = make_trainers(overrides)
    places = {round(steps ** (place / (points - 1))) for place in range(points)} | {0, steps}
    with machine.applied(runtime):
        for _ in range(warm_up):
            first.step()
        second.game.generator.load_state_dict(first.game.generator.state_dict())  # type: ignore[union-attr]
        found = []
        for step in range(steps + 1):
            if step in places:
                found.append(measure(second, step))
            if step < steps:
                second.move(second.sides["discriminator"])
    return found


def draw(found: Sequence[Point], title: str) -> Figure:
    """Gradient norms to the left, the discriminator's loss and error to the right; UserError without matplotlib."""
    figure = blank(11.0, 4.2)
    left, right = figure.subplots(1, 2)
    steps = [point.step for point in found]
    names = {"minimax": "minimax: log(1 − D(G(z)))", "nonsaturating": "non-saturating: −log D(G(z))"}
    for name, label in names.items():
        values = [getattr(point, name) for point in found]
        left.plot(steps, values, color=COLOURS[name], marker="o", markersize=3, label=label)
    left.set_ylabel("norm of the generator's gradient")
    loss = [point.discriminator_loss for point in found]
    right.plot(steps, loss, color="black", marker="o", markersize=3, label="discriminator's loss")
    errors = [(point.step, 1 - point.accuracy) for point in found if point.accuracy < 1]
    right.plot(
        *zip(*errors, strict=True), color="grey", linestyle=":", marker="s", markersize=3, label="its error rate"
    )
    right.set_ylabel("how well D tells samples from data")
    for axes in (left, right):
        axes.set(xscale="symlog", xlabel="moves of the discriminator, the generator kept")
        make_log(axes, "y")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower left")
    figure.suptitle(title, fontsize="medium")
    return figure


def main() -> None:
    """Measure, draw, save, and say what became of the gradients."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where figure and numbers go")
    parser.add_argument("--warm-up", type=int, default=200, help="steps of both players before (%(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="moves of the new discriminator (%(default)s)")
    arguments, overrides = parser.parse_known_args()
    if arguments.warm_up < 0 or arguments.steps < 1:
        raise UserError(f"--warm-up {arguments.warm_up} --steps {arguments.steps}: at least 0 and 1")
    check_folder(arguments.out, "--out")
    blank(1.0, 1.0)  # says at once if matplotlib is missing
    found = experiment(overrides, arguments.warm_up, arguments.steps)
    title = f"generator after {arguments.warm_up:,} steps; {' '.join(overrides) or 'Fashion-MNIST, fully connected'}"
    figure = draw(found, title)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        figure.savefig(arguments.out / "vanishing_gradients.png", format="png")
        text = json.dumps([asdict(point) for point in found], indent=1)
        (arguments.out / "vanishing_gradients.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {arguments.out}: {error.strerror or error}") from error
    first, last = found[0], found[-1]
    print(f"discriminator's loss {first.discriminator_loss:.3g} -> {last.discriminator_loss:.3g}")
    for name in COLOURS:
        print(f"gradient norm, {name}: {getattr(first, name):.3g} -> {getattr(last, name):.3g}")


if __name__ == "__main__":
    run_command(main)
