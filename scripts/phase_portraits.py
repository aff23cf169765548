"""A figure of small multiples: vector fields in the plane, and paths through them. Used by convergence.py."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_experiments.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"SimGD": "#d1495b", "AltGD": "#1f6f8b"}
"""Colours of paths, by the first word of their names."""
COLUMNS, TICKS, DPI = 4, 13, 110


@dataclass(frozen=True)
class Panel:
    """One field: title, lines beneath it, names of the axes, velocity (2,) at a point (2,), centre (2,), paths (n, 2).

    The window is centred and holds all paths.
    """

    title: str
    lines: str
    labels: tuple[str, str]
    flow: Callable[[Tensor], Tensor]
    centre: Tensor
    paths: Mapping[str, Tensor]


def picture(panels: Sequence[Panel]) -> tuple[bytes, NDArray[np.uint8]]:
    """All panels in one figure, as a PNG file and as bytes (h, w, 3); UserError without matplotlib."""
    from PIL import Image

    buffer = io.BytesIO()
    draw(panels).savefig(buffer, format="png")
    with Image.open(buffer) as image:
        return buffer.getvalue(), np.array(image.convert("RGB"))


def draw(panels: Sequence[Panel]) -> Figure:
    """The figure, with one legend for all; UserError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("matplotlib is missing; install the extra: pip install 'gan-experiments[plots]'") from error
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.75 * columns, 4.0 * rows + 0.5), dpi=DPI, layout="constrained")
    for place, panel in enumerate(panels):
        draw_panel(figure.add_subplot(rows, columns, place + 1), panel)
    entries = {
        label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=min(2 * columns, len(entries)),
        frameon=False,
    )  # fmt: skip
    return figure


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Field, paths, their start and ends, and the centre."""
    centre = panel.centre.numpy()
    reach = 1.12 * np.abs(np.concatenate([path.numpy() for path in panel.paths.values()]) - centre).max(0)
    if max(reach) < 3 * min(reach):
        reach = np.full(2, max(reach))  # the same scale on both axes, unless one would be flat
    draw_field(axes, panel.flow, centre, reach)
    for name, path in panel.paths.items():
        axes.plot(
            *path.numpy().T, COLOURS[name.split(":")[0]], linewidth=1.0, marker="s", markersize=5, markevery=[-1],
            markeredgecolor="white", label=name, zorder=4,
        )  # fmt: skip
    start = next(iter(panel.paths.values()))[0].numpy()
    axes.plot(*start, "o", color="black", markersize=5, label="start", zorder=5)
    axes.plot(*centre, "*", color="#f2b134", markersize=15, markeredgecolor="black", zorder=3, label="equilibrium")
    axes.set(xlim=(centre[0] - reach[0], centre[0] + reach[0]), ylim=(centre[1] - reach[1], centre[1] + reach[1]))
    axes.set_xlabel(panel.labels[0], labelpad=1)
    axes.set_ylabel(panel.labels[1], labelpad=1)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=6)
    axes.set_title(f"{panel.title}\n", fontsize=11, fontweight="bold", pad=22)
    axes.text(0.5, 1.03, panel.lines, transform=axes.transAxes, ha="center", fontsize=8.5, linespacing=1.4)


def draw_field(
    axes: Axes, flow: Callable[[Tensor], Tensor], centre: NDArray[np.float32], reach: NDArray[np.float32]
) -> None:
    """Directions of the velocity on a grid, as they look in the panel; arrows are shorter where it is slow."""
    x, y = np.meshgrid(*(c + 0.94 * r * np.linspace(-1, 1, TICKS) for c, r in zip(centre, reach, strict=True)))
    points = torch.tensor(np.stack([x.ravel(), y.ravel()], 1), dtype=torch.float32)
    velocities = torch.stack([flow(point) for point in points]).numpy() / reach
    speed = np.linalg.norm(velocities, axis=1, keepdims=True)
    length = 0.3 + 0.7 * np.sqrt(speed / max(speed.max(), 1e-12))
    arrows = velocities / np.maximum(speed, 1e-12) * length
    axes.quiver(x, y, *arrows.T, color="#a9a9a9", scale=TICKS * 1.35, width=0.0045, headwidth=4, pivot="middle")
