"""The runs of a multirun: what became of each, and which of them differ by nothing but their seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, final

from gan_experiments.analysis import naming
from gan_experiments.analysis.results import PROVENANCE, Result, read_scores
from gan_experiments.analysis.tables import Summary, number, summarize
from gan_experiments.errors import UserError
from gan_experiments.locations import with_places
from gan_experiments.logging.lock import is_held, read_standing
from gan_experiments.logging.score_counts import cautions, spell_counts, unequal
from gan_experiments.logging.status import RunStatus, State
from gan_experiments.rundir import read_config

UNFINISHED = (State.RUNNING, State.STOPPED, State.LOST)

UNKNOWN = "(no configuration)"
"""The label of runs that failed before they had a configuration."""


@final
@dataclass(frozen=True)
class Run:
    """A run's directory, configuration (None where it has none), state, scores by name, and wall-clock seconds.

    `seconds` are those from its first start to its last word, pauses included.
    """

    path: Path
    config: dict[str, Any] | None
    state: State
    reason: str = ""
    images: int = 0
    seconds: float = 0.0
    scores: dict[str, Result] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        """Its seed, where it is known."""
        return None if self.config is None else int(self.config["run"]["seed"])

    @property
    def counts(self) -> bool:
        """Whether its scores belong into a mean: it came to its end, and all of them are finite."""
        return self.state is State.COMPLETED


@final
@dataclass(frozen=True)
class Difference:
    """A setting's mean minus the baseline's, whether that is better, and the seeds' spread, None for a single seed.

    The spread is the standard deviation of the difference between one run of each: sqrt(sd^2 + sd_baseline^2).
    """

    value: float
    better: bool
    spread: float | None

    def __str__(self) -> str:
        """For example `-3.1 better, beyond spread`."""
        if self.value == 0:
            return "equal"
        if self.spread is None:
            size = "one seed"
        else:
            size = f"{'beyond' if abs(self.value) > self.spread else 'within'} spread"
        return f"{self.value:+.3g} {'better' if self.better else 'worse'}, {size}"


@final
@dataclass(frozen=True)
class Setting:
    """Runs that differ by nothing but their seed, their name, and the keys in which they differ from other settings."""

    label: str
    differs: dict[str, Any]
    runs: list[Run]

    @property
    def counted(self) -> list[Run]:
        """The runs whose scores count."""
        return [run for run in self.runs if run.counts]

    def number_of(self, *states: State) -> int:
        """How many of its runs are in one of these states."""
        return sum(run.state in states for run in self.runs)

    def last(self, score: str) -> Summary:
        """The score at the last evaluation, over the runs that count."""
        return summarize([run.scores[score].last for run in self.counted if score in run.scores])

    def best(self, score: str) -> Summary:
        """The score at each run's own best evaluation, over the runs that count."""
        return summarize([run.scores[score].best for run in self.counted if score in run.scores])

    def floor(self, score: str) -> Summary:
        """The score of real data, over the runs that count; no mean where there is no such score."""
        return summarize([run.scores[score].floor for run in self.counted if score in run.scores])

    def spell_floor(self, score: str) -> str:
        """The score of real data, with the number of samples where the scored ones are more or fewer."""
        facts = [run.scores[score].provenance for run in self.counted if score in run.scores]
        counts = sorted({one["n_floor"] for one in facts if unequal(one)})
        said = f" (n {' or '.join(f'{count:,}' for count in counts)})" if counts else ""
        return number(self.floor(score).mean) + said

    def difference(self, baseline: Setting, score: str, higher_is_better: bool) -> Difference | None:
        """This setting's last score against a baseline's; None where either has none."""
        own, other = self.last(score), baseline.last(score)
        if own.mean is None or other.mean is None:
            return None
        value = own.mean - other.mean
        spread = None if own.sd is None or other.sd is None else math.hypot(own.sd, other.sd)
        return Difference(value, value > 0 if higher_is_better else value < 0, spread)


def read_sweep(folder: Path) -> list[Setting]:
    """The settings of all runs in `folder`, in the order of their first runs; UserError where there are no runs."""
    runs = alike([read_run(path) for path in run_folders(folder)])
    known = [run for run in runs if run.config is not None]
    groups: list[tuple[dict[str, Any], list[Run]]] = []
    for run in known:
        own = naming.setting(run.config or {})
        same = next((group for leaves, group in groups if leaves == own), None)
        if same is None:
            groups.append((own, [run]))
        else:
            same.append(run)
    names = naming.label([group[0].config or {} for _, group in groups])
    keys = naming.differing_keys([leaves for leaves, _ in groups])
    settings = [
        Setting(name, {key: leaves[key] for key in keys if key in leaves}, group)
        for name, (leaves, group) in zip(names, groups, strict=True)
    ]
    unknown = [run for run in runs if run.config is None]
    return settings + ([Setting(UNKNOWN, {}, unknown)] if unknown else [])


