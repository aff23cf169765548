"""Regularizers of outputs, features, weights and samples at points with known values; every option on disk trains."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_experiments.config import conf_dir
from gan_experiments.errors import UserError
from gan_experiments.game import Verdict
from gan_experiments.objectives.diversity import ModeSeeking
from gan_experiments.objectives.matching import FeatureMatching
from gan_experiments.objectives.outputs import LeCam, LogitDrift
from gan_experiments.objectives.weights import HistoricalAveraging, Orthogonal
from gan_experiments.trainer import Trainer
from given import KINDS, Given, differing, ignored, logits, named, trainer_of

OPTIONS = sorted(file.stem for file in (Path(conf_dir()) / "regularizer").glob("*.yaml"))
R, F = [2.0, 0.0], [-1.0, 1.0]


def test_logit_drift_is_the_mean_square() -> None:
    assert LogitDrift()(logits(R, [3.0])).item() == 2.0
    assert LogitDrift(fake=True)(logits(R, F)).item() == 3.0
    assert (LogitDrift().needs, LogitDrift(fake=True).needs) == (("real",), ("real", "fake"))


def test_lecam_at_known_averages() -> None:
    term = LeCam(decay=0.0)
    term.after_move(logits([0.5], [-0.5]), ignored)
    assert term.averages.tolist() == [0.5, -0.5]
    assert term(logits(R, F)).item() == pytest.approx(3.25 + 1.125)
    assert 0.3 * term(logits(R, F)).item() == pytest.approx(1.3125)
    assert term(logits([-1.0], [1.0])).item() == 0  # on the good side of the other's average nothing is charged


def test_lecam_averages_are_over_the_moves_made() -> None:
    term = named(LeCam(decay=0.75), "lecam")
    assert term(logits(R, F)).item() == 0  # no average yet
    term.after_move(logits([4.0], [1.0]), ignored)
    assert term.averages.tolist() == [4.0, 1.0]  # and not a quarter of it
    reported: dict[str, Any] = {}
    term.after_move(logits([0.0, 2.0], [-1.0, -1.0]), reported.__setitem__)
    expected = [(0.75 * 4 + 1) / 1.75, (0.75 * 1 - 1) / 1.75]
    assert term.averages.tolist() == pytest.approx(expected)
    assert reported["discriminator/lecam_average_real"].item() == pytest.approx(expected[0])
    assert reported["discriminator/lecam_average_fake"].item() == pytest.approx(expected[1])


def test_lecam_with_an_initial_value_and_a_start() -> None:
    initial = LeCam(decay=0.5, initial=1000.0)
    initial.after_move(logits([4.0], [1.0]), ignored)
    assert initial.averages.tolist() == [502.0, 500.5]
    late = LeCam(decay=0.5, initial=1000.0, start=100)
    for value in (3.0, 4.0):
        late.after_move(logits([value], [-value], images=99), ignored)
        assert late.averages.tolist() == [value, -value]
    assert late(logits(R, F, images=99)).item() == 0
    assert late(logits(R, F, images=100)).item() == pytest.approx((36 + 16 + 25 + 9) / 2)
    late.after_move(logits([6.0], [-8.0], images=100), ignored)
    assert late.averages.tolist() == [5.0, -6.0]
    again = LeCam(decay=0.5)
    again.load_state_dict(late.state_dict())
    assert again(logits(R, F)).item() == late(logits(R, F, images=100)).item()


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": -0.1}, {"start": -1}])
def test_lecam_refuses_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="LeCam"):
        LeCam(**wrong)


def features(real: list[Tensor], fake: list[Tensor]) -> Given:
    return Given(real=Verdict(torch.zeros(1), tuple(real)), fake=Verdict(torch.zeros(1), tuple(fake)))


def test_feature_matching_compares_means_and_not_spreads() -> None:
    wide, narrow = torch.tensor([[3.0, 0.0], [-1.0, 2.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert FeatureMatching()(features([wide], [narrow])).item() == 0
    shifted = narrow + torch.tensor([3.0, 4.0])
    assert FeatureMatching()(features([wide], [shifted])).item() == 25
    assert FeatureMatching(distance="absolute")(features([wide], [shifted])).item() == 3.5


def test_feature_matching_picks_levels() -> None:
    real = [torch.zeros(2, 1), torch.zeros(2, 3, 2, 2), torch.zeros(2, 2)]
    fake = [torch.full((2, 1), 5.0), torch.full((2, 3, 2, 2), 2.0), torch.ones(2, 2)]
    round = features(real, fake)
    for levels, expected in (([-1], 2), ([0], 25), ([1], 48), ([0, -1], 27), (None, 75)):
        assert FeatureMatching(levels=levels)(round).item() == expected
    assert FeatureMatching(None, "absolute")(round).item() == 8
    for levels, said in (([3], "no feature level 3: the discriminator has levels 0 to 2"), ([-4], "level -4")):
        with pytest.raises(UserError, match=said):
            named(FeatureMatching(levels), "feature_matching")(round)
    with pytest.raises(UserError, match="has no features"):
        FeatureMatching(None)(features([], []))
    for wrong in ({"distance": "cubed"}, {"levels": []}, {"levels": 1}, {"levels": [0, 0]}):
        with pytest.raises(UserError, match="FeatureMatching"):
            FeatureMatching(**wrong)  # type: ignore[arg-type]


def test_feature_matching_moves_the_generator_only() -> None:
    trainer = trainer_of(
        "points",
        ["regularizer/feature_matching"],
        "schedule.generator.adversarial=0",
        "schedule.generator.optimizer.lr=0.01",
    )
    term = next(term for term in trainer.sides["generator"].terms if term.name == "feature_matching")
    before = term(trainer.deal(trainer.sides["generator"], [])).item()
    for _ in range(20):
        trainer.move(trainer.sides["generator"])
    assert all(p.grad is None for p in trainer.sides["discriminator"].parameters)
    assert term(trainer.deal(trainer.sides["generator"], [])).item() < before


def test_mode_seeking_is_the_inverse_ratio_of_distances() -> None:
    latents = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [2.0, 4.0], [9.0, 9.0]])  # the odd one is left out
    samples = torch.tensor([[[0.0]], [[5.0]], [[3.0]], [[6.0]], [[9.0]]])
    term = ModeSeeking(epsilon=1e-5)
    # <|G(z1) - G(z2)|> = (3 + 1) / 2, <|z1 - z2|> = (1 + 1 + 1 + 3) / 4
    assert term(Given(latents=latents, fakes=samples)).item() == pytest.approx(1 / (2 / 1.5 + 1e-5))
    collapsed = term(Given(latents=latents, fakes=torch.zeros(5, 1, 1, requires_grad=True)))
    assert collapsed.item() == pytest.approx(1e5)
    with pytest.raises(UserError, match="epsilon"):
        ModeSeeking(epsilon=0)


def test_mode_seeking_spreads_samples() -> None:
    latents, scale = torch.randn(8, 2), torch.tensor(2.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(ModeSeeking()(Given(latents=latents, fakes=scale * latents)), scale)
    assert gradient.item() == pytest.approx(-0.25, rel=1e-4)  # d/ds 1/s


SHEAR = torch.tensor([[1.0, 0.5], [0.0, 1.0]])


def test_orthogonal_at_known_weights() -> None:
    round = Given(weights={"w": SHEAR, "bias": torch.tensor([7.0, 7.0])})
    assert Orthogonal(full=True)(round).item() == 0.5625
    assert Orthogonal()(round).item() == 0.5
    assert Orthogonal()(Given(weights={"a": SHEAR, "b": SHEAR})).item() == 1.0
    assert Orthogonal(exclude=["b"])(Given(weights={"a": SHEAR, "b": SHEAR})).item() == 0.5


def test_orthogonal_compares_filters_which_are_rows() -> None:
    # Two filters of 1 channel, 1x3, orthogonal and of length 5; columns are not orthogonal.
    filters = torch.tensor([[3.0, 0.0, 4.0], [4.0, 0.0, -3.0]]).view(2, 1, 1, 3)
    assert Orthogonal()(Given(weights={"w": filters})).item() == 0
    assert Orthogonal(full=True)(Given(weights={"w": filters})).item() == 2 * 24**2


def test_orthogonal_gradient_is_that_of_the_formula() -> None:
    w = torch.randn(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(Orthogonal()(Given(weights={"w": w})), w)
    apart = 1 - torch.eye(3)
    torch.testing.assert_close(gradient, 4 * (w @ w.t() * apart) @ w)
    unit = torch.linalg.qr(torch.randn(4, 4))[0]
    assert Orthogonal(full=True)(Given(weights={"w": unit})).item() == pytest.approx(0, abs=1e-10)


def test_filters_of_transposed_convolutions_are_in_their_second_dimension() -> None:
    trainer = trainer_of("images", ["regularizer/orthogonal"])
    (term,) = [term for term in trainer.sides["generator"].terms if term.name == "orthogonal"]
    network = trainer.game.generator
    expected = 0.0
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            weight = module.weight.detach()
            rows = (weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight).flatten(1)
            gram = rows @ rows.t()
            expected += (gram.square().sum() - gram.diag().square().sum()).item()
    round = trainer.deal(trainer.sides["generator"], [])
    assert term(round).item() == pytest.approx(expected, rel=1e-4)


def test_orthogonal_refuses_names_that_are_none() -> None:
    with pytest.raises(UserError, match="exclude=embedding is in no name") as error:
        trainer_of("points", ["regularizer/orthogonal"], "regularizer.orthogonal.exclude=[embedding]")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no weight of 2 or more dimensions"):
        trainer_of("points", ["regularizer/orthogonal"], "regularizer.orthogonal.exclude=[weight]")


def history(*values: float) -> HistoricalAveraging:
    term = HistoricalAveraging()
    for value in values:
        term.after_move(Given(weights={"w": torch.tensor([value])}), ignored)
    return term


def test_historical_averaging_counts_the_current_weights_in() -> None:
    for values, expected in (
        ((), 0.0),
        ((3.0,), 0.0),
        ((1.0, 3.0), 1.0),
        ((1.0, 2.0, 3.0), 1.0),
        ((2.0, 0.0, 7.0), 16),
    ):
        now = values[-1] if values else 5.0
        assert history(*values)(Given(weights={"w": torch.tensor([now])})).item() == pytest.approx(expected)


def test_historical_averaging_is_differentiated_through_both_places() -> None:
    theta = torch.tensor([3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(history(1.0, 2.0, 3.0)(Given(weights={"w": theta})), theta)
    written = lambda t: (t - (1 + 2 + t) / 3) ** 2  # noqa: E731
    assert gradient.item() == pytest.approx((written(3.001) - written(2.999)) / 0.002, rel=1e-4)
    fresh = HistoricalAveraging()(Given(weights={"w": theta}))
    assert torch.autograd.grad(fresh, theta)[0].item() == 0


def test_historical_averaging_sums_over_weights_and_commits_only_after_a_move() -> None:
    term = HistoricalAveraging()
    for a, b in ((0.0, 0.0), (2.0, 4.0)):
        term.after_move(Given(weights={"a": torch.tensor([a, a]), "b": torch.tensor([[b]])}), ignored)
    now = Given(weights={"a": torch.tensor([2.0, 2.0]), "b": torch.tensor([[4.0]])})
    saved = copy.deepcopy(term.state_dict())
    assert [term(now).item() for _ in range(3)] == [1 + 1 + 4] * 3
    again = HistoricalAveraging()
    again.load_state_dict(saved)
    assert again(now).item() == 6 and again.count == 2


def test_historical_averaging_remembers_each_players_moves() -> None:
    trainer = trainer_of("points", ["regularizer/historical_averaging"], "schedule.discriminator.moves=2")
    seen: list[Tensor] = []
    for _ in range(3):
        trainer.step()
        seen.append(trainer.game.generator.net[0].weight.detach().clone())
    term = trainer.sides["generator"].terms[-1]
    assert isinstance(term, HistoricalAveraging) and term.count == 3
    torch.testing.assert_close(term.mean["net.0.weight"], torch.stack(seen).mean(0))
    other = trainer.sides["discriminator"].terms[-1]
    assert isinstance(other, HistoricalAveraging) and other.count == 6
    assert set(other.mean) == set(dict(trainer.game.discriminator.named_parameters()))


REFUSED = {
    ("cr", "points"): "flips and shifts are for images", ("bcr", "points"): "flips and shifts are for images",
    ("pulling_away", "points"): "needs", ("pulling_away", "images"): "needs",
    **{(name, kind): said for name, said in (("mutual_information", "needs codes"), ("path_length", "needs styles"),
                                             ("supervision", "needs classes")) for kind in ("points", "images")},
    ("rotation", "points"): "quarter turns are for square images",
    ("reconstruction", "points"): "model=fastgan", ("reconstruction", "images"): "model=fastgan",
}  # fmt: skip


STEEP = "model.discriminator.init_std=0.5"  # so that penalties on large slopes act too


@cache
def plain(kind: str) -> list[Tensor]:
    """Weights after three steps without any regularizer."""
    return after(trainer_of(kind, [], STEEP), 3)


def after(trainer: Trainer, steps: int) -> list[Tensor]:
    """All weights after so many steps."""
    for _ in range(steps):
        trainer.step()
    return [p.detach().clone() for player in trainer.players for p in player.parameters]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_and_resumes_or_is_refused_in_one_line(option: str, kind: str) -> None:
    options = [f"regularizer/{option}"]
    if (option, kind) in REFUSED:
        with pytest.raises(UserError, match=REFUSED[option, kind]) as error:
            trainer_of(kind, options)
        assert "\n" not in str(error.value)
        return
    through, again = trainer_of(kind, options, STEEP), trainer_of(kind, options, STEEP)
    after(through, 2)
    again.load_state_dict(copy.deepcopy(through.state_dict()))
    ends = after(through, 1), plain(kind)
    after(again, 1)
    through.meter.check()
    assert differing(through, again) == []
    unchanged = len(ends[0]) == len(ends[1]) and all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert unchanged == (option == "none")
