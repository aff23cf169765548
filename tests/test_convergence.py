"""Games that can be solved by hand: eigenvalues, thresholds and paths of Dirac-GAN and the linear-quadratic GAN.

f(t) = -log(1 + exp(-t)), so f'(0) = 1/2 and f''(0) = -1/4 (Mescheder, Geiger & Nowozin 2018). The numbers in PATHS
were computed by a simulation of the two scalars in double precision, apart from this project.
"""

from __future__ import annotations

import cmath
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from gan_experiments.analysis.convergence import (
    Field,
    TwoPointNoise,
    alternating,
    consensus,
    eigenvalues,
    exact_gaussian,
    follow,
    iterate,
    jacobian,
    quadrature,
    simultaneous,
    spectral_radius,
    verdict,
)  # fmt: skip
from gan_experiments.data import toy
from gan_experiments.data.base import Dataset, Spec
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Term
from gan_experiments.games.noise import NoiseGame
from gan_experiments.logging.logger import NoLogger
from gan_experiments.logging.records import Records, read_records
from gan_experiments.networks.dirac import DiracDiscriminator, DiracGenerator, QuadraticDiscriminator, ScalingGenerator
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.objectives.adversarial import Adversarial, Loss, Minimax, NonSaturating, Wasserstein
from gan_experiments.objectives.penalties import R1, R2, GradientPenalty
from gan_experiments.objectives.relativistic import RelativisticPairing
from gan_experiments.observers.clipping import WeightClipping
from gan_experiments.observers.trajectory import Trajectory
from gan_experiments.pictures import scatter
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.runtime import Runtime
from gan_experiments.trainer import Observer, Trainer
from gan_experiments.trick import Trick

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import convergence as script  # noqa: E402

FLOAT32 = Runtime(torch.device("cpu"), "float32", False, 1, False, True)
D_FIRST, G_FIRST = ("discriminator", "generator"), ("generator", "discriminator")
ORIGIN = torch.zeros(2)
SIGMA = 1.3
POINT = toy.point(10, 10)


def train(game: NoiseGame, data: Dataset, loss: Loss, terms: Sequence[Term] = (), h: float = 0.2,
          order: Sequence[str] = D_FIRST, moves: int = 1, together: bool = False, steps: int = 500,
          observers: Sequence[Observer] = (), batch: int = 1) -> Trainer:  # fmt: skip
    players = []
    for name in order:
        (network,) = game.sides[name]
        tuned = TunedOptimizer(torch.optim.SGD, list(network.parameters()), {"lr": h}, name)
        own = [Adversarial(loss, name), *(term for term in terms if term.player == name)]
        players.append(Player(name, [network], tuned, own, moves if name == "discriminator" else 1))
    return Trainer(game, players, data.train, FLOAT32, batch, steps, 0, observers, simultaneous=together)


def dirac(loss: Loss, *terms: Term, start: float = 1.0, tricks: Sequence[Trick] = (), **settings: Any) -> Trainer:
    """From (psi, theta) = (-start, start): our logits are larger for real, the paper's for generated samples."""
    for place, part in enumerate([*terms, *tricks]):
        part.name = f"{place} {type(part).__name__}"
    game = NoiseGame(
        Spec((1,)), lambda spec: DiracGenerator(spec, start), lambda spec: DiracDiscriminator(spec, -start), tricks
    )
    return train(game, POINT, loss, terms, **settings)


def lq(loss: Loss, *terms: Term, sigma: float = SIGMA) -> Field:
    game = NoiseGame(Spec((1,)), ScalingGenerator, QuadraticDiscriminator)
    return Field(train(game, exact_gaussian(sigma), loss, terms, batch=6), quadrature(1.0))


def quadratic(trace: float, determinant: float) -> list[complex]:
    root = cmath.sqrt(trace**2 / 4 - determinant)
    return [trace / 2 + root, trace / 2 - root]


def near(found: Sequence[complex], expected: Sequence[complex], tolerance: float = 2e-4) -> bool:
    """Tolerance for double roots, of which single precision keeps half the digits."""
    return all(abs(a - b) < tolerance for a, b in zip(found, expected, strict=True))


# the field


