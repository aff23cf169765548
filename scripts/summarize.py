"""A table and a figure of a sweep: runs that differ only by their seed become one row.

python scripts/summarize.py outputs/tricks
python scripts/summarize.py outputs/tricks --baseline none --scores fid kid

Settings are named by what differs between them; rows are sorted by the first score. Written into the sweep's folder:
summary.md, summary.json and summary.png. Reads nothing but the runs' records, so runs may still be under way.
The figure needs matplotlib (the extra `plots`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from gan_experiments.analysis.figures import blank, make_log, save
from gan_experiments.analysis.sweep import (
    UNFINISHED,
    Difference,
    Run,
    Setting,
    main_scores,
    mismatches,
    read_sweep,
    spell_samples,
)
from gan_experiments.analysis.tables import markdown, number, summarize
from gan_experiments.console import Parser, check_folder, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging import strict_json
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.logging.status import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES, ROW_INCHES = 4.2, 0.36
DOT, BAR, FLOOR, BASELINE = "#2f6db5", "#111111", "#c0392b", "#777777"
WIDE_RANGE = 10.0
"""From this ratio of the largest to the smallest value on, a panel's axis is logarithmic."""


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
        return setting.difference(self.baseline, score, self.higher[score])

    def table(self) -> str:
        """A row a setting: each score's last and best value and floor, numbers of runs, images and seconds."""
        header = ["setting"]
        for name in self.scores:
            arrow = "↑" if self.higher[name] else "↓"
            header += [f"{name} {arrow} last", "best seen", "real"]
            header += [f"last minus {self.baseline.label}"] if self.baseline is not None else []
        header += ["n", "failed", "unfinished", "images", "seconds"]
        return markdown(header, [self.row(setting) for setting in self.settings])

    def row(self, setting: Setting) -> list[str]:
        """One row of the table."""
        cells = [setting.label]
        for name in self.scores:
            cells += [str(setting.last(name)), str(setting.best(name)), setting.spell_floor(name)]
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
            "best seen: the same over each run's best evaluation, picked by that score; better by chance alone.",
            "real: the same score for held-out real data in the place of generated samples.",
            "seconds: from a run's first start to its end, with scores and pauses.",
        ]
        if self.baseline is not None:
            lines.append(f"spread: sqrt(sd² + sd²) of a setting and {self.baseline.label}, one run against one run.")
        for name in self.scores:
            lines += spell_samples(self.settings, name)
            lines += [f"WARNING: {name} isn't comparable, as {what}." for what in mismatches(self.settings, name)]
        if keys := differing_nodes(self.settings):
            lines.append(f"Settings differ in {', '.join(keys)}.")
        uncounted = dict.fromkeys(line for setting in self.settings for line in describe_uncounted(setting))
        return "\n".join(f"- {line}" for line in [*lines, *uncounted])

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
            last, best, difference = setting.last(name), setting.best(name), self.difference(setting, name)
            scores[name] = {
                "last": {"mean": last.mean, "sd": last.sd, "n": last.n},
                "best_seen": {"mean": best.mean, "sd": best.sd, "n": best.n},
                "held_out_real": {"mean": setting.floor(name).mean},
                "minus_baseline": None if difference is None else asdict(difference),
            }
        counts = {"completed": len(setting.counted), "failed": setting.number_of(State.FAILED)}
        counts["unfinished"] = setting.number_of(*UNFINISHED)
        runs = [run_record(run) for run in setting.runs]
        return {"label": setting.label, "differs": setting.differs, **counts, "scores": scores, "runs": runs}

    def draw(self) -> Figure:
        """The figure, a panel a score; UserError without matplotlib."""
        longest = max(len(setting.label) for setting in self.settings)
        width = 0.08 * longest + PANEL_INCHES * len(self.scores)
        figure = blank(width, 1.3 + ROW_INCHES * len(self.settings))
        panels: Sequence[Axes] = figure.subplots(1, len(self.scores), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, self.scores, strict=True):
            self.draw_panel(axes, name)
        names = [axis_label(setting) for setting in self.settings]
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        self.draw_legend(figure, panels[0])
        return figure

    def draw_panel(self, axes: Axes, name: str) -> None:
        """A dot a run, a bar at the mean, lines at the floor and at the baseline's mean."""
        values: list[float] = []
        for place, setting in enumerate(self.settings):
            dots = [run.scores[name].last for run in setting.counted if name in run.scores]
            values += dots
            axes.axhline(place, color="0.92", linewidth=1, zorder=0)
            mean = setting.last(name).mean
            if mean is not None:
                axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=BAR, linewidth=2, zorder=2)
                axes.scatter(dots, staggered(place, len(dots)), color=DOT, alpha=0.8, s=24, linewidths=0, zorder=3)
        floor = summarize([mean for setting in self.settings if (mean := setting.floor(name).mean) is not None]).mean
        if floor is not None:
            axes.axvline(floor, color=FLOOR, linestyle="--", linewidth=1.2, zorder=1)
            values.append(floor)
        reference = None if self.baseline is None else self.baseline.last(name).mean
        if reference is not None:
            axes.axvline(reference, color=BASELINE, linestyle=":", linewidth=1.2, zorder=1)
        scale = choose_scale(axes, values)
        axes.set_xlabel(f"{name} at the end ({scale}better to the {'right' if self.higher[name] else 'left'})")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)

    def draw_legend(self, figure: Figure, axes: Axes) -> None:
        """What dots and lines mean, below all panels."""
        axes.plot([], [], "o", color=DOT, markersize=5, label="one run")
        axes.plot([], [], "|", color=BAR, markersize=11, markeredgewidth=2, label="mean")
        axes.plot([], [], "--", color=FLOOR, label="held-out real data")
        if self.baseline is not None:
            axes.plot([], [], ":", color=BASELINE, label=f"mean of {self.baseline.label}")
        handles, texts = axes.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=len(texts), fontsize="small", frameon=False)


