"""The machine side of a run: device, precision, memory format, threads, determinism."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.errors import UserError
from gan_experiments.schema import RuntimeConfig

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """Where and how networks run; made by `choose`."""

    device: torch.device
    precision: str
    channels_last: bool
    threads: int
    deterministic: bool
    full_precision_slopes: bool

    @property
    def reduced(self) -> bool:
        """Whether networks run in less than float32."""
        return self.precision != "float32"

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context in which networks and losses of a move are evaluated."""
        if not self.reduced:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, its image weights in the chosen memory format."""
        module = module.to(self.device)
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        return module

    def layout(self, samples: Tensor) -> Tensor:
        """Samples on the device, images in the chosen memory format."""
        if self.channels_last and samples.ndim == 4:
            return samples.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        return samples.to(self.device, non_blocking=True)

    def scaler(self) -> torch.amp.GradScaler | None:
        """A loss scaler for one player in float16, else None; players never share one."""
        return torch.amp.GradScaler(self.device.type) if self.precision == "float16" else None

    def describe(self) -> str:
        """One line that says what was chosen."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{self.threads} threads"
        return (
            f"runtime: {self.device} ({name}), {self.precision}"
            f"{', channels_last' if self.channels_last else ''}"
            f"{', slopes of penalties in float32' if self.reduced and self.full_precision_slopes else ''}"
            f"{', deterministic' if self.deterministic else ''}"
        )

    def facts(self) -> dict[str, str]:
        """What is known of the device: its name, the build of torch, and its CUDA and cuDNN."""
        built: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
        if torch.version.cuda:
            built["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return {"runtime": self.describe(), **{name: str(value) for name, value in built.items() if value is not None}}


def choose(config: RuntimeConfig, images: bool) -> Runtime:
    """The runtime asked for, `auto` fields filled in with what is fastest and safe here; `images`: data are images.

    Raises UserError when the device or precision can't be had.
    """
    device = _device(config.device)
    precision = _precision(config.precision, device, images)
    channels_last = precision != "float32" and images if config.channels_last is None else config.channels_last
    threads = config.threads if config.threads is not None else _cores()
    return Runtime(device, precision, channels_last, threads, config.deterministic, config.penalties == "float32")


@contextlib.contextmanager
def applied(runtime: Runtime) -> Iterator[None]:
    """Set the process's threads and determinism for the run, and put them back for the next job of a sweep."""
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
    torch.set_num_threads(runtime.threads)
    torch.set_flush_denormal(True)  # denormal activations slow CPUs tenfold, and mean nothing here
    torch.backends.cudnn.benchmark = not runtime.deterministic
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(before[1])
        torch.backends.cudnn.benchmark = before[2]


def seed_networks(seed: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and of `device`, from which layers such as dropout draw."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _cores() -> int:
    """Physical cores this process may use: hyper-threads don't help matrix units."""
    allowed = len(os.sched_getaffinity(0)) if os.name == "posix" and "sched_getaffinity" in dir(os) else os.cpu_count()
    return max(1, min(allowed or 1, torch.get_num_threads()))


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"runtime.device={name}: not a device; use auto, cpu, cuda, cuda:1 or mps") from error
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not found.get(device.type, False):
        here = ", ".join(kind for kind, there in found.items() if there)
        raise UserError(f"runtime.device={name}: no such device on this machine; there is {here}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"runtime.device={name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def _precision(name: str, device: torch.device, images: bool) -> str:
    if name == "auto":
        return "bfloat16" if images and native_bfloat16(device) else "float32"
    if name not in DTYPES:
        raise UserError(f"runtime.precision={name}: use auto, {', '.join(DTYPES)}")
    return name


def native_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself rather than emulating them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
    return False
