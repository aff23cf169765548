"""What is kept of real data: reused bit for bit, and only for exactly the same facts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from evaluation_bench import DATA, Counting, images, noise, split
from gan_experiments.data.base import Dataset, Split
from gan_experiments.metrics.base import (
    AnyMetric,
)  # fmt: skip
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.kernel import KernelDistance
from gan_experiments.metrics.statistics_cache import StatisticsCache, canonical


def score_with(cache: Path, extractor: Counting, data: Dataset = DATA, seed: int = 0, kid: bool = True) -> list[float]:
    """FID and KID and their floors, and what else the cache was good for."""
    metrics: dict[str, AnyMetric] = {"fid": FrechetDistance()} | ({"kid": KernelDistance(2, 20)} if kid else {})
    made = Evaluator(data, {"one": extractor}, metrics, 50, 32, seed, cache=StatisticsCache(cache))
    return [number for s in made.evaluate(noise, "raw", 0, 0).values() for number in (s.value, s.floor or 0.0)]


def test_reals_are_extracted_once_for_all_runs(tmp_path: Path) -> None:
    """The second time only generated samples go through the network, and not a bit of a score differs."""
    first, second = Counting(), Counting()
    assert score_with(tmp_path, first) == score_with(tmp_path, second)
    assert first.batches == [32] * 7 and second.batches == [32] * 2
    third = Counting()
    score_with(tmp_path, third, kid=False)  # its floors are new, its sums are not: held-out and generated samples
    assert third.batches == [32] * 4


@pytest.mark.parametrize("change", ["weights", "data", "labels", "seed"])
def test_whatever_differs_is_computed_anew(tmp_path: Path, change: str) -> None:
    """Other weights, content, labels or picks never meet what was kept for these."""
    score_with(tmp_path, Counting())
    other = Dataset("noise", DATA.spec, split(80, 7), DATA.held_out)
    renamed = Dataset("noise", DATA.spec, Split(images(80, 0), torch.zeros(80, dtype=torch.int64)), DATA.held_out)
    extractor = Counting(sha256="1") if change == "weights" else Counting()
    data = {"data": other, "labels": renamed}.get(change, DATA)
    fresh = score_with(tmp_path / "elsewhere", Counting(), data, int(change == "seed"))
    assert score_with(tmp_path, extractor, data, int(change == "seed")) == fresh
    assert extractor.batches == [32] * 7


def test_code_and_settings_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ddof or another version of the metrics' code is another file."""
    facts = [
        Evaluator(DATA, {"one": Counting()}, {"fid": FrechetDistance(ddof)}, 50, 32)._floor_facts() for ddof in (0, 1)
    ]
    assert canonical(facts[0]) != canonical(facts[1])
    monkeypatch.setattr("gan_experiments.metrics.reals.code_version", lambda: "other")
    later = Evaluator(DATA, {"one": Counting()}, {"fid": FrechetDistance()}, 50, 32)._floor_facts()
    assert canonical(later) != canonical(facts[1])


@pytest.mark.parametrize("damage", ["cut", "empty", "swapped", "flipped"])
def test_broken_or_misplaced_files_are_made_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a line that names the file; the scores are those of a fresh computation."""
    expected = score_with(tmp_path / "kept", Counting())
    other = Dataset("noise", DATA.spec, split(80, 7), DATA.held_out)
    score_with(tmp_path / "other", Counting(), other)
    (tmp_path / "kept" / ".sums.safetensors.999999999.tmp").write_bytes(b"of a killed process")
    for path, foreign in zip(
        sorted((tmp_path / "kept").glob("[!.]*")), sorted((tmp_path / "other").iterdir()), strict=True
    ):
        content = path.read_bytes()
        flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        damaged = {"cut": content[:-5], "empty": b"", "swapped": foreign.read_bytes(), "flipped": flipped}
        path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert score_with(tmp_path / "kept", Counting()) == expected
    assert caplog.text.count("made anew") == 3 and ("other facts" in caplog.text) == (damage == "swapped")
    names = [path.name for path in (tmp_path / "kept").iterdir()]
    assert len(names) == 3 and not any("tmp" in name for name in names)
