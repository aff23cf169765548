"""The order in which people count: 2 before 10, -1 before 0."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

DIGITS = re.compile("([0-9]+)")


def natural_key(name: str) -> list[tuple[list[str | int], str]]:
    """What names with "/" are sorted by, folder by folder: runs of digits as numbers, a minus in front as sign.

    Names that count alike, such as 01 and 1, are told apart by their letters.
    """
    return [(_chunks(part), part) for part in name.split("/")]


def readable(name: str) -> str:
    """A file's name as text to print and store, with backslash escapes for bytes that aren't UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def whole_number(name: str) -> int | None:
    """The number that a name is, such as 7 for 07; None for any other name."""
    return int(name) if re.fullmatch(r"-?[0-9]+", name) else None


def numbered(classes: Sequence[str]) -> dict[int, int]:
    """Which class a number means: that of this name where all names are different numbers, else that at this place."""
    values = [whole_number(name) for name in classes]
    known = {value: place for place, value in enumerate(values) if value is not None}
    return known if len(known) == len(classes) else {place: place for place in range(len(classes))}


def _chunks(part: str) -> list[str | int]:
    """Texts and numbers by turns, a text first, so that only alike are compared."""
    chunks: list[str | int] = list(DIGITS.split(part))
    chunks[1::2] = map(int, chunks[1::2])
    if chunks[0] == "-" and len(chunks) > 1:
        chunks[:2] = "", -int(chunks[1])
    return chunks