TABLE = [
    ("minimax", lambda: dirac(Minimax()), quadratic(0, 0.25), "no linear convergence"),
    ("non-saturating", lambda: dirac(NonSaturating()), quadratic(0, 0.25), "no linear convergence"),
    ("rpgan", lambda: dirac(RelativisticPairing()), quadratic(0, 0.25), "no linear convergence"),
    ("wgan", lambda: dirac(Wasserstein()), quadratic(0, 1), "no linear convergence"),
    ("noise 0.7", lambda: dirac(Minimax(), tricks=[TwoPointNoise(0.7)]), quadratic(-0.5 * 0.49, 0.25), "converges"),
    ("noise 2", lambda: dirac(Minimax(), tricks=[TwoPointNoise(2)]), quadratic(-2, 0.25), "converges"),
    ("r1 0.3", lambda: dirac(Minimax(), R1(weight=0.3)), quadratic(-0.3, 0.25), "converges"),
    ("r1 1", lambda: dirac(Minimax(), R1(weight=1.0)), quadratic(-1, 0.25), "converges"),
    ("r1 4", lambda: dirac(Minimax(), R1(weight=4.0)), quadratic(-4, 0.25), "converges"),
    ("r2 0.3", lambda: dirac(Minimax(), R2(weight=0.3)), quadratic(-0.3, 0.25), "converges"),
    ("r1 r2", lambda: dirac(Minimax(), R1(weight=0.3), R2(weight=0.3)), quadratic(-0.6, 0.25), "converges"),
    ("lazy r1", lambda: dirac(Minimax(), R1(weight=0.3, every=4)), quadratic(-0.3, 0.25), "converges"),
    ("ns r1", lambda: dirac(NonSaturating(), R1(weight=0.3)), quadratic(-0.3, 0.25), "converges"),
    ("rpgan r1", lambda: dirac(RelativisticPairing(), R1(weight=0.3)), quadratic(-0.3, 0.25), "converges"),
    ("rpgan r2", lambda: dirac(RelativisticPairing(), R2(weight=0.3)), quadratic(-0.3, 0.25), "converges"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_eigenvalues_on_dirac_gan(make: Callable[[], Trainer], expected: list[complex], said: str) -> None:
    found = eigenvalues(Field(make()), ORIGIN)
    assert near(found, expected), found
    assert verdict(found).startswith(said)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 5.0])
def test_consensus_optimisation_adds_a_real_part(gamma: float) -> None:
    flow = consensus(Field(dirac(Minimax())), gamma)
    assert near(eigenvalues(flow, ORIGIN), [complex(-gamma / 4, 0.5), complex(-gamma / 4, -0.5)])
    x = torch.tensor([0.4, -0.7])
    v, matrix = Field(dirac(Minimax()))(x), jacobian(Field(dirac(Minimax())), x)
    torch.testing.assert_close(flow(x), v - gamma * matrix.T @ v)


def test_the_field_of_minimax_is_that_of_the_paper_with_psi_turned_round() -> None:
    for psi, theta in [(-1.0, 1.0), (0.3, -2.0), (1.5, 0.7)]:
        slope = 1 / (1 + math.exp(psi * theta))  # f'(theta psi') at psi' = -psi is 1 / (1 + exp(theta psi'))
        fake = 1 - slope  # sigmoid(psi theta): D lowers it by psi, G raises it
        expected = torch.tensor([-theta * fake, psi * fake])
        torch.testing.assert_close(Field(dirac(Minimax()))(torch.tensor([psi, theta])), expected)
        alive = torch.tensor([-theta * fake, psi * slope])
        torch.testing.assert_close(Field(dirac(NonSaturating()))(torch.tensor([psi, theta])), alive)


def test_minimax_conserves_the_radius_and_the_non_saturating_loss_shrinks_it() -> None:
    minimax, alive = Field(dirac(Minimax())), Field(dirac(NonSaturating()))
    for point in torch.randn(10, 2, generator=torch.Generator().manual_seed(0)):
        assert (point @ minimax(point)).item() == pytest.approx(0, abs=1e-6)
        t = -point.prod().item()
        change = t * (1 / (1 + math.exp(t)) - 1 / (1 + math.exp(-t)))
        assert (point @ alive(point)).item() == pytest.approx(change, abs=1e-6) and change < 0


def test_rpgan_has_the_field_of_the_non_saturating_loss() -> None:
    first, second = Field(dirac(RelativisticPairing())), Field(dirac(NonSaturating()))
    for point in torch.randn(10, 2, generator=torch.Generator().manual_seed(1)):
        torch.testing.assert_close(first(point), second(point))


