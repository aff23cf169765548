"""Run directories with something wrong in them, made from one short run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Damage = Callable[[Path], object]


def newest(run: Path) -> Path:
    """The last checkpoint."""
    return sorted((run / "checkpoints").glob("step-*.pt"))[-1]


def flip(path: Path, place: float = 0.5) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 1
    path.write_bytes(content)


def text(name: str, content: str | bytes) -> Damage:
    """Put something else in the place of a file."""
    return lambda run: (run / name).write_bytes(content.encode() if isinstance(content, str) else content)


def keys(name: str, **changes: Any) -> Damage:
    """Change keys of a JSON file."""

    def make(run: Path) -> None:
        path = run / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return make


def checkpoint(**changes: Any) -> Damage:
    """Change entries of the newest checkpoint, or with None drop them; without a hash, as earlier versions wrote."""

    def make(run: Path) -> None:
        content = torch.load(newest(run), weights_only=True) | changes
        torch.save({name: value for name, value in content.items() if value is not None}, newest(run))

    return make


def swap(name: str) -> Damage:
    """A folder in the place of a file, or a file in the place of a folder."""

    def make(run: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
            path.write_text("")
        else:
            path.unlink(missing_ok=True)
            path.mkdir()

    return make


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """Change the lines of metrics.jsonl."""

    def make(run: Path) -> None:
        path = run / "metrics.jsonl"
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return make
