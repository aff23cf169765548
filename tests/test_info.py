"""InfoGAN: the bound in closed form, what its gradient reaches, codes in the latents, sweeps, and what codes mean."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Deal, Verdict
from gan_experiments.games.info import InfoGame, Layout
from gan_experiments.games.noise import NoiseGame
from gan_experiments.games.traversal import sheets
from gan_experiments.metrics.code_accuracy import CodeAccuracy, best_matching
from gan_experiments.metrics.extractors import Extractor, Features
from gan_experiments.modules import count_parameters
from gan_experiments.networks.bodies import body_output
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.infogan import InfoGANDiscriminator, InfoGANGenerator
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.objectives.adversarial import Adversarial, NonSaturating
from gan_experiments.objectives.information import (
    Codes,
    Guess,
    MutualInformation,
    categorical_information,
    continuous_information,
)
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.trainer import Trainer
from gan_experiments.tricks.packing import Packing
from gan_experiments.tricks.samples import Replay
from given import FLOAT32, Given, named

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import traverse  # noqa: E402

SPEC = Spec((1, 8, 8), tuple("abc"))


def game_of(**settings: Any) -> InfoGame:
    torch.manual_seed(0)
    given = {"categories": [3, 2], "continuous": 2, "recognition_width": 5} | settings
    discriminator = partial(InfoGANDiscriminator, width=3, hidden=6)
    return InfoGame(SPEC, partial(InfoGANGenerator, latent_dim=11, hidden=6, width=3), discriminator, **given)


def trainer_of(game: InfoGame, body: bool = True, lr: float = 1e-2) -> Trainer:
    split = Split(torch.randint(256, (40, *SPEC.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))
    players = []
    for name in ("discriminator", "generator"):
        terms = [Adversarial(NonSaturating(), name)]
        if body or name == "generator":
            terms.append(named(MutualInformation(player=name), "mutual_information"))  # type: ignore[arg-type]
        parameters = [p for module in game.sides[name] for p in module.parameters()]
        tuned = TunedOptimizer(torch.optim.Adam, parameters, {"lr": lr}, name)
        players.append(Player(name, game.sides[name], tuned, terms))
    return Trainer(game, players, split, FLOAT32, 8, 10, 7)


def categories(values: list[int], logits: Tensor) -> tuple[Codes, Guess]:
    n = len(values)
    return Codes((torch.tensor(values),), torch.zeros(n, 0)), Guess((logits,), torch.zeros(n, 0), torch.zeros(n, 0))


def test_bound_of_a_q_that_knows_nothing_is_0_and_of_one_that_knows_all_is_the_entropy() -> None:
    values = [3, 0, 9]
    assert categorical_information(*categories(values, torch.zeros(3, 10))).item() == pytest.approx(0, abs=1e-6)
    sure = 100 * torch.eye(10)[values]
    assert categorical_information(*categories(values, sure)).item() == pytest.approx(2.3025851)
    wrong = 2.0 * torch.eye(10)[[4, 1, 8]]  # probability 1 / (e^2 + 9) of the right one
    expected = math.log(10) - math.log(math.exp(2) + 9)
    assert categorical_information(*categories(values, wrong)).item() == pytest.approx(expected)
    assert expected < 0


def test_bound_of_independent_codes_is_never_positive_on_average() -> None:
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(5, (20000,), generator=random).tolist()
    logits = torch.randn(20000, 5, generator=random)
    assert categorical_information(*categories(drawn, logits)).item() < 0


def test_continuous_bound_against_torchs_normal() -> None:
    random = torch.Generator().manual_seed(0)
    code, mean, log_std = (torch.randn(6, 2, generator=random) for _ in range(3))
    density = torch.distributions.Normal(mean, log_std.exp()).log_prob(code).mean(0).sum()
    found = continuous_information(Codes((), code), Guess((), mean, log_std))
    torch.testing.assert_close(found, density + 2 * math.log(2))
    point = continuous_information(Codes((), torch.zeros(1, 1)), Guess((), torch.zeros(1, 1), torch.zeros(1, 1)))
    assert point.item() == pytest.approx(math.log(2) - 0.9189385)
    off = continuous_information(Codes((), torch.ones(1, 1)), Guess((), -torch.ones(1, 1), torch.zeros(1, 1)))
    assert off.item() == pytest.approx(math.log(2) - 0.9189385 - 2)


def test_objective_is_minus_the_weighted_bounds() -> None:
    code = Codes((torch.tensor([1]), torch.tensor([0])), torch.zeros(1, 1))
    guess = Guess((100 * torch.eye(4)[[1]], torch.zeros(1, 2)), torch.zeros(1, 1), torch.full((1, 1), -1.0))
    given = Given(codes=code, guess=guess)
    continuous = math.log(2) - 0.9189385 + 1
    term = MutualInformation(categorical=2.0, continuous=0.5)
    assert term(given).item() == pytest.approx(-2 * math.log(4) - 0.5 * continuous, rel=1e-5)
    said: dict[str, float] = {}
    named(term, "information").after_move(given, lambda name, value: said.update({name: float(value)}))
    assert said == {
        "generator/information_categorical": pytest.approx(math.log(4)),
        "generator/information_continuous": pytest.approx(continuous, rel=1e-5),
    }
    with pytest.raises(UserError, match="must not be negative"):
        MutualInformation(continuous=-1)


def test_codes_lie_at_the_start_of_the_latents() -> None:
    game = game_of()
    z = game.latents(3000, torch.Generator().manual_seed(0))
    assert z.shape == (3000, 11) and torch.equal(z, game.latents(3000, torch.Generator().manual_seed(0)))
    codes = game.layout.read(z)
    for part, category in zip((z[:, :3], z[:, 3:5]), codes.categories, strict=True):
        assert torch.equal(part, nn.functional.one_hot(category, part.shape[1]).float())
        assert part.mean(0).sub(1 / part.shape[1]).abs().max() < 0.03
    assert torch.equal(codes.continuous, z[:, 5:7])
    assert z[:, 5:7].abs().max() <= 1 and z[:, 5:7].var().item() == pytest.approx(1 / 3, rel=0.05)
    assert z[:, 7:].var().item() == pytest.approx(1, rel=0.05)
    assert game_of(latent="uniform").latents(900, torch.Generator())[:, 7:].abs().max() <= 1
    assert Layout((3, 2), 2).place(0) == slice(0, 3) and Layout((3, 2), 0).place(1) == slice(3, 5)


def test_gradient_reaches_g_q_and_the_body_but_not_the_logits_head() -> None:
    game = game_of()
    round = game.deal(Deal(6, lambda: pytest.fail("no data are needed"), 0, torch.device("cpu")))
    torch.autograd.backward(MutualInformation()(round))
    moved = {name for name, p in game.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {name.split(".")[0] for name in moved} == {"generator", "recognition", "discriminator"}
    assert not any(name.startswith("discriminator.head") for name in moved)
    assert {"recognition.net.0.weight", "recognition.net.3.bias", "discriminator.levels.0.0.weight"} <= moved


@pytest.mark.parametrize("body", [True, False])
def test_g_and_q_move_in_the_generators_moves_and_the_body_in_the_discriminators(body: bool) -> None:
    game = game_of()
    trainer = trainer_of(game, body)
    before = copy.deepcopy(game.state_dict())
    trainer.move(trainer.players[0])
    names = {name for name, _ in game.named_parameters() if not torch.equal(game.state_dict()[name], before[name])}
    assert {name.split(".")[0] for name in names} == {"discriminator"}
    before = copy.deepcopy(game.state_dict())
    trainer.move(trainer.players[1])
    names = {name for name, _ in game.named_parameters() if not torch.equal(game.state_dict()[name], before[name])}
    assert {name.split(".")[0] for name in names} == {"generator", "recognition"}
    weights = game.deal(Deal(2, lambda: pytest.fail(), 0, torch.device("cpu"))).weights("generator")
    assert len(weights) == sum(len(list(module.parameters())) for module in game.sides["generator"])


def test_a_resumed_run_is_the_same_run() -> None:
    whole, first = trainer_of(game_of()), trainer_of(game_of())
    for _ in range(4):
        whole.step()
    first.step()
    first.step()
    second = trainer_of(game_of())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.step()
    second.step()
    for name, value in whole.game.state_dict().items():
        assert torch.equal(value, second.game.state_dict()[name]), name


def test_fixed_deviations_are_1_and_learned_ones_are_said() -> None:
    z = torch.rand(4, 1, 8, 8)
    fixed, learned = game_of(learned_std=False), game_of()
    guess = fixed.guess(fixed.discriminator(z))
    assert torch.equal(guess.log_std, torch.zeros(4, 2)) and [part.shape[1] for part in guess.logits] == [3, 2]
    assert learned.guess(learned.discriminator(z)).log_std.abs().sum() > 0
    assert learned.recognition.net[-1].out_features == fixed.recognition.net[-1].out_features + 2  # type: ignore[union-attr]


def test_codes_go_with_any_networks_and_wrappers() -> None:
    dcgan = InfoGame(SPEC, partial(DCGANGenerator, latent_dim=14, width=4), partial(DCGANDiscriminator, width=4))
    assert dcgan.recognition.net[0].in_features == 4 * 16  # type: ignore[union-attr]
    points = InfoGame(Spec((2,)), partial(MLPGenerator, latent_dim=12), MLPDiscriminator, continuous=2)
    assert sheets(points, 4, torch.Generator(), FLOAT32) == {}
    verdict = Verdict(torch.zeros(2), (torch.ones(2, 3, 2, 2),))
    assert body_output(nn.Identity(), verdict, "x").shape == (2, 12)
    with pytest.raises(UserError, match="x reads the discriminator's features, of which it has none"):
        body_output(nn.Identity(), Verdict(torch.zeros(2)), "x")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"categories": [10]}, "take 12 of the latents' 11 components: set model.generator.latent_dim"),
        ({"categories": [], "continuous": 0}, "take 0 of the latents' 11"),
        ({"categories": [1]}, "a list of sizes of 2 or more"),
        ({"categories": 3}, "a list of sizes"),
        ({"continuous": -1}, "0 or more"),
        ({"tricks": [named(Packing(2), "packing")]}, "trick packing: Q reads codes off single samples"),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        game_of(**settings)
    assert "\n" not in str(error.value)


def test_the_body_cant_learn_from_samples_that_were_replaced() -> None:
    replay: Any = named(Replay(8), "replay")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="trick replay replaces generated samples"):
        trainer_of(game_of(tricks=[replay]))
    trainer_of(game_of(tricks=[copy.deepcopy(replay)]), body=False).step()


def test_unconditional_games_deal_no_codes() -> None:
    game = NoiseGame(SPEC, partial(DCGANGenerator, width=4), partial(DCGANDiscriminator, width=4))
    with pytest.raises(UserError, match="needs codes, guess.*model=infogan deals codes"):
        trainer_of(game)  # type: ignore[arg-type]


def test_traversals_sweep_one_code_and_keep_the_rest() -> None:
    game = game_of()
    found = game.traversals(4, torch.Generator().manual_seed(0))
    assert list(found) == ["category-0", "category-1", "continuous-0", "continuous-1"]
    places = {"category-0": [0, 1, 2], "category-1": [3, 4], "continuous-0": [5], "continuous-1": [6]}
    for name, latents in found.items():
        own = places[name]
        rest = [place for place in range(11) if place not in own]
        assert (latents[:, :, rest] == latents[:1, :, rest]).all() and latents.shape[1:] == (4, 11)
        assert (latents[:, :, own] == latents[:, :1, own]).all()
    assert torch.equal(found["category-0"][:, 0, :3], torch.eye(3))
    assert found["continuous-1"][:, 0, 6].tolist() == pytest.approx([-2, -2 / 3, 2 / 3, 2])
    pictures = sheets(game, 4, torch.Generator(), FLOAT32)
    assert pictures["category-0"].shape == (3 * 9 + 1, 4 * 9 + 1, 1)


def test_networks_are_those_of_the_appendix() -> None:
    spec = Spec((1, 32, 32))
    with torch.device("meta"):
        generator, discriminator = InfoGANGenerator(spec), InfoGANDiscriminator(spec)
    # maps without biases before batch norms, gains and shifts, and a last layer with bias
    first = 74 * 1024 + 2 * 1024 + 1024 * 8192 + 2 * 8192
    assert count_parameters(generator) == first + 128 * 64 * 16 + 2 * 64 + 64 * 16 + 1
    convolutions = 16 * 64 + 64 + 64 * 128 * 16 + 2 * 128
    assert count_parameters(discriminator) == convolutions + 8192 * 1024 + 2 * 1024 + 1024 + 1
    with torch.device("meta"):
        game = InfoGame(spec, InfoGANGenerator, InfoGANDiscriminator)
    assert count_parameters(game.recognition) == 1024 * 128 + 2 * 128 + 128 * 14 + 14


@pytest.mark.parametrize("side", [8, 16, 64])
def test_networks_at_other_sizes(side: int) -> None:
    spec = Spec((3, side, side))
    images = InfoGANGenerator(spec, 5, 6, 2)(torch.randn(2, 5))
    assert images.shape == (2, 3, side, side) and images.abs().max() <= 1
    network = InfoGANDiscriminator(spec, 2, 6)
    verdict = network(images)
    assert [tuple(level.shape[1:]) for level in verdict.features] == [
        (2, side // 2, side // 2),
        (4, side // 4, side // 4),
        (6,),
    ]
    assert network.shapes == [(2, side // 2), (4, side // 4)]
    with pytest.raises(UserError, match="InfoGANGenerator"):
        InfoGANGenerator(Spec((1, 28, 28)))


def test_categories_are_matched_to_classes_one_to_one() -> None:
    counts = torch.tensor([[0, 9, 8], [0, 7, 1], [4, 3, 0]])
    assert best_matching(counts) == [2, 1, 0]  # greedily 0 would stand for 1
    assert best_matching(torch.tensor([[1, 0], [5, 0], [0, 2]])) == [-1, 0, 1]


class Brightness(Extractor):
    """Three classes by the mean of an image."""

    def __init__(self) -> None:
        super().__init__("brightness", "0", 1, 3, "none")

    def extract(self, images: Tensor) -> Features:
        mean = images.flatten(1).float().mean(1, keepdim=True)
        return Features(mean, -(mean - torch.tensor([0.0, 127.5, 255.0])).abs())


class Painted(nn.Module):
    """Plain images whose brightness is that of the category, with `share` of obedience."""

    latent_dim = 7

    def __init__(self, spec: Spec, obeys: bool) -> None:
        super().__init__()
        self.obeys = obeys
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        shade = torch.tensor([1.0, -1.0, 0.0])[z[:, :3].argmax(1)] if self.obeys else torch.zeros(len(z))
        return self.scale * shade.view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def painted(obeys: bool) -> InfoGame:
    torch.manual_seed(0)
    return InfoGame(
        SPEC, partial(Painted, obeys=obeys), partial(InfoGANDiscriminator, width=2, hidden=3), categories=[3]
    )


def shades(n: int) -> Dataset:
    labels = torch.arange(n) % 3
    images = (labels * 127.5).byte().view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return Dataset("shades", SPEC, Split(images, labels), Split(images, labels))


def accuracy(game: InfoGame, **settings: Any) -> list[Any]:
    metric = CodeAccuracy(samples=300, batch_size=70, **settings)
    metric.bind(shades(30), Brightness())
    metric.meet(game, FLOAT32)
    state = copy.deepcopy(metric).compute()
    found = metric.compute()
    assert found == state and metric.names() == [reading.name for reading in found]
    return found


def test_code_accuracy_is_1_where_categories_are_the_classes_by_other_names() -> None:
    generated, real = accuracy(painted(True))
    assert (
        generated.value == 1 and generated.details["class_of_category"] == [2, 0, 1] and generated.details["n"] == 300
    )
    ignored, _ = accuracy(painted(False))
    assert ignored.value == pytest.approx(1 / 3, abs=0.06)
    assert generated.higher_is_better and 1 / 3 <= real.value <= 1


def test_code_accuracy_real_is_that_of_q_on_held_out_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def knowing(self: InfoGame, verdict: Verdict) -> Guess:
        brightness = verdict.features[0].flatten(1)[:, :1]
        logits = -(brightness - torch.tensor([1.0, -1.0, 0.0])).abs()
        return Guess((logits,), torch.zeros(len(logits), 0), torch.zeros(len(logits), 0))

    game = painted(True)
    monkeypatch.setattr(InfoGame, "guess", knowing)
    monkeypatch.setattr(type(game.discriminator), "forward", lambda self, x: Verdict(x.flatten(1)[:, 0], (x,)))
    assert accuracy(game)[1].value == 1


def test_code_accuracy_says_what_it_needs() -> None:
    metric = CodeAccuracy()
    metric.update(Features(torch.zeros(1, 1)), real=False)
    with pytest.raises(UserError, match="asks a run's networks; stored images have none"):
        metric.compute()
    with pytest.raises(UserError, match="NoiseGame has 0 such codes; set model=infogan"):
        metric.meet(NoiseGame(SPEC, partial(DCGANGenerator, width=2), partial(DCGANDiscriminator, width=2)), FLOAT32)
    with pytest.raises(UserError, match="categorical code 1, but InfoGame has 1"):
        CodeAccuracy(code=1).meet(painted(True), FLOAT32)
    with pytest.raises(UserError, match="needs a classifier"):
        metric.bind(shades(9), None)
    with pytest.raises(UserError, match="samples=0"):
        CodeAccuracy(samples=0)


def test_code_accuracy_without_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"metric code_accuracy needs the package scipy: pip install .*\[evaluation\]"):
        CodeAccuracy().bind(shades(9), Brightness())


def test_a_run_writes_sheets_and_scores_its_codes(
    composed: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = ("model.generator.width=2", "model.generator.hidden=4", "model.discriminator.width=2",
             "model.discriminator.hidden=4", "schedule.steps=2", "schedule.images=null", "schedule.batch_size=8",
             "logger=none", "samples.count=4", "evaluation.samples=50", "evaluation.batch_size=25",
             "metric=[code_accuracy]", "metric.code_accuracy.samples=20")  # fmt: skip
    run(composed("experiment=infogan", *small), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run" / "samples").glob("*.png")}
    assert {f"{name}-000000016.png" for name in ("images", "category-0", "continuous-0", "continuous-1")} <= names
    monkeypatch.setattr(
        sys, "argv", ["traverse.py", str(tmp_path / "run"), "--columns", "3", "--out", str(tmp_path / "out")]
    )
    traverse.main()
    written = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert written == ["traversal-category-0.png", "traversal-continuous-0.png", "traversal-continuous-1.png"]
    assert "ema weights after 16 images" in capsys.readouterr().out
    status = (tmp_path / "run" / "status.json").read_text()
    assert '"code_accuracy"' in status and '"code_accuracy_real"' in status
    small_other = ("model=tiny", "metric=none", "logger=none", "schedule.steps=1", "schedule.images=null",
                   "schedule.batch_size=8", "samples.count=4")  # fmt: skip
    run(composed(*small_other), tmp_path / "plain")
    monkeypatch.setattr(sys, "argv", ["traverse.py", str(tmp_path / "plain")])
    with pytest.raises(UserError, match="its latents have no codes to sweep"):
        traverse.main()
    with pytest.raises(UserError, match="code_accuracy reads categorical code 0, but NoiseGame"):
        run(composed("model=tiny", "metric=[code_accuracy]", "logger=none"), tmp_path / "other")


def test_q_learns_to_read_categories_in_a_few_steps() -> None:
    """Eight categories on a ring of eight Gaussians: the bound rises towards log 8."""
    torch.manual_seed(0)
    spec = Spec((2,))
    generator = partial(MLPGenerator, latent_dim=10, hidden=[32])
    game = InfoGame(spec, generator, partial(MLPDiscriminator, hidden=[32]), categories=[8], continuous=0)
    angles = torch.arange(400) * (2 * math.pi / 8)
    data = Split(torch.stack([angles.cos(), angles.sin()], 1) + 0.01 * torch.randn(400, 2))
    trainer = trainer_of(game, lr=3e-3)
    trainer = Trainer(game, trainer.players, data, FLOAT32, 64, 300, 0)

    def bound() -> float:
        round = game.deal(Deal(256, lambda: pytest.fail(), 3, torch.device("cpu")))
        return float(categorical_information(round.codes, round.guess))

    before = bound()
    for _ in range(300):
        trainer.step()
    assert before < 0.1 and bound() > 1.2