def test_the_gradient_penalty_pushes_away_from_the_equilibrium() -> None:
    """lambda / 2 (|psi| - 1)^2 with lambda = 0.7: a jump of 2 lambda at psi = 0, where there is no Jacobian."""
    field = Field(dirac(Wasserstein(), GradientPenalty(weight=0.35)))
    for psi in (1e-4, -1e-4):
        assert field(torch.tensor([psi, 0.0]))[0].item() == pytest.approx(math.copysign(0.7, psi), abs=1e-3)
    assert field(torch.tensor([1.0, 0.0]))[0].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.6, SIGMA])
@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(), Wasserstein()], ids=lambda loss: type(loss).__name__)
def test_jacobian_of_the_linear_quadratic_game(loss: Loss, sigma: float) -> None:
    f1, f2 = (1.0, 0.0) if isinstance(loss, Wasserstein) else (0.5, -0.25)
    field, x = lq(loss, sigma=sigma), torch.tensor([0.0, sigma])
    expected = torch.tensor([[2 * f2 * 3 * sigma**4, -2 * sigma * f1], [2 * sigma * f1, 0.0]])
    torch.testing.assert_close(jacobian(field, x), expected, atol=1e-5, rtol=1e-5)
    step = 1e-2 * torch.eye(2)
    finite = torch.stack([(field(x + e) - field(x - e)) / 2e-2 for e in step], 1)
    torch.testing.assert_close(finite, expected, atol=5e-3, rtol=1e-2)


def test_vanilla_converges_on_the_linear_quadratic_game_and_wgan_circles() -> None:
    x = torch.tensor([0.0, SIGMA])
    vanilla = eigenvalues(lq(Minimax()), x)
    assert [round(value.real, 2) for value in vanilla] == [-0.44, -3.84] and verdict(vanilla) == "converges linearly"
    assert near(eigenvalues(lq(Wasserstein()), x), [2j * SIGMA, -2j * SIGMA])
    regularized = eigenvalues(lq(Wasserstein(), R1(weight=0.3)), x)
    assert near(regularized, quadratic(-4 * 0.3 * SIGMA**2, 4 * SIGMA**2))
    paths = [iterate(simultaneous(lq(loss), 0.05), torch.tensor([0.0, 0.8]), 200)[-1] - x
             for loss in (Minimax(), Wasserstein())]  # fmt: skip
    assert paths[0].norm() < 0.02 and paths[1].norm() > 0.5


def test_a_quadrature_has_the_moments_of_a_gaussian() -> None:
    points = quadrature(SIGMA).double()
    moments = [points.pow(order).mean().item() for order in range(1, 6)]
    assert moments == pytest.approx([0, SIGMA**2, 0, 3 * SIGMA**4, 0], abs=1e-5)


def test_verdicts() -> None:
    assert verdict([1 + 1j, -3]) == "diverges" and verdict([-0.1, -3]) == "converges linearly"
    assert verdict([1j, -1j]) == "no linear convergence"
    with pytest.raises(UserError, match="std=0 must be positive"):
        TwoPointNoise(0)


# steps of gradient descent


@pytest.mark.parametrize(
    ("loss", "terms", "settings"),
    [
        (Minimax, [], {"together": True}),
        (NonSaturating, [0.3], {"order": D_FIRST}),
        (NonSaturating, [0.3], {"order": G_FIRST, "moves": 5}),
        (RelativisticPairing, [1.0], {"order": D_FIRST, "moves": 5, "h": 0.05}),
    ],
)
def test_trainer_and_field_take_the_same_path(loss: Any, terms: list[float], settings: dict[str, Any]) -> None:
    trainer = dirac(loss(), *(R1(weight=weight) for weight in terms), steps=40, **settings)
    field = Field(trainer)
    h = settings.get("h", 0.2)
    step = simultaneous(field, h) if "together" in settings else alternating(field, h, field.turns)
    theirs = iterate(step, field.state, 40)
    ours = follow(trainer)
    assert field.names == ["discriminator/psi", "generator/theta"]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert (ours[-1] - ours[0]).norm() > 0.1


def steps_of(trainer: Trainer, h: float) -> Callable[[Tensor], Tensor]:
    field = Field(trainer)
    return simultaneous(field, h) if trainer.simultaneous else alternating(field, h, field.turns)


