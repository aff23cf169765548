"""How far something is in one line, of which a narrow terminal loses what matters least."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tqdm import tqdm
from tqdm.utils import disp_len, disp_trim

SHORT = {"generator": "G", "discriminator": "D"}
"""What players are called on the live line, on which they come first."""
BAR = 10
"""Characters of the bar."""


@dataclass(frozen=True)
class Moment:
    """`done` of `total` of some `unit`; `rate` a second now, `left` in seconds, both None while unknown.

    `score` has a name and a value; `label` says what is being done.
    """

    done: int
    total: int
    unit: str = "images"
    rate: float | None = None
    left: float | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    score: tuple[str, float] | None = None
    label: str = ""

    @property
    def share(self) -> int:
        """Whole per cents, 100 only at the end."""
        return 100 * self.done // max(self.total, 1)

    def plain(self) -> str:
        """A whole line, for files and pipes."""
        parts = [f"{self.done:,}/{self.total:,} {self.unit} ({self.share}%)"]
        parts += [] if self.rate is None else [f"{spell_rate(self.rate)} {self.unit}/s"]
        parts += [] if self.left is None else [f"{spell_seconds(self.left)} left"]
        parts += [f"{name} {value:.4g}" for name, value in self.losses.items()]
        parts += [] if self.score is None else [f"{self.score[0]} {self.score[1]:.4g}"]
        return (f"{self.label}: " if self.label else "") + ", ".join(parts)

    def fitted(self, width: int) -> str:
        """The fullest line of at most `width` columns; what only repeats the percentage goes first, then digits and
        letters of names, the rate, losses, the score, the time left."""
        return next(line for line in self.lines(width) if disp_len(line) <= width)

    def lines(self, width: int) -> Iterator[str]:
        """From the fullest line to the barest."""
        counts, rate = f"{self.done:,}/{self.total:,} {self.unit}", f"{self.unit}/s"
        yield self.line(counts, rate, bar=True)
        yield self.line(counts, rate)
        counts = f"{compact(self.done)}/{compact(self.total)}"
        yield self.line(counts, bar=True)
        yield self.line(counts)
        yield self.line()
        yield self.line(digits=3)
        for letters in (16, 12, 8, 5, 3):
            yield self.line(digits=3, letters=letters)
        yield self.line(digits=3, letters=3, rated=False)
        for count in range(len(self.losses) - 1, -1, -1):
            yield self.line(digits=3, letters=3, rated=False, players=count)
        yield self.line(digits=3, letters=3, rated=False, players=0, scored=False)
        yield f"{self.share}%"
        yield disp_trim(f"{self.share}%", max(width, 0))

    def line(
        self,
        counts: str = "",
        rate: str = "/s",
        *,
        bar: bool = False,
        digits: int = 4,
        letters: int = 100,
        rated: bool = True,
        players: int | None = None,
        scored: bool = True,
    ) -> str:
        """The line with what is chosen."""
        filled = min(BAR * self.done // max(self.total, 1), BAR)
        drawn = f" [{'#' * filled}{'.' * (BAR - filled)}]" if bar else ""
        label = f"{shorten(self.label, max(letters, 8))} " if self.label else ""
        parts = [f"{label}{self.share:3}%{drawn}{f' {counts}' if counts else ''}"]
        if rated and self.rate is not None:
            unit = rate if rate.startswith("/") else f" {rate}"
            parts.append(f"{spell_rate(self.rate) if counts and ',' in counts else compact_rate(self.rate)}{unit}")
        if self.left is not None:
            parts.append(f"{spell_seconds(self.left)} left")
        shown = sorted(self.losses.items(), key=lambda loss: ([*SHORT, loss[0]].index(loss[0]),))[:players]
        parts += [f"{SHORT.get(name, shorten(name, letters))} {spell_value(value, digits)}" for name, value in shown]
        if scored and self.score is not None:
            parts.append(f"{shorten(self.score[0], letters)} {spell_value(self.score[1], digits)}")
        return ", ".join(parts)


def shorten(name: str, letters: int) -> str:
    """A name of at most so many letters, the cut marked by a dot."""
    return name if len(name) <= letters else f"{name[: letters - 1]}."


def compact(count: int) -> str:
    """A count in at most five characters: 999, 1.23k, 172k, 1.00G."""
    return tqdm.format_sizeof(count) if count >= 1000 else str(count)


def compact_rate(rate: float) -> str:
    """A rate in few characters."""
    return compact(round(rate)) if rate >= 1000 else f"{rate:.3g}"


def spell_value(value: float, digits: int) -> str:
    """A loss or score in few characters: 0.8123, 12.3k, 1.2e-5."""
    if 10**4 <= abs(value) < 10**15:
        return tqdm.format_sizeof(value)
    return re.sub(r"e([+-])0*", r"e\1", f"{value:.{digits}g}").replace("e+", "e")


def spell_rate(rate: float) -> str:
    """A rate in whole numbers, with digits behind the point where it is small."""
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.2g}"


def spell_seconds(seconds: float) -> str:
    """For example 0:12:05, 13:00:00, 3d 04h."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, of_day = divmod(hours, 24)
    return f"{days:,}d {of_day:02}h" if days else f"{hours}:{minutes:02}:{rest:02}"
