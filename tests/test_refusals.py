"""What is given to the wrong player, is no fitting number or contradicts itself is refused in one line at build."""

from __future__ import annotations

import pytest

from gan_experiments.checks import check_batch
from gan_experiments.config import build
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.games.noise import NoiseGame
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.networks.progan import ProGANDiscriminator, ProGANGenerator
from gan_experiments.tricks.bottleneck import VariationalBottleneck
from gan_experiments.tricks.labels import ClassHead
from gan_experiments.tricks.unrolling import Unrolled
from given import trainer_of

TO_GENERATOR = ("r1", "r2", "gradient_penalty", "max_gradient", "logit_drift", "lecam", "cr", "zcr")
TO_DISCRIMINATOR = ("mode_seeking", "feature_matching")


def refused(options: list[str], *lines: str) -> str:
    with pytest.raises(UserError) as error:
        trainer_of("images", options, *lines)
    said = str(error.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("option", [*TO_GENERATOR, *TO_DISCRIMINATOR])
def test_terms_are_refused_for_players_on_whom_they_do_not_act(option: str) -> None:
    own, other = ("discriminator", "generator") if option in TO_GENERATOR else ("generator", "discriminator")
    said = refused([f"regularizer/{option}"], f"regularizer.{option}.player={other}")
    assert said.startswith(f"{other}/{option} ") and said.endswith(f"set regularizer.{option}.player={own}")


def test_rotated_reals_are_no_matter_of_the_generator() -> None:
    said = refused(["regularizer/rotation"], "regularizer.rotation.player=generator")
    assert "generator/rotation (Rotation) is a term of discriminator alone" in said


def test_observers_act_on_players_that_exist_and_on_weights_that_stay() -> None:
    clip = "regularizer/weight_clipping"
    said = refused([clip], "regularizer.weight_clipping.player=critic")
    assert said == "weight_clipping: no such player: critic; the game has discriminator, generator"
    said = refused([clip, "trick/spectral_norm"])
    assert "weight_clipping" in said and "spectral norm" in said and "undoes it" in said
    trainer_of("images", [clip, "trick/spectral_norm"], "regularizer.weight_clipping.player=generator")


NUMBERS = {
    "trick.top_k.share=0": "share=0 must be within (0, 1]",
    "trick.top_k.share=1.5": "share=1.5 must",
    "trick.top_k.share.end=0": "share, a curve, goes to 0 and must be within (0, 1]",
    "trick.instance_noise.std=-1": "trick.instance_noise.std=-1: must be 0 or more",
    "trick.ada.probability=3": "probability=3 must be within [0, 1]",
    "trick.apa.probability=-1": "probability=-1 must be within [0, 1]",
    "trick.augment.probability=2": "probability=2 must be within [0, 1]",
    "trick.unrolled.steps=2.5": "trick.unrolled.steps=2.5: must be a whole number",
    "trick.packing.size=2.5": "trick.packing.size=2.5: must be a whole number",
    "trick.packing.size=many": "trick.packing.size=many: must be a whole number",
    "trick.spectral_norm.iterations=0": "trick.spectral_norm.iterations=0: must be 1 or more",
    "regularizer.r1.every=2.5": "regularizer.r1.every=2.5: must be a whole number",
    "regularizer.r1.every=true": "regularizer.r1.every=True: must be a whole number",
    "regularizer.r1.weight=.nan": "regularizer.r1.weight=nan: must be a finite number",
    "regularizer.r1.weight=.inf": "regularizer.r1.weight=inf: must be a finite number",
    "regularizer.r1.weight=-1": "regularizer.r1.weight=-1: must be 0 or more",
    "regularizer.cr.at=bogus": "use reals or fakes",
}


@pytest.mark.parametrize("line", NUMBERS)
def test_numbers_are_refused_with_their_place_when_the_run_is_built(line: str) -> None:
    group, option = line.split(".")[:2]
    said = refused([f"{group}/{option}"], line)
    assert said.startswith(f"{group}.{option}") and NUMBERS[line] in said


@pytest.mark.parametrize("value", ["-1", ".nan"])
def test_weights_of_losses_are_numbers_too(value: str) -> None:
    assert "schedule.generator.adversarial=" in refused([], f"schedule.generator.adversarial={value}")


def test_numbers_of_nested_curves_are_seen_and_whole_ones_taken_as_such() -> None:
    curve = {"_target_": "gan_experiments.curves.Linear", "start": 1, "end": 0.5}
    node = {"_target_": "gan_experiments.tricks.samples.TopK", "share": {**curve, "over": 2.5}}
    with pytest.raises(UserError, match="trick.top_k.share.over=2.5: must be a whole number"):
        build(node, "trick.top_k")
    steps = build({"_target_": f"{Unrolled.__module__}.Unrolled", "steps": 2.0}, "trick.unrolled").steps
    assert steps == 2 and isinstance(steps, int)


@pytest.mark.parametrize(
    ("options", "size", "said"),
    [
        (["trick/minibatch_stddev"], 7, "batch_size=7: MinibatchStddev finds no groups.* set schedule.batch_size=8"),
        (["trick/minibatch_stddev", "trick/packing"], 14, "among 7 packs .* set schedule.batch_size=16"),
        (["trick/minibatch_discrimination"], 1, "MinibatchDiscrimination .* set schedule.batch_size=2"),
        (["regularizer/mode_seeking"], 1, "batch_size=1: generator/mode_seeking compares samples .* set 2 or more"),
        (["trick/packing"], 15, "batch_size=15: trick packing judges packs of 2 samples; .* such as 16"),
    ],
)
def test_batches_in_which_nothing_can_be_compared_are_refused(options: list[str], size: int, said: str) -> None:
    trainer = trainer_of("images", options)
    terms = [term for player in trainer.players for term in player.terms]
    with pytest.raises(UserError, match=said) as error:
        check_batch(trainer.game, terms, size)
    assert "\n" not in str(error.value)


def test_groups_of_two_and_three_are_compared() -> None:
    game = trainer_of("images", ["trick/minibatch_stddev"]).game
    for size in (2, 3, 6, 9, 10):
        check_batch(game, [], size)


def test_networks_own_comparisons_count_too() -> None:
    sizes = {"channel_base": 16, "channel_max": 2}
    game = NoiseGame(
        Spec((1, 8, 8)),
        lambda spec: ProGANGenerator(spec, 2, **sizes),  # type: ignore[arg-type]
        lambda spec: ProGANDiscriminator(spec, **sizes),  # type: ignore[arg-type]
    )
    with pytest.raises(UserError, match="StddevMap finds no groups .* schedule.batch_size=6"):
        check_batch(game, [], 5)


def test_one_vector_has_no_batch_statistics() -> None:
    game = NoiseGame(Spec((2,)), lambda s: MLPGenerator(s, 2, [4], batch_norm=True), lambda s: MLPDiscriminator(s, [4]))
    with pytest.raises(UserError, match="batch_size=1: batch norm of vectors in the generator .*batch_size=2"):
        check_batch(game, [], 1)
    check_batch(game, [], 2)


def test_two_ends_of_one_head_are_both_named() -> None:
    labels, bottleneck = ClassHead(), VariationalBottleneck(2)
    labels.name, bottleneck.name = "train_with_labels", "variational_bottleneck"
    with pytest.raises(UserError, match="trick train_with_labels .*regularizer=variational_bottleneck .*choose one"):
        NoiseGame(
            Spec((2,), tuple("abc")), lambda s: MLPGenerator(s, 2), lambda s: MLPDiscriminator(s), [labels, bottleneck]
        )
