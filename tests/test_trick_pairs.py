"""Every pair of tricks on two games: each takes two training steps or is refused in one line when the run is built."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest

from trick_bench import APART, FOLDERS, GAMES, REGULARIZERS, TRICKS, ZOO, attempt, base, changes, compose_plainly, merge


def test_merging_a_tricks_file_is_what_hydra_does() -> None:
    for trick in ("feature_matching", "train_with_labels", "ema", "packing"):
        composed, _ = compose_plainly(*GAMES["points"], f"trick=[{trick}]")
        assert composed == merge(base("points")[0], changes(trick)), trick


ALONE = {  # what a game of points can't have
    "points": {
        "ada": "images",
        "augment": "images",
        "diffaugment": "images",
        "self_attention": "feature maps",
        "mismatched": "is told none",
    },
    "images": {"mismatched": "is told none"},  # tried in test_mismatched.py
}
TOGETHER = {  # what contradicts itself, or what the other leaves no room for
    frozenset({"reference_batch_norm", "virtual_batch_norm"}): "choose one",
    frozenset({"packing", "train_with_labels"}): "choose one",
    **{frozenset({norm, batch}): "choose one" for norm in ("reference_batch_norm", "virtual_batch_norm")
       for batch in ("minibatch_discrimination", "minibatch_stddev")},
}  # fmt: skip


@pytest.mark.parametrize("game", ["points", "images"])
@pytest.mark.parametrize("trick", TRICKS)
def test_each_trick_takes_two_steps_or_says_why_not(trick: str, game: str) -> None:
    said = attempt(trick, game=game)
    reason = ALONE[game].get(trick)
    assert (reason is None and not said) or (reason is not None and trick in said and reason in said), said


@pytest.mark.parametrize("game", ["points", "images"])
@pytest.mark.parametrize("first", TRICKS)
def test_every_pair_takes_two_steps_or_is_refused_in_one_line(first: str, game: str) -> None:
    for one, other in combinations(TRICKS, 2):
        if one != first:
            continue
        said = attempt(one, other, game=game)
        reasons = [ALONE[game].get(one), ALONE[game].get(other), TOGETHER.get(frozenset({one, other}))]
        expected = [reason for reason in reasons if reason]
        assert bool(said) == bool(expected), f"{one} + {other}: {said}"
        assert not said or ("\n" not in said and any(reason in said for reason in expected)), said


SLOPES = ("dragan", "gradient_penalty", "gradient_penalty_one_sided", "gradient_penalty_real_fake", "max_gradient",
          "r1", "r2", "wgan_div", "zero_centred")  # fmt: skip
APART_FROM = {  # regularizers that a trick leaves no room for
    "unrolled": {name: "a third time" for name in SLOPES},
    "replay": {"zcr": "replaces generated samples"},
    "spectral_norm": {"weight_clipping": "undoes it"},
    "train_with_labels": {"variational_bottleneck": "choose one"},
    "packing": {"rotation": "choose one"},
}


@cache
def fitting() -> list[str]:
    """The regularizers that suit a game of images."""
    return [name for name in REGULARIZERS if not attempt(game="images", steps=0, regularizers=[name])]


@pytest.mark.parametrize("trick", [name for name in TRICKS if name not in ALONE["images"]])
def test_every_trick_takes_each_regularizer_or_says_why_not(trick: str) -> None:
    """Built one by one; those that are not refused are then trained with together."""
    taken = []
    for name in fitting():
        said, expected = (
            attempt(trick, game="images", steps=0, regularizers=[name]),
            APART_FROM.get(trick, {}).get(name),
        )
        assert (expected is None) == (not said) and (expected or "") in said and "\n" not in said, f"{name}: {said}"
        taken += [name] if not said and name not in ("spectral_norm", "variational_bottleneck") else []
    assert len(taken) >= 9 and not attempt(trick, game="images", regularizers=taken)


def test_the_zoo_is_whole() -> None:
    assert {path.stem for path in (FOLDERS[0] / "model").glob("*.yaml")} == {*ZOO, *APART, "mlp", "dcgan"}


@pytest.mark.parametrize("model", ZOO)
def test_every_network_takes_each_trick_or_says_why_not(model: str) -> None:
    refused = {}
    for trick in TRICKS:
        said = attempt(trick, game=model, steps=1)
        assert "\n" not in said and (not said or trick in said), said
        if said:
            refused[trick] = said
    assert len(refused) <= 13, refused
    assert "replay" in refused or not attempt("replay", "instance_noise", game=model, steps=1)


@pytest.mark.parametrize("model", APART)
def test_other_games_take_each_trick_or_say_why_not(model: str) -> None:
    for trick in TRICKS:
        said = attempt(trick, game=model, steps=1)
        assert "\n" not in said and (not said or trick in said), said
    assert "replay" in attempt("replay", game=model)
    assert not attempt(game=model)
