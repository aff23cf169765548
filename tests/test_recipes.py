"""Recipes, experiments that follow a publication: what their comments promise, and networks of the published sizes.

That every experiment takes two steps is tested in test_configs.py, since it holds for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn.utils import parametrizations

from gan_experiments.assembly import build_game, build_players, build_terms, build_tricks
from gan_experiments.composition import leave_out
from gan_experiments.config import build, build_number, conf_dir
from gan_experiments.curves import as_curve
from gan_experiments.data.base import Spec
from gan_experiments.modules import count_parameters
from gan_experiments.schema import typed
from recipes import EXPERIMENTS, Counts, counts, given_data, header, small, stand_in

RECIPES = [name for name in EXPERIMENTS if "\nParameters: " in header(name)]
PUBLISHED = [count for name in EXPERIMENTS for count in counts(name)]
LIMIT = 10_000_000
"""Parameters of networks that two steps may be taken with as they are."""


NAMES = {
    "acgan_cifar10", "biggan_cifar10", "biggan_diffaugment_cifar10_10pct", "cgan_pd_cifar10", "dcgan64",
    "dcgan_cifar10", "dragan_cifar10", "infogan", "lapgan", "lsgan_cifar10", "progan_folder", "r3gan_cifar10",
    "r3gan_ffhq64", "r3gan_imagenet64",
    "r3gan_stacked_mnist", "reacgan_cifar10", "s3gan", "sagan_cifar10", "sagan_imagenet128",
    "semi_supervised", "sngan_cifar10", "stylegan2_ada_cifar10", "stylegan3_r_folder", "stylegan3_t_folder",
    "transgan_cifar10", "wgan_cifar10", "wgan_gp_cifar10",
}  # fmt: skip
OTHER_SCORES = {"infogan", "r3gan_stacked_mnist", "s3gan", "semi_supervised"}
"""Recipes whose own scores aren't by Inception's features."""


def test_recipes_are_there() -> None:
    assert set(RECIPES) == NAMES  # each says its numbers of parameters


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are built without what only concerns the values of their weights, and looks at them."""

    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", lambda *_: None)


def players(config: DictConfig, spec: Spec, device: str) -> tuple[int, int]:
    """Trainable parameters of generator and discriminator, built on that device."""
    with torch.device(device):
        sides = build_game(typed(config), spec).sides
    generator, discriminator = (
        sum(count_parameters(network) for network in sides.get(name, ())) for name in ("generator", "discriminator")
    )
    return generator, discriminator


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda count: f"{count.experiment}-{count.generator}")
def test_networks_have_the_published_numbers_of_parameters(
    published: Counts, composed: Callable[..., DictConfig], quick: None
) -> None:
    config = composed(f"experiment={published.experiment}", *published.overrides)
    side = config.dataset.get("size", 32)
    labelled = config.dataset.get("labels", True)
    classes = tuple(map(str, range(published.classes))) if labelled else ()
    found = players(config, Spec((published.channels, side, side), classes), "meta")
    assert found == (published.generator, published.discriminator)


