"""Energies: autoencoder discriminators, EBGAN's and BEGAN's objectives, k and its state, and the pulling-away term."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from contests import P, Q, energies
from gan_experiments.assembly import build_game, build_terms
from gan_experiments.checkpoint import Checkpoints
from gan_experiments.checks import check_needs
from gan_experiments.data.base import Spec
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Verdict
from gan_experiments.networks.autoencoder import Autoencoder, DCGANAutoencoder, MLPAutoencoder
from gan_experiments.objectives.adversarial import Adversarial
from gan_experiments.objectives.energy import BoundaryEquilibrium, EnergyBased, PullingAway
from gan_experiments.schema import typed
from tiny import TINY

Composed = Callable[..., DictConfig]


def ignore(name: str, value: Any) -> None:
    """A report that nobody reads."""


# Autoencoders


class Known(Autoencoder):
    """Reconstructs every sample as zeros; codes are sums."""

    def encode(self, samples: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return samples.flatten(1).sum(1, keepdim=True), (samples,)

    def decode(self, codes: Tensor) -> Tensor:
        return torch.zeros(len(codes), 1, 2, 2)


@pytest.mark.parametrize(("distance", "expected"), [("squared", [30 / 4, 1 / 4]), ("absolute", [10 / 4, 1 / 4])])
def test_energy_is_the_mean_error_over_all_dimensions_of_a_sample(distance: str, expected: list[float]) -> None:
    samples = torch.tensor([[[1.0, -2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, -1.0]]])[:, None]
    verdict = Known(1, distance)(samples)
    assert verdict.heads["energy"].tolist() == pytest.approx(expected)
    assert verdict.logits.tolist() == pytest.approx([-value for value in expected])  # larger is more real
    assert verdict.heads["representation"].tolist() == [[6.0], [-1.0]]


@pytest.mark.parametrize(
    ("network", "shape", "levels"),
    [
        (MLPAutoencoder(Spec((2,)), [7, 9], 3), (2,), [(7,), (9,)]),
        (MLPAutoencoder(Spec((1, 8, 8)), [7], 3), (1, 8, 8), [(7,)]),
        (DCGANAutoencoder(Spec((3, 8, 8)), 3, 4), (3, 8, 8), [(4, 4, 4)]),
        (DCGANAutoencoder(Spec((1, 32, 32)), 3, 4), (1, 32, 32), [(4, 16, 16), (8, 8, 8), (16, 4, 4)]),
    ],
)
def test_shapes_and_where_gradients_go(network: Autoencoder, shape: tuple[int, ...], levels: list[Any]) -> None:
    samples = torch.randn(5, *shape, requires_grad=True)
    verdict = network(samples)
    assert verdict.logits.shape == (5,) and bool((verdict.logits < 0).all())
    assert [tuple(level.shape[1:]) for level in verdict.features] == levels
    assert set(verdict.heads) == set(network.gives) == {"energy", "representation"}
    assert verdict.heads["representation"].shape == (5, 3)
    verdict.heads["energy"].sum().backward()
    assert samples.grad is not None and bool((samples.grad != 0).any())
    assert all(p.grad is not None for p in network.parameters())  # no weights that nothing depends on


@pytest.mark.parametrize("kind", [MLPAutoencoder, DCGANAutoencoder])
def test_autoencoders_learn_to_reconstruct(kind: type[Autoencoder]) -> None:
    torch.manual_seed(0)
    network = kind(Spec((1, 8, 8)), init_std=None)  # type: ignore[call-arg, arg-type]
    samples = torch.rand(16, 1, 1, 1) * torch.ones(16, 1, 8, 8)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    first = network(samples).heads["energy"].mean().item()
    for _ in range(40):
        optimizer.zero_grad()
        energy = network(samples).heads["energy"].mean()
        energy.backward()
        optimizer.step()
    assert energy.item() < 0.1 * first


@pytest.mark.parametrize("kind", [MLPAutoencoder, DCGANAutoencoder])
def test_what_makes_no_autoencoder_is_refused(kind: Any) -> None:
    with pytest.raises(UserError, match=f"{kind.__name__}: distance='cosine': use squared or absolute"):
        kind(Spec((1, 8, 8)), distance="cosine")
    with pytest.raises(UserError, match="code_dim=0"):
        kind(Spec((1, 8, 8)), code_dim=0)
    with pytest.raises(UserError, match="DCGANAutoencoder makes images"):
        DCGANAutoencoder(Spec((2,)))


def test_energy_is_float32_under_autocast() -> None:
    network = MLPAutoencoder(Spec((2,)), [8], 2)
    with torch.autocast("cpu", torch.bfloat16):
        verdict = network(torch.randn(4, 2))
    assert verdict.heads["representation"].dtype == torch.bfloat16
    assert verdict.heads["energy"].dtype == verdict.logits.dtype == torch.float32


# EBGAN


@pytest.mark.parametrize(
    ("margin", "real", "fake", "d", "g"),
    [
        (1, [0.2], [0.3], 0.9, 0.3),
        (1, [0.2], [1.0], 0.2, 1.0),
        (1, [0.2], [1.7], 0.2, 1.7),
        (2, [0.0], [0.0], 2.0, 0.0),
        (1, [0.1, 0.3], [0.5, 2.5], 0.2 + 0.25, 1.5),  # the margin is each sample's own
    ],
)
def test_ebgan_values(margin: float, real: list[float], fake: list[float], d: float, g: float) -> None:
    loss = EnergyBased(margin)
    assert loss.discriminator(energies(real, fake)).item() == pytest.approx(d, abs=1e-6)
    assert loss.generator(energies(real, fake)).item() == pytest.approx(g, abs=1e-6)


def test_ebgan_gradients() -> None:
    real = torch.tensor([0.2, 0.4, 3.0, 0.0], requires_grad=True)
    fake = torch.tensor([0.1, 0.9, 1.1, 5.0], requires_grad=True)
    both = SimpleNamespace(real=Verdict(real, (), {"energy": real}), fake=Verdict(fake, (), {"energy": fake}))
    got = torch.autograd.grad(EnergyBased(1).discriminator(both), (real, fake))
    assert got[0].tolist() == [0.25] * 4
    assert got[1].tolist() == [-0.25, -0.25, 0.0, 0.0]
    assert torch.autograd.grad(EnergyBased(1).generator(both), fake)[0].tolist() == [0.25] * 4


def test_optimal_energy_is_zero_where_data_are_likelier_and_the_margin_elsewhere() -> None:
    """Piecewise linear in each energy, so the minimum is at a corner of [0, m]^3; its value m (1 - TV)."""
    m = 2.0
    loss = EnergyBased(m)
    counts = torch.tensor([10, 6, 4]), torch.tensor([5, 5, 10])
    costs = {
        corner: loss.discriminator(
            energies(*(torch.tensor(corner).repeat_interleave(count).tolist() for count in counts))
        ).item()
        for corner in itertools.product([0.0, m / 2, m, 2 * m], repeat=3)
    }
    best = min(costs, key=costs.__getitem__)
    assert best == tuple((m * (P < Q)).tolist())
    assert costs[best] == pytest.approx(m * (1 - 0.3), abs=1e-6)


def test_ebgan_value_at_equilibrium_is_the_margin() -> None:
    """Zhao et al. 2017, theorem 2: samples like data, one energy everywhere, between 0 and m."""
    for level in (0.0, 0.4, 1.0):
        assert EnergyBased(1).discriminator(energies([level] * 3, [level] * 3)).item() == pytest.approx(1.0)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_margins_that_are_not_positive_are_refused(margin: float) -> None:
    with pytest.raises(UserError, match=f"margin={margin}"):
        EnergyBased(margin)


# BEGAN


def test_began_values_and_first_update() -> None:
    loss, told = BoundaryEquilibrium(diversity=0.5, rate=0.001), {}
    both = energies([0.1, 0.3], [0.05, 0.05])
    assert loss.discriminator(both).item() == pytest.approx(0.2)  # k starts at 0
    assert loss.generator(both).item() == pytest.approx(0.05)
    loss.after_move("discriminator", both, lambda name, value: told.update({name: value.item()}))
    assert told == {
        "loss/began_k": pytest.approx(5e-5, rel=1e-4),
        "loss/began_convergence": pytest.approx(0.25, rel=1e-5),
    }
    assert loss.discriminator(both).item() == pytest.approx(0.2 - 5e-5 * 0.05, abs=1e-8)
    assert loss.generator(both).item() == pytest.approx(0.05)


def test_began_k_moves_after_the_discriminators_moves_only() -> None:
    loss, told = BoundaryEquilibrium(), []
    loss.after_move("generator", energies([1.0], [0.1]), lambda name, value: told.append(name))
    assert loss.k.item() == 0 and not told


def test_began_k_stays_within_zero_and_one_and_seeks_the_ratio() -> None:
    loss = BoundaryEquilibrium(diversity=0.4, rate=0.5)
    for real, fake, expected in ((1.0, 0.9, 0.0), (9.0, 0.1, 1.0), (1.0, 0.4, 1.0), (1.0, 0.6, 0.9)):
        loss.after_move("discriminator", energies([real], [fake]), ignore)
        assert loss.k.item() == pytest.approx(expected, abs=1e-6)


def test_began_convergence_counts_the_imbalance_either_way() -> None:
    for fake, expected in ((0.2, 1.3), (0.8, 1.3), (0.5, 1.0)):
        told: dict[str, float] = {}
        BoundaryEquilibrium().after_move(
            "discriminator", energies([1.0], [fake]), lambda name, value, told=told: told.update({name: value.item()})
        )
        assert told["loss/began_convergence"] == pytest.approx(expected)


def test_began_k_is_no_part_of_the_gradient() -> None:
    loss = BoundaryEquilibrium(rate=0.1)
    energy = torch.tensor([0.5], requires_grad=True)
    both = SimpleNamespace(real=Verdict(energy, (), {"energy": energy}), fake=Verdict(energy, (), {"energy": energy}))
    loss.after_move("discriminator", both, ignore)
    assert not loss.k.requires_grad


def test_began_k_survives_saving_and_loading() -> None:
    first = BoundaryEquilibrium(rate=0.1)
    both = energies([0.8], [0.1])
    first.after_move("discriminator", both, ignore)
    file = io.BytesIO()
    torch.save(Adversarial(first, "discriminator").state_dict(), file)
    file.seek(0)
    second = BoundaryEquilibrium(rate=0.1)
    Adversarial(second, "discriminator").load_state_dict(torch.load(file, weights_only=True))
    Adversarial(second, "generator").load_state_dict(Adversarial(first, "generator").state_dict())
    assert second.k.item() == pytest.approx(0.03)
    assert torch.equal(first.discriminator(both), second.discriminator(both))


def test_a_runs_checkpoint_has_began_k(composed: Composed, tmp_path: Path) -> None:
    lines = [line for line in TINY if line.split("=")[0] not in ("model", "metric")]
    run(composed("model=mlp_autoencoder", "loss=began", "metric=none", "loss.rate=0.1", *lines), tmp_path / "run")
    saved = Checkpoints(tmp_path / "run" / "checkpoints").load_latest()
    assert saved is not None
    k = saved["state"]["players"]["discriminator"]["terms"]["adversarial"]["k"]
    assert 0 <= k.item() <= 1 and math.isfinite(k.item())
    records = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "loss/began_k" in records and "loss/began_convergence" in records


@pytest.mark.parametrize(("given", "said"), [({"diversity": 0}, "diversity=0"), ({"diversity": 1.5}, "diversity=1.5"),
                                             ({"rate": -1}, "rate=-1")])  # fmt: skip
def test_began_refuses_nonsense(given: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        BoundaryEquilibrium(**given)


# The pulling-away term


def pulling(codes: Tensor) -> Tensor:
    round: Any = SimpleNamespace(fake=Verdict(torch.zeros(len(codes)), (), {"representation": codes}))
    return PullingAway()(round)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([[1, 0], [1, 1], [0, 1]], 1 / 3),
        ([[2, 1], [2, 1], [2, 1]], 1),
        ([[2, 0], [-3, 0]], 1),  # opposite codes are no gain: the cosine is squared
        ([[5, 0, 0], [0, 0.1, 0], [0, 0, 3]], 0),
        ([[100, 0], [0.01, 0.01]], 0.5),  # each row by its own norm
    ],
)
def test_pulling_away_on_known_codes(codes: list[list[float]], expected: float) -> None:
    assert pulling(torch.tensor(codes, dtype=torch.float32)).item() == pytest.approx(expected, abs=1e-6)


def test_pulling_away_is_the_double_sum_over_different_samples() -> None:
    torch.manual_seed(0)
    s = torch.randn(5, 3)
    total = sum(
        (torch.dot(s[i], s[j]) / s[i].norm() / s[j].norm()).item() ** 2 for i in range(5) for j in range(5) if i != j
    )
    assert pulling(s).item() == pytest.approx(total / 20, abs=1e-6)


def test_pulling_away_has_finite_slopes_at_dead_codes_and_is_float32() -> None:
    codes = torch.zeros(3, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        value = pulling(codes)
    value.backward()
    assert value.dtype == torch.float32 and codes.grad is not None and bool(codes.grad.isfinite().all())


# What needs an autoencoder says so


@pytest.mark.parametrize(
    ("line", "what", "who"),
    [
        ("loss=ebgan", "energy", "EnergyBased: "),
        ("loss=began", "energy", "BoundaryEquilibrium: "),
        ("regularizer=[pulling_away]", "representation", ""),
    ],
)
def test_an_ordinary_discriminator_is_refused(line: str, what: str, who: str, composed: Composed) -> None:
    settings = typed(composed("model=mlp", line))
    game = build_game(settings, Spec((2,)))
    remedy = f"{who}set model=dcgan_autoencoder .images. or model=mlp_autoencoder"
    with pytest.raises(UserError, match=f"needs {what}, which NoiseGame does not deal.*{remedy}") as error:
        check_needs(game, build_terms(settings)[0])
    assert "\n" not in str(error.value)
    settings = typed(composed("model=mlp_autoencoder", line))
    check_needs(build_game(settings, Spec((2,))), build_terms(settings)[0])


def test_latent_codes_are_no_representations(composed: Composed) -> None:
    sizes = ("model.generator.width=2", "model.generator.hidden=4", "model.discriminator.width=2")
    settings = typed(composed("model=infogan", *sizes, "regularizer=[mutual_information,pulling_away]"))
    with pytest.raises(UserError, match="pulling_away.*needs representation, which InfoGame does not deal"):
        check_needs(build_game(settings, Spec((1, 32, 32))), build_terms(settings)[0])
