"""Means with standard deviations, and Markdown tables: what scripts print."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (denominator n - 1) of the `n` runs that ended well; `failed` did not."""

    mean: float | None
    sd: float | None
    n: int
    failed: int

    def __str__(self) -> str:
        """For example `12.35 ± 0.41`; no deviation of one run, a dash of none."""
        if self.mean is None:
            return "-"
        return number(self.mean) if self.sd is None else f"{number(self.mean)} ± {self.sd:.2g}"


def summarize(values: Sequence[float | None]) -> Summary:
    """The summary of one value a run; None stands for a failed run."""
    there = [value for value in values if value is not None]
    mean = statistics.fmean(there) if there else None
    sd = statistics.stdev(there) if len(there) > 1 else None
    return Summary(mean, sd, len(there), len(values) - len(there))


def number(value: float | None) -> str:
    """A number with four significant digits, whole from 1,000 on; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns lined up: the first to the left, the others to the right."""
    widths = [max(3, *(len(row[column]) for row in [header, *rows])) for column in range(len(header))]
    rules = [f"{'-' * (width - 1)}{'-' if column == 0 else ':'}" for column, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        first, *others = [(cell, width) for cell, width in zip(cells, widths, strict=True)]
        return " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])

    return "\n".join(f"| {line(cells)} |" for cells in [header, rules, *rows])
