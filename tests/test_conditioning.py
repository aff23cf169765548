"""Classes told to networks: layers against slow formulas, the game's classes, each pair of conditionings, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn.functional import batch_norm
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from gan_experiments import runtime as machine
from gan_experiments import seeding
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.composition import check_tricks
from gan_experiments.config import build, conf_dir
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.game import Deal
from gan_experiments.games.noise import NoiseGame
from gan_experiments.modules import count_parameters
from gan_experiments.networks.biggan import BigGANGenerator
from gan_experiments.networks.biggan_deep import BigGANDeepGenerator
from gan_experiments.networks.conditional import ConditionalBatchNorm, LabelMaps, Projection
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.equalised import EqualLinear
from gan_experiments.networks.fastgan import FastGANGenerator
from gan_experiments.networks.heads import widened
from gan_experiments.networks.informed import Informed, informing
from gan_experiments.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_experiments.networks.resnet import ResNetGenerator
from gan_experiments.networks.stylegan import StyleGANGenerator
from gan_experiments.networks.stylegan2 import StyleGAN2Generator
from gan_experiments.networks.stylegan3 import StyleGAN3Generator
from gan_experiments.sampling import by_class, draw
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer
from gan_experiments.tricks.conditioning import ConditionalNorm, JoinedMaps, OneHot, Planes, ProjectionHead
from given import FLOAT32, named
from trick_bench import compose_plainly

FOLDER = Path(conf_dir()) / "conditioning"
SPEC = Spec((1, 8, 8), tuple("abc"), (0.5, 0.0, 0.5))
FOR_GENERATOR = ("one_hot", "label_maps", "batch_norm")
FOR_DISCRIMINATOR = tuple(
    sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in (*FOR_GENERATOR, "none", "native"))
)


def test_conditional_batch_norm_starts_as_batch_norm_and_has_a_gain_and_a_shift_a_class() -> None:
    plain = nn.BatchNorm2d(4)
    layer, x, classes = ConditionalBatchNorm(plain, 3), torch.randn(6, 4, 2, 2), torch.tensor([0, 1, 2, 2, 1, 0])
    with informing(layer, classes):
        assert torch.allclose(layer(x), plain(x), atol=1e-6)
        assert torch.allclose(layer.norm.running_var, plain.running_var)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.gain.normal_()
        layer.shift.normal_()
    with informing(layer, classes):
        result = layer(x)
    normalised = batch_norm(x, None, None, training=True)
    for row in range(6):
        for channel in range(4):
            y = int(classes[row])
            expected = layer.gain[y, channel] * normalised[row, channel] + layer.shift[y, channel]
            assert torch.allclose(result[row, channel], expected, atol=1e-5)


def test_projection_adds_the_inner_product() -> None:
    logit = nn.Linear(5, 1)
    layer, h, classes = Projection(logit, 3), torch.randn(4, 5), torch.tensor([2, 0, 1, 2])
    with informing(layer, classes):
        result = layer(h)
    table = layer.vectors.table.weight
    for row, y in enumerate(classes):
        assert torch.allclose(result[row], logit(h[row]) + table[:, y] @ h[row], atol=1e-6)


def test_label_maps_begin_close_to_the_identity() -> None:
    torch.manual_seed(0)
    layer, h = LabelMaps(4, 3, 3, 2), torch.randn(2, 4, 3, 3)
    with informing(layer, torch.tensor([0, 2])):
        near = layer(h)
    assert 0 < (near - h).abs().max() < 0.2


def test_who_is_not_told_says_so_in_one_line() -> None:
    layer = ConditionalBatchNorm(nn.BatchNorm1d(2), 3)
    with pytest.raises(UserError, match="ConditionalBatchNorm needs the classes"):
        layer(torch.randn(4, 2))


def game() -> NoiseGame:
    tricks = [ConditionalNorm(), ProjectionHead()]
    tricks[0].name, tricks[1].name = "batch_norm", "projection"
    torch.manual_seed(0)
    return NoiseGame(
        SPEC, partial(DCGANGenerator, latent_dim=3, width=4), partial(DCGANDiscriminator, width=4), tricks=tricks
    )


def test_classes_are_asked_for_as_often_as_the_data_have_them() -> None:
    asked = game().ask(4000, seeding.generator(0, "a"))
    assert asked is not None
    counts = asked.bincount(minlength=3)
    assert counts[1] == 0 and abs(int(counts[0]) - 2000) < 150
    data = Dataset(
        "uneven", Spec((1,), tuple("ab")), *(Split(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1])) for _ in range(2))
    )
    assert data.spec.frequencies == (0.75, 0.25)


def test_samples_are_of_the_classes_asked_for_and_repeat() -> None:
    own, runtime = game(), FLOAT32
    with torch.no_grad():
        for part in own.generator.modules():
            if isinstance(part, ConditionalBatchNorm):
                part.shift[2] += 3
    first = draw(own, 8, seeding.generator(3, "z"), runtime)
    again = draw(own, 8, seeding.generator(3, "z"), runtime)
    assert first.labels is not None and torch.equal(first.samples, again.samples)
    chosen = draw(own, 8, seeding.generator(3, "z"), runtime, torch.full((8,), 2))
    same = first.labels == 2
    assert torch.allclose(first.samples[same], chosen.samples[same], atol=1e-6)
    assert not torch.allclose(first.samples[~same], chosen.samples[~same], atol=1e-2)
    assert by_class(own, 7) is not None and by_class(own, 7).tolist() == [0, 0, 0, 1, 1, 2, 2]  # type: ignore[union-attr]


def test_each_sample_set_is_judged_with_its_own_classes() -> None:
    own = game()
    labels = torch.tensor([0, 2, 0, 2])
    images = torch.zeros(4, 1, 8, 8)

    def fetch() -> tuple[torch.Tensor, torch.Tensor]:
        return images, labels

    from gan_experiments.data.base import Batch

    round = own.deal(Deal(4, lambda: Batch(*fetch()), 5, torch.device("cpu")))
    heard = []
    own.discriminator.register_forward_pre_hook(
        lambda module, inputs: heard.append(next(m for m in module.modules() if isinstance(m, Informed)).classes)
    )
    _ = round.real, round.fake, round.slope("interpolates")
    assert torch.equal(heard[0], labels) and torch.equal(heard[1], round.asked) and torch.equal(heard[2], labels)
    assert not torch.equal(round.asked, labels) or len(set(round.asked.tolist())) > 1
    round.judge(images, "reals", torch.tensor([2, 2, 2, 2]))
    assert heard[3].tolist() == [2, 2, 2, 2]


def test_one_hot_and_planes_are_wider_first_layers() -> None:
    one_hot, planes = OneHot(), Planes()
    one_hot.name, planes.name = "one_hot", "planes"
    own = NoiseGame(
        Spec((2,), tuple("abc")),
        partial(MLPGenerator, latent_dim=4, hidden=[5]), partial(MLPDiscriminator, hidden=[6]),
        tricks=[one_hot, planes],
    )  # fmt: skip
    plain = NoiseGame(
        Spec((2,)), partial(MLPGenerator, latent_dim=4, hidden=[5]), partial(MLPDiscriminator, hidden=[6])
    )
    assert count_parameters(own.generator) - count_parameters(plain.generator) == 3 * 5
    assert count_parameters(own.discriminator) - count_parameters(plain.discriminator) == 3 * 6
    z = torch.randn(2, 4)
    assert not torch.equal(own.sample(z, torch.tensor([0, 0])), own.sample(z, torch.tensor([1, 1])))
    assert own.latents(5, seeding.generator(0, "z")).shape == (5, 4)


WAYS = {"one_hot": OneHot, "label_maps": JoinedMaps, "batch_norm": ConditionalNorm}


def conditioned(make: Any, names: Sequence[str], spec: Spec = SPEC) -> NoiseGame:
    """A game whose generator is told classes in these ways, in this order."""
    tricks: list[Any] = [named(WAYS[name](), name) for name in names]  # type: ignore[arg-type]
    torch.manual_seed(0)
    return NoiseGame(spec, make, partial(DCGANDiscriminator, width=4), [*tricks, named(ProjectionHead(), "projection")])  # type: ignore[arg-type, list-item]


@pytest.mark.parametrize(
    ("make", "names", "norms"),
    [
        (partial(ResNetGenerator, latent_dim=3, width=2), ("one_hot", "batch_norm"), 2),
        (partial(ResNetGenerator, latent_dim=3, width=2), ("one_hot", "label_maps", "batch_norm"), 2),
        (partial(DCGANGenerator, latent_dim=3, width=4), ("one_hot", "label_maps", "batch_norm"), 1),
        (partial(MLPGenerator, latent_dim=3, hidden=[4, 4], batch_norm=True), ("one_hot", "batch_norm"), 2),
    ],
)
def test_the_order_of_conditionings_changes_nothing(make: Any, names: tuple[str, ...], norms: int) -> None:
    first, *others = (conditioned(make, order) for order in permutations(names))
    assert sum(isinstance(part, ConditionalBatchNorm) for part in first.generator.modules()) == norms
    for other in others:
        assert count_parameters(other) == count_parameters(first)
        ours, theirs = first.state_dict(), other.state_dict()
        assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_table_of_classes_is_not_taken_for_a_map_of_latents() -> None:
    with pytest.raises(UserError, match="first linear map, which FastGANGenerator has not"):
        conditioned(partial(FastGANGenerator, latent_dim=3, width=2), ["label_maps", "one_hot"])


STYLED: Any = {"latent_dim": 3, "style_dim": 3, "mapping_layers": 1, "channel_max": 4}


@pytest.mark.parametrize(
    "make",
    [
        partial(BigGANGenerator, width=2),
        partial(BigGANDeepGenerator, width=2, latent_dim=4),
        partial(StyleGANGenerator, **STYLED),
        partial(StyleGAN2Generator, **STYLED),
        partial(StyleGAN3Generator, depth=4, margin=4, **STYLED),
    ],
)
def test_one_hot_latents_are_refused_where_networks_have_their_own_way(make: Any) -> None:
    with pytest.raises(UserError, match=r"^conditioning one_hot .*conditioning=\[native\].*conditional=true") as error:
        conditioned(make, ["one_hot"])
    assert "\n" not in str(error.value) and "NoiseGame" not in str(error.value)


def test_maps_that_can_not_be_joined_have_a_remedy_that_fits() -> None:
    with pytest.raises(UserError, match=r"StyleGAN3Generator has no feature maps.*conditioning=\[native\]$"):
        conditioned(partial(StyleGAN3Generator, depth=4, margin=4, **STYLED), ["label_maps"])
    with pytest.raises(UserError, match=r"MLPGenerator has no feature maps.*conditioning=\[one_hot,...\]$"):
        conditioned(partial(MLPGenerator, latent_dim=3, hidden=[4]), ["label_maps"])


def images() -> Dataset:
    """Labelled images."""
    random = seeding.generator(0, "images")
    parts = [
        Split(torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=random), torch.arange(n) % 3)
        for n in (60, 30)
    ]
    return Dataset("images", Spec((1, 8, 8), tuple("abc")), *parts)


def trainer_of(*overrides: str) -> Trainer:
    """A run on labelled images, built as the command line does."""
    small = ("model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "model.generator.latent_dim=3")
    config, choices = compose_plainly(*small, *overrides)
    node = OmegaConf.create({**config, "dataset": {"_target_": f"{__name__}.images"}})
    check_tricks(node, [Path(conf_dir())], choices)
    settings = typed(node)
    data = build(settings.dataset, "dataset")
    runtime = machine.choose(settings.runtime, data.spec.is_image)
    return build_trainer(settings, build_game(settings, data.spec), data, runtime)[0]


@pytest.mark.parametrize(("first", "second"), list(product(FOR_GENERATOR, FOR_DISCRIMINATOR)))
def test_every_pair_of_conditionings_trains_both_players(first: str, second: str) -> None:
    trainer = trainer_of(f"conditioning=[{first},{second}]", "runtime.threads=1")
    before = {name: value.clone() for name, value in trainer.game.named_parameters()}
    for _ in range(2):
        trainer.step()
    trainer.meter.check()
    still = [name for name, value in trainer.game.named_parameters() if torch.equal(before[name], value)]
    assert not still


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["conditioning=[batch_norm]"], "generator is told classes and the discriminator is not.*projection"),
        (["conditioning=[planes]"], "discriminator is told classes and the generator is not.*batch_norm"),
        (["conditioning=[projection,auxiliary_classifier,one_hot]"], "uses classes already.*choose one"),
        (["conditioning=[one_hot,projection]", "trick=[packing]"], "packing packs"),
        (["conditioning=[one_hot,projection]", "trick=[replay]"], "replay.*other classes"),
        (["conditioning=[one_hot,projection]", "trick=[virtual_batch_norm]",
          "trick.virtual_batch_norm.players=[generator]"],
         "virtual_batch_norm.*no classes"),
        (["conditioning=[batch_norm,projection]", "model.generator.norm=none"], "no batch norm to replace"),
        (["conditioning=[native]"], "native sets model.generator.conditional, which model=dcgan does not have"),
        (["regularizer=[feature_matching]", "conditioning=[label_maps,projection]", "conditioning.label_maps.maps=0"],
         "maps=0"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        trainer_of(*overrides)
    assert "\n" not in str(error.value)


def test_data_without_classes_are_refused() -> None:
    norm = ConditionalNorm()
    norm.name = "batch_norm"
    with pytest.raises(UserError, match="needs labelled data of two or more classes"):
        NoiseGame(Spec((1, 8, 8)), partial(DCGANGenerator, width=4), DCGANDiscriminator, tricks=[norm])


def test_wider_maps_keep_their_kind_and_what_they_did() -> None:
    torch.manual_seed(0)
    for layer in (nn.Linear(4, 2), EqualLinear(4, 2, gain=3.0), spectral_norm(nn.Linear(4, 2))):
        x = torch.randn(5, 4)
        layer.eval()
        before = layer(x)
        wider = widened(layer, 2).eval()
        assert wider.in_features == 6 and is_parametrized(wider, "weight") == is_parametrized(layer, "weight")
        ratio = (layer(x) / wider(torch.cat([x, torch.zeros(5, 2)], 1))).detach()
        assert torch.allclose(layer(x), before)  # the original is left as it was
        if isinstance(layer, EqualLinear):
            assert isinstance(wider, EqualLinear) and torch.allclose(ratio, torch.tensor(6 / 4) ** 0.5)
        elif not is_parametrized(layer, "weight"):
            assert torch.allclose(ratio, torch.ones(5, 2), atol=1e-5)
