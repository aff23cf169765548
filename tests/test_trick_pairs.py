"""Every pair of tricks on two games: each takes two training steps or is refused in one line when the run is built."""

from __future__ import annotations

from itertools import combinations

import pytest

from trick_bench import APART, FOLDERS, GAMES, TRICKS, ZOO, attempt, base, changes, compose_plainly, merge


def test_merging_a_tricks_file_is_what_hydra_does() -> None:
    for trick in ("feature_matching", "train_with_labels", "ema", "packing"):
        composed, _ = compose_plainly(*GAMES["points"], f"trick=[{trick}]")
        assert composed == merge(base("points")[0], changes(trick)), trick


ALONE = {  # what a game of points can't have
    "points": {"ada": "images", "augment": "images", "diffaugment": "images", "self_attention": "feature maps"},
    "images": {},
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