@pytest.mark.parametrize("h", [0.2, 1.0])
def test_spectral_radius_without_a_penalty(h: float) -> None:
    together = spectral_radius(steps_of(dirac(Minimax(), together=True), h), ORIGIN)
    assert together == pytest.approx(math.sqrt(1 + h**2 / 4), abs=1e-6) and together > 1
    for moves, order in [(1, D_FIRST), (1, G_FIRST), (5, D_FIRST)]:
        radius = spectral_radius(steps_of(dirac(Minimax(), order=order, moves=moves), h), ORIGIN)
        assert radius == pytest.approx(1, abs=1e-4)


def test_alternating_steps_diverge_beyond_alpha_two() -> None:
    half = 1 - 5 * 2.0**2 / 8  # 1 - alpha^2 / 2 with alpha = sqrt(5) h / 2 at h = 2
    radius = spectral_radius(steps_of(dirac(Minimax(), moves=5), 2.0), ORIGIN)
    assert radius == pytest.approx(-half + math.sqrt(half**2 - 1), rel=1e-5)


THRESHOLDS = [
    (True, 0.2, 0.04, 1.0010), (True, 0.2, 0.05, 1.0000), (True, 0.2, 0.06, 0.9990), (True, 0.2, 0.3, 0.974679),
    (True, 0.2, 1.0, 0.9), (True, 0.2, 10.0, 0.995), (True, 1.0, 0.24, 1.0050), (True, 1.0, 0.26, 0.9950),
    (False, 0.2, 0.3, 0.969536), (False, 0.2, 9.9, 0.995), (False, 0.2, 10.0, 1.005), (False, 1.0, 1.8, 0.9198),
    (False, 1.0, 1.95, 1.0798),
]  # fmt: skip


def radius_by_hand(together: bool, h: float, gamma: float) -> float:
    """Of x + h J x, or of psi's step followed by theta's, with J = [[-gamma, -1/2], [1/2, 0]]."""
    determinant = 1 - h * gamma + (h**2 / 4 if together else 0)
    trace = 2 - h * gamma - (0 if together else h**2 / 4)
    return max(map(abs, quadratic(trace, determinant)))


@pytest.mark.parametrize(("together", "h", "gamma", "printed"), THRESHOLDS)
def test_spectral_radius_with_r1(together: bool, h: float, gamma: float, printed: float) -> None:
    radius = spectral_radius(steps_of(dirac(Minimax(), R1(weight=gamma), together=together), h), ORIGIN)
    assert radius == pytest.approx(radius_by_hand(together, h, gamma), abs=2e-4)
    assert radius == pytest.approx(printed, abs=6e-4 if gamma > 9 else 2e-4 if gamma == 1 else 6e-5)
    if printed != 1:
        assert (radius < 1) == (h < 4 * gamma if together else h**2 / 4 + 2 * h * gamma < 4)


@pytest.mark.parametrize(
    ("together", "h", "gamma", "converges"),
    [(True, 1.0, 0.2, False), (True, 1.0, 0.3, True), (False, 1.0, 1.8, True), (False, 1.0, 1.95, False)],
)
def test_runs_on_both_sides_of_the_thresholds(together: bool, h: float, gamma: float, converges: bool) -> None:
    path = follow(dirac(Minimax(), R1(weight=gamma), start=1e-3, h=h, together=together, steps=150))
    growth = (path[-1].norm() / path[0].norm()).item()
    assert growth < 0.3 if converges else growth > 3


