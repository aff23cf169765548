"""Batch norm statistics at evaluation: by hand, put back bit for bit, on record, and nothing to training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_experiments import seeding
from gan_experiments.assembly import build_game
from gan_experiments.batch_statistics import BatchStatistics, Statistics, sampling_norms
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Game
from gan_experiments.games.info import InfoGame
from gan_experiments.logging.records import read_records
from gan_experiments.networks.conditional import ConditionalBatchNorm
from gan_experiments.networks.infogan import InfoGANDiscriminator, InfoGANGenerator
from gan_experiments.sampling import draw
from gan_experiments.schema import typed
from gan_experiments.signals import Interrupted
from gan_experiments.truncation import ResampledNormal
from given import FLOAT32, configured
from test_resume import equal, final, measured, signal_after
from tiny import TINY

CLASSES = ("a", "b", "c")
STANDING = BatchStatistics(Statistics.STANDING, batches=3, batch_size=6, seed=5)


def game_of(*options: str, lines: tuple[str, ...] = ()) -> Game:
    """A small DCGAN whose running statistics are of two training batches, as far from others as they can be."""
    spec = Spec((1, 16, 16), CLASSES, (0.2, 0.3, 0.5))
    game = build_game(typed(configured("images", options, *lines)), spec).requires_grad_(False)
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        game.sample(3 * game.latents(6, generator), game.ask(6, generator))
    return game


PLAIN: tuple[str, ...] = ()
CONDITIONAL = ("conditioning/batch_norm", "conditioning/projection")
GAMES = {"plain": PLAIN, "conditional": CONDITIONAL}


def norms_of(game: Game) -> list[_BatchNorm]:
    (generator,) = game.sides["generator"]
    return [module for module in generator.modules() if isinstance(module, _BatchNorm)]


def moments_by_hand(game: Game, limit: float | None = None) -> list[tuple[Tensor, Tensor]]:
    """For each norm the means over batches of its inputs' means and unbiased variances, in training mode."""
    game = copy.deepcopy(game).train()
    inputs: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms_of(game)}
    for norm, found in inputs.items():
        norm.register_forward_pre_hook(lambda module, given, found=found: found.append(given[0].double()))
    for k in range(3):
        generator = seeding.generator(5, "standing", k)
        z, classes = game.latents(6, generator), game.ask(6, generator)
        game.sample(z if limit is None else ResampledNormal(limit).latents(z, generator), classes)
    return [
        (
            torch.stack([x.mean((0, 2, 3)) for x in found]).mean(0),
            torch.stack([x.var((0, 2, 3), correction=1) for x in found]).mean(0),
        )
        for found in inputs.values()
    ]


@pytest.mark.parametrize("kind", GAMES)
def test_standing_statistics_are_means_of_batch_statistics(kind: str) -> None:
    game = game_of(*GAMES[kind])
    if kind == "conditional":
        assert any(isinstance(module, ConditionalBatchNorm) for module in game.modules())
    expected = moments_by_hand(game)
    with STANDING.applied(game, FLOAT32) as said:
        found = [(norm.running_mean, norm.running_var) for norm in norms_of(game)]
        assert said == "standing" and len(found) >= 2
        for mine, hand in zip(found, expected, strict=True):
            for value, number in zip(mine, hand, strict=True):
                assert value is not None
                torch.testing.assert_close(value.double(), number, rtol=1e-4, atol=1e-6)


def test_standing_statistics_of_truncated_latents_are_of_those() -> None:
    game, truncation = game_of(), ResampledNormal(0.1)
    ((mean, variance), *_) = moments_by_hand(game, 0.1)
    (free, _), *_ = moments_by_hand(game)
    with STANDING.applied(game, FLOAT32, truncation):
        norm = norms_of(game)[0]
        assert norm.running_mean is not None and norm.running_var is not None
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(mean, free, rtol=1e-2)


@pytest.mark.parametrize("kind", GAMES)
def test_a_batch_uses_its_own_statistics_like_in_training(kind: str) -> None:
    game = game_of(*GAMES[kind])
    random = torch.Generator().manual_seed(9)
    z, classes = game.latents(6, random), game.ask(6, random)
    expected = copy.deepcopy(game).train().sample(z, classes)
    stored = copy.deepcopy(game).eval().sample(z, classes)
    with BatchStatistics(Statistics.BATCH).applied(game, FLOAT32) as said:
        mine = draw(game, 6, torch.Generator().manual_seed(9), FLOAT32).samples
        assert said == "batch"
    torch.testing.assert_close(mine, expected)
    assert not torch.allclose(expected, stored, atol=1e-3)
    with BatchStatistics().applied(game, FLOAT32) as said:
        assert said == "running"
        torch.testing.assert_close(draw(game, 6, torch.Generator().manual_seed(9), FLOAT32).samples, stored)


