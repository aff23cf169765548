"""A table and a figure of a sweep: runs that differ only by their seed become one row.

python scripts/summarize.py outputs/tricks
python scripts/summarize.py outputs/tricks --baseline none --scores fid kid

Settings are named by what differs between them; rows are sorted by the first score. Written into the sweep's folder:
summary.md, summary.json and summary.png. Reads nothing but the runs' records, so runs may still be under way.
The figure needs matplotlib (the extra `plots`).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.logging.status import State
from gan_experiments.reporting import markdown, number, summarize
from gan_experiments.sweep import Run, Setting, main_scores, mismatches, read_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNFINISHED = (State.RUNNING, State.STOPPED)
PANEL_INCHES, ROW_INCHES, DPI = 4.2, 0.34, 100
DOT, BAR, FLOOR = "#2f6db5", "#111111", "#c0392b"
WIDE_RANGE = 10.0
"""From this ratio of the largest to the smallest value on, a panel's axis is logarithmic."""


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
        if self.spread is None:
            size = "one seed"
        else:
            size = f"{'beyond' if abs(self.value) > self.spread else 'within'} spread"
        return f"{self.value:+.3g} {'better' if self.better else 'worse'}, {size}"


@final
class Report:
    """A sweep's settings, sorted by its first main score, and what is said and drawn of them."""

    def __init__(self, folder: Path, scores: Sequence[str], baseline: str | None) -> None:
        """Read all runs; UserError for a score or a baseline that there isn't."""
        settings = read_sweep(folder)
        there = main_scores(settings)
        every = {name for setting in settings for run in setting.runs for name in run.scores}
        if unknown := [name for name in scores if name not in every]:
            raise UserError(f"--scores {unknown[0]}: no run has it; there is {', '.join(sorted(every)) or 'none'}")
        names = [setting.label for setting in settings]
        if baseline is not None and baseline not in names:
            raise UserError(f"--baseline {baseline}: no such setting; there is {'; '.join(names)}")
        self.scores = list(scores) or there
        self.higher = {name: self.rises(settings, name) for name in self.scores}
        self.settings = sorted(settings, key=self.rank)
        self.baseline = next((setting for setting in settings if setting.label == baseline), None)

    @staticmethod
    def rises(settings: Sequence[Setting], score: str) -> bool:
        """Whether more of a score is better."""
        return any(s.scores[score].higher_is_better for x in settings for s in x.runs if score in s.scores)

    def rank(self, setting: Setting) -> tuple[bool, float]:
        """The best first, those without the first score last."""
        mean = setting.last(self.scores[0]).mean if self.scores else None
        return mean is None, 0.0 if mean is None else (-mean if self.higher[self.scores[0]] else mean)

    def difference(self, setting: Setting, score: str) -> Difference | None:
        """The setting's score against the baseline's; None for the baseline itself, and where either is missing."""
        if self.baseline is None or setting is self.baseline:
            return None
        own, other = setting.last(score), self.baseline.last(score)
        if own.mean is None or other.mean is None:
            return None
        value = own.mean - other.mean
        spread = None if own.sd is None or other.sd is None else math.hypot(own.sd, other.sd)
        return Difference(value, value > 0 if self.higher[score] else value < 0, spread)

    def table(self) -> str:
        """A row a setting: each score's last and best value and floor, numbers of runs, images and seconds."""
        header = ["setting"]
        for name in self.scores:
            arrow = "↑" if self.higher[name] else "↓"
            header += [f"{name} {arrow} last", f"{name} best seen", f"{name} held-out real"]
            header += [f"{name} minus {self.baseline.label}"] if self.baseline is not None else []
        header += ["n", "failed", "unfinished", "images", "seconds"]
        return markdown(header, [self.row(setting) for setting in self.settings])

    def row(self, setting: Setting) -> list[str]:
        """One row of the table."""
        cells = [setting.label]
        for name in self.scores:
            cells += [str(setting.last(name)), number(setting.best(name).mean), number(setting.floor(name).mean)]
            if self.baseline is not None:
                cells.append(str(self.difference(setting, name) or "-"))
        counted = setting.counted
        images = sorted({run.images for run in counted})
        cells += [str(len(counted)), str(setting.number_of(State.FAILED)), str(setting.number_of(*UNFINISHED))]
        cells.append(" to ".join(f"{count:,}" for count in dict.fromkeys((images[0], images[-1]))) if images else "-")
        return [*cells, number(summarize([run.seconds for run in counted]).mean)]

    def notes(self) -> str:
        """What the table's words mean, what else differs, and the runs that don't count, with the reason."""
        lines = [
            "last: mean ± standard deviation over the n runs that came to their end, at their last evaluation.",
            "best seen: mean of each run's best evaluation, chosen by the score itself; better than the last by chance "
            "alone.",
            "held-out real: the same score for real images that no run was trained on.",
            "seconds: from a run's first start to its end, with scores and pauses.",
        ]
        if self.baseline is not None:
            lines.append(f"spread: sqrt(sd² + sd²) of a setting and {self.baseline.label}, one run against one run.")
        for name in self.scores:
            lines += [f"WARNING: {name} isn't comparable, as {what}." for what in mismatches(self.settings, name)]
        if keys := list(dict.fromkeys(key for setting in self.settings for key in setting.differs)):
            lines.append(f"Keys that differ between settings: {', '.join(keys)}.")
        lines += [describe(run, setting) for setting in self.settings for run in setting.runs if not run.counts]
        return "\n".join(f"- {line}" for line in lines)

    def to_record(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "scores": {name: {"higher_is_better": self.higher[name]} for name in self.scores},
            "baseline": None if self.baseline is None else self.baseline.label,
            "settings": [self.setting_record(setting) for setting in self.settings],
        }

    def setting_record(self, setting: Setting) -> dict[str, Any]:
        """A setting with its runs as plain values."""
        scores = {}
        for name in self.scores:
            last, difference = setting.last(name), self.difference(setting, name)
            scores[name] = {
                "last": {"mean": last.mean, "sd": last.sd, "n": last.n},
                "best_seen": {"mean": setting.best(name).mean},
                "held_out_real": {"mean": setting.floor(name).mean},
                "minus_baseline": None if difference is None else asdict(difference),
            }
        counts = {"completed": len(setting.counted), "failed": setting.number_of(State.FAILED)}
        counts["unfinished"] = setting.number_of(*UNFINISHED)
        runs = [run_record(run) for run in setting.runs]
        return {"label": setting.label, "differs": setting.differs, **counts, "scores": scores, "runs": runs}

    def draw(self) -> Figure:
        """The figure, a panel a score; UserError without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise UserError("matplotlib is missing; install the extra: pip install 'gan-experiments[plots]'") from error
        longest = max(len(setting.label) for setting in self.settings)
        width = 0.08 * longest + PANEL_INCHES * len(self.scores)
        figure = Figure((width, 1.3 + ROW_INCHES * len(self.settings)), dpi=DPI, layout="constrained")
        panels: Sequence[Axes] = figure.subplots(1, len(self.scores), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, self.scores, strict=True):
            self.draw_panel(axes, name)
        names = [axis_label(setting) for setting in self.settings]
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        handles, texts = panels[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=len(texts), fontsize="small", frameon=False)
        return figure

    def draw_panel(self, axes: Axes, name: str) -> None:
        """A dot a run, a bar at the mean, a line at the floor."""
        values: list[float] = []
        for place, setting in enumerate(self.settings):
            dots = [run.scores[name].last for run in setting.counted if name in run.scores]
            values += dots
            axes.axhline(place, color="0.92", linewidth=1, zorder=0)
            if dots:
                mean = setting.last(name).mean
                axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=BAR, linewidth=2.5, zorder=2)
                axes.scatter(dots, [place] * len(dots), color=DOT, alpha=0.75, s=30, linewidths=0, zorder=3)
        floors = summarize([floor for s in self.settings if (floor := s.floor(name).mean) is not None])
        if floors.mean is not None:
            axes.axvline(floors.mean, color=FLOOR, linestyle="--", linewidth=1.2, zorder=1)
            values.append(floors.mean)
        axes.plot([], [], "o", color=DOT, label="one run")
        axes.plot([], [], "|", color=BAR, markersize=11, markeredgewidth=2.5, label="mean")
        axes.plot([], [], "--", color=FLOOR, label="held-out real data")
        # Unbiased kernel distances may be negative, which a logarithmic axis would hide.
        logarithmic = bool(values) and min(values) > 0 and max(values) / min(values) > WIDE_RANGE
        axes.set_xscale("log" if logarithmic else "linear")
        better = "right" if self.higher[name] else "left"
        axes.set_xlabel(f"{name} at the end ({'log scale, ' if logarithmic else ''}better to the {better})")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)


def describe(run: Run, setting: Setting) -> str:
    """A run that doesn't count: where, which, how far, and why."""
    seed = "" if run.seed is None else f", seed {run.seed}"
    reached = f" at {run.images:,} images" if run.state in UNFINISHED else ""
    return f"{run.path.name} ({setting.label}{seed}) {run.state}{reached}{': ' if run.reason else ''}{run.reason}"