PATHS: list[tuple[str, Callable[[], tuple[Loss, list[Term], list[Observer], int]], str, str, str]] = [
    ("minimax", lambda: (Minimax(), [], [], 1), "3.0969", "1.4126", "1.4210"),
    ("minimax, 5 D moves", lambda: (Minimax(), [], [], 5), "", "1.7098", "1.8453"),
    ("wgan, clip 1", lambda: (Wasserstein(), [], [WeightClipping(1.0)], 1), "1.0022", "0.98464", "1.0241"),
    ("wgan-gp", lambda: (Wasserstein(), [GradientPenalty(weight=0.35)], [], 1), "1.8018", "1.2801", "1.2211"),
    ("r1 0.3", lambda: (Minimax(), [R1(weight=0.3)], [], 1), "2.6427e-6", "2.3827e-7", "2.3009e-7"),
    ("r1 1", lambda: (Minimax(), [R1(weight=1.0)], [], 1), "9.5287e-22", "8.4887e-17", "7.4812e-17"),
    ("ns", lambda: (NonSaturating(), [], [], 1), "0.64021", "0.27063", "0.28392"),
    ("ns, r1 0.3", lambda: (NonSaturating(), [R1(weight=0.3)], [], 1), "2.212e-6", "1.639e-7", "1.499e-7"),
]
KINDS: dict[str, dict[str, Any]] = {"together": {"together": True}, "D": {"order": D_FIRST}, "G": {"order": G_FIRST}}
FAST = {"wgan, clip 1": "together", "wgan-gp": "D", "r1 0.3": "together", "r1 1": "G", "ns": "D", "ns, r1 0.3": "G"}
CELLS = [
    pytest.param(
        row[1], kind, text, id=f"{row[0]}, {kind}", marks=[] if FAST.get(row[0]) == kind else [pytest.mark.slow]
    )
    for row in PATHS
    for kind, text in zip(KINDS, row[2:], strict=True)
    if text
]  # a cell of nearly every row each time, and all of them with `make test-slow`


def half_a_unit(printed: str) -> float:
    """Half a unit of the last digit printed."""
    mantissa, _, exponent = printed.partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


@pytest.mark.parametrize(("make", "kind", "printed"), CELLS)
def test_where_500_steps_of_training_end(
    make: Callable[[], Any], kind: str, printed: str, request: pytest.FixtureRequest
) -> None:
    loss, terms, observers, moves = make()
    trainer = dirac(loss, *terms, observers=observers, moves=moves, **KINDS[kind])
    trainer.run()
    # Single precision, over 500 steps; about gamma = 1, where eigenvalues are double, a digit less.
    tolerance = max(1.001 * half_a_unit(printed), (5e-5 if "r1 1" in request.node.name else 1e-6) * float(printed))
    assert Field(trainer).state.norm().item() == pytest.approx(float(printed), abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "distance"), [(0.04, 1.44492), (0.05, 0.55830), (0.06, 0.0072096)])
def test_simultaneous_steps_about_the_threshold(gamma: float, distance: float) -> None:
    trainer = dirac(Minimax(), R1(weight=gamma), together=True, steps=5000)
    trainer.run()
    assert Field(trainer).state.norm().item() == pytest.approx(distance, rel=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "distances"), [("together", (0.4529, 0.3157)), ("D", (0.3842, 0.1266))])
def test_the_non_saturating_loss_converges_slower_than_any_rate(kind: str, distances: tuple[float, float]) -> None:
    trainer = dirac(NonSaturating(), h=0.05, steps=10_000, **KINDS[kind])
    for steps, distance in zip((1_000, 9_000), distances, strict=True):
        for _ in range(steps):
            trainer.step()
        assert Field(trainer).state.norm().item() == pytest.approx(distance, abs=6e-5)


# runs, networks and data


