"""The variational autoencoder: its bound's parts against closed forms, the bound against a known evidence, learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gan_experiments import seeding
from gan_experiments.data.base import Batch, Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.experiment import run
from gan_experiments.game import Deal
from gan_experiments.games.variational import VariationalGame, divergence
from gan_experiments.inference import load_generator
from gan_experiments.logging.records import read_records
from gan_experiments.networks import discretised
from gan_experiments.networks.dcgan import DCGANGenerator
from gan_experiments.networks.discretised import Logistic, logistic_log_mass, normal_log_mass
from gan_experiments.networks.encoder import DCGANEncoder
from gan_experiments.objectives.likelihood import Evidence
from gan_experiments.signals import Interrupted
from test_resume import equal, final, measured, signal_after
from tiny import TINY

Compose = Callable[..., DictConfig]
BYTES = torch.linspace(-1, 1, 256, dtype=torch.float64)


def test_the_divergence_is_the_closed_form_and_the_monte_carlo_mean() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(3, 4), torch.randn(3, 4)
    q = Normal(mean, (0.5 * log_variance).exp())
    found = divergence(mean, log_variance)
    torch.testing.assert_close(found, kl_divergence(q, Normal(0.0, 1.0)).sum(1))
    z = q.sample((100_000,))
    by_chance = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(2).mean(0)
    torch.testing.assert_close(found, by_chance, rtol=0.02, atol=0.02)
    assert divergence(torch.zeros(1, 5), torch.zeros(1, 5)).item() == 0


@pytest.mark.parametrize("centre", [-1.3, -0.5, 0.0, 0.9])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, -1.0, 2.0])
@pytest.mark.parametrize("law", ["logistic", "normal"])
def test_masses_of_bytes_are_differences_of_the_distribution_function(
    law: str, log_scale: float, centre: float
) -> None:
    of, cdf = {
        "logistic": (logistic_log_mass, torch.sigmoid),
        "normal": (normal_log_mass, torch.special.ndtr),
    }[law]
    c, s = torch.tensor(centre, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64)
    mass = of(BYTES, c, s)
    assert mass.exp().sum().item() == pytest.approx(1, abs=1e-12)
    edges = torch.cat([torch.tensor([-torch.inf]).double(), BYTES[:-1] + 1 / 255, torch.tensor([torch.inf]).double()])
    slow = cdf((edges - c) / s.exp()).diff()
    torch.testing.assert_close(mass.exp(), slow, rtol=1e-9, atol=1e-12)
    single = of(BYTES.float(), c.float(), s.float())
    assert single.isfinite().all()
    likely = mass > -50
    torch.testing.assert_close(single[likely].double(), mass[likely], rtol=1e-3, atol=1e-3)


def test_tails_far_from_the_centre_keep_their_slope() -> None:
    """Where differences of distribution functions are 0 in any precision."""
    centre = torch.tensor(1.0, requires_grad=True)
    log_mass = logistic_log_mass(torch.tensor(0.0), centre, torch.tensor(-6.0))
    assert log_mass.item() == pytest.approx(-math.exp(6) + 6 + math.log(2 / 255), abs=1)
    log_mass.backward()
    assert centre.grad is not None and centre.grad.item() == pytest.approx(-math.exp(6), rel=1e-3)


@pytest.mark.parametrize("law", [discretised.Normal, discretised.Logistic])
def test_densities_of_points_integrate_to_one(law: Any) -> None:
    observation = law(Spec((1,)), scale=0.3)
    x = torch.linspace(-8, 8, 4001)[:, None]
    density = observation(torch.full_like(x, 0.4), x).exp().detach()
    assert torch.trapezoid(density, x[:, 0]).item() == pytest.approx(1, abs=1e-4)
    assert ((density * x[:, 0]).sum() / density.sum()).item() == pytest.approx(0.4, abs=1e-4)
    images, row = law(Spec((1, 1, 2)), scale=0.3), torch.tensor([-0.6, 0.8]).view(1, 1, 1, 2)
    pairs = torch.cartesian_prod(BYTES.float(), BYTES.float()).view(-1, 1, 1, 2)  # all images of two bytes
    assert images(row.expand_as(pairs), pairs).exp().sum().item() == pytest.approx(1, abs=1e-3)
    with pytest.raises(UserError, match="scale=0 must be positive"):
        law(Spec((1,)), scale=0)


class LinearEncoder(nn.Module):
    """Means linear in the sample, variances the same everywhere."""

    latent_dim = 2

    def __init__(self, weight: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.variance = nn.Parameter(weight), variance

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.weight.t(), self.variance.log().expand(len(x), -1)


class LinearDecoder(nn.Module):
    """W z."""

    latent_dim = 2

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weight.t()


def deal(samples: Tensor, seed: int = 0) -> Deal:
    return Deal(len(samples), lambda: Batch(samples, None), seed, torch.device("cpu"), player="generator")


def test_the_bound_is_below_a_known_evidence_and_meets_it_at_the_posterior() -> None:
    """x = W z + s e with orthogonal columns in W: evidence N(0, W W' + s^2 I), independent posteriors."""
    s, w = 0.5, torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    evidence = MultivariateNormal(torch.zeros(3), w @ w.t() + s**2 * torch.eye(3))
    torch.manual_seed(0)
    x = evidence.sample((20_000,))
    variance = 1 / (1 + (w**2).sum(0) / s**2)
    posterior = variance[:, None] * w.t() / s**2
    bounds = {}
    for name, encoder in {
        "posterior": LinearEncoder(posterior, variance),
        "shifted": LinearEncoder(posterior + 0.1, variance),
        "wide": LinearEncoder(posterior, 2 * variance),
        "prior": LinearEncoder(0 * posterior, torch.ones(2)),
    }.items():
        game = VariationalGame(
            Spec((3,)),
            lambda spec, e=encoder: e,
            lambda spec: LinearDecoder(w),
            lambda spec: discretised.Normal(spec, s),
        )
        round = game.deal(deal(x))
        with torch.no_grad():
            bounds[name] = (round.reconstruction - round.divergence).mean().item()
    known = evidence.log_prob(x).mean().item()
    assert bounds["posterior"] == pytest.approx(known, abs=0.02)
    gaps = {name: known - bound for name, bound in bounds.items()}
    assert gaps["wide"] == pytest.approx(2 * 0.5 * (2 - 1 - math.log(2)), abs=0.05)  # KL(q || posterior)
    assert gaps["shifted"] > 0.05 and gaps["prior"] > 1


def small(side: int = 8, **changes: Any) -> VariationalGame:
    torch.manual_seed(0)
    sizes = {"encoder": 3, "generator": 3, **changes}
    return VariationalGame(
        Spec((1, side, side)),
        lambda spec: DCGANEncoder(spec, sizes["encoder"], 4),
        lambda spec: DCGANGenerator(spec, sizes["generator"], 4),
        Logistic,
    )


def test_a_round_is_a_function_of_its_deal_and_the_objective_of_its_parts() -> None:
    game = small()
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    first, again, other = game.deal(deal(x)), game.deal(deal(x)), game.deal(deal(x, seed=1))
    assert torch.equal(first.codes, again.codes) and not torch.equal(first.codes, other.codes)
    mean, log_variance = first.posterior
    torch.testing.assert_close(first.codes, mean + (log_variance / 2).exp() * first.epsilon)
    assert not torch.equal(first.epsilon, first.z)
    for beta in (1.0, 3.0):
        share: Any = Evidence(beta).share("generator", 1.0)
        share.check(game)
        torch.testing.assert_close(share(first), (beta * first.divergence - first.reconstruction).mean())
        figures = share.figures(first)
        bound = (first.reconstruction - first.divergence).mean()
        torch.testing.assert_close(figures["elbo"], bound)  # whatever beta is
        assert figures["bits_per_dim"].item() == pytest.approx(-bound.item() / (64 * math.log(2)), rel=1e-5)
    share(first).backward()
    assert all(parameter.grad is not None for parameter in game.parameters())
    with pytest.raises(UserError, match="beta=-1"):
        Evidence(-1)


def test_samples_are_the_decoders_and_latents_normal() -> None:
    game = small().eval()
    z = game.latents(5, torch.Generator().manual_seed(0))
    assert z.shape == (5, 3) and torch.equal(game.sample(z), game.generator(z))
    many = game.latents(20_000, torch.Generator().manual_seed(0))
    assert many.mean().item() == pytest.approx(0, abs=0.02) and many.std().item() == pytest.approx(1, abs=0.02)
    with pytest.raises(UserError, match=r"model.encoder.latent_dim=4 and model.generator.latent_dim=3 must be equal"):
        small(encoder=4)


PATTERNS = torch.randint(0, 2, (8, 1, 8, 8), generator=seeding.generator(0, "patterns")) * 200 + 20


def patterns() -> Dataset:
    """Eight images of two greys, over and over."""
    splits = [PATTERNS[torch.arange(n) % 8].to(torch.uint8) for n in (2000, 400)]
    return Dataset("patterns", Spec((1, 8, 8)), *map(Split, splits))


def unlike(images: Tensor) -> Tensor:
    """In how many pixels (n,) images (n, 1, 8, 8) differ from the nearest pattern, light from dark."""
    return ((images[:, None] > 0) != (PATTERNS > 128)).flatten(2).sum(2).amin(1).float()


TRIAL = (
    "model=vae", "loss=evidence", "metric=none", "extractor=none", "logger=none", "schedule=constant",
    "schedule.images=null", "samples.count=4", "model.generator.latent_dim=8", "model.generator.width=8",
    "model.encoder.width=8", "schedule.generator.optimizer.lr=1e-2", "schedule.ema.half_life=0", "log.every=6400",
)  # fmt: skip


def test_it_learns_says_its_bound_on_held_out_data_and_can_be_loaded(composed: Compose, tmp_path: Path) -> None:
    config = composed(*TRIAL, "schedule.steps=300")
    config.dataset = {"_target_": f"{__name__}.patterns"}
    run(config, tmp_path / "run")
    records = [record for record in read_records(tmp_path / "run" / "metrics.jsonl") if record["kind"] == "train"]
    last = records[-1]["values"]
    assert last["held_out/bits_per_dim"] < 6  # 9 at first
    assert last["likelihood/kl"] > math.log(8)  # codes tell the eight apart
    assert last["held_out/elbo"] == pytest.approx(last["held_out/reconstruction"] - last["held_out/kl"], rel=1e-4)
    assert last["generator/evidence"] == pytest.approx(-last["likelihood/elbo"], rel=1e-4)
    assert not any(name.startswith(("logits/", "discriminator/", "slope/")) for name in last)
    game = load_generator(tmp_path / "run").game.eval()
    assert isinstance(game, VariationalGame)
    with torch.no_grad():
        codes, _ = game.encoder(PATTERNS / 127.5 - 1)
        assert unlike(game.sample(codes)).max() <= 1  # pixels of 64
    assert unlike(load_generator(tmp_path / "run").sample(200)).mean() < 17  # of random images: 25
    assert records[-1]["images"] == 300 * 64


def test_a_stopped_run_continues_bit_for_bit(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TRIAL, "schedule.steps=5", "schedule.ema.half_life=100", "log.every=128")
    config.dataset = {"_target_": f"{__name__}.patterns"}
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        signal_after(2, patch)
        with pytest.raises(Interrupted):
            run(config, tmp_path / "parts")
    run(config, tmp_path / "parts")
    assert equal(final(tmp_path / "whole"), final(tmp_path / "parts")) == []
    assert measured(tmp_path / "whole") == measured(tmp_path / "parts")


REFUSED = {
    "model=vae loss=nonsaturating": (
        "VariationalGame has no discriminator, which loss NonSaturating is for; loss=evidence fits"
    ),
    "model=dcgan loss=evidence": (
        "loss Evidence has nothing for discriminator, whom NoiseGame has; loss=nonsaturating fits"
    ),
    "model=vae loss=likelihood": (
        "generator/likelihood .ExactShare. needs log_likelihood, .* model=autoregressive has it; loss=evidence is for"
    ),
    "model=vae loss=evidence regularizer=[r1]": "no such player: r1 .player discriminator.; the game has generator",
    "model=vae loss=evidence trick=[instance_noise]": "has no discriminator, and so no use for instance_noise",
    "model=vae loss=evidence schedule.order=[discriminator,generator]": "schedule.order=.*once: generator",
}


@pytest.mark.parametrize("lines", REFUSED)
def test_what_needs_a_discriminator_or_has_one_too_many_is_refused(
    lines: str, composed: Compose, tmp_path: Path
) -> None:
    base = [line for line in TINY if not line.startswith(("model", "dataset", "metric"))]
    with pytest.raises(UserError, match=REFUSED[lines]) as error:
        run(composed(*base, *lines.split(), "metric=none"), tmp_path / "run")
    assert "\n" not in str(error.value)


def test_slopes_of_a_discriminator_that_is_not_there() -> None:
    round = small().deal(replace(deal(torch.zeros(2, 1, 8, 8)), watches=frozenset({"reals"})))
    with pytest.raises(UserError, match="VariationalGame has no discriminator"):
        round.slope("reals")
