"""Whole states of a run on disk: written to a temporary name and renamed, hashed, read without executing anything."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import replacing
from gan_experiments.logging.sealed import SealedWriter, damage

FORMAT = 2
READABLE = (1, 2)
"""Formats that this version reads; the first one said in other words what samples look like, and had no hashes."""
KIND = "gan-experiments"
FACTS: dict[str, Any] = {"format": int, "config": str, "images": int, "step": int, "data": str, "runtime": str}
CONTENTS: dict[str, dict[str, Any]] = {
    "checkpoint": FACTS | {"state": dict, "records": int},
    "generator": FACTS | {"generator": list, "weights": str},
}
"""What a file of each kind holds, by name with its type; later versions may add to it."""


class Unreadable(UserError):
    """A file that isn't what was once written: `reason` says in what, `path` is the file."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"{path}: {reason}; {advice}")
        self.path, self.reason = path, reason


ADVICE = {
    "checkpoint": "put a sound copy back, or choose another one",
    "generator": "put a sound copy back, or take the weights of a checkpoint (--raw, or evaluate.py --checkpoints)",
}


def save(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write `content` (tensors, containers, scalars) as a file of this kind, with a hash of it at its end.

    A reader sees all of it or nothing. Raises UserError when it can't be written.
    """
    with replacing(path) as file:
        sealed = SealedWriter(file)
        try:
            torch.save({"format": FORMAT, "kind": f"{KIND}/{kind}", **content}, sealed)  # type: ignore[arg-type]
        except RuntimeError:
            if sealed.error is not None:
                raise sealed.error from None
            raise
        sealed.close()


def load(path: Path, kind: str) -> dict[str, Any]:
    """The content of a file that `save` wrote, on the CPU.

    Raises UserError in one line when the file is missing or of another format, and Unreadable when it is damaged,
    truncated, of another program, or of another kind.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    advice = ADVICE[kind]
    if reason := damage(path):
        raise Unreadable(path, f"damaged: {reason}", advice)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises nearly anything on a file that isn't its own
    except Exception as error:
        raise Unreadable(path, f"not a file of gan-train ({type(error).__name__})", advice) from error
    if not isinstance(content, dict) or content.get("kind") != f"{KIND}/{kind}":
        raise Unreadable(path, f"not a {kind} of gan-train", advice)
    for name, expected in CONTENTS[kind].items():
        value = content.get(name)
        if not isinstance(value, expected):
            raise Unreadable(path, f"a {kind} with {'no' if value is None else 'a wrong'} {name}", advice)
    if content["format"] not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise UserError(f"{path}: written in format {content['format']}, this version reads formats {known}")
    return content


class Checkpoints:
    """The numbered states in one folder; the newest `keep` are kept."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def paths(self) -> list[Path]:
        """Complete files, oldest first."""
        found = [path for path in self.folder.glob("step-*.pt") if re.fullmatch(r"step-\d+", path.stem)]
        return sorted(found, key=step_of)

    def save(self, step: int, content: dict[str, Any]) -> Path:
        """Write the state after `step` steps, then delete those beyond `keep`; UserError where that can't be done."""
        path = self.folder / f"step-{step:09d}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save(path, "checkpoint", content)
            for old in self.paths()[: -self.keep]:
                old.unlink()
        except OSError as error:
            raise UserError(f"{error.filename or path}: can't be written or removed: {error.strerror}") from error
        return path

    def load_latest(self) -> dict[str, Any] | None:
        """The newest state, or None where there is none yet.

        Raises UserError as `load` does; of a damaged one it says what there is to go on from.
        """
        paths = self.paths()
        if not paths:
            return None
        try:
            return load(paths[-1], "checkpoint")
        except Unreadable as error:
            raise Unreadable(error.path, error.reason, self._advice(paths)) from error

    def _advice(self, paths: Sequence[Path]) -> str:
        """What can be done when the last of these files can't be read."""
        broken = [paths[-1].name]
        for path in reversed(paths[:-1]):
            try:
                images = load(path, "checkpoint")["images"]
            except UserError:
                broken.append(path.name)
                continue
            return f"delete {' and '.join(broken)} to go on from {path.name} ({images:,} images)"
        others = f", and so {'are' if len(broken) > 2 else 'is'} {' and '.join(broken[1:])}" if broken[1:] else ""
        return f"there is no other to go on from{others}: put a sound copy back, or choose another run.dir"


def step_of(path: Path) -> int:
    """The number of steps in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Each key whose value differs between two plain configurations, as `key: old -> new`."""
    found: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        name = f"{prefix}{key}"
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{name}.")
        elif before != after:
            found.append(f"{name}: {json.dumps(before):.100} -> {json.dumps(after):.100}")
    return found