@pytest.mark.parametrize("kind", Statistics)
@pytest.mark.parametrize("mode", [True, False])
def test_everything_is_put_back_bit_for_bit_even_after_an_error(kind: Statistics, mode: bool) -> None:
    game = game_of(*CONDITIONAL).train(mode)
    state, tensors = copy.deepcopy(game.state_dict()), {id(buffer) for buffer in game.buffers()}
    storage = [buffer.data_ptr() for buffer in game.buffers()]
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        BatchStatistics(kind, 2, 4).applied(game, FLOAT32),
    ):
        draw(game, 4, torch.Generator().manual_seed(0), FLOAT32)
        raise RuntimeError("on purpose")
    assert game.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in game.state_dict().items())
    assert {id(buffer) for buffer in game.buffers()} == tensors
    assert [buffer.data_ptr() for buffer in game.buffers()] == storage
    assert all(module.training == mode for module in game.modules())
    assert all(norm.momentum == 0.1 for norm in norms_of(game))


@pytest.mark.parametrize("kind", Statistics)
def test_without_batch_norms_there_is_nothing_to_choose(kind: Statistics) -> None:
    game = game_of(lines=("model.generator.norm=none",))
    with BatchStatistics(kind, 2, 4).applied(game, FLOAT32) as said:
        assert said == "none"


def test_only_norms_that_samples_pass_through_count() -> None:
    generator, discriminator = (partial(kind, width=4, hidden=8) for kind in (InfoGANGenerator, InfoGANDiscriminator))
    game = InfoGame(Spec((1, 8, 8)), partial(generator, latent_dim=14), discriminator)
    recognition = [module for part in game.sides["generator"][1:] for module in part.modules()]
    assert any(isinstance(module, _BatchNorm) for module in recognition)
    found = sampling_norms(game, FLOAT32)
    assert found and not {id(norm) for norm in found} & {id(module) for module in recognition}


def test_an_unknown_kind_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="^evaluation.statistics=moving: use running, standing, batch$"):
        Statistics("moving")


RUN = [
    *TINY, "model.generator.batch_norm=true", "evaluation.every=64", "schedule.ema.half_life=100",
    "evaluation.standing_batches=2", "evaluation.raw=true",
]  # fmt: skip


@pytest.mark.parametrize("kind", Statistics)
def test_scores_say_which_and_training_is_not_disturbed(
    kind: Statistics, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, whole, halves = tmp_path / "plain", tmp_path / "whole", tmp_path / "halves"
    run(composed(*RUN, f"run.dir={plain}", "metric=none"), plain)
    run(composed(*RUN, f"evaluation.statistics={kind}", f"run.dir={whole}"), whole)
    weights = [{k: v for k, v in final(home).items() if "observers" not in k} for home in (plain, whole)]
    assert equal(*weights) == []
    with monkeypatch.context() as patch:
        signal_after(9, patch)
        with pytest.raises(Interrupted):
            run(composed(*RUN, f"evaluation.statistics={kind}", f"run.dir={halves}"), halves)
    run(composed(*RUN, f"evaluation.statistics={kind}", f"run.dir={halves}"), halves)
    assert equal(final(whole), final(halves)) == [] and measured(whole) == measured(halves)
    records = [record["values"] for record in read_records(whole / "metrics.jsonl") if record["kind"] == "scores"]
    assert len(records) == 5
    for scores in records:
        assert {(score["batch_norm"], score["truncation"]) for score in scores.values()} == {(str(kind), "none")}


def test_statistics_change_scores(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    values = []
    for kind in Statistics:
        home = tmp_path / kind
        run(composed(*RUN, f"evaluation.statistics={kind}", "schedule.images=32", f"run.dir={home}"), home)
        (record,) = (record for record in read_records(home / "metrics.jsonl") if record["kind"] == "scores")
        values.append(record["values"]["reverse_kl"]["value"])
    assert len(set(values)) == 3, values


def test_networks_without_batch_norm_have_none_on_record(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    run(composed(*TINY, "schedule.images=32", "evaluation.statistics=standing"), tmp_path / "run")
    records = [r["values"] for r in read_records(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "scores"]
    assert {score["batch_norm"] for scores in records for score in scores.values()} == {"none"}