def test_a_run_records_every_weight_after_every_step(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    run(composed("experiment=dirac", "logger=none"), tmp_path / "run")
    records = list(read_records(tmp_path / "run" / "metrics.jsonl"))
    weights = [record for record in records if record["kind"] == "parameters"]
    assert [record["step"] for record in weights] == list(range(501))
    assert weights[0]["values"] == {"discriminator/psi": -1.0, "generator/theta": 1.0}
    # theta's first step, after psi's: 1 - h |psi| sigmoid(psi theta)
    psi = -1 - 0.2 / (1 + math.e)
    first = {"discriminator/psi": psi, "generator/theta": 1 + 0.2 * psi / (1 + math.exp(-psi))}
    assert weights[1]["values"] == pytest.approx(first, abs=1e-6)
    assert math.hypot(*weights[-1]["values"].values()) == pytest.approx(1.4126, abs=5e-5)
    scores = [record["values"] for record in records if record["kind"] == "scores"][-1]
    assert scores["sliced_w1"]["value"] == pytest.approx(abs(weights[-1]["values"]["generator/theta"]), abs=1e-6)


def test_networks_of_many_weights_are_not_recorded_one_by_one(tmp_path: Path) -> None:
    small = NoiseGame(Spec((3,)), DiracGenerator, DiracDiscriminator)
    observer = Trajectory(small, Records(tmp_path / "a.jsonl"), NoLogger())
    assert observer.start == {f"discriminator/psi.{n}": -1.0 for n in range(3)} | {
        f"generator/theta.{n}": 1.0 for n in range(3)
    }
    observer.records.close()
    large = NoiseGame(Spec((2,)), lambda s: MLPGenerator(s, 2, [4]), lambda s: MLPDiscriminator(s, [4]))
    records = Records(tmp_path / "b.jsonl")
    with pytest.raises(UserError, match="log.parameters=true: discriminator has 17 weights; at most 16"):
        Trajectory(large, records, NoLogger())
    records.close()


def test_networks_of_the_provable_games() -> None:
    spec, x = Spec((2,)), torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    assert DiracDiscriminator(spec, 0.5)(x).logits.tolist() == [1.5, 1.0]
    assert QuadraticDiscriminator(spec, 2.0)(x).logits.tolist() == [10.0, 20.0]
    assert DiracGenerator(spec, 3.0)(torch.randn(2, 1)).tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert torch.equal(ScalingGenerator(spec, 2.0)(x), 2 * x) and ScalingGenerator(Spec((1, 2, 3))).latent_dim == 6


def test_data_on_the_line() -> None:
    point, normal = toy.point(5, 4, at=2.0), toy.gaussian(20_000, 10, std=SIGMA)
    assert point.train.samples.tolist() == [[2.0]] * 5 and len(point.held_out) == 4
    assert normal.train.samples.std().item() == pytest.approx(SIGMA, rel=0.02)
    assert normal.train.samples.mean().item() == pytest.approx(0, abs=0.03)
    assert not torch.equal(normal.train.samples[:10], normal.held_out.samples)
    for bad in (lambda: toy.gaussian(std=0), lambda: toy.gaussian(0), lambda: toy.point(0)):
        with pytest.raises(UserError, match="must be"):
            bad()


def test_points_of_the_line_are_drawn_at_height_zero() -> None:
    pixels = scatter(torch.tensor([[0.5]]), torch.zeros(3, 1), side=101)
    rows, columns = (pixels[:, :, 1] < 100).nonzero()
    assert (rows.mean(), columns.mean()) == pytest.approx((50, 75), abs=1)
    assert (pixels == 190).all(2).nonzero()[1].mean() == pytest.approx(50, abs=1)


# the script


def test_script_writes_figure_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("minimax", "WGAN-GP", "linear-quadratic: WGAN, R1 γ 0.3")
    chosen = [method for method in script.methods() if method.name in names]
    monkeypatch.setattr(script, "methods", lambda: chosen)
    monkeypatch.setattr(sys, "argv", ["convergence", "--out", str(tmp_path), "--steps", "8", "--logger", "none"])
    script.main()
    said = capsys.readouterr().out
    assert said == (tmp_path / "convergence.md").read_text()
    assert "| minimax | ±0.500i | ±0.500i | no linear convergence | 1.43" in said
    assert "| WGAN-GP | – | – | no derivative at 0, no local convergence |" in said
    rows = json.loads((tmp_path / "convergence.json").read_text())
    assert [row["method"] for row in rows] == [method.name for method in chosen]
    assert rows[0]["error"] < 1e-6 and rows[1]["error"] is None and rows[2]["error"] < 1e-5
    assert set(rows[2]["final_distance"]) == {"simultaneous", "alternating"}
    with Image.open(tmp_path / "convergence.png") as image:
        assert image.width > 1000 and len(image.convert("RGB").getcolors(1 << 24) or []) > 10
    monkeypatch.setattr(sys, "argv", ["convergence", "--out", str(tmp_path), "--steps", "0"])
    with pytest.raises(UserError, match="--steps 0: must be 1 or more"):
        script.main()


def test_script_shows_its_findings_on_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, Any]] = []
    board = NoLogger()
    for name in ("log_images", "summary", "close"):
        monkeypatch.setattr(board, name, lambda *given, name=name: told.append((name, given)))
    found = script.examine(script.methods()[0], 3)
    monkeypatch.setattr(script, "build", lambda node, where: board)
    script.report([found], tmp_path, "wandb", 3)
    assert [name for name, _ in told] == ["log_images", "summary", "close"]
    assert told[0][1][1].dtype == "uint8" and told[0][1][1].shape[2] == 3
    assert told[1][1][0]["distance/minimax/simultaneous"] == pytest.approx(found.distances["simultaneous"])
    assert told[2][1] == (0, "completed")
