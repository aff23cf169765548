"""Numbers of samples beside scores and floors: in the run's table, in summaries and comparisons, of evaluate.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evaluation_bench import DATA, Counting, noise
from gan_experiments.analysis.sweep import read_sweep, spell_samples
from gan_experiments.logging.score_counts import cautions, spell_counts
from gan_experiments.logging.score_table import score_table
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.frechet import FrechetDistance
from gan_experiments.metrics.kernel import KernelDistance
from gan_experiments.metrics.vendi import VendiScore
from run_folders import config, put, record

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

UNEQUAL = {"n_fake": 10_000, "n_floor": 1000, "fewer_samples": "higher"}


def test_counts_and_cautions() -> None:
    """Both numbers; a line where they differ, with which way fewer samples alone move which score."""
    records = {
        "fid": {"floor": 2.0, **UNEQUAL},
        "swd": {"floor": 2.0, **UNEQUAL},
        "vendi": {"floor": 2.0, **UNEQUAL, "fewer_samples": "lower"},
        "same": {"floor": 2.0, **UNEQUAL, "n_floor": 10_000},
        "own": {"floor": None, **UNEQUAL, "n_floor": 0},
        "half": {"floor": 0.5, "n_fake": 10_000, "n_floor": 500},
    }
    assert spell_counts(records["fid"]) == "10,000 samples, real data of 1,000"
    assert spell_counts(records["own"]) == "10,000 samples" and spell_counts({}) == ""
    assert cautions(records) == [
        "real data of 1,000 beside 10,000 samples: fewer alone make fid, swd higher; vendi lower",
        "real data of 500 beside 10,000 samples: half: compare with care",
    ]


def test_scores_know_what_fewer_samples_make_of_them() -> None:
    """Of 40 held-out images beside 120 samples; the distance of fewer is higher, the variety lower, KID has no bias."""
    metrics = {"fid": FrechetDistance(), "kid": KernelDistance(2, 20), "vendi": VendiScore()}
    scores = Evaluator(DATA, {"one": Counting()}, metrics, 120, 60).evaluate(noise, "raw", 0, 0)  # type: ignore[arg-type]
    records = {name: score.to_record() for name, score in scores.items()}
    assert {name: one["fewer_samples"] for name, one in records.items()} == {
        "fid": "higher",
        "kid": "",
        "vendi": "lower",
    }
    said = score_table(records, {}, 640)
    assert "scores at 640 images: 120 samples beside 40 held-out real ones" in said
    assert said.endswith("  real data of 40 beside 120 samples: fewer alone make fid higher; vendi lower")
    fewer = Evaluator(DATA, {"one": Counting()}, {"fid": FrechetDistance()}, 40, 40).evaluate(noise, "raw", 0, 0)
    assert "alone" not in score_table({"fid": fewer["fid"].to_record()}, {}, 640)
    assert fewer["fid"].value > scores["fid"].value


def test_summaries_and_comparisons_say_both_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the floor's cell where they differ, and in a line of their own; equal ones in a line only."""
    from compare import Comparison
    from summarize import Report, text_of

    for seed in range(4):
        extra = UNEQUAL if seed < 2 else {"n_fake": 10_000, "n_floor": 10_000}
        folder = tmp_path / ("few" if seed < 2 else "many") / str(seed)
        put(folder, config(seed), [{"fid": record(5.0 + seed, **extra)}])
    few, many = (text_of(Report(tmp_path / name, [], None)) for name in ("few", "many"))
    line = "real data of 1,000 beside 10,000 samples: fewer alone make fid higher"
    assert "4 (n 1,000)" in few and f"- {line}" in few
    assert "(n " not in many and "- fid: 10,000 samples, real data of 10,000" in many
    assert list(spell_samples(read_sweep(tmp_path / "few"), "fid")) == [line]
    comparison = Comparison([f"a={tmp_path / 'few' / '0'}", f"b={tmp_path / 'few' / '1'}"], None, None)
    assert "4 (n 1,000)" in comparison.table() and line in comparison.notes()
