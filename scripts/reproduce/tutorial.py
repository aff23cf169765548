"""The DCGAN of the tutorials, written by hand and trained for a given time: what the default run is compared with.

python scripts/reproduce/tutorial.py --seconds 300              prints a JSON object of scores and speed

Networks and loop are here on purpose, as one finds them in tutorials (Radford et al. 2016): batch norm in both
networks, weights from N(0, 0.02), Adam with 2e-4 and beta1 0.5, batches of 64, non-saturating loss, detach(), the last
weights rather than an average. Data, machine settings (device, precision, memory format, threads) and scores are the
project's own, so that only the recipe differs. Tutorials sample with batch statistics, textbooks with running ones:
both are scored, and the better counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_experiments import runtime as machine
from gan_experiments.console import Parser, run_command
from gan_experiments.data.base import Dataset, to_unit
from gan_experiments.data.mnist import fashion10k
from gan_experiments.errors import UserError
from gan_experiments.metrics.base import AnyMetric
from gan_experiments.metrics.classifier_extractor import ClassifierSource
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.inception_score import InceptionScore
from gan_experiments.runtime import Runtime
from gan_experiments.schema import RuntimeConfig

LATENTS = 100


@dataclass(frozen=True)
class Trained:
    """The networks after `images` real images in `seconds` of training."""

    generator: nn.Module
    discriminator: nn.Module
    images: int
    seconds: float


def make_generator(width: int) -> nn.Sequential:
    """Latents (n, 100, 1, 1) to images (n, 1, 32, 32) in [-1, 1]."""
    return nn.Sequential(
        nn.ConvTranspose2d(LATENTS, width * 4, 4, 1, 0, bias=False), nn.BatchNorm2d(width * 4), nn.ReLU(True),
        nn.ConvTranspose2d(width * 4, width * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2), nn.ReLU(True),
        nn.ConvTranspose2d(width * 2, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
        nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def make_discriminator(width: int) -> nn.Sequential:
    """Images (n, 1, 32, 32) to logits (n, 1, 1, 1)."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
        nn.Conv2d(width, width * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2), nn.LeakyReLU(0.2, True),
        nn.Conv2d(width * 2, width * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 4), nn.LeakyReLU(0.2, True),
        nn.Conv2d(width * 4, 1, 4, 1, 0, bias=False),
    )  # fmt: skip


def initialise(module: nn.Module) -> None:
    """Convolutions from N(0, 0.02), batch norm's gains from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def batches(images: Tensor, size: int) -> Iterator[Tensor]:
    """Shuffled full batches (size, c, h, w), epoch after epoch."""
    while True:
        order = torch.randperm(len(images), device=images.device)
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


def loss(logits: Tensor, target: float) -> Tensor:
    """Binary cross-entropy of logits with one target for all."""
    logits = logits.float().flatten()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def train(
    images: Tensor,
    seconds: float,
    runtime: Runtime,
    width: int = 32,
    batch_size: int = 64,
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Train on images (n, 1, 32, 32) in [-1, 1] until `seconds` have passed on `clock`, at least one step."""
    generator, discriminator = make_generator(width).apply(initialise), make_discriminator(width).apply(initialise)
    runtime.place(generator)
    runtime.place(discriminator)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    seen, start = 0, clock()
    for batch in batches(runtime.layout(images), batch_size):
        with runtime.autocast():
            fakes = generator(torch.randn(batch_size, LATENTS, 1, 1, device=runtime.device))
            loss_d = loss(discriminator(runtime.layout(batch)), 1.0) + loss(discriminator(fakes.detach()), 0.0)
        optimizer_d.zero_grad()
        loss_d.backward()  # type: ignore[no-untyped-call]
        optimizer_d.step()
        with runtime.autocast():
            loss_g = loss(discriminator(fakes), 1.0)
        optimizer_g.zero_grad()
        loss_g.backward()  # type: ignore[no-untyped-call]
        optimizer_g.step()
        seen += batch_size
        if clock() - start >= seconds:
            break
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)
    return Trained(generator, discriminator, seen, clock() - start)


def make_evaluator(dataset: Dataset, samples: int, seed: int, runtime: Runtime, cache: str) -> Evaluator:
    """The project's scores as its default run sets them."""
    extractor = ClassifierSource(cache).build(dataset)
    metrics: dict[str, AnyMetric] = {"fid": FrechetDistance(ddof=1), "inception_score": InceptionScore(splits=10)}
    return Evaluator(dataset, {"classifier": extractor}, metrics, samples, 250, seed, runtime.device)


@torch.no_grad()
def sample(generator: nn.Module, runtime: Runtime, n: int, source: torch.Generator) -> Tensor:
    """`n` images (n, 1, 32, 32) from the random generator `source`, in the mode the network is in."""
    z = torch.randn(n, LATENTS, 1, 1, generator=source).to(runtime.device)
    with runtime.autocast():
        images: Tensor = generator(z)
    return images.float()


def score(trained: Trained, evaluator: Evaluator, runtime: Runtime, batch_size: int = 64) -> dict[str, Any]:
    """Scores with running and with batch statistics, and those of the better mode (by fid) with their records."""
    records: dict[str, dict[str, dict[str, object]]] = {}
    # Running statistics first, because batches in training mode move them.
    for mode, training in (("running statistics", False), ("batch statistics", True)):
        trained.generator.train(training)
        draw = partial(sample, trained.generator, runtime)
        scores = evaluator.evaluate(draw, "raw", trained.images, trained.images // batch_size)
        records[mode] = {name: value.to_record() for name, value in scores.items()}
    fids = {mode: float(str(record["fid"]["value"])) for mode, record in records.items()}
    best = min(fids, key=fids.__getitem__)
    return {
        "fid": fids[best],
        "inception_score": records[best]["inception_score"]["value"],
        "mode": best,
        "images": trained.images,
        "seconds": trained.seconds,
        "images_per_second": trained.images / trained.seconds,
        "fid_by_mode": fids,
        "scores": records[best],
    }


def main() -> None:
    """Train, score, print."""
    parser = Parser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="of training, by the wall clock")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data order and latents (%(default)s)")
    parser.add_argument("--samples", type=int, default=10_000, help="generated for the scores (%(default)s)")
    parser.add_argument("--threads", type=int, help="of the CPU (all)")
    parser.add_argument("--data", default="data", help="folder for caches (%(default)s)")
    arguments = parser.parse_args()
    if not arguments.seconds > 0 or (arguments.threads is not None and arguments.threads < 1):
        raise UserError(f"--seconds {arguments.seconds} --threads {arguments.threads}: must be positive")
    runtime = machine.choose(RuntimeConfig(threads=arguments.threads), images=True)
    print(runtime.describe(), file=sys.stderr)
    with machine.applied(runtime):
        dataset = fashion10k()
        torch.manual_seed(arguments.seed)
        trained = train(to_unit(dataset.train.raw(0, len(dataset.train))), arguments.seconds, runtime)
        evaluator = make_evaluator(dataset, arguments.samples, arguments.seed, runtime, arguments.data)
        print(json.dumps(score(trained, evaluator, runtime)))


if __name__ == "__main__":
    run_command(main)
