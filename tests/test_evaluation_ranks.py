"""Evaluation by two processes: they share the work, agree on every score, and keep what one process would keep."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed

from gan_experiments.data.base import Dataset, Spec, Split
from gan_experiments.metrics.base import AnyMetric
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import PixelsSource
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.kernel import KernelDistance
from gan_experiments.metrics.statistics_cache import StatisticsCache


def images(n: int, seed: int) -> Tensor:
    """Random grey images (n, 1, 3, 3)."""
    return torch.randint(0, 256, (n, 1, 3, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def evaluate(batch_size: int, cache: str, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """All scores of noise by one rank, and what it keeps of the reals; KID over subsets that hold everything."""
    data = Dataset("noise", Spec((1, 3, 3)), Split(images(200, 0)), Split(images(90, 1)))
    metrics: dict[str, AnyMetric] = {"fid": FrechetDistance(), "kid": KernelDistance(1, 70)}
    made = Evaluator(
        data, {"pixels": PixelsSource().build(data)}, metrics, 70, batch_size, 5,
        reals=70, cache=StatisticsCache(Path(cache)), rank=rank, world=world,
    )  # fmt: skip
    scores = made.evaluate(lambda n, g: torch.rand(n, 1, 3, 3, generator=g) * 2 - 1, "raw", 0, 0)
    kept = int(metrics["fid"].real.count)
    return {"kept": kept} | {name: [score.value, score.floor, score.n_fake] for name, score in scores.items()}


def worker(rank: int, batch_size: int, cache: str, rendezvous: str) -> None:
    """One of two processes; prints its scores."""
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    first = evaluate(batch_size, cache, rank, 2)
    again = evaluate(batch_size, cache, rank, 2)
    distributed.destroy_process_group()
    print(json.dumps([first, again]))


def together(batch_size: int, cache: Path, rendezvous: Path) -> list[list[dict[str, Any]]]:
    """What two processes print."""
    command = [sys.executable, __file__, str(batch_size), str(cache), str(rendezvous)]
    processes = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    answers = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), answers
    return [json.loads(out.splitlines()[-1]) for out, _ in answers]


@pytest.mark.parametrize("batch_size", [32, 100])
def test_two_ranks_agree_with_one_process(batch_size: int, tmp_path: Path) -> None:
    """Also where one rank has no batch of its own, and also from the cache, of which only one rank takes the sums."""
    alone = evaluate(batch_size, str(tmp_path / "alone"))
    first, second = together(batch_size, tmp_path / "both", tmp_path / "rendezvous")
    assert first[0]["kept"] + second[0]["kept"] == 70 and second[0]["kept"] == (32 if batch_size == 32 else 0)
    assert (first[1]["kept"], second[1]["kept"]) == (70, 0)
    for mine, other in zip(first, second, strict=True):
        for name in ("fid", "kid"):
            assert mine[name] == other[name]
            assert mine[name] == pytest.approx(alone[name], rel=1e-9, abs=1e-6 if name == "kid" else 0)  # float32 sums
    # What two ranks have kept serves one process, and is filed under the same names.
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("alone", "both")]
    assert names[0] == names[1] and len(names[0]) == 3
    (features,) = (name for name in names[0] if name.startswith("features"))
    assert torch.equal(*(load_file(tmp_path / folder / features)["features"] for folder in ("alone", "both")))
    assert evaluate(batch_size, str(tmp_path / "both"))["fid"] == pytest.approx(alone["fid"], rel=1e-9)


if __name__ == "__main__":
    worker(int(sys.argv[4]), int(sys.argv[1]), sys.argv[2], sys.argv[3])
