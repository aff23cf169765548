"""Fields and columns: how kinds are stored and seen, what rides along with samples, streams in orders of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cycle_game import CycleConsistency, CycleGame
from gan_experiments.data.base import Batch, Column, Dataset, Spec, Split
from gan_experiments.data.fields import Field, Kind, check_stored, kind_of, seen
from gan_experiments.errors import UserError
from gan_experiments.objectives.adversarial import NonSaturating
from gan_experiments.players import Player, TunedOptimizer
from gan_experiments.trainer import Trainer
from gan_experiments.tricks.unrolling import Unrolled
from given import FLOAT32

STORED = {
    Kind.IMAGE: torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
    Kind.POINTS: torch.zeros(4, 2),
    Kind.VOLUME: torch.zeros(4, 1, 5, 8, 8, dtype=torch.uint8),
    Kind.WAVE: torch.zeros(4, 1, 100, dtype=torch.int16),
    Kind.TOKENS: torch.zeros(4, 7, dtype=torch.int64),
    Kind.CATEGORY: torch.zeros(4, dtype=torch.int64),
}


def bytes_of(n: int, *shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=random)


def with_edges(n: int = 6, **more: Any) -> Split:
    return Split(bytes_of(n, 1, 4, 4), others={"edges": Column(bytes_of(n, 1, 4, 4, seed=1), Kind.IMAGE)}, **more)


def test_kinds_follow_from_how_samples_are_stored_and_clips_are_named() -> None:
    for kind, stored in STORED.items():
        assert kind_of(stored) is kind and Split(stored).kind is kind
        check_stored(stored, kind)
    assert Split(STORED[Kind.VOLUME], kind=Kind.CLIP).fields == {}
    assert Split(STORED[Kind.VOLUME], kind=Kind.CLIP).kind is Kind.CLIP
    with pytest.raises(UserError, match=r"torch.float64 of shape \(4, 2\); expected uint8 images .* float32 points"):
        kind_of(torch.zeros(4, 2, dtype=torch.float64))
    with pytest.raises(UserError, match=r"samples of kind wave are torch.uint8 .*; expected torch.int16, each"):
        check_stored(STORED[Kind.IMAGE], Kind.WAVE)


def test_networks_see_bytes_and_waves_from_minus_one_to_one_and_the_rest_as_it_is() -> None:
    assert seen(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
    assert seen(torch.tensor([-32768, 0, 16384], dtype=torch.int16)).tolist() == [-1.0, 0.0, 0.5]
    assert torch.equal(seen(STORED[Kind.TOKENS]), STORED[Kind.TOKENS])
    assert torch.equal(seen(torch.tensor([[2.5]])), torch.tensor([[2.5]]))


def test_columns_ride_along_in_any_order_mirrored_with_the_samples() -> None:
    split = with_edges()
    rows, flips = torch.tensor([4, 0, 3]), torch.tensor([True, False, True])
    batch = split.take(rows, flips)
    for found, stored in ((batch.samples, split.samples), (batch["edges"], split.others["edges"].stored)):
        expected = seen(stored[rows].clone())
        expected[flips] = expected[flips].flip(-1)
        assert torch.equal(found, expected)
    picked = with_edges(rows=torch.tensor([1, 2, 5])).take(torch.tensor([2, 0]))
    assert torch.equal(picked["edges"], seen(split.others["edges"].stored[[5, 1]].clone()))
    plain = Split(torch.randn(3, 2), others={"wave": Column(torch.ones(3, 1, 4, dtype=torch.int16), Kind.WAVE)})
    assert plain.take(torch.tensor([1]), torch.tensor([True]))["wave"].shape == (1, 1, 4)
    with pytest.raises(UserError, match="the data have no field mask; they have samples, edges"):
        batch["mask"]
    with pytest.raises(UserError, match="column edges has 5 samples, expected 6"):
        Split(bytes_of(6, 1, 4, 4), others={"edges": Column(bytes_of(5, 1, 4, 4), Kind.IMAGE)})


def test_columns_may_lie_on_disk(tmp_path: Path) -> None:
    edges = bytes_of(6, 1, 4, 4, seed=1).numpy()
    np.save(tmp_path / "edges.npy", edges)
    mapped = torch.from_numpy(np.load(tmp_path / "edges.npy", mmap_mode="c"))
    split = Split(bytes_of(6, 1, 4, 4), others={"edges": Column(mapped, Kind.IMAGE)})
    rows = torch.tensor([5, 1, 1])
    assert torch.equal(split.take(rows)["edges"], with_edges().take(rows)["edges"])
    assert split.fingerprint == with_edges().fingerprint


def test_fingerprints_are_of_columns_and_streams_too_wherever_they_lie() -> None:
    alone, paired = Split(bytes_of(6, 1, 4, 4)), with_edges()
    other = Split(bytes_of(6, 1, 4, 4), others={"edges": Column(bytes_of(6, 1, 4, 4, seed=2), Kind.IMAGE)})
    streamed = Split(bytes_of(6, 1, 4, 4), streams={"edges": Split(bytes_of(6, 1, 4, 4, seed=1))})
    assert len({split.fingerprint for split in (alone, paired, other, streamed)}) == 4
    moved = paired.to("meta")
    assert moved.fingerprint == paired.fingerprint and moved.others["edges"].stored.device.type == "meta"
    read = paired._digest
    paired._digest = lambda column: pytest.fail("read again")  # type: ignore[method-assign, return-value]
    assert paired.fingerprint == moved.fingerprint
    paired._digest = read  # type: ignore[method-assign]
    large = paired.to("meta", limit=1)
    assert large.fingerprint == paired.fingerprint and large.others["edges"].stored.device.type == "cpu"


def test_specs_name_all_fields_and_are_kept_with_weights() -> None:
    edges = Field(Kind.IMAGE, (1, 4, 4))
    spec = Spec((1, 4, 4), ("a", "b"), others={"edges": edges})
    labels = Field(Kind.CATEGORY, (), ("a", "b"))
    assert spec.fields == {"samples": Field(Kind.IMAGE, (1, 4, 4)), "labels": labels, "edges": edges}
    again = Spec.from_record(spec.to_record())
    assert again == spec and again.kind is Kind.IMAGE and again.others == spec.others
    assert Spec((2,)).kind is Kind.POINTS and not Spec((3, 8, 8), kind=Kind.CATEGORY).is_image
    with pytest.raises(UserError, match="other fields are edges, expected none of the spec's kinds"):
        Dataset("d", Spec((1, 4, 4)), with_edges(), with_edges())


def cycle_trainer(data: Split, *, unrolled: int = 0) -> Trainer:
    torch.manual_seed(0)
    tricks = []
    if unrolled:
        tricks.append(Unrolled(unrolled))
        tricks[0].name = "unrolled"
    game = CycleGame(Spec((2,), others=data.fields), tricks=tricks)
    loss, players = NonSaturating(), []
    for name, networks in game.sides.items():
        parameters = [p for network in networks for p in network.parameters()]
        tuned = TunedOptimizer(torch.optim.SGD, parameters, {"lr": 0.1}, name)
        terms = [loss.share(name, 1.0), *([CycleConsistency()] if name == "generator" else [])]
        players.append(Player(name, networks, tuned, terms))
    return Trainer(game, players, data, FLOAT32, 5, 20, 3)


def numbered(n: int, *, stream: int) -> Split:
    """Samples that hold their own numbers."""
    points = torch.arange(n, dtype=torch.float32)[:, None].repeat(1, 2)
    other = torch.arange(stream, dtype=torch.float32)[:, None].repeat(1, 2)
    return Split(points, streams={"b": Split(other, torch.zeros(stream, dtype=torch.int64))})


def test_a_stream_is_shown_in_whole_epochs_of_its_own_order() -> None:
    trainer = cycle_trainer(numbered(20, stream=20))
    player = trainer.sides["discriminator"]
    seen_a: list[float] = []
    seen_b: list[float] = []
    for place in range(4):
        player.move_count = place
        batch: Batch = trainer.deal(player, player.terms).batch
        seen_a += batch.samples[:, 0].tolist()
        seen_b += batch["b"][:, 0].tolist()
        assert batch["b.labels"].tolist() == [0] * 5
    assert sorted(seen_a) == sorted(seen_b) == list(range(20)) and seen_a != seen_b
    player.move_count = 2
    assert trainer.deal(player, player.terms).batch["b"][:, 0].tolist() == seen_b[10:15]


def test_unrolling_looks_ahead_with_every_discriminator() -> None:
    """One simulated step of plain gradient descent is what the discriminators themselves would then make."""
    data = numbered(20, stream=20)
    ahead, plain = cycle_trainer(data, unrolled=1), cycle_trainer(data)
    player = ahead.sides["generator"]
    round = ahead.game.tricks["unrolled"].foresee(ahead.deal(player, player.terms), ahead.sides)
    same: Any = plain.deal(plain.sides["generator"], plain.sides["generator"].terms)
    critics = plain.sides["discriminator"]
    for parameter in critics.parameters:
        parameter.requires_grad_(True)
    (term,) = critics.terms
    gradients = torch.autograd.grad(term.value(same), critics.parameters)
    with torch.no_grad():
        for parameter, gradient in zip(critics.parameters, gradients, strict=True):
            parameter -= 0.1 * gradient
    for name in "ab":
        later = plain.game.discriminators[name](same.rounds[name].fakes).logits
        torch.testing.assert_close(round.rounds[name].fake.logits, later)
    ahead.step()
