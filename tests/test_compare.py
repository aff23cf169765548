"""Whether settings differ: the tests behind the verdicts, the verdicts, and compare.py as a command."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from gan_experiments.analysis import significance
from gan_experiments.analysis.comparison import Contrast, contrasts, read_settings
from gan_experiments.errors import UserError
from gan_experiments.logging.status import State
from gan_experiments.metrics import intervals
from run_folders import config, fid, put, record

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import compare  # noqa: E402

UNEQUAL = ([3.1, 4.0, 2.2, 5.9, 3.3], [4.8, 6.1, 5.2])


def numbers(count: int, seed: int, shift: float = 0.0) -> list[float]:
    values: list[float] = (torch.randn(count, generator=torch.Generator().manual_seed(seed)) + shift).tolist()
    return values


# the statistics


@pytest.mark.parametrize("degrees", [1, 1.05, 1.37, 2, 2.5, 3.7, 8, 29.4, 300])
def test_quantiles_of_student(degrees: float) -> None:
    assert significance.student_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-6)
    if degrees == int(degrees):
        assert intervals.student(int(degrees)) == pytest.approx(significance.student_quantile(degrees), rel=1e-4)


@pytest.mark.parametrize(("a", "b"), [UNEQUAL, ([1.0, 2.0], [5.0, 5.1]), (numbers(7, 0), numbers(9, 1, 1.0))])
def test_welchs_interval(a: list[float], b: list[float]) -> None:
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert significance.welch(a, b) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_welchs_interval_without_spread() -> None:
    assert significance.welch([1.0, 1.0], [3.0, 3.0]) == (2.0, 2.0)


def mean_difference(x: Sequence[float], y: Sequence[float], axis: int) -> Any:
    import numpy as np

    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        UNEQUAL,
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        ([0.1, 0.7, 0.2], [0.3, 0.3, 0.3, 0.1]),
        (numbers(5, 2), numbers(5, 3, 1.5)),
        ([1e8 + 1, 1e8 + 2, 1e8 + 3], [1e8 + 4, 1e8 + 5, 1e8 + 6]),
    ],
)
def test_the_exact_permutation_test(a: list[float], b: list[float]) -> None:
    expected = stats.permutation_test((a, b), mean_difference, vectorized=True, n_resamples=math.inf)
    found = significance.permutation_test(a, b)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.exact, found.splits) == (True, math.comb(len(a) + len(b), len(a)))


def test_random_permutations_when_there_are_too_many_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = numbers(9, 4), numbers(9, 5, 0.8)
    exact = significance.permutation_test(a, b)
    assert exact.exact and 0.01 < exact.p < 0.5
    monkeypatch.setattr(significance, "EXACT_SPLITS", 40_000)
    found = significance.permutation_test(a, b)
    error = 2 * math.sqrt(exact.p / 2 / 40_000)
    assert not found.exact and found.splits == 40_000 and abs(found.p - exact.p) < 4 * error
    assert found == significance.permutation_test(a, b) != significance.permutation_test(a, b, seed=1)
    # The observed split is one of those counted, so p is never 0.
    far = significance.permutation_test(a, [value + 1e6 for value in b])
    assert far.p == significance.smallest_p(9, 9) == 2 / 40_001


@pytest.mark.parametrize(("n", "m", "p"), [(3, 3, 0.1), (4, 4, 2 / 70), (2, 5, 2 / 21), (2, 2, 1 / 3)])
def test_the_smallest_p_is_that_of_groups_wholly_apart(n: int, m: int, p: float) -> None:
    assert significance.smallest_p(n, m) == pytest.approx(p)
    assert significance.permutation_test(numbers(n, 0), numbers(m, 1, 100)).p == pytest.approx(p)


def test_holms_correction() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.6, 0.5]) == [1.0, 1.0] and significance.holm([]) == []
    assert significance.seeds_needed(1) == 4 and significance.seeds_needed(3) == 5
    assert significance.seeds_needed(10**6) is None


# verdicts


def make(folder: Path, name: str, values: Sequence[float], higher: bool = False, **provenance: Any) -> str:
    """A folder of runs with these last scores, one a seed."""
    for seed, value in enumerate(values):
        history = [{"fid": record(100.0, higher, **provenance)}, {"fid": record(value, higher, **provenance)}]
        put(folder / name / str(seed), config(seed, extra=name), history)
    return str(folder / name)


def only(places: Sequence[str]) -> Contrast:
    (contrast,) = contrasts(read_settings(places), "fid")
    return contrast


FIVE = [10.0, 11.0, 12.0, 13.0, 14.0]


@pytest.mark.parametrize(("higher", "outcome"), [(False, "better"), (True, "worse")])
def test_a_difference_beyond_chance_has_a_direction(higher: bool, outcome: str, tmp_path: Path) -> None:
    places = [make(tmp_path, "A", FIVE, higher), make(tmp_path, "B", [value - 8 for value in FIVE], higher)]
    contrast = only(places)
    # Two groups of five wholly apart: 2 of comb(10, 5) splits; Welch with 8 degrees of freedom and s.e. 1.
    assert contrast.outcome == outcome
    assert str(contrast) == f"B is lower than A by 8 (5.69 to 10.3), p = 0.0079: {outcome}"
    assert str(only(places[::-1])).startswith("A is higher than B by 8 (5.69 to 10.3), p = 0.0079: ")


def test_a_difference_within_chance_is_none_shown(tmp_path: Path) -> None:
    contrast = only([make(tmp_path, "A", FIVE), make(tmp_path, "B", [value - 1 for value in FIVE])])
    assert contrast.outcome == "no difference shown"
    assert str(contrast).startswith("B is lower than A by 1 (-1.31 to 3.31), p = 0.")


def test_three_seeds_each_can_not_tell_however_far_apart(tmp_path: Path) -> None:
    contrast = only([make(tmp_path, "A", [1, 2, 3]), make(tmp_path, "B", [1001, 1002, 1003])])
    assert contrast.outcome == "can't tell" and contrast.test is not None and contrast.test.p == 0.1
    assert str(contrast).endswith("can't tell: 3 v 3 seeds can't reach p < 0.05 (at best 0.1); 4 v 4 can")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (([1.0], [50.0]), "B against A: can't tell: one seed each"),
        (([1.0], [50.0, 51.0]), "B against A: can't tell: one seed of A"),
    ],
)
def test_one_seed_tells_nothing(values: tuple[list[float], list[float]], said: str, tmp_path: Path) -> None:
    contrast = only([make(tmp_path, name, part) for name, part in zip("AB", values, strict=True)])
    assert str(contrast) == said and contrast.difference is None and contrast.test is None


def test_failed_runs_are_counted_and_not_averaged(tmp_path: Path) -> None:
    places = [make(tmp_path, "A", FIVE), make(tmp_path, "B", [value - 8 for value in FIVE])]
    put(tmp_path / "B" / "5", config(5, extra="B"), fid(0.0), State.FAILED, "parameters became NaN")
    put(tmp_path / "B" / "6", None, state=State.FAILED, reason="refused")
    contrast = only(places)
    assert contrast.difference == pytest.approx(-8)
    assert str(contrast).endswith("p = 0.0079: better, but 2 of 7 runs of B didn't end well")
    row = compare.Comparison(places, "fid", None).row(contrast.b)
    assert row[:2] == ["B", "4"] and row[5:8] == ["5", "2", "0"]
    for seed in range(5):
        (tmp_path / "A" / str(seed) / "status.json").unlink()
    assert str(only(places)) == "B against A: can't tell: no run of A ended with a score fid"


def test_scores_of_other_provenance_are_not_compared(tmp_path: Path) -> None:
    places = [make(tmp_path, "A", FIVE), make(tmp_path, "B", [1.0] * 5, n_fake=50)]
    contrast = only(places)
    assert str(contrast) == "B against A: not comparable: n_fake is 10 or 50" and contrast.test is None
    places.append(make(tmp_path, "C", [value - 8 for value in FIVE]))
    assert [c.outcome for c in contrasts(read_settings(places), "fid")] == [
        "not comparable", "better", "not comparable",
    ]  # fmt: skip


def test_several_pairs_are_corrected_together(tmp_path: Path) -> None:
    places = [make(tmp_path, name, [v - shift for v in FIVE]) for name, shift in (("A", 0), ("B", 8), ("C", 9))]
    settings = read_settings(places)
    found = contrasts(settings, "fid")
    assert [(c.a.label, c.b.label) for c in found] == list(itertools.combinations("ABC", 2))
    p = [stats.permutation_test((x, y), mean_difference, n_resamples=math.inf).pvalue
         for x, y in itertools.combinations(([v - s for v in FIVE] for s in (0, 8, 9)), 2)]  # fmt: skip
    assert [c.corrected for c in found] == pytest.approx([3 * p[0], 3 * p[0], p[2]])
    assert f"p = {3 * p[0]:.2g} ({p[0]:.2g} before Holm's correction for 3 pairs): better" in str(found[0])
    against = contrasts(settings, "fid", settings[1])
    assert [(c.a.label, c.b.label) for c in against] == [("B", "A"), ("B", "C")]
    assert against[0].corrected == pytest.approx(2 * p[0])


# which runs


def test_single_runs_of_one_label_are_one_setting(tmp_path: Path) -> None:
    a, b = make(tmp_path, "A", [1, 2]), make(tmp_path, "B", [3, 4])
    settings = read_settings([f"old={a}/0", f"old={a}/1", f"new={b}"])
    assert [(s.label, len(s.runs)) for s in settings] == [("old", 2), ("new", 2)]
    (tmp_path / "x=y").mkdir()
    equals = put(tmp_path / "x=y" / "lr=1", config(0), fid(1.0))
    assert [s.label for s in read_settings([str(equals), f"{b}/1"])] == ["lr=1", "1"]


def test_a_sweep_is_its_settings(tmp_path: Path) -> None:
    for name in "AB":
        make(tmp_path / "sweep", name, [1.0, 2.0])
    put(tmp_path / "sweep" / "9", None, state=State.FAILED, reason="refused")
    settings = read_settings([str(tmp_path / "sweep")])
    assert [s.label for s in settings] == ["extra=A", "extra=B", "(no configuration)"]
    assert [(c.a.label, c.b.label) for c in contrasts(settings, "fid")] == [("extra=A", "extra=B")]
    other = make(tmp_path, "C", [1.0, 2.0])
    assert [s.label for s in read_settings([f"s={tmp_path / 'sweep'}", other])][:2] == ["s: extra=A", "s: extra=B"]


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    a, b = make(tmp_path, "A", [1.0, 2.0]), make(tmp_path, "B", [1.0, 2.0])
    put(tmp_path / "twice" / "0", config(0), fid(1.0))
    put(tmp_path / "twice" / "1", config(0), fid(1.0))
    for places, said in (
        ([a], "all runs are of one setting; give two or more to compare"),
        ([f"x={a}", f"x={b}"], "x: seed 0 is there twice"),
        ([f"x={a}/0", f"x={b}/1"], r"x: its runs differ in extra, not by seed only; label them apart"),
        ([a, f"again={a}/0"], r"A/0: is in A and in again; give it once"),
        ([str(tmp_path / "twice"), a], "twice: seed 0 is there twice"),
        ([a, str(tmp_path / "nowhere")], r"nowhere: can't be read \(No such file or directory\)"),
        ([a, f"={b}"], "expected LABEL=PATH or PATH"),
    ):
        with pytest.raises(UserError, match=said):
            read_settings(places)
    with pytest.raises(UserError, match="--score kid: no run has it; there is fid"):
        compare.Comparison([a, b], "kid", None)
    with pytest.raises(UserError, match="--baseline C: no such setting; there is A; B"):
        compare.Comparison([a, b], None, "C")


# the table, and the command


def test_the_table_has_intervals_over_seeds_and_within_runs(tmp_path: Path) -> None:
    a = make(tmp_path, "A", [1.0, 2.0, 4.5], interval=[0.0, 1.0], interval_from="jackknife")
    comparison = compare.Comparison([a, make(tmp_path, "B", [7.0])], None, None)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in comparison.table().splitlines()]
    expected = stats.t.interval(0.95, 2, 2.5, statistics.stdev([1.0, 2.0, 4.5]) / math.sqrt(3))
    low, high = (f"{value:.4g}" for value in expected)
    assert rows[0][1] == "fid ↓"
    assert rows[2] == ["A", "2.5", f"{low} to {high}", "± 0.5", "4", "3", "0", "0", "1,000"]
    assert rows[3] == ["B", "7", "-", "-", "4", "1", "0", "0", "1,000"]
    runs = comparison.to_record()["settings"][0]["runs"]
    assert runs[0]["interval"] == (0.0, 1.0) and runs[0]["interval_from"] == "jackknife"
    assert "Settings differ in extra." in comparison.notes()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of compare.py."""
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    return compare.main()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "A", FIVE)
    make(tmp_path, "B", [value - 8 for value in FIVE])
    make(tmp_path, "C", FIVE, resize="other")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "A", "new=B", "--score", "fid", "--json", "out.json") == 0
    assert "new is lower than A by 8 (5.69 to 10.3), p = 0.0079: better" in capsys.readouterr().out.splitlines()
    (pair,) = json.loads(Path("out.json").read_text())["pairs"]
    assert (pair["b_minus_a"], pair["outcome"], pair["splits"], pair["exact"]) == (-8, "better", 252, True)
    assert run(monkeypatch, "A", "C") == 1
    assert "C against A: not comparable: resize is none or other" in capsys.readouterr().out