@pytest.mark.parametrize("count", PUBLISHED, ids=lambda count: f"{count.experiment}-{count.generator}")
def test_counts_are_of_the_experiments_own_data(
    count: Counts, composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels, and side where networks are built for another than the usual 32."""
    stand_in(monkeypatch)
    dataset = composed(f"experiment={count.experiment}", *count.overrides).dataset
    shape = (
        (dataset.channels, dataset.size, dataset.size)
        if OmegaConf.is_missing(dataset, "path")
        else build(dataset, "dataset").spec.shape
    )
    assert shape == (count.channels, dataset.get("size", 32), dataset.get("size", 32))


def affine(inputs: int, outputs: int) -> int:
    """Parameters of a linear map, or of a convolution, whose inputs are those of one place; with biases."""
    return inputs * outputs + outputs


def dcgan(width: int, kernel: int) -> tuple[int, int]:
    """Figure 1 of Radford et al. 2016, without biases: gains and shifts of batch norm in all levels but one."""
    widths = [8 * width, 4 * width, 2 * width, width]
    convolutions = kernel**2 * sum(a * b for a, b in zip(widths, [*widths[1:], 3], strict=True))
    generator = 100 * 16 * widths[0] + convolutions + 2 * sum(widths)
    discriminator = convolutions + 2 * sum(widths[:3]) + 16 * widths[0]
    return generator, discriminator


def infogan() -> tuple[int, int]:
    """Appendix C.1 of Chen et al. 2016 for 32x32, no biases before batch norm; Q says ten categories, two normals."""
    units = 128 * 8 * 8
    q = 1024 * 128 + 2 * 128 + affine(128, 10 + 2 * 2)
    generator = 74 * 1024 + 2 * 1024 + 1024 * units + 2 * units + 16 * 128 * 64 + 2 * 64 + affine(16 * 64, 1)
    shared = affine(16 * 1, 64) + 16 * 64 * 128 + 2 * 128 + units * 1024 + 2 * 1024
    return generator + q, shared + affine(1024, 1)


def semi_supervised() -> tuple[int, int]:
    """The published code's digits for 32x32; batch norm has gains here, the last layer of G learned lengths."""
    generator = 100 * 500 + 2 * 500 + 500 * 500 + 2 * 500 + affine(500, 1024) + 1024
    sizes = [1024, 1000, 500, 250, 250, 250, 10]
    return generator, sum(affine(a, b) for a, b in zip(sizes, sizes[1:], strict=False))


def r3gan(widths: list[int]) -> tuple[int, int]:
    """Figure 3 of Huang et al. 2024: two blocks a stage, groups of 16 channels, biases in activations alone."""
    blocks = sum(2 * (2 * c * 2 * c + 9 * 16 * 2 * c + 2 * 2 * c) for c in widths)
    changes = sum(a * b for a, b in zip(widths, widths[1:], strict=False) if a != b)
    ends = 16 * widths[0] + 3 * widths[-1]
    return blocks + changes + ends + 64 * widths[0], blocks + changes + ends + widths[0]


def s3gan() -> tuple[int, int]:
    """BigGAN of width 16 (appendix B of Brock et al. 2019) for one channel, with embeddings of 32 and pieces of 20."""
    code, g, d = 32 + 20, 4 * 16, 2 * 16
    up = 2 * 2 * code * g + 2 * affine(9 * g, g) + affine(g, g)
    generator = 10 * 32 + affine(20, 16 * g) + 3 * up + 2 * g + affine(9 * g, 1)
    plain = 2 * affine(9 * d, d)
    first = affine(9, d) + affine(9 * d, d) + affine(1, d)
    heads = affine(d, 1) + 10 * d + affine(d, 10) + affine(d, 4)  # logit, projection, classes, rotations
    return generator, first + plain + affine(d, d) + 2 * plain + heads


BY_HAND = {
    "dcgan64": dcgan(128, 5), "infogan": infogan(), "semi_supervised": semi_supervised(),
    "r3gan_ffhq64": r3gan([768, 768, 768, 768, 384]), "r3gan_stacked_mnist": r3gan([96, 96, 96, 96]),
    "s3gan": s3gan(),
}  # fmt: skip


@pytest.mark.parametrize("experiment", BY_HAND)
def test_counts_by_hand_are_those_of_the_architecture(experiment: str) -> None:
    """By formulas of what the papers draw, since no count is published."""
    assert [(count.generator, count.discriminator) for count in counts(experiment)] == [BY_HAND[experiment]]


def test_the_well_known_smaller_dcgan_is_the_paper_s_with_half_the_width_and_smaller_kernels(
    composed: Callable[..., DictConfig],
) -> None:
    """The counts of facebookresearch/pytorch_GAN_zoo; the header gives the overrides."""
    said = re.search(r"has G ([\d,]+), D ([\d,]+):\n((?:.+\\\n)*.+)$", header("dcgan64"), re.MULTILINE)
    assert said is not None
    config = composed("experiment=dcgan64", *re.findall(r"model\S+", said[3]))
    found = players(config, Spec((3, 64, 64)), "meta")
    assert found == (3_576_704, 2_765_568) == dcgan(64, 4)
    assert found == tuple(int(number.replace(",", "")) for number in said.groups()[:2])


def test_stylegan2s_generator_has_rates_corrected_for_path_lengths_that_weigh_nothing(
    composed: Callable[..., DictConfig], quick: None
) -> None:
    """As the published code's cfg cifar; D's are corrected by the lazy R1 itself."""
    config = typed(composed("experiment=stylegan2_ada_cifar10", *small("stylegan2_ada_cifar10")))
    game = build_game(config, Spec((3, 32, 32), tuple("abc")))
    terms, _ = build_terms(config)
    for player in build_players(config, game, terms):
        share = {"generator": 4 / 5, "discriminator": 16 / 17}[player.name]
        (group,) = player.tuned.optimizer.param_groups
        assert group["lr"] == pytest.approx(2.5e-3 * share)
        assert group["betas"] == pytest.approx((0.0, 0.99**share), abs=1e-8)


@pytest.mark.parametrize(
    ("experiment", "init"),
    [("sagan_cifar10", "orthogonal"), ("biggan_diffaugment_cifar10_10pct", "normal"), ("sngan_cifar10", "glorot")],
)
def test_initial_weights_are_the_published_ones(
    experiment: str, init: str, composed: Callable[..., DictConfig]
) -> None:
    model = composed(f"experiment={experiment}").model
    assert (model.generator.init, model.discriminator.init) == (init, init)


def test_dcgan64_is_the_papers(composed: Callable[..., DictConfig]) -> None:
    """Latents, batch and rates of section 4; widths and kernels are in the counts."""
    config = composed("experiment=dcgan64")
    assert (config.model.latent, config.model.generator.latent_dim, config.schedule.batch_size) == ("uniform", 100, 128)
    for player in ("generator", "discriminator"):
        network, optimizer = config.model[player], config.schedule[player].optimizer
        assert (network.norm, network.init_std, network.spectral_norm) == ("batch", 0.02, False)
        assert (optimizer._target_, optimizer.lr, list(optimizer.betas)) == ("torch.optim.Adam", 2e-4, [0.5, 0.999])
    assert (config.model.generator.activation, config.model.discriminator.activation) == ("relu", "leaky_relu")


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if not small(name)])
def test_large_experiments_say_how_they_are_made_small(
    experiment: str, composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two steps of them would take minutes."""
    stand_in(monkeypatch)
    config = given_data(composed(f"experiment={experiment}"), tmp_path)
    spec = build(config.dataset, "dataset").spec
    assert max(players(config, spec, "cpu")) < LIMIT, (
        "write a line `# Small: key=value ...` into the experiment's header"
    )


@pytest.mark.parametrize("experiment", RECIPES)
def test_headers_of_recipes_say_what_was_published(experiment: str) -> None:
    """Source, counts, budget, score and differences, each on a line of its own; what makes it small, where it isn't."""
    text = header(experiment)
    assert re.match(r".*\(.*(19|20)\d\d", text), "the first line names the system and its paper"
    for what in ("Parameters", "Budget", "Differences"):
        assert re.search(rf"^{what}: \S", text, re.MULTILINE), f"no line {what}"
    assert "Published" in text


STEPS = {  # as published; images = steps x moves of D x batch
    "dcgan_cifar10": 200_000, "lsgan_cifar10": 200_000, "wgan_cifar10": 100_000, "wgan_gp_cifar10": 100_000,
    "dragan_cifar10": 100_000, "sngan_cifar10": 100_000, "cgan_pd_cifar10": 100_000, "acgan_cifar10": 100_000,
    "sagan_cifar10": 100_000, "sagan_imagenet128": 1_000_000, "biggan_cifar10": 100_000, "reacgan_cifar10": 100_000,
    "biggan_diffaugment_cifar10_10pct": 125_000, "transgan_cifar10": 500_000, "dcgan64": 34_180, "infogan": 5_000,
}  # fmt: skip


@pytest.mark.parametrize("experiment", STEPS)
def test_lengths_are_the_published_steps(experiment: str, composed: Callable[..., DictConfig]) -> None:
    schedule = composed(f"experiment={experiment}").schedule
    assert schedule.images == STEPS[experiment] * schedule.batch_size * schedule.discriminator.moves
    assert f"{STEPS[experiment]:,} steps ({schedule.images:,} images" in header(experiment).replace("\n", " ")


@pytest.mark.parametrize(
    ("experiment", "decay", "start"),
    [("biggan_cifar10", 0.9999, 1000), ("reacgan_cifar10", 0.9999, 1000), ("progan_folder", 0.999, 0),
     ("biggan_diffaugment_cifar10_10pct", 0.9999, 1000)],
)  # fmt: skip
def test_half_lives_are_the_published_decays(
    experiment: str, decay: float, start: int, composed: Callable[..., DictConfig]
) -> None:
    schedule = composed(f"experiment={experiment}").schedule
    step = schedule.batch_size * schedule.discriminator.moves
    half_life = as_curve(build_number(schedule.ema.half_life, "half_life"))
    assert 0.5 ** (step / half_life((start + 1) * step, schedule.images)) == pytest.approx(decay, abs=1e-7)
    assert math.isclose(half_life(start * step, schedule.images), 0.0 if start else half_life(step, schedule.images))


def test_an_experiment_chooses_conditionings_and_tricks_and_the_command_line_has_the_last_word(
    composed: Callable[..., DictConfig],
) -> None:
    def chosen(*overrides: str) -> tuple[list[str], list[str]]:
        config = composed(*overrides)
        leave_out(config, [Path(conf_dir())], list(overrides))
        assert len(build_tricks(typed(config))) >= len(config.conditioning) - 1  # native only sets values
        return sorted(config.conditioning), sorted(config.trick)

    lean = "experiment=biggan_diffaugment_cifar10_10pct"
    assert chosen(lean) == (["batch_norm", "projection"], ["diffaugment"])
    assert chosen(lean, "~trick.diffaugment") == (["batch_norm", "projection"], [])
    assert chosen(lean, "trick=[top_k]") == (["batch_norm", "projection"], ["diffaugment", "top_k"])
    assert chosen(lean, "conditioning=none") == ([], ["diffaugment"])
    assert chosen("experiment=reacgan_cifar10") == (["data_to_data"], [])
    assert composed(lean).trick.diffaugment.policy == ["translation", "cutout"]
    assert composed(lean, "trick.diffaugment.policy=[color]").trick.diffaugment.policy == ["color"]
    unlabelled = composed("experiment=stylegan2_ada_cifar10", "conditioning=none").model
    assert not unlabelled.generator.conditional and not unlabelled.discriminator.conditional


def test_a_tenth_of_the_data(composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    dataset: Any = build(composed("experiment=biggan_diffaugment_cifar10_10pct").dataset, "dataset")
    assert (len(dataset.train), len(dataset.held_out), dataset.flip) == (20, 60, True)
    assert dataset.train.labels.bincount().tolist() == [2] * 10


@pytest.mark.parametrize("experiment", RECIPES)
def test_scores_are_of_as_many_samples_as_the_published_ones(
    experiment: str, composed: Callable[..., DictConfig]
) -> None:
    said = re.search(r"([\d,]+) samples(?=\s+against\s+the\s+t|\s+against\s+all|, as|\))", header(experiment))
    config = composed(f"experiment={experiment}")
    assert list(config.extractor) == ["inception"] or experiment in OTHER_SCORES
    if said is not None and experiment != "dragan_cifar10":  # whose only score is of other networks and a search
        assert config.evaluation.samples == int(said[1].replace(",", ""))