def staggered(place: int, count: int) -> list[float]:
    """Heights of that many dots about a row, one above the other so that equal ones are all seen."""
    return [place + 0.4 * ((number + 0.5) / count - 0.5) for number in range(count)]


def choose_scale(axes: Axes, values: Sequence[float]) -> str:
    """Make the axis logarithmic where values are far apart, with plain numbers as ticks; words on it for its label."""
    # Unbiased kernel distances may be negative, which a logarithmic axis would hide.
    if not values or min(values) <= 0 or max(values) / min(values) <= WIDE_RANGE:
        return ""
    make_log(axes, "x")
    return "log scale, "


def differing_nodes(settings: Sequence[Setting]) -> list[str]:
    """The differing keys, a whole node where it is missing from a setting, without the words about a trick."""
    keys = dict.fromkeys(key for setting in settings for key in setting.differs if not key.endswith(".about"))
    return [key for key in keys if not any(key.startswith(f"{other}.") for other in keys)]


def describe_uncounted(setting: Setting) -> Iterator[str]:
    """The runs that don't count, those with the same fate together: which, how far, and why."""
    fates: dict[str, list[Run]] = {}
    for run in setting.runs:
        if not run.counts:
            reached = f" at {run.images:,} images" if run.state in UNFINISHED else ""
            fates.setdefault(f"{run.state}{reached}{': ' if run.reason else ''}{run.reason}", []).append(run)
    for fate, runs in fates.items():
        seeds = [str(run.seed) for run in runs if run.seed is not None]
        which = f", seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else ""
        yield f"{setting.label}{which} ({', '.join(run.path.name for run in runs)}): {fate}"


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
    """Read the sweep, write the files, print the table, and say where they are."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP", help="folder of a gan-train -m, with a folder for each run"
    )
    parser.add_argument("--baseline", help="the setting that the others are compared with, by its name in the table")
    parser.add_argument("--scores", nargs="+", default=[], metavar="NAME", help="which scores (one for each metric)")
    arguments = parser.parse_args()
    report = Report(arguments.sweep, arguments.scores, arguments.baseline)
    check_folder(arguments.sweep, "SWEEP")
    paths: list[Path] = []
    try:
        paths.extend(write(arguments.sweep, report))
    finally:
        print("\n".join([text_of(report), *map(str, paths)]))


if __name__ == "__main__":
    run_command(main)
