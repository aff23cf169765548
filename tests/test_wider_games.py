"""Games of several columns, streams and discriminators: they train, continue, are scored and exported unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn.functional import softplus

from cycle_game import CycleConsistency, CycleGame, CycleRound
from gan_experiments.checks import check_needs
from gan_experiments.config import build
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Deal
from gan_experiments.inference import load_generator
from gan_experiments.logging.records import read_records
from gan_experiments.objectives.adversarial import NonSaturating
from gan_experiments.objectives.energy import BoundaryEquilibrium
from gan_experiments.objectives.outputs import LeCam
from gan_experiments.objectives.penalties import R1, GradientPenalty
from gan_experiments.signals import Interrupted
from gan_experiments.tricks.samples import Replay
from paired_game import PairedGame
from test_resume import equal, final, measured, signal_after
from wider_data import edges, gaussians

SHORT = ("extractor=none", "logger=none", "schedule=constant", "schedule.batch_size=8", "schedule.steps=12",
         "schedule.images=null", "samples.every=48", "samples.count=9", "evaluation.every=48", "evaluation.samples=32",
         "evaluation.batch_size=16", "checkpoint.every=16", "log.every=16")  # fmt: skip
GAMES: dict[str, dict[str, Any]] = {
    "paired": {
        "options": ("metric=[ms_ssim]", "regularizer=[r1]", "trick=[replay]"),
        "model": {"_target_": "paired_game.PairedGame", "width": 4},
        "dataset": {"_target_": "wider_data.edges"},
        "regularizer": {"l1": {"_target_": "paired_game.L1"}},
    },
    "cycle": {
        "options": ("metric=[sliced_wasserstein]", "regularizer=[r1,gradient_penalty]", "trick=[replay]"),
        "model": {"_target_": "cycle_game.CycleGame"},
        "dataset": {"_target_": "wider_data.gaussians"},
        "regularizer": {"cycle": {"_target_": "cycle_game.CycleConsistency"}},
    },
}  # fmt: skip


def config_of(name: str, composed: Callable[..., DictConfig], *more: str) -> DictConfig:
    chosen = GAMES[name]
    config = composed(*SHORT, *chosen["options"], *more)
    OmegaConf.set_struct(config, False)
    config.model, config.dataset = chosen["model"], chosen["dataset"]
    config.regularizer = OmegaConf.merge(config.regularizer, chosen["regularizer"])
    return config


@pytest.mark.parametrize("name", GAMES)
def test_it_trains_is_scored_exported_and_continues_bit_for_bit(
    name: str, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config_of(name, composed), tmp_path / "whole")
    with monkeypatch.context() as patch:
        signal_after(5, patch)
        with pytest.raises(Interrupted):
            run(config_of(name, composed), tmp_path / "parts")
    run(config_of(name, composed), tmp_path / "parts")
    assert equal(final(tmp_path / "whole"), final(tmp_path / "parts")) == []
    assert measured(tmp_path / "whole") == measured(tmp_path / "parts")
    records = list(read_records(tmp_path / "whole" / "metrics.jsonl"))
    (scores, *_) = (record["values"] for record in records if record["kind"] == "scores")
    assert scores and all(record["value"] == record["value"] for record in scores.values())
    if name == "cycle":
        names = set().union(*(record["values"] for record in records if record["kind"] == "train"))
        assert {f"{player}/adversarial_{side}" for player in ("generator", "discriminator") for side in "ab"} <= names
    trained = load_generator(tmp_path / "whole")
    samples = trained.sample(10, seed=3)
    assert samples.shape == (10, *trained.game.spec.shape) and torch.equal(samples[:4], trained.sample(4, seed=3))


def round_of(player: str = "discriminator", watches: frozenset[str] = frozenset()) -> CycleRound:
    torch.manual_seed(0)
    data = gaussians()
    game = CycleGame(data.spec)
    batch = data.train.take(torch.arange(6))
    others = data.train.streams["b"].take(torch.arange(6)).under("b")
    shown = type(batch)(batch.samples, None, others)
    return game.deal(Deal(6, lambda: shown, 3, torch.device("cpu"), watches, player=player))


def test_a_loss_is_the_weighted_sum_of_its_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CycleGame, "compared", {"a": 1.0, "b": 3.0})
    for player in ("discriminator", "generator"):
        round = round_of(player)
        a, b = round.batch.samples, round.batch["b"]
        game = round.game
        with torch.no_grad():
            fakes = {"a": b + game.translators["a"](b), "b": a + game.translators["b"](a)}
            reals, judges = {"a": a, "b": b}, game.discriminators
            real, fake = ({s: judges[s](some[s]).logits for s in "ab"} for some in (reals, fakes))
        halves = {
            s: softplus(-real[s]).mean() + softplus(fake[s]).mean()
            if player == "discriminator"
            else softplus(-fake[s]).mean()
            for s in "ab"
        }
        term = NonSaturating().share(player, 1.0)
        torch.testing.assert_close(term.value(round), halves["a"] + 3 * halves["b"])
        said: dict[str, Any] = {}
        term.after_move(round, said.__setitem__)
        assert set(said) == {f"{player}/adversarial_a", f"{player}/adversarial_b"}
        torch.testing.assert_close(said[f"{player}/adversarial_b"], halves["b"])


def test_penalties_count_at_every_discriminator() -> None:
    round = round_of(watches=frozenset({"reals", "interpolates"}))
    game, reals = round.game, {"a": round.batch.samples, "b": round.batch["b"]}
    expected = torch.zeros(())
    for side, samples in reals.items():
        x = samples.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(game.discriminators[side](x).logits.sum(), x)
        expected = expected + 0.5 * slope.square().sum(1).mean()
    torch.testing.assert_close(R1().value(round), expected)
    apart = [GradientPenalty()(part) for part in round.parts()]
    torch.testing.assert_close(GradientPenalty().value(round), apart[0] + apart[1])
    # each comparison has random numbers of its own
    mixes = [part.deal.random("mix").initial_seed() for part in round.parts()]
    assert mixes[0] != mixes[1]


def test_a_round_against_other_discriminators_changes_only_verdicts() -> None:
    round = round_of("generator")
    weights = {name: torch.zeros_like(value) for name, value in round.weights("discriminator").items()}
    assert {name.split(".")[0] for name in weights} == {"a", "b"}
    before = [part.fake.logits for part in round.parts()]
    other = round.against(weights)
    assert all(torch.equal(part.fake.logits, torch.zeros(6)) for part in other.parts())
    assert all(torch.equal(part.fake.logits, logits) for part, logits in zip(round.parts(), before, strict=True))
    assert all(torch.equal(a.fakes, b.fakes) for a, b in zip(other.parts(), round.parts(), strict=True))


def test_pools_are_kept_by_comparison() -> None:
    replay = Replay(size=8)
    replay.name = "replay"
    data = gaussians()
    game = CycleGame(data.spec, tricks=[replay])
    assert {name for name, _ in replay.named_buffers()} == {"poola", "filleda", "poolb", "filledb"}
    batch = data.train.take(torch.arange(6))
    shown = type(batch)(batch.samples, None, data.train.streams["b"].take(torch.arange(6)).under("b"))
    round = game.deal(Deal(6, lambda: shown, 3, torch.device("cpu"), player="discriminator"))
    for part in round.parts():
        assert torch.equal(part.fakes, part.generated_samples())
    for side in "ab":
        pool, filled = replay.kept(side)
        assert int(filled) == 6 and torch.equal(pool[:6], round.rounds[side].generated_samples())


def test_what_speaks_of_one_discriminator_is_refused() -> None:
    game = CycleGame(gaussians().spec)
    check_needs(game, [R1(), CycleConsistency(), NonSaturating().share("generator", 1.0)])
    with pytest.raises(UserError, match="speaks of one discriminator's fake, real, and CycleGame has 2: a, b"):
        check_needs(game, [LeCam()])
    with pytest.raises(UserError, match="BoundaryEquilibrium follows one discriminator, and CycleGame has 2"):
        BoundaryEquilibrium().share("discriminator", 1.0).check(game)


def test_fields_that_a_game_is_given_must_be_there() -> None:
    with pytest.raises(UserError, match="PairedGame is given edges, and the data have samples"):
        PairedGame(Spec((1, 16, 16)))
    with pytest.raises(UserError, match="needs data to give its generator"):
        PairedGame(edges().spec).ask(3, torch.Generator())
    with pytest.raises(UserError, match="model: PairedGame is given edges"):
        build({"_target_": "paired_game.PairedGame"}, "model", Spec((1, 16, 16)), tricks=[])
