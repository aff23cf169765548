"""Scores as a small table: each beside its interval, what real data get, and the best so far."""

from __future__ import annotations

import math
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_experiments.logging.records import read_records
from gan_experiments.logging.score_counts import cautions

WIDTH = 100
"""Columns where there is no terminal."""

ScoreRecords = Mapping[str, Mapping[str, Any]]
"""Records of scores by name: value, interval, floor, n_floor, real, n_fake, higher_is_better and more."""


@dataclass(frozen=True)
class Best:
    """A score's best value, and how many images had been seen then."""

    value: float
    images: int


def best_of(histories: Iterable[tuple[int, ScoreRecords]]) -> dict[str, Best]:
    """The best of every score among records at so many images; the earlier of equal ones."""
    found: dict[str, Best] = {}
    for images, records in histories:
        for name, record in records.items():
            value = record.get("value")
            if value is None or not math.isfinite(value):
                continue
            sign = 1.0 if record.get("higher_is_better") else -1.0
            if name not in found or sign * value > sign * found[name].value:
                found[name] = Best(float(value), images)
    return found


def recorded_bests(path: Path) -> dict[str, Best]:
    """The best of every score in a run's metrics.jsonl."""
    if not path.exists():
        return {}
    return best_of((record["images"], record["values"]) for record in read_records(path) if record["kind"] == "scores")


def score_table(records: ScoreRecords, bests: Mapping[str, Best], images: int, width: int | None = None) -> str:
    """The scores at `images` images, a row each; columns that don't fit `width` (the terminal's) are left out, from
    the interval on."""
    width = terminal_width() if width is None else width
    samples, floors = one_of(records, "n_fake"), one_of(records, "n_floor")
    columns = {
        "": [f"  {name}" for name in records],
        "value": [spell(record.get("value")) + number_of(record, "n_fake", samples) for record in records.values()],
        "better": ["higher" if record.get("higher_is_better") else "lower" for record in records.values()],
        "real data": [spell_real(record, floors) for record in records.values()],
        "95 % interval": [spell_interval(record.get("interval")) for record in records.values()],
        "best": [spell_best(bests.get(name), images) for name in records],
    }
    if not any(record.get("interval") for record in records.values()):
        del columns["95 % interval"]
    for name in ("95 % interval", "best", "better"):
        if sum(size(name, cells) + 2 for name, cells in columns.items()) - 2 > width:
            columns.pop(name, None)
    counts = [f"{samples:,} samples"] if samples else []
    counts += [f"{floors:,} held-out real ones"] if floors else []
    title = ": ".join([f"scores at {images:,} images", *([" beside ".join(counts)] if counts else [])])
    return "\n".join([title, *lines(columns), *wrapped(cautions(records), width)])


def wrapped(notes: Sequence[str], width: int) -> list[str]:
    """Lines of notes below a table that isn't wider."""
    return [line for note in notes for line in textwrap.wrap(note, width, initial_indent="  ", subsequent_indent="  ")]


def one_of(records: ScoreRecords, key: str) -> int:
    """The number that all records have under `key`, but for those without one; 0 if they differ."""
    counts = {count for record in records.values() if (count := record.get(key))}
    return int(counts.pop()) if len(counts) == 1 else 0


def lines(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """A header and a line a row, columns lined up to the left."""
    sizes = [size(name, cells) for name, cells in columns.items()]
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return ["  ".join(cell.ljust(wide) for cell, wide in zip(row, sizes, strict=True)).rstrip() for row in rows]


def size(name: str, cells: Sequence[str]) -> int:
    """The width of a column."""
    return max(map(len, [name, *cells]))


def spell(value: float | None) -> str:
    """Four digits, whole from 1,000 on; `nan` for what isn't finite."""
    if value is None or not math.isfinite(value):
        return "nan"
    return f"{value:,.0f}" if 1000 <= abs(value) < 10**9 else f"{value:.4g}"


def number_of(record: Mapping[str, Any], key: str, usual: int) -> str:
    """How many samples a number is of, where that isn't said for all."""
    count = record.get(key)
    return f" (n {count:,})" if count and count != usual else ""


def spell_real(record: Mapping[str, Any], usual: int) -> str:
    """What held-out real data get, with their number if it isn't the usual one, or the metric's own for real data."""
    if record.get("floor") is not None:
        return spell(record["floor"]) + number_of(record, "n_floor", usual)
    return "-" if record.get("real") is None else spell(record["real"])


def spell_interval(interval: Sequence[float] | None) -> str:
    """For example `12.1 to 12.9`."""
    return "-" if interval is None else f"{spell(interval[0])} to {spell(interval[1])}"


def spell_best(best: Best | None, images: int) -> str:
    """The best value and when it was, or that it is this one."""
    if best is None:
        return "-"
    return "now" if best.images == images else f"{spell(best.value)} at {best.images:,}"


def terminal_width() -> int:
    """Columns of the terminal on stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
    except (AttributeError, OSError, ValueError):
        return WIDTH