def alike(runs: Sequence[Run]) -> list[Run]:
    """The runs, of which those scored on equal data by equal networks have the first one's places in their
    configurations: it is content that makes settings differ, not where it lies."""
    firsts: dict[frozenset[tuple[Any, ...]], dict[str, Any]] = {}
    found = []
    for run in runs:
        facts = [result.provenance for result in run.scores.values()]
        content = frozenset((fact["data_fingerprint"], fact["extractor_sha256"]) for fact in facts)
        if run.config is not None and content:
            first = firsts.setdefault(content, run.config)
            run = replace(run, config=with_places(run.config, first))
        found.append(run)
    return found


def run_folders(folder: Path) -> list[Path]:
    """The run directories in `folder` and in its folders (a sweep made in parts), by number where they are numbered."""
    if is_run(folder):
        raise UserError(f"{folder}: is a single run; give the folder of a sweep, which holds one folder a run")
    try:
        found = list(runs_below(folder))
    except OSError as error:
        raise UserError(f"{folder}: can't be read ({error.strerror}); give the folder of a sweep") from error
    if not found:
        raise UserError(f"{folder}: holds no runs; give the run.dir of a gan-train -m, which holds one folder a run")
    return sorted(found, key=place)


def place(path: Path) -> tuple[Path, bool, int, Path]:
    """What run directories are sorted by: their folder, then their number, if they have one."""
    return path.parent, not path.name.isdigit(), int(path.name) if path.name.isdigit() else 0, path


def runs_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Run directories at any depth; a run's own folders are not looked into, nor links to folders that lead there."""
    above = (*above, folder.resolve())
    for path in folder.iterdir():
        if path.is_dir() and is_run(path):
            yield path
        elif path.is_dir() and not path.name.startswith(".") and not (path.is_symlink() and path.resolve() in above):
            yield from runs_below(path, above)


def is_run(path: Path) -> bool:
    """Whether gan-train has been at work there, if only to fail."""
    return (path / "status.json").is_file() or (path / "config.json").is_file()


def read_run(path: Path) -> Run:
    """What the files in a run's directory say; a run whose files can't be understood counts as failed."""
    try:
        config = read_config(path) if (path / "config.json").exists() else None
        if config is not None:
            check_seed(config, path)
        status = read_standing(path)
        scores = read_scores(path / "metrics.jsonl")
    except UserError as error:
        return Run(path, None, State.FAILED, str(error))
    if status is None:
        ended, reason = is_held(path) is False, "has not said anything"
        state = State.LOST if ended else State.RUNNING
        return Run(path, config, state, f"{reason}, and nobody runs here" if ended else f"{reason} yet", scores=scores)
    state, reason = judge(status, scores)
    seconds = (datetime.fromisoformat(status.updated) - datetime.fromisoformat(status.started)).total_seconds()
    return Run(path, config, state, reason, status.images, seconds, scores)


def check_seed(config: dict[str, Any], path: Path) -> None:
    """UserError for a configuration without a seed, which no run of gan-train has."""
    section = config.get("run")
    seed = section.get("seed") if isinstance(section, dict) else None
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(f"{path / 'config.json'}: not the configuration of a run: run.seed is {seed!r:.40}")


def judge(status: RunStatus, scores: dict[str, Result]) -> tuple[State, str]:
    """State and reason; a run at its end without scores, or with one that isn't finite, has failed."""
    if status.state is not State.COMPLETED:
        return status.state, status.reason
    if not scores:
        return State.FAILED, "completed without scores"
    broken = [f"{name} is {result.last}" for name, result in scores.items() if not math.isfinite(result.last)]
    return (State.FAILED, ", ".join(broken)) if broken else (State.COMPLETED, "")


def spell_samples(settings: Sequence[Setting], score: str) -> Iterator[str]:
    """How many samples a score and its floor are of, with a caution where these differ; a line for each such pair."""
    found = [run.scores[score].provenance for s in settings for run in s.runs if score in run.scores]
    for facts in {(one["n_fake"], one["n_floor"]): one for one in found}.values():
        counts = spell_counts(facts)
        yield from cautions({score: facts}) or ([f"{score}: {counts}"] if counts else [])


def main_scores(settings: Sequence[Setting]) -> list[str]:
    """The scores called like a chosen metric when all metrics have one; else all, without those of raw weights."""
    runs = [run for setting in settings for run in setting.runs]
    names = list(dict.fromkeys(name for run in runs for name in run.scores))
    metrics = {name for run in runs if run.config is not None and run.scores for name in run.config["metric"] or {}}
    chosen = [name for name in names if name in metrics]
    return chosen if metrics <= set(names) else [name for name in names if not name.startswith("raw_")]


def mismatches(settings: Sequence[Setting], score: str) -> Iterator[str]:
    """In which respects the counted runs were not scored alike, as `n_fake is 5000 or 10000`."""
    found = [run.scores[score].provenance for s in settings for run in s.counted if score in run.scores]
    same_data = len({provenance["data_fingerprint"] for provenance in found} - {None}) == 1
    for key in PROVENANCE:
        if key == "dataset" and same_data:
            continue  # a folder's name, which may change
        values = sorted({str(provenance[key]) for provenance in found})
        if len(values) > 1:
            yield f"{key} is {' or '.join(value[:12] for value in values)}"
