"""Figures by matplotlib, without a display, and PNG files of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic
from gan_experiments.ticks import log_ticks, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100


def blank(width: float, height: float) -> Figure:
    """An empty figure of that many inches; UserError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("matplotlib is missing; install the extra: pip install 'gan-experiments[plots]'") from error
    return Figure((width, height), dpi=DPI, layout="constrained")


def make_log(axes: Axes, which: str) -> None:
    """Make the "x" or the "y" axis logarithmic, with round and plain numbers at it."""
    from matplotlib.ticker import LogLocator, NullLocator

    class RoundNumbers(LogLocator):
        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            return log_ticks(vmin, vmax)

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(RoundNumbers())
    axis.set_major_formatter(lambda value, _: plain(value))
    axis.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all; UserError when the file can't be written."""
    if path.suffix != ".png":
        raise UserError(f"{path}: the figure is a PNG; end the name in .png")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    write_atomic(path, buffer.getvalue())