def run_record(run: Run) -> dict[str, Any]:
    """A run as plain values."""
    scores = {
        name: {"last": result.last, "best_seen": result.best, "held_out_real": result.floor}
        for name, result in run.scores.items()
    }
    facts = {"directory": run.path.name, "seed": run.seed, "state": run.state.value, "reason": run.reason}
    return {**facts, "images": run.images, "seconds": run.seconds, "scores": scores}


def axis_label(setting: Setting) -> str:
    """A setting's name, with the numbers of runs that aren't drawn."""
    counts = {"failed": setting.number_of(State.FAILED), "unfinished": setting.number_of(*UNFINISHED)}
    missing = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{setting.label} ({missing})" if missing else setting.label


def write(folder: Path, report: Report) -> Iterator[Path]:
    """Write the table, the numbers and, where there are scores, the figure, saying each path when it is there."""
    from curves import save

    contents = {"md": text_of(report), "json": strict_json.dumps(report.to_record(), indent=2) + "\n"}
    for kind, content in contents.items():
        path = folder / f"summary.{kind}"
        write_atomic(path, content)
        yield path
    if any(setting.counted for setting in report.settings):
        save(report.draw(), folder / "summary.png")
        yield folder / "summary.png"


def text_of(report: Report) -> str:
    """The table and its notes."""
    return f"{report.table()}\n\n{report.notes()}\n"


def main() -> None:
    """Read the sweep, print the table, write the files, and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP", help="folder of a gan-train -m, with a folder for each run"
    )
    parser.add_argument("--baseline", help="the setting that the others are compared with, by its name in the table")
    parser.add_argument("--scores", nargs="+", default=[], metavar="NAME", help="which scores (one for each metric)")
    arguments = parser.parse_args()
    report = Report(arguments.sweep, arguments.scores, arguments.baseline)
    print(text_of(report), flush=True)
    for path in write(arguments.sweep, report):
        print(path)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"summarize: {error}")
