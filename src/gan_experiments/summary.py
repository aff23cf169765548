"""What a run says at its beginning and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gan_experiments import invocation
from gan_experiments.data.base import Dataset
from gan_experiments.logging.score_table import ScoreRecords, recorded_bests, score_table, spell
from gan_experiments.rundir import RunDirectory


def describe_data(dataset: Dataset) -> str:
    """One line on the data: what they are and how many."""
    spec = dataset.spec
    kind = f"images of {'x'.join(map(str, spec.shape))}" if spec.is_image else f"points of {spec.shape[0]} numbers"
    classes = f" in {len(spec.classes)} classes" if spec.classes else ""
    return f"data: {dataset.name}, {len(dataset.train):,} {kind}{classes}, {len(dataset.held_out):,} more held out"


def closing(home: RunDirectory, objective: str | None) -> Iterator[str]:
    """The lines at a run's end: its scores, the best moment of the one that counts, the picture, what to do next."""
    now = home.status.current
    scores: ScoreRecords = now.scores
    bests = recorded_bests(home.path / "metrics.jsonl")
    if scores:
        yield score_table(scores, bests, now.images)
        name = objective or next(iter(scores))
        if name in bests:
            yield f"best {name}: {spell(bests[name].value)} at {bests[name].images:,} images"
    if picture := latest_picture(home.samples):
        yield f"picture: {picture}"
    commands = [
        invocation.script("sample.py", home.path, "--count", "64", "--out", home.samples / "more.png"),
        invocation.script("evaluate.py", home.path, "--seed", "1"),
    ]
    if any(commands):
        yield "\n".join(["next:", *(f"  {command}" for command in commands if command)])


def latest_picture(folder: Path) -> Path | None:
    """The newest grid of samples."""
    return max(folder.glob("images-*.png"), default=None)
