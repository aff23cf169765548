"""Time of a Fréchet distance from features, beside pytorch-fid's, and the memory that metrics take.

python scripts/reproduce/metric_speed.py                        # 10,000 x 2,048 features a side, both libraries
python scripts/reproduce/metric_speed.py --memory               # peak memory at 50,000 x 2,048

Features are relu of mixed normals, float32. Times are of one process, statistics of both sides included, the smallest
of --repeats (processor time is the fairer on a busy machine); the other library (pip install pytorch-fid) gets the
means and covariances that its users compute, in float64. Memory is that of a process of its own for each metric, beyond
the features themselves and the libraries.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_experiments.analysis.tables import markdown
from gan_experiments.console import Parser, run_command
from gan_experiments.metrics.base import AnyMetric
from gan_experiments.metrics.extractors import Features
from gan_experiments.metrics.fid_infinity import FidInfinity
from gan_experiments.metrics.frechet import FrechetDistance, frechet_distance
from gan_experiments.metrics.kernel import KernelDistance
from gan_experiments.metrics.vendi import VendiScore

Way = tuple[str, Callable[[], float], int]

BATCH = 250
"""Samples shown at a time, as the evaluator does by default."""


def features(n: int, d: int, seed: int, scale: float = 1.0) -> Tensor:
    """Correlated, skewed features (n, d): relu of mixed normals."""
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(99)) / d**0.5
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty(n, d)
    for part in torch.split(rows, 5000):
        part.copy_(torch.relu(torch.randn(len(part), d, generator=generator) @ mixing * scale + 0.3))
    return rows


def score(metric: AnyMetric, real: Tensor, generated: Tensor) -> float:
    """The metric's value, both sides shown in batches."""
    for rows, is_real in ((real, True), (generated, False)):
        for part in torch.split(rows, BATCH):
            metric.update(Features(part), is_real)
    return metric.compute()[0].value


def statistics(real: Tensor, generated: Tensor) -> list[NDArray[np.float64]]:
    """Means and covariances of both sides, as pytorch-fid's command computes them."""
    sides = [rows.double().numpy() for rows in (real, generated)]
    return [part for rows in sides for part in (np.mean(rows, axis=0), np.cov(rows, rowvar=False))]


def theirs(*parts: NDArray[np.float64]) -> float:
    """The distance by pytorch-fid."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    return float(calculate_frechet_distance(*parts))


def timed(compute: Callable[[], float], repeats: int) -> tuple[float, float, float]:
    """The value, and the smallest wall and processor times in seconds."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        value = compute()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return value, min(walls), min(processors)


def compare(n: int, d: int, repeats: int) -> list[list[str]]:
    """Rows of the table of times."""
    real, generated = features(n, d, 0), features(n, d, 1, 1.1)
    parts = statistics(real, generated)
    tensors = [torch.from_numpy(part) for part in parts]
    alone: list[Way] = [
        ("pytorch-fid, from statistics", lambda: theirs(*parts), 1),
        ("ours, from the same", lambda: frechet_distance(*tensors), repeats),
    ]
    whole: list[Way] = [
        ("pytorch-fid, from features", lambda: theirs(*statistics(real, generated)), 1),
        ("ours, from features", lambda: score(FrechetDistance(blocks=0), real, generated), repeats),
        ("with its interval", lambda: score(FrechetDistance(), real, generated), repeats),
        ("products in float64", lambda: score(FrechetDistance(blocks=0, float32_from=d + 1), real, generated), repeats),
    ]
    return beside(alone) + beside(whole)


def beside(ways: list[Way]) -> list[list[str]]:
    """A row for each way, compared with the first."""
    results = [(name, *timed(compute, count)) for name, compute, count in ways]
    _, value, wall, processor = results[0]
    return [
        [name, f"{v:.9f}", f"{v / value - 1:.1e}", f"{w:.2f}", f"{p:.2f}", f"{wall / w:.1f}", f"{processor / p:.1f}"]
        for name, v, w, p in results
    ]


def metrics(n: int) -> dict[str, Callable[[], AnyMetric]]:
    """The metrics whose memory is measured."""
    from gan_experiments.metrics.precision_recall import ImprovedPrecisionRecall

    return {
        "fid": FrechetDistance,
        "kid": lambda: KernelDistance(subset_size=min(1000, n)),
        "precision_recall": ImprovedPrecisionRecall,
        "vendi": VendiScore,
        "fid_infinity": FidInfinity,
    }


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)


def measure(name: str, n: int, d: int) -> dict[str, float]:
    """MiB beyond the features and seconds of one metric, in this process."""
    real, generated = features(n, d, 0), features(n, d, 1, 1.1)
    before, start = peak(), time.perf_counter()
    value = score(metrics(n)[name](), real, generated)
    return {"value": value, "mib": peak() - before, "seconds": time.perf_counter() - start}


def memory(names: list[str], n: int, d: int) -> list[list[str]]:
    """Rows of the table of memory, each metric in a process of its own."""
    rows = []
    for name in names:
        command = [sys.executable, str(Path(__file__)), "--measure", name, "--samples", str(n), "--features", str(d)]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        rows.append([name, f"{answer['value']:.6f}", f"{answer['mib']:.0f}", f"{answer['seconds']:.1f}"])
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Print one of the two tables."""
    parser = Parser(description=__doc__)
    parser.add_argument("--samples", type=int, help="a side; default 10,000, with --memory 50,000")
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", nargs="*", metavar="METRIC", help="peak memory of these metrics; default: all")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    n, d = options.samples or (10_000 if options.memory is None else 50_000), options.features
    if options.measure:
        print(json.dumps(measure(options.measure, n, d)))
    elif options.memory is not None:
        print(f"{n:,} x {d:,} features a side: {2 * n * d * 4 / 2**20:.0f} MiB\n")
        header = ["metric", "value", "MiB beyond the features", "seconds"]
        print(markdown(header, memory(options.memory or list(metrics(n)), n, d)))
    else:
        print(f"{n:,} x {d:,} features a side, {torch.get_num_threads()} threads\n")
        header = ["way", "value", "difference", "seconds", "of processor", "times as fast", "by processor time"]
        print(markdown(header, compare(n, d, options.repeats)))


if __name__ == "__main__":
    run_command(main)
