"""How many samples a score and its floor are of, and what it means for their comparison where these numbers differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIGHER, LOWER = "higher", "lower"
"""What fewer samples alone make of a score, on average; empty where nothing is to be said."""


def spell_counts(record: Mapping[str, Any]) -> str:
    """For example `10,000 samples, real data of 1,000`; empty where neither number is known."""
    samples, floors = record.get("n_fake"), record.get("n_floor")
    counts = [f"{samples:,} samples"] if samples else []
    counts += [f"real data of {floors:,}"] if floors and record.get("floor") is not None else []
    return ", ".join(counts)


def unequal(record: Mapping[str, Any]) -> bool:
    """Whether a score stands beside a floor of another number of samples."""
    floors = record.get("n_floor")
    return record.get("floor") is not None and bool(floors) and floors != record.get("n_fake")


def cautions(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each pair of numbers of samples that differ, with the scores that this alone moves, and which way."""
    pairs: dict[tuple[int, int], dict[str, list[str]]] = {}
    for name, record in records.items():
        if unequal(record):
            moved = pairs.setdefault((record["n_floor"], record["n_fake"]), {})
            moved.setdefault(record.get("fewer_samples") or "", []).append(name)
    return [spell_caution(floors, samples, moved) for (floors, samples), moved in pairs.items()]


def spell_caution(floors: int, samples: int, moved: Mapping[str, list[str]]) -> str:
    """For example `real data of 1,000 beside 10,000 samples: fewer alone make fid higher, inception_score lower`."""
    ways = [f"{', '.join(moved[way])} {way}" for way in (HIGHER, LOWER) if way in moved]
    why = f"fewer alone make {'; '.join(ways)}" if ways else f"{', '.join(moved[''])}: compare with care"
    return f"real data of {floors:,} beside {samples:,} samples: {why}"
