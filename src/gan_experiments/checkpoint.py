"""Whole states of a run on disk: written to a temporary name and renamed, read without executing anything."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from gan_experiments.errors import UserError
from gan_experiments.logging.atomic import write_atomic

FORMAT = 2
KIND = "gan-experiments"


def save(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write `content` (tensors, containers, scalars) as a file of this kind; a reader sees all of it or nothing."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "kind": f"{KIND}/{kind}", **content}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path, kind: str) -> dict[str, Any]:
    """The content of a file that `save` wrote, on the CPU.

    Raises UserError in one line when the file is missing, truncated, or of another program, kind or format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: truncated, or not a file of gan-train ({type(error).__name__}); "
            "delete it to go on from the one before"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != f"{KIND}/{kind}":
        raise UserError(f"{path}: not a {kind} of gan-train; delete it, or choose another run.dir")
    if content["format"] != FORMAT:
        raise UserError(f"{path}: written in format {content['format']}, this version reads format {FORMAT}")
    return content


class Checkpoints:
    """The numbered states in one folder; the newest `keep` are kept."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def paths(self) -> list[Path]:
        """Complete files, oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def save(self, step: int, content: dict[str, Any]) -> Path:
        """Write the state after `step` steps, then delete those beyond `keep`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:09d}.pt"
        save(path, "checkpoint", content)
        for old in self.paths()[: -self.keep]:
            old.unlink()
        return path

    def load_latest(self) -> dict[str, Any] | None:
        """The newest state, or None where there is none yet; raises UserError as `load` does."""
        paths = self.paths()
        return load(paths[-1], "checkpoint") if paths else None


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Each key whose value differs between two plain configurations, as `key: old -> new`."""
    found: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        name = f"{prefix}{key}"
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{name}.")
        elif before != after:
            found.append(f"{name}: {json.dumps(before)} -> {json.dumps(after)}")
    return found
