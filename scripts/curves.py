"""A figure of one or several runs: the players' losses, and a score over the images seen with its floor.

python scripts/curves.py RUN --out curves.png
python scripts/curves.py RUN RUN --score kid --out curves.png

Reads nothing but metrics.jsonl, so a run may still be under way. Needs matplotlib (the extra `plots`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gan_experiments.analysis.figures import blank, make_log, save
from gan_experiments.console import Parser, check_file, run_command
from gan_experiments.errors import UserError
from gan_experiments.logging.records import read_records
from gan_experiments.logging.score_counts import unequal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (12.0, 4.0)
PLAYERS = {"generator": "-", "discriminator": ":"}
"""The players whose losses are drawn, each with its style of line."""

Points = list[tuple[int, float]]
"""Images seen, and a value."""


@dataclass(frozen=True)
class History:
    """What is drawn of a run: the adversarial losses by player, a score, and the score's floor, of so many samples."""

    name: str
    losses: dict[str, Points]
    score: Points
    floor: float | None
    floor_counts: str


def read_history(run: Path, score: str) -> History:
    """The history in the run's metrics.jsonl; UserError when there is none, or it lacks losses or score."""
    losses: dict[str, Points] = {player: [] for player in PLAYERS}
    points: Points = []
    floor, counts, names = None, "", set()
    for record in read_records(run / "metrics.jsonl"):
        values, images = record["values"], record["images"]
        if record["kind"] == "train":
            for player in PLAYERS:
                if f"{player}/adversarial" in values:
                    losses[player].append((images, float(values[f"{player}/adversarial"])))
        elif record["kind"] == "scores":
            names |= values.keys()
            if score in values:
                points.append((images, float(values[score]["value"])))
                floor = values[score]["floor"]
                counts = f" ({values[score]['n_floor']:,} samples)" if unequal(values[score]) else ""
    if not points:
        raise UserError(f"{run}: has no score {score}; it has {', '.join(sorted(names)) or 'none yet'} (--score NAME)")
    if not any(losses.values()):
        raise UserError(f"{run}/metrics.jsonl: no record of losses; give a run of gan-train that has logged some")
    return History(run.resolve().name, losses, points, floor, counts)


def read_all(runs: Sequence[Path], score: str) -> list[History]:
    """The histories of all runs, each named by its folder, or by its path where folders share a name."""
    histories = [read_history(run, score) for run in runs]
    if len({history.name for history in histories}) == len(histories):
        return histories
    return [replace(history, name=str(run)) for history, run in zip(histories, runs, strict=True)]


def draw(histories: Sequence[History], score: str) -> Figure:
    """The figure: losses to the left, the score to the right; UserError without matplotlib."""
    figure = blank(*INCHES)
    left, right = figure.subplots(1, 2)
    for place, history in enumerate(histories):
        draw_losses(left, history, f"C{place}", alone=len(histories) == 1)
        right.plot(*zip(*history.score, strict=True), color=f"C{place}", marker="o", markersize=3, label=history.name)
    floors = {(history.floor, history.floor_counts) for history in histories if history.floor is not None}
    for floor, counts in sorted(floors):
        right.axhline(floor, color="grey", linestyle="--", label=f"held-out real data{counts}: {floor:.4g}")
    drawn = [value for history in histories for _, value in history.score]
    # Unbiased kernel distances may be negative, which a logarithmic axis would hide.
    positive = min(drawn + [history.floor for history in histories if history.floor is not None]) > 0
    if positive:
        make_log(right, "y")
    left.set_ylabel("adversarial loss")
    right.set_ylabel(f"{score}{' (log scale)' if positive else ''}")
    for axes in (left, right):
        axes.set_xlabel("real images seen")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def draw_losses(axes: Axes, history: History, colour: str, alone: bool) -> None:
    """The losses of a run: a colour a run and a style a player, or a colour a player for a run alone."""
    for place, (player, style) in enumerate(PLAYERS.items()):
        points = [(images, value) for images, value in history.losses[player] if math.isfinite(value)]
        if points:
            label = player if alone else f"{history.name}: {player}"
            look = (f"C{place}", "-") if alone else (colour, style)
            axes.plot(*zip(*points, strict=True), label=label, color=look[0], linestyle=look[1])


def main() -> None:
    """Read all runs, draw, save, and say where."""
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run")
    parser.add_argument("--score", default="fid", help="which score is drawn (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the .png file to write")
    arguments = parser.parse_args()
    check_file(arguments.out, "--out")
    save(draw(read_all(arguments.runs, arguments.score), arguments.score), arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    run_command(main)
