"""Whether runs of different settings differ by more than chance: tests and intervals over their seeds."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from gan_experiments.analysis import naming
from gan_experiments.analysis.significance import (
    ALPHA,
    PermutationTest,
    holm,
    permutation_test,
    seeds_needed,
    smallest_p,
    welch,
)
from gan_experiments.analysis.sweep import UNKNOWN, Run, Setting, alike, is_run, mismatches, read_run, read_sweep
from gan_experiments.errors import UserError


@final
@dataclass(frozen=True)
class Contrast:
    """Setting b against setting a on one score: mean(b) - mean(a) with its interval, and p-values.

    `corrected` is p after Holm's correction for all pairs, `reachable` the least that it could have been. All are None
    where nothing can be told, which `obstacle` then explains; `refused` says that the scores don't compare at all.
    """

    a: Setting
    b: Setting
    higher_is_better: bool
    pairs: int
    obstacle: str = ""
    refused: bool = False
    difference: float | None = None
    interval: tuple[float, float] | None = None
    test: PermutationTest | None = None
    corrected: float | None = None
    reachable: float | None = None

    @property
    def outcome(self) -> str:
        """What b is against a in a word or two: better, worse, no difference shown, can't tell, not comparable."""
        if self.refused:
            return "not comparable"
        if self.difference is None or self.corrected is None or self.reachable is None:
            return "can't tell"
        if self.corrected < ALPHA:
            return "better" if (self.difference > 0) == self.higher_is_better else "worse"
        return "no difference shown" if self.reachable < ALPHA else "can't tell"

    def __str__(self) -> str:
        """For example `B is lower than A by 3.1 (1.2 to 5), p = 0.008: better`."""
        names = f"{self.b.label} against {self.a.label}"
        if self.difference is None or self.interval is None or self.test is None or self.corrected is None:
            return f"{names}: {self.outcome}: {self.obstacle}"
        p = f"p = {self.corrected:.2g}"
        if self.pairs > 1:
            p += f" ({self.test.p:.2g} before Holm's correction for {self.pairs} pairs)"
        return f"{self.spell_difference()}, {p}: {self.outcome}{self.spell_reason()}{self.spell_losses()}"

    def spell_difference(self) -> str:
        """Which is lower or higher, by how much, and the interval of that."""
        assert self.difference is not None and self.interval is not None
        if self.difference == 0:
            return f"{self.b.label} is as {self.a.label} ({self.interval[0]:.3g} to {self.interval[1]:.3g})"
        sign = 1 if self.difference > 0 else -1
        low, high = sorted(sign * end for end in self.interval)
        word = "higher" if sign > 0 else "lower"
        return f"{self.b.label} is {word} than {self.a.label} by {abs(self.difference):.3g} ({low:.3g} to {high:.3g})"

    def spell_reason(self) -> str:
        """Why nothing can be told, where the seeds are too few for any p below 0.05."""
        if self.outcome != "can't tell" or self.reachable is None:
            return ""
        n, m, need = len(self.a.counted), len(self.b.counted), seeds_needed(self.pairs)
        remedy = f"; {need} v {need} can" if need else "; compare fewer pairs"
        return f": {n} v {m} seeds can't reach p < {ALPHA:g} (at best {self.reachable:.2g}){remedy}"

    def spell_losses(self) -> str:
        """The runs that didn't end well: the means are of the others."""
        lost = [f"{len(s.runs) - len(s.counted)} of {len(s.runs)} runs of {s.label}"
                for s in (self.a, self.b) if len(s.counted) < len(s.runs)]  # fmt: skip
        return f", but {' and '.join(lost)} didn't end well" if lost else ""


def contrasts(settings: Sequence[Setting], score: str, baseline: Setting | None = None) -> list[Contrast]:
    """Every pair of settings on a score, or every other one against the baseline, with Holm's correction over them."""
    settings = [setting for setting in settings if not setting.label.endswith(UNKNOWN)]
    couples = (
        list(itertools.combinations(settings, 2))
        if baseline is None
        else [(baseline, other) for other in settings if other is not baseline]
    )
    higher = any(s.scores[score].higher_is_better for x in settings for s in x.runs if score in s.scores)
    obstacles = [obstacle(a, b, score) for a, b in couples]
    able = [couple for couple, (text, _) in zip(couples, obstacles, strict=True) if not text]
    values = [(lasts(a, score), lasts(b, score)) for a, b in able]
    tests = [permutation_test(x, y) for x, y in values]
    corrected = holm([test.p for test in tests])
    reachable = holm([smallest_p(len(x), len(y)) for x, y in values])
    found = iter(
        Contrast(
            a, b, higher, len(able), difference=statistics.fmean(y) - statistics.fmean(x), interval=welch(x, y),
            test=test, corrected=p, reachable=least,
        )
        for (a, b), (x, y), test, p, least in zip(able, values, tests, corrected, reachable, strict=True)
    )  # fmt: skip
    return [
        Contrast(a, b, higher, len(able), obstacle=text, refused=refused) if text else next(found)
        for (a, b), (text, refused) in zip(couples, obstacles, strict=True)
    ]


