"""Choice of device, precision and the like."""

from __future__ import annotations

import pytest
import torch

from gan_experiments import runtime as machine
from gan_experiments.errors import UserError
from gan_experiments.networks.blocks import normalisation
from gan_experiments.schema import RuntimeConfig

CPU = RuntimeConfig(device="cpu")


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    chosen = machine.choose(CPU, images=True)
    assert (chosen.precision, chosen.channels_last) == ("bfloat16", True)
    assert machine.choose(CPU, images=False).precision == "float32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    chosen = machine.choose(CPU, images=True)
    assert (chosen.precision, chosen.channels_last) == ("float32", False)


def test_explicit_choices_win_and_are_said() -> None:
    config = RuntimeConfig(device="cpu", precision="bfloat16", channels_last=False, threads=1, deterministic=True)
    chosen = machine.choose(config, images=True)
    assert chosen.describe() == ("runtime: cpu (1 threads), bfloat16, slopes of penalties in float32, deterministic")
    assert machine.choose(RuntimeConfig(device="cpu", precision="float16"), True).scaler() is not None
    assert chosen.scaler() is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RuntimeConfig(device="gpu"), "runtime.device=gpu: not a device"),
        (RuntimeConfig(device="cuda:7"), "runtime.device=cuda:7"),
        (RuntimeConfig(device="cpu", precision="int8"), "runtime.precision=int8: use auto, float32"),
    ],
)
def test_what_cant_be_had_is_refused(config: RuntimeConfig, said: str) -> None:
    with pytest.raises(UserError, match=said):
        machine.choose(config, images=True)


def test_process_settings_are_put_back() -> None:
    before = torch.get_num_threads()
    chosen = machine.choose(RuntimeConfig(device="cpu", threads=2, deterministic=True), images=True)
    with machine.applied(chosen):
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_layout_and_autocast() -> None:
    chosen = machine.choose(RuntimeConfig(device="cpu", precision="bfloat16"), images=True)
    images = chosen.layout(torch.zeros(2, 3, 4, 4))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert chosen.layout(torch.zeros(2, 5)).shape == (2, 5)
    net = chosen.place(torch.nn.Conv2d(3, 4, 3))
    with chosen.autocast():
        assert net(images).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["none", "batch", "instance", "layer"])
def test_normalisations_keep_shape(name: str) -> None:
    assert normalisation(name, 4)(torch.randn(2, 4, 3, 3)).shape == (2, 4, 3, 3)