def obstacle(a: Setting, b: Setting, score: str) -> tuple[str, bool]:
    """Why two settings can't be told apart, empty if they can, and whether their scores don't compare at all."""
    if differing := list(mismatches([a, b], score)):
        return ", ".join(differing), True
    counts = [len(lasts(setting, score)) for setting in (a, b)]
    for setting, count in zip((a, b), counts, strict=True):
        if count == 0:
            return f"no run of {setting.label} ended with a score {score}", False
    if counts == [1, 1]:
        return "one seed each", False
    for setting, count in zip((a, b), counts, strict=True):
        if count == 1:
            return f"one seed of {setting.label}", False
    return "", False


def lasts(setting: Setting, score: str) -> list[float]:
    """The score at the last evaluation of each run that counts."""
    return [run.scores[score].last for run in setting.counted if score in run.scores]


def read_settings(arguments: Sequence[str]) -> list[Setting]:
    """The settings that `PATH` and `LABEL=PATH` name; a path is a run or a folder of runs, equal labels are joined.

    Raises UserError for no path, fewer than two settings, a run given twice, and runs of one label that differ by more
    than their seed or have the same one.
    """
    places = [split_label(argument) for argument in arguments]
    plain = [path.resolve().name for label, path in places if label is None]
    found: dict[str, list[Run]] = {}
    for label, path in places:
        name = label or (path.resolve().name if plain.count(path.resolve().name) == 1 else str(path))
        for setting in read_place(path):
            own = f"{name}: {setting.label}" if len(places) > 1 else setting.label
            found.setdefault(own if setting.label else name, []).extend(setting.runs)
    settings = [Setting(label, {}, runs) for label, runs in found.items()]
    check(settings)
    if sum(not setting.label.endswith(UNKNOWN) for setting in settings) < 2:
        raise UserError(f"{arguments[0]}: all runs are of one setting; give two or more to compare")
    return settings


def split_label(argument: str) -> tuple[str | None, Path]:
    """Label, if there is one, and path; names of files may hold = themselves."""
    label, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        return None, Path(argument)
    if not label:
        raise UserError(f"{argument}: expected LABEL=PATH or PATH")
    return label, Path(path)


def read_place(path: Path) -> Iterator[Setting]:
    """The settings at a path, labelled by what differs between them; the label is empty where there is one only."""
    if is_run(path):
        yield Setting("", {}, [read_run(path)])
        return
    settings = read_sweep(path)
    known = [setting for setting in settings if any(run.config is not None for run in setting.runs)]
    if len(known) <= 1:  # runs that were refused before they had a configuration were meant to be of this setting
        yield Setting("", {}, [run for setting in settings for run in setting.runs])
    else:
        yield from settings


def check(settings: Sequence[Setting]) -> None:
    """Raise UserError unless each setting's runs differ by their seed and nothing else, and no run is there twice."""
    seen: dict[Path, str] = {}
    for setting in settings:
        seeds: dict[int, Run] = {}
        for run in setting.runs:
            place = run.path.resolve()
            if place in seen:
                raise UserError(f"{run.path}: is in {seen[place]} and in {setting.label}; give it once")
            seen[place] = setting.label
            if run.seed is not None and run.seed in seeds:
                raise UserError(
                    f"{setting.label}: seed {run.seed} is there twice ({seeds[run.seed].path}, {run.path}); "
                    "runs of one seed aren't independent, so leave one out"
                )
            if run.seed is not None:
                seeds[run.seed] = run
        leaves = [naming.setting(run.config) for run in alike(setting.runs) if run.config is not None]
        if keys := naming.differing_keys(leaves):
            raise UserError(
                f"{setting.label}: its runs differ in {', '.join(keys)}, not by seed only; label them apart"
            )
